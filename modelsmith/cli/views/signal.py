"""Views of what is trained on, and of what became of a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled
from modelsmith.schema.figures import counted, format_apart

if TYPE_CHECKING:
    from modelsmith.operations.accept_scenario import AcceptScenarioResult
    from modelsmith.operations.capture import CaptureResult
    from modelsmith.operations.diagnose import DiagnoseResult
    from modelsmith.operations.review_synthetic import MeaningView, ReviewSyntheticResult
    from modelsmith.operations.run_pending import RunPendingResult
    from modelsmith.operations.strike import StrikeResult
    from modelsmith.operations.train import TrainResult
    from modelsmith.operations.why import WhyResult
    from modelsmith.schema.diagnosis import PatternHistory
    from modelsmith.schema.training_row import Lineage

_STYLES = {"fixed": "green", "passes": "green", "still failing": "red", "regressed": "red", "not evaluated": "yellow"}


def why(result: WhyResult, page: Page) -> None:
    """Page of what ``modelsmith why`` gives."""
    page.line(f"{result.kind} {result.id} in {result.cluster}: ", Styled(result.now, _STYLES[result.now]))
    for turn in result.turns:
        page.gap()
        rows: list[tuple[str, str | Styled | tuple[str | Styled, ...]]] = [
            ("iteration", str(turn.iteration)),
            ("diagnosed", turn.diagnosed),
        ]
        if turn.pattern:
            rows += [("cluster", turn.pattern), ("pattern", turn.says or ""), ("failed cases", str(turn.failed))]
        else:
            rows += [("cluster", "none: it did not fail")]
        rows += [("rows", str(turn.rows)), ("training", ", then ".join(turn.methods))]
        rows += [("adapter", f"{turn.specialist} ({turn.state})" if turn.specialist else "none")]
        remaining = f" ({turn.still} of them)" if turn.still and result.kind == "pattern" else ""
        rows += [("outcome", (Styled(turn.outcome, _STYLES[turn.outcome]), remaining))]
        page.rows([*rows, *([("note", turn.note)] if turn.note else [])])


def review_synthetic(result: ReviewSyntheticResult, page: Page) -> None:
    """Page of what ``modelsmith review-synthetic`` gives."""
    struck = sum(len(strikes.rows) for strikes in result.struck)
    page.rows(
        [
            ("cluster", result.cluster),
            ("iteration", f"{result.iteration}, {'waits for training' if result.waits else 'training has begun'}"),
            ("rows", str(result.rows)),
            ("digest", result.rows_digest),
            ("dropped", "not noted" if result.dropped is None else f"{result.dropped} too near to a scored text"),
            ("struck", str(struck)),
        ]
    )
    for strikes in result.struck:
        page.line(f"{len(strikes.rows)} struck: {strikes.reason}", indent=2)
    if result.sources:
        page.gap()
        page.table(
            ("source", "name", "offered>", "kept>", "rejected"),
            [
                (
                    source.source,
                    source.name,
                    str(source.offered),
                    str(source.kept),
                    ", ".join(f"{why} {count}" for why, count in source.rejected.items()),
                )
                for source in result.sources
            ],
        )
    for note in (note for source in result.sources for note in source.notes):
        page.line(note, indent=2)
    page.gap()
    page.table(
        ("capability", "rows>", "share>", "failed>"),
        [
            (
                capability.capability,
                str(capability.rows),
                f"{capability.share:.0%}",
                f"{capability.failed_cases}/{capability.total_cases or '-'}",
            )
            for capability in result.balance
        ],
    )
    _nearest(result, page)
    for row in result.samples:
        page.gap()
        whose = _whose(row.lineage) if row.lineage else f"template {row.template}"
        page.line(Styled(row.row, "bold"), f"  {row.generator}, {whose}")
        for message in row.messages:
            page.words(message.content, indent=2)
        page.words(row.answer, indent=3)


def _nearest(result: ReviewSyntheticResult, page: Page) -> None:
    """The rows nearest to scored texts, by words and in meaning."""
    if result.nearest:
        page.gap()
        page.line(f"nearest scored texts; a row of {result.limit:.2f} or more is dropped")
        page.table(
            ("row", "similarity>", "generator", "template", "scenario"),
            [(n.row, f"{n.similarity:.2f}", n.generator, n.template, n.scenario) for n in result.nearest],
        )
    if result.in_meaning:
        page.gap()
        page.line("nearest scored texts in meaning; a row of its limit or more is dropped")
        page.table(
            ("row", "cosine>", "limit>", "generator", "template", "scenario"),
            [(n.row, *_cosine(n), n.generator, n.template, n.scenario) for n in result.in_meaning],
        )
    if result.meaning_unknown:
        page.gap()
        page.line(f"nearness in meaning is not known here: {result.meaning_unknown}")


def _cosine(near: MeaningView) -> tuple[str, str]:
    """How near, and the limit: never as if it were reached where it is not."""
    if near.most_cosine is None:
        return f"{near.cosine:.2f}", "-"
    return format_apart(near.cosine, near.most_cosine)


def _whose(lineage: Lineage) -> str:
    cluster_words = f", for {lineage.cluster}" if lineage.cluster else ""
    return f"line {lineage.line}" if lineage.source == "dataset" else f"{lineage.source}{cluster_words}"


def strike(result: StrikeResult, page: Page) -> None:
    """Page of what ``modelsmith strike`` gives."""
    page.line(f"{counted(result.struck, 'row')} struck from iteration {result.iteration}; {result.rows} are left")
    page.line(f"digest {result.rows_digest}")


def capture(result: CaptureResult, page: Page) -> None:
    """Page of what ``modelsmith capture`` gives."""
    removed = ", ".join(f"{kind} {count}" for kind, count in result.removed.items()) or "nothing"
    page.rows(
        [
            ("records", str(result.records)),
            ("staged", f"{result.staged} cases that ask different things"),
            ("pending before", str(result.known)),
            ("left empty", str(result.empty)),
            *([("nothing bad known", str(result.sound))] if result.sound else []),
            *([("near no scenario", str(result.novel))] if result.novel else []),
            ("taken out", removed),
            ("file", result.path),
            ("pull request", f"{result.pull.number} waits for {', '.join(result.pull.waiting_for) or 'nobody'}"),
        ]
    )


def accept_scenario(result: AcceptScenarioResult, page: Page) -> None:
    """Page of what ``modelsmith accept-scenario`` gives."""
    page.line(f"{result.scenario} would be {result.path}")
    page.line(f"pull request {result.pull.number} waits for {', '.join(result.pull.waiting_for) or 'nobody'}")


def run_pending(result: RunPendingResult, page: Page) -> None:
    """Page of what ``modelsmith run-pending`` gives."""
    page.line(f"{result.pending} cases wait; {result.model} of {result.cluster} answers {len(result.cases)}, unscored")
    for case in result.cases:
        page.gap()
        alike = "" if case.similarity is None else f" {case.similarity:.2f}"
        near = f", nearest {case.nearest}{alike}" if case.nearest else ""
        page.line(Styled(case.id, "bold"), f"  seen {case.seen} times{near}; asked:")
        page.words(case.asked, indent=2)
        page.line("answered in production:", indent=2)
        page.words(case.before, indent=3)
        page.line("answers now, cut off:" if case.cut_off else "answers now:", indent=2)
        page.words("could not be asked" if case.answer is None else case.answer, indent=3)


def train(result: TrainResult, page: Page) -> None:
    """Page of what ``modelsmith train`` gives."""
    page.gap()
    name = f"{result.stage} ({result.method})"
    if result.artifact is None:
        page.rows(
            [("cluster", result.cluster), ("stage", name), ("skipped", f"{result.parent} fails none of its prompts")]
        )
        return
    loss = "none" if result.final_loss is None else f"{result.final_loss:.4f}"
    restarts = f", restarted {result.restarts} times" if result.restarts else ""
    adopted = ", trained before" if result.adopted else ""
    page.rows(
        [
            ("cluster", result.cluster),
            ("stage", name),
            ("from", result.parent),
            ("rows", str(result.rows)),
            ("seed", str(result.seed) + (f", of {result.seeds} that iterate tries" if result.seeds > 1 else "")),
            ("training", f"{result.steps} steps in {result.seconds:.0f} s, final loss {loss}{restarts}{adopted}"),
            ("artifact", result.artifact),
            ("folder", result.folder),
        ]
    )


_READ = 8
"""Failure clusters that a person reads; the rest is counted."""


def _age(history: PatternHistory | None) -> list[tuple[str, str]]:
    """How long a pattern has been there, where it has been seen before."""
    if history is None or history.first_seen is None:
        return []
    word = "persistent" if history.persistent else "seen"
    trained = f", trained on in {len(history.tried)}" if history.tried else ""
    return [("Age", f"{word} in {history.iterations} iterations, since {history.first_seen}{trained}")]


def diagnose(result: DiagnoseResult, page: Page) -> None:
    """Page of what ``modelsmith diagnose`` gives."""
    clusters = result.failure_clusters
    cases = sum(pattern.failed_cases for pattern in clusters)
    page.line(f"{cases} failed cases in {len(clusters)} clusters, most severe first")
    for cluster in clusters[:_READ]:
        page.gap()
        page.rows(
            [
                ("Cluster", cluster.id),
                ("Capability", cluster.capability),
                ("Pattern", cluster.pattern),
                ("Failed cases", f"{cluster.failed_cases} of {cluster.total_cases}"),
                ("Severity", cluster.severity),
                *_age(cluster.history),
                ("Reviewer action", cluster.reviewer_action),
                ("Next target", cluster.next_target),
            ],
        )
    if rest := clusters[_READ:]:
        page.gap()
        failed = sum(pattern.failed_cases for pattern in rest)
        page.line(f"and {len(rest)} clusters with {failed} failed cases; --json has all")
