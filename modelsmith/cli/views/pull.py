"""Views of pull requests. What people wrote about one stands last on its line, or in a block of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled

if TYPE_CHECKING:
    from modelsmith.operations.approve import VerdictResult
    from modelsmith.operations.attest_reviews import AttestReviewsResult
    from modelsmith.operations.check import CheckedResult
    from modelsmith.operations.pr_list import PrListResult
    from modelsmith.operations.pr_merge import PrMergeResult
    from modelsmith.operations.pr_open import PrOpenResult
    from modelsmith.operations.pr_receipts import PrReceiptsResult
    from modelsmith.operations.pr_show import PrShowResult
    from modelsmith.operations.proposal_view import DiffView, FileView, PacketView, ProposalView
    from modelsmith.operations.pull_view import PullView
    from modelsmith.operations.status import StatusResult

_MARKS = {"added": Styled("+", "green"), "removed": Styled("-", "red"), "changed": Styled("~", "yellow")}
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
"""Of the lines of a diff, by what they begin with."""


def _override(pull: PullView, page: Page) -> None:
    """What nobody may miss: this eval did not pass, and a person is asked to let it count."""
    override = pull.override
    if override is None:
        return
    page.line(
        Styled("OVERRIDE OF AN INCONCLUSIVE", "bold red"), f"  {override.role or 'nobody'} may let this eval count"
    )
    page.line(f"{override.asked_by} asks, because:")
    page.words(override.reason, indent=2)


def _rows(pull: PullView, page: Page) -> None:
    _override(pull, page)
    rows = [
        ("pull request", f"{pull.number}  {pull.title}"),
        ("status", pull.status if pull.status != "open" else f"open, gate {pull.gate}"),
        ("requested by", f"{pull.requester} (opened by {pull.preparer})"),
    ]
    if pull.approvers:
        rows.append(("approved by", ", ".join(pull.approvers)))
    if pull.waiting_for:
        rows.append(("waits for", pull.decides))
    if pull.change:
        rows.append(("change", pull.change))
    page.rows(rows)


def unreadable(result: PrListResult | StatusResult, page: Page) -> None:
    """Pull requests of which nothing is shown, and why."""
    for broken in result.unreadable:
        page.line(f"pull request {broken.number} cannot be relied on: ", f"{broken.message}  -> {broken.mend}")


def pr_list(result: PrListResult, page: Page) -> None:
    """Page of what ``modelsmith pr list`` gives."""
    unreadable(result, page)
    if not result.pulls:
        page.line("no pull request is open; `--all` shows merged and closed ones too")
        return
    body = [(str(pull.number), pull.status, pull.gate, pull.decides, pull.title) for pull in result.pulls]
    page.table(("no.", "status", "gate", "waits for", "title"), body)


def pr_show(result: PrShowResult, page: Page) -> None:
    """Page of what ``modelsmith pr show`` gives."""
    pull = result.pull
    page.gap()
    _rows(pull, page)
    page.gap()
    for check in pull.checks:
        page.line(Styled("ok", "green") if check.passed else Styled("no", "red"), f"  {check.name}: {check.sentence}")
    for refusal in pull.refusals:
        page.line(Styled("refused", "red"), f"  {refusal}")
    for note in pull.notes:
        page.line(Styled("note", "yellow"), f"  {note}")
    for sentence in result.taught:
        page.line(Styled("trained on", "yellow"), f"  {sentence}")
    for review in result.reviews:
        stale = "" if review.current else " (stale: the change was edited since)"
        page.line(f"{review.verdict} by {review.actor} at {review.at}{stale}")
        if review.reason:
            page.words(review.reason, indent=2)
    packet = result.proposal.packet if result.proposal else None
    if result.body and (packet is None or packet.text != result.body):
        page.gap()
        page.line(f"In the words of {pull.preparer}, who opened it:")
        page.words(result.body)
    if result.proposal is None:
        page.gap()
        page.line(Styled("unreadable", "red"), f"  what it changes cannot be shown: {result.unreadable}")
    else:
        _proposal(result.proposal, page)


def _proposal(proposal: ProposalView, page: Page) -> None:
    page.gap()
    for commit in proposal.commits:
        by = Styled(f"signed by {commit.signer}", "green") if commit.signer else "signed by nobody listed"
        page.line(f"commit {commit.id[:12]}  ", by, f"; names {commit.author}: {commit.subject}")
    if proposal.commits_left_out:
        page.line(Styled(f"and {proposal.commits_left_out} older commits, which are not listed here", "yellow"))
    page.gap()
    for file in proposal.files:
        page.line(_MARKS[file.kind], f" {_sizes(file)}  {file.path}")
    if proposal.diff is not None:
        _diff(proposal, proposal.diff, page)
    if proposal.packet is not None:
        _packet(proposal.packet, page)


def _sizes(file: FileView) -> str:
    kinds = "" if {file.old, file.new} <= {"", "file"} else f", {file.old or 'nothing'} -> {file.new or 'nothing'}"
    if file.kind == "changed":
        return f"{_bytes(file.old_bytes)} -> {_bytes(file.new_bytes)}{kinds}"
    return f"{_bytes(file.new_bytes if file.kind == 'added' else file.old_bytes)}{kinds}"


def _bytes(size: int | None) -> str:
    return "no size" if size is None else f"{size} bytes"


def _diff(proposal: ProposalView, diff: DiffView, page: Page) -> None:
    page.gap()
    page.line("The lines that change:")
    page.words("\n".join(diff.lines), style=lambda line: _COLOURS.get(line[:1], ""), most=len(diff.lines))
    for sentence in diff.left_out:
        page.line(Styled("not shown", "yellow"), f"  {sentence}")
    if diff.left_out:
        page.line(f"All of it: git diff --text --no-textconv --no-ext-diff {proposal.old[:12]} {proposal.new[:12]}")


def _packet(packet: PacketView, page: Page) -> None:
    page.gap()
    if packet.rendering:
        page.line("The packet, exactly as evidence and records render it:")
        page.gap()
        page.markdown(packet.text)
        return
    page.line(Styled("not the rendering", "red"), f"  of evidence and records, but the proposer's words: {packet.path}")
    page.words(packet.text)


_STATES = {
    "success": Styled("pass", "green"),
    "neutral": Styled("none", "dim"),
    "action_required": Styled("wait", "yellow"),
    "failure": Styled("fail", "red"),
}
"""Of a named check, in four letters."""


def check(result: CheckedResult, page: Page) -> None:
    """Page of what ``modelsmith check`` gives."""
    page.rows(
        [
            ("pull request", f"{result.number}  {result.title}"),
            ("gate", result.gate),
            ("commit", f"{result.commit[:12]}, against main at {result.main[:12]}"),
        ]
    )
    for view in result.checks:
        page.gap()
        page.line(_STATES[view.state], f"  modelsmith/{view.name}: {view.title}")
        for line in view.lines:
            page.line(line, indent=4)
    if result.gate == "waiting":
        page.gap()
        page.line(f"See it: modelsmith pr show {result.number}")


def verdict_given(result: VerdictResult, page: Page) -> None:
    """``modelsmith approve`` and ``modelsmith reject``."""
    page.line(f"{result.verdict} by {result.actor} on {result.change}")
    if result.because is not None:
        page.line(Styled("does not count", "red"), f", because {result.because}")
    _rows(result.pull, page)
    if result.pull.gate == "open":
        page.gap()
        page.line(f"Next: modelsmith pr merge {result.pull.number}")


def pr_merge(result: PrMergeResult, page: Page) -> None:
    """Page of what ``modelsmith pr merge`` gives."""
    page.line(f"merged {result.number} as {result.merge[:12]}: {result.title}")


def pr_receipts(result: PrReceiptsResult, page: Page) -> None:
    """Page of what ``modelsmith pr receipts`` gives."""
    for pull in result.pulls:
        page.line(f"receipts of {pull.number}, merged as {pull.merge[:12]}: {pull.title}")
    if not result.pulls:
        page.line("no merge waits for receipts")


def pr_open(result: PrOpenResult, page: Page) -> None:
    """Page of what ``modelsmith pr open`` gives."""
    _rows(result.pull, page)
    if result.kept:
        page.gap()
        words = " and ".join(result.kept)
        page.line(Styled("note", "yellow"), f"  it was open already, with another {words}; these are signed and stay")
        page.line(f"      other words: modelsmith pr close {result.pull.number} --reason WHY, then pr open again")


def reviews_attested(result: AttestReviewsResult, page: Page) -> None:
    """Page of what ``modelsmith attest-reviews`` gives."""
    page.line(f"reviews at {result.repository}, read as main has it at {result.commit[:12]}")
    for pull in result.pulls:
        word = Styled("signed", "green") if pull.signed else "not signed"
        page.line(f"{pull.number}: ", word, f", {pull.reviews} reviews; {pull.because}")
    if not result.pulls:
        page.line("no pull request is open")
