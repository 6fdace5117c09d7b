"""How what agents ask for first is shown to people: the machine at work, events, evidence, who decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled
from modelsmith.schema.steps import shell_line

if TYPE_CHECKING:
    from modelsmith.operations.approvers import ApproversResult
    from modelsmith.operations.events import EventsResult
    from modelsmith.operations.evidence import EvidenceResult
    from modelsmith.operations.fleet import FleetResult
    from modelsmith.operations.pr_ask import PrAskResult


def fleet(result: FleetResult, page: Page) -> None:
    """Page of what ``modelsmith fleet`` gives."""
    for cluster in result.clusters:
        serves = ", ".join(f"{of.specialist} {of.share:.0%}" for of in cluster.serving)
        waits = "".join(f"; {of.number} waits for {of.decides}" for of in cluster.waiting)
        hold = "; on hold" if cluster.hold else ""
        page.line(Styled(cluster.cluster, "bold"), f"  serves {serves}{hold}{waits}")
    for job in result.jobs:
        page.line(f"job {job.job}  {job.operation} {job.cluster}  {job.status}  {job.message}")
    if result.queued:
        page.line(f"{result.queued} jobs wait for their turn")
    for gpu in result.gpus:
        busy = "" if gpu.busy is None else f"  {gpu.busy} % busy"
        page.line(f"{gpu.name}{busy}  {gpu.memory_used_mib} of {gpu.memory_total_mib} MiB")
    if not result.gpus:
        page.line(f"no GPU; {result.processors} processors")


def events(result: EventsResult, page: Page) -> None:
    """Page of what ``modelsmith events`` gives."""
    for event in result.events:
        page.line(f"{event.cursor}  {event.at}  {event.event.name}  {event.event.cluster}")
    if not result.events:
        page.line("nothing new")
    if result.more:
        page.line(f"{result.more} more; go on with --since {result.cursor}")


def approvers(result: ApproversResult, page: Page) -> None:
    """Page of what ``modelsmith approvers`` gives."""
    for gate in result.gates:
        deciders = (
            "checks alone" if gate.gate == "harness" else f"{gate.gate}: {', '.join(gate.people) or 'nobody yet'}"
        )
        page.line(f"{gate.event:<22}", Styled(deciders, "" if gate.gate == "harness" else "yellow"))
    if result.decides:
        page.line(f"waits for {result.decides}")


def evidence(result: EvidenceResult, page: Page) -> None:
    """Page of what ``modelsmith evidence`` gives."""
    page.rows(
        [
            ("specialist", result.specialist),
            ("artifact", result.artifact),
            ("folder", result.folder),
            ("verdict", result.candidate.verdict),
            ("attempts", f"{result.attempts}; held-out consulted {result.held_out_consulted} times"),
            *((name, digest) for name, digest in result.files.items()),
        ]
    )


def asked(result: PrAskResult, page: Page) -> None:
    """Page of what ``modelsmith pr ask`` gives."""
    page.rows(
        [
            ("pull request", f"{result.number}: {result.title}"),
            ("waits for", result.decides or "nobody"),
            *((("theirs", shell_line(result.theirs)),) if result.theirs else ()),
        ]
    )
