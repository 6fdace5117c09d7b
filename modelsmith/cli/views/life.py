"""Views of a specialist's life: iterated, exported, promoted, observed, rolled back, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled
from modelsmith.cli.tables import styled_outcome
from modelsmith.cli.views.runs import run_view
from modelsmith.schema.steps import shell_line

if TYPE_CHECKING:
    from modelsmith.operations.export import ExportResult
    from modelsmith.operations.iterate import IterateResult
    from modelsmith.operations.lineage import LineageResult
    from modelsmith.operations.observe import ObserveResult
    from modelsmith.operations.promote import PromoteResult
    from modelsmith.operations.rollback import RollbackResult
    from modelsmith.schema.observed import Retrained


def iterate(result: IterateResult, page: Page) -> None:
    """Page of what ``modelsmith iterate`` gives."""
    page.gap()
    page.rows(
        [
            ("cluster", result.cluster),
            ("iteration", str(result.iteration)),
            ("specialist", result.specialist or "none"),
            ("phase", result.phase),
            ("state", f"{result.state}{f' by {result.blocked_by}' if result.blocked_by else ''}"),
            ("reason", result.reason),
        ]
    )
    if result.recommended and result.recommended.change:
        page.line(f"write into {result.recommended.file}, by pull request:")
        page.words(result.recommended.change, indent=2)
    for run in (result.reference, result.candidate):
        if run:
            run_view(run, page)
    if result.waiting_for:
        waiting = f"Pull request {result.pull}" if result.pull else "The hold of the cluster"
        page.gap()
        page.line(f"{waiting} waits for {', '.join(result.waiting_for)}.")
        page.gap()
    for label, step in result.next.items():
        page.line(f"{label:<9}{shell_line(step)}")


def export(result: ExportResult, page: Page) -> None:
    """Page of what ``modelsmith export`` gives."""
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


def promote(result: PromoteResult, page: Page) -> None:
    """Page of what ``modelsmith promote`` gives."""
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


def observe(result: ObserveResult, page: Page) -> None:
    """Page of what ``modelsmith observe`` gives."""
    agreement = result.agreement
    word = Styled("agrees", "green") if agreement.agrees else Styled("disagrees", "red")
    pull = "main has it already" if result.pull is None else f"{result.pull}  {result.status}"
    page.rows(
        [
            ("specialist", result.specialist),
            ("observer", (f"{agreement.observer} ", word)),
            ("engine", "the evidence's own" if agreement.same_engine else "another than the evidence's"),
            ("verdict here", styled_outcome(agreement.verdict)),
            ("trained again", _trained_again(agreement.retrained)),
            ("pull request", pull),
        ]
    )
    page.line(agreement.sentence)
    if agreement.turned:
        body = [(flip.model, flip.section, flip.id, flip.direction) for flip in agreement.turned]
        page.table(("model", "section", "scenario", "here"), body)


def _trained_again(retrained: Retrained | None) -> str:
    if retrained is None:
        return "no; --retrain does"
    if retrained.identical:
        return "the very same artifact"
    return f"another artifact, {len(retrained.turned)} verdicts differ"


def rollback(result: RollbackResult, page: Page) -> None:
    """Page of what ``modelsmith rollback`` gives."""
    serving = ", ".join(f"{route.specialist} {route.share:.0%}" for route in result.serving)
    rows = [
        ("cluster", result.cluster),
        ("serves now", serving),
        (result.event, result.specialist),
        ("pull request", f"{result.pull}  {result.status}"),
        ("decision", result.decision),
    ]
    if result.replaces:
        rows.append(("replaces", f"{result.replaces}, which is closed now; its approvals count for nothing"))
    if result.readiness:
        rows.append(("ready", result.readiness))
    if result.waiting_for:
        rows.append(("waits for", ", ".join(result.waiting_for)))
    page.rows([*rows, ("next", shell_line(result.next))])


def lineage(result: LineageResult, page: Page) -> None:
    """Page of what ``modelsmith lineage`` gives."""
    for ancestor in result.ancestors:
        rows = [
            ("specialist", f"{ancestor.specialist} ({ancestor.state})"),
            ("artifact", ancestor.artifact),
            ("eval run", ancestor.eval_run or "none"),
        ]
        if facts := ancestor.training:
            rows.append(("training", f"{facts.method}, {facts.rows} rows, {facts.steps} steps, seed {facts.seed}"))
            if facts.devices:
                rows.append(("devices", ", ".join(map(str, facts.devices))))
            rows.append(("rows", facts.rows_digest))
        if export_facts := ancestor.export:
            rows.append(
                (
                    "made from",
                    f"{export_facts.parent}, as {export_facts.export.kind} {export_facts.export.dtype or ''}".strip(),
                )
            )
        page.rows(rows)
        if let := ancestor.override:
            approvers = ", ".join(let.approved_by)
            page.line(
                Styled("overridden", "yellow"), f"  its eval was INCONCLUSIVE; {approvers} let it count: {let.reason}"
            )
        for event in ancestor.events:
            approvers = f", approved by {', '.join(event.approvers)}" if event.approvers else ""
            page.line(f"{event.sequence:02d}  {event.event} (pull request {event.pull}{approvers})", indent=2)
    page.line(f"base model   {result.base_model}  {result.base_digest}")
    for descendant in result.descendants:
        how = "trained from it" if descendant.how == "trained" else f"{descendant.how} export of it"
        page.line(f"descends     {descendant.specialist}  {descendant.state}, {how}")
