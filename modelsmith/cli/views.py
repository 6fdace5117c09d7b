"""Results for people: one view for each operation; what has no view of its own prints as fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelsmith.cli import views_agents, views_corpus, views_jobs, views_pull, views_signal, views_upstream
from modelsmith.cli.page import Page, Parts, Styled
from modelsmith.cli.tables import interval, styled_outcome
from modelsmith.cli.views_change import diff_rubric_view, eval_changes_view
from modelsmith.cli.views_eval import duration, eval_view, results_view, run_view
from modelsmith.schema.figures import format_apart
from modelsmith.schema.steps import shell_line

if TYPE_CHECKING:
    from modelsmith.operations.authoring import NewResult
    from modelsmith.operations.compare import CompareResult
    from modelsmith.operations.contract import Result
    from modelsmith.operations.diagnose import DiagnoseResult
    from modelsmith.operations.doctor import DoctorResult
    from modelsmith.operations.export import ExportResult
    from modelsmith.operations.init import InitResult
    from modelsmith.operations.iterate import IterateResult
    from modelsmith.operations.lineage import LineageResult
    from modelsmith.operations.observe import ObserveResult
    from modelsmith.operations.promote import PromoteResult
    from modelsmith.operations.rollback import RollbackResult
    from modelsmith.operations.status import RunningView, StatusResult
    from modelsmith.operations.validate import ValidateResult
    from modelsmith.operations.verify import VerifyResult
    from modelsmith.schema.diagnosis import PatternHistory
    from modelsmith.schema.observed import Retrained

View = Callable[[Any, Page], None]


def render(name: str, result: Result, page: Page) -> None:
    """Print the result of the operation of that name."""
    VIEWS.get(name, _fields)(result, page)


def _fields(result: Result, page: Page) -> None:
    page.rows([(name, str(value)) for name, value in result.model_dump(mode="json").items()])


def _validate(result: ValidateResult, page: Page) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items()))
    page.line(f"{result.files} governed files: {kinds}")
    for name, pair in result.nearest.items():
        page.line(
            f"{name}: nearest held-out and core texts are {pair.similarity:.2f} alike "
            f"({pair.first} ~ {pair.second}; limit {pair.limit:.2f})"
        )
    for name, tried in result.firewall.items():
        page.line(
            f"{name}: {tried.dropped} of {tried.rows} rows of its generators are too near to scored texts "
            f"(nearest of the others {tried.nearest:.2f}; limit {tried.limit:.2f})"
        )
        for loss in tried.losses:
            page.line(loss, indent=2)
    for style, kind, found in (("yellow", "odd ", result.warnings), ("red", "", result.problems)):
        for problem in found:
            where = f"{problem.file}:{problem.line}" if problem.line else problem.file
            page.line(kind, Styled(where, style), f" {problem.field} {problem.message}  -> {problem.mend}")
    count = f"{len(result.problems)} problem{'s' if len(result.problems) > 1 else ''}"
    page.line(Styled("valid", "green") if result.valid else Styled(count, "red"))


def _new(result: NewResult, page: Page) -> None:
    for path in result.files:
        page.line(Styled("wrote", "green"), f" {path}")
    for problem in result.remaining:
        page.line(Styled("still to do", "yellow"), f" {problem.file}: {problem.message}  -> {problem.mend}")


def _init(result: InitResult, page: Page) -> None:
    people = "; ".join(f"{person} ({', '.join(roles)})" for person, roles in result.people.items()) or "nobody yet"
    page.rows(
        [
            ("repository", result.directory),
            ("forge", result.forge),
            ("clusters", ", ".join(result.clusters) or "none yet"),
            ("people", people),
            ("root", result.root),
        ],
    )
    if result.unheld_roles:
        page.line(
            Styled(f"Nobody holds {', '.join(result.unheld_roles)}", "yellow"),
            ": their gates stay shut until people.yaml lists someone with a key.",
        )
    page.gap()
    first = f"iterate {result.clusters[0]}" if result.clusters else "new set NAME"
    page.line(f"Next: cd {result.directory} && modelsmith {first}")


_SEEN = {
    "same": "the same main",
    "older": "an older main",
    "newer": "a newer main, which was not verified: fetch it, and run this again",
}


def _checked_out(result: VerifyResult) -> Parts:
    if not result.checked_out:
        return (Styled("no", "yellow"), ": the files here are of another commit")
    return f"yes, and {result.edited} paths differ from it" if result.edited else "yes"


def _verify(result: VerifyResult, page: Page) -> None:
    pinned = f"pinned by {result.pin}" if result.pin else "not pinned: pass --root FINGERPRINT from a source you trust"
    rows: list[tuple[str, Parts]] = [
        ("verified", (Styled("yes", "green"), f", {result.revision} up to {result.tip}")),
        ("checked out", _checked_out(result)),
        ("root", f"{result.root} ({pinned})"),
        ("changes", f"{result.changes}, of which {result.promotions} promotions"),
        ("judged now", f"{result.changes - result.remembered}; {result.remembered} were verified here before"),
        ("approvals", f"{result.approvals} signatures by people"),
    ]
    rows += [("compared", f"{where} has {_SEEN[seen]}") for where, seen in result.compared.items()]
    if result.rewound_from:
        warning = (Styled("main was rewound", "red"), f": {result.rewound_from[:12]} is no longer on it")
        rows.insert(1, ("warning", warning))
    rows += [("weights", f"{name}: {state}") for name, state in result.weights.items()]
    for name, seen in result.observations.items():
        for one in seen:
            word = Styled("agrees", "green") if one.agrees else Styled("disagrees", "red")
            rows.append(("observed", (word, f", {name}: {one.sentence}")))
    rows += [("observed", (Styled("not counted", "yellow"), f": {words}")) for words in result.uncounted]
    for stale in result.stale:
        rows.append(("stale", f"{stale.specialist}: {'; '.join(stale.reasons)}"))
        rows.append(("renew", stale.renewal))
    page.rows(rows)


def _compare(result: CompareResult, page: Page) -> None:
    comparison = result.comparison
    page.rows(
        [
            ("first", f"{result.first}  composite {interval(comparison.composite[0])}"),
            ("second", f"{result.second}  composite {interval(comparison.composite[1])}"),
            ("difference", interval(comparison.difference)),
            ("gained, lost", f"{comparison.gained}, {comparison.lost} (McNemar p = {comparison.mcnemar_p:.3g})"),
            ("outcome", comparison.outcome),
        ],
    )
    page.line(comparison.sentence)
    page.table(("scenario", "section", "flip"), [(flip.id, flip.section, flip.direction) for flip in comparison.flips])


_READ = 8
"""Failure clusters that a person reads; the rest is counted."""


def _age(history: PatternHistory | None) -> list[tuple[str, str]]:
    """How long a pattern has been there, where it has been seen before."""
    if history is None or history.first_seen is None:
        return []
    what = "persistent" if history.persistent else "seen"
    trained = f", trained on in {len(history.tried)}" if history.tried else ""
    return [("Age", f"{what} in {history.iterations} iterations, since {history.first_seen}{trained}")]


def _diagnose(result: DiagnoseResult, page: Page) -> None:
    clusters = result.failure_clusters
    cases = sum(one.failed_cases for one in clusters)
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
        page.line(f"and {len(rest)} clusters with {sum(one.failed_cases for one in rest)} failed cases; --json has all")


def _lineage(result: LineageResult, page: Page) -> None:
    for ancestor in result.ancestors:
        rows = [
            ("specialist", f"{ancestor.specialist} ({ancestor.state})"),
            ("artifact", ancestor.artifact),
            ("eval run", ancestor.eval_run or "none"),
        ]
        if facts := ancestor.training:
            rows.append(("training", f"{facts.method}, {facts.rows} rows, {facts.steps} steps, seed {facts.seed}"))
            rows.append(("rows", facts.rows_digest))
        if made := ancestor.export:
            rows.append(("made from", f"{made.parent}, as {made.export.kind} {made.export.dtype or ''}".strip()))
        page.rows(rows)
        if let := ancestor.override:
            who = ", ".join(let.approved_by)
            page.line(Styled("overridden", "yellow"), f"  its eval was INCONCLUSIVE; {who} let it count: {let.reason}")
        for event in ancestor.events:
            who = f", approved by {', '.join(event.approvers)}" if event.approvers else ""
            page.line(f"{event.sequence:02d}  {event.event} (pull request {event.pull}{who})", indent=2)
    page.line(f"base model   {result.base_model}  {result.base_digest}")
    for one in result.descendants:
        how = "trained from it" if one.how == "trained" else f"{one.how} export of it"
        page.line(f"descends     {one.specialist}  {one.state}, {how}")


def _iterate(result: IterateResult, page: Page) -> None:
    page.gap()
    page.rows(
        [
            ("cluster", result.cluster),
            ("iteration", str(result.iteration)),
            ("specialist", result.specialist or "none"),
            ("phase", result.phase),
            ("reason", result.reason),
        ]
    )
    for run in (result.reference, result.candidate):
        if run:
            run_view(run, page)
    if result.waiting_for:
        what = f"Pull request {result.pull}" if result.pull else "The hold of the cluster"
        page.gap()
        page.line(f"{what} waits for {', '.join(result.waiting_for)}.")
        page.gap()
    for label, step in result.next.items():
        page.line(f"{label:<9}{shell_line(step)}")


def _export(result: ExportResult, page: Page) -> None:
    page.gap()
    page.rows(
        [
            ("cluster", result.cluster),
            ("specialist", f"{result.specialist} ({result.state})"),
            ("made from", f"{result.parent}, as {result.kind}"),
            ("artifact", result.artifact),
            ("reason", result.reason),
        ]
    )
    for run in (result.reference, result.candidate):
        if run:
            run_view(run, page)
    page.gap()
    for label, step in result.next.items():
        page.line(f"{label:<9}{shell_line(step)}")


def _promote(result: PromoteResult, page: Page) -> None:
    page.gap()
    page.line("Promotion request")
    for label, text in (
        ("Cluster", result.cluster),
        ("Model", result.model),
        ("Specialist", result.specialist),
        ("Iteration", str(result.iteration)),
        ("Composite", f"{result.composite:.1%}" if result.composite is not None else "not evaluated"),
        ("Eval tag", result.eval_tag or "none"),
        ("Adapter", result.artifact),
    ):
        page.line(f"{label + ':':<12}{text}", indent=2)
    page.gap()
    page.line("Promotion record written.")
    page.line(f"Directory: {result.directory}", indent=2)
    page.line(f"Pull request {result.pull} to {result.event}: {result.status}", indent=2)
    if result.waiting_for:
        page.line(f"Waits for:  {', '.join(result.waiting_for)}", indent=2)


def _observe(result: ObserveResult, page: Page) -> None:
    found = result.agreement
    word = Styled("agrees", "green") if found.agrees else Styled("disagrees", "red")
    pull = "main has it already" if result.pull is None else f"{result.pull}  {result.status}"
    page.rows(
        [
            ("specialist", result.specialist),
            ("observer", (f"{found.observer} ", word)),
            ("engine", "the evidence's own" if found.same_engine else "another than the evidence's"),
            ("verdict here", styled_outcome(found.verdict)),
            ("trained again", _trained_again(found.retrained)),
            ("pull request", pull),
        ]
    )
    page.line(found.sentence)
    if found.turned:
        body = [(one.model, one.section, one.id, one.direction) for one in found.turned]
        page.table(("model", "section", "scenario", "here"), body)


def _trained_again(found: Retrained | None) -> str:
    if found is None:
        return "no; --retrain does"
    if found.identical:
        return "the very same artifact"
    return f"another artifact, {len(found.turned)} verdicts differ"


def _rollback(result: RollbackResult, page: Page) -> None:
    serving = ", ".join(f"{one.specialist} {one.share:.0%}" for one in result.serving)
    rows = [
        ("cluster", result.cluster),
        ("serves now", serving),
        (result.event, result.specialist),
        ("pull request", f"{result.pull}  {result.status}"),
        ("decision", result.decision),
    ]
    if result.readiness:
        rows.append(("ready", result.readiness))
    if result.waiting_for:
        rows.append(("waits for", ", ".join(result.waiting_for)))
    page.rows([*rows, ("next", shell_line(result.next))])


def _status(result: StatusResult, page: Page) -> None:
    views_pull.unreadable(result, page)
    if not result.clusters:
        page.line("no cluster on main yet; `modelsmith new cluster NAME` writes one")
    for cluster in result.clusters:
        page.gap()
        serving = ", ".join(f"{one.specialist} {one.share:.0%}" for one in cluster.serving)
        rows: list[tuple[str, Parts]] = [
            ("cluster", cluster.cluster),
            ("base model", cluster.base_model),
            ("serving", serving),
            ("iteration", f"{cluster.iteration or 'none yet'}  {cluster.phase or ''}".strip()),
        ]
        if cluster.running:
            rows.append(("running", _work(cluster.running)))
        if cluster.reason:
            rows.append(("latest", cluster.reason))
        if cluster.error:
            rows.append(("stopped", (Styled(cluster.error.code, "red"), f": {cluster.error.message}")))
        if cluster.composite is not None:
            value, limit = format_apart(cluster.composite, cluster.threshold)
            rows.append(("composite", f"{value}  (threshold {limit})"))
        for one in cluster.specialists:
            said: Parts = f"{one.specialist}  {one.state}"
            if one.state == "candidate" and one.verdict:
                said = (
                    f"{said}  ",
                    styled_outcome(one.verdict),
                    f"  composite {one.composite:.3f}, by the rule of its day",
                )
            rows.append(("specialist", said))
            if one.export:
                rows.append(("", one.export))
            if one.overridden:
                rows.append(("", (Styled("overridden", "yellow"), f": {one.overridden}")))
            if one.observers:
                rows.append(("", f"observers: {one.observers}"))
            rows += [("", (Styled("stale evidence", "yellow"), f": {reason}")) for reason in one.stale]
        if cluster.renewal:
            rows.append(("renew", cluster.renewal))
        rows += [
            ("waiting", f"pull request {w.number} for {', '.join(w.waiting_for) or 'nobody'}: {w.title}")
            for w in cluster.waiting
        ]
        if cluster.hold:
            clearers = ", ".join(cluster.hold.waiting_for)
            rows.append(("on hold", f"{cluster.hold.specialist} was rolled back; {clearers} clears it"))
        rows.append(("next", shell_line(cluster.next)))
        if cluster.why:
            rows.append(("", cluster.why))
        page.rows(rows)


def _work(running: RunningView) -> str:
    counted = f" {running.done} of {running.total}" if running.total else ""
    left = f", about {duration(running.seconds_left)} left" if running.seconds_left is not None else ""
    return f"{running.phase}{counted}{left}: {running.message}"


def _doctor(result: DoctorResult, page: Page) -> None:
    styles = {"ok": "green", "note": "yellow", "bad": "red"}
    for finding in result.findings:
        why = f": {finding.why}" if finding.why else ""
        mend = f"  -> {finding.mend}" if finding.mend else ""
        mark = Styled(f"{finding.level:<4}", styles[finding.level])
        page.line(mark, f"  {finding.subject}: {finding.sentence}{why}{mend}")
    for change in result.changes:
        page.gap()
        page.line(f"{'set' if change.done else 'to set'} at GitHub: {change.what}")
        for line in change.lines:
            page.line(f"  {line}")


VIEWS: dict[str, View] = {
    "init": _init,
    "validate": _validate,
    **{f"new {what}": _new for what in ("set", "capability", "scenario", "scenarios", "generator", "label", "cluster")},
    "doctor": _doctor,
    "iterate": _iterate,
    "eval": eval_view,
    "eval-changes": eval_changes_view,
    "diagnose": _diagnose,
    "why": views_signal.why,
    "capture": views_signal.capture,
    "run-pending": views_signal.run_pending,
    "accept-scenario": views_signal.accept_scenario,
    "review-synthetic": views_signal.review_synthetic,
    "strike": views_signal.strike,
    "train": views_signal.train,
    "diff-rubric": diff_rubric_view,
    "export": _export,
    "promote": _promote,
    "observe": _observe,
    "rollback": _rollback,
    "status": _status,
    "results": results_view,
    "compare": _compare,
    "lineage": _lineage,
    "balance": views_corpus.balance,
    "composite-history": views_corpus.composite_history,
    "fleet": views_agents.fleet,
    "events": views_agents.events,
    "evidence": views_agents.evidence,
    "approvers": views_agents.approvers,
    "pr ask": views_agents.asked,
    "jobs list": views_jobs.listed,
    "jobs show": views_jobs.shown,
    "jobs tail": views_jobs.tail,
    "jobs cancel": views_jobs.changed,
    "jobs resume": views_jobs.changed,
    "pr list": views_pull.pr_list,
    "pr show": views_pull.pr_show,
    "check": views_pull.check,
    "pr open": views_pull.pr_open,
    "pr merge": views_pull.pr_merge,
    "approve": views_pull.verdict_given,
    "reject": views_pull.verdict_given,
    "attest-reviews": views_pull.reviews_attested,
    "upstream status": views_upstream.status,
    "upstream pull": views_upstream.pull,
    "upstream contribute": views_upstream.contribute,
    "verify": _verify,
}
