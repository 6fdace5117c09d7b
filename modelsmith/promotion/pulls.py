"""Opening and merging promotion pull requests. Everything is built in the object database, never in the work tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from modelsmith.evidence.sanitise import assert_clean, machine_names
from modelsmith.forges.log_writer import ATTEMPTS, too_busy
from modelsmith.forges.port import Proposal
from modelsmith.governance.keys import opener_doubt
from modelsmith.governance.routing import changes_routing
from modelsmith.governance.states import folder_of, record_folder
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import GovernedState, governed_state_after, read_governed_state
from modelsmith.promotion.harness import Harness, Merger
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge
from modelsmith.promotion.receipts import Merged, receipt_files
from modelsmith.promotion.records import RecordDraft, next_record, routing_after
from modelsmith.repository.eval_tree import overwritten
from modelsmith.repository.git import Ident
from modelsmith.repository.tree import read_each
from modelsmith.repository.workspace import refuse_local
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
    WaitingForPerson,
)
from modelsmith.schema.promotion import (
    MERGE_NAMESPACE,
    RECORD_FILE,
    RECORD_SIGNATURE,
    RECORD_TYPE,
    PromotionRecord,
)
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.steps import step
from modelsmith.signing import ssh
from modelsmith.signing.dsse import Trusted, holds, seal, statement


def ident(merger: Merger) -> Ident:
    """Author of commits made now."""
    return Ident(merger.actor, f"{merger.actor}@modelsmith.invalid", datetime.now(UTC))


def branch_of(cluster: str, specialist: str, sequence: int, event: Event) -> str:
    """Branch on which a record is proposed: its folder, under ``promote/``."""
    return f"promote/{folder_of(cluster, specialist, sequence, event).removeprefix('promotions/')}"


class MainReader:
    """Main of the forge, for one command: read once, and when it has moved, what changed since.

    Not for use by several threads at a time.
    """

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._known: GovernedState | None = None

    def read(self) -> GovernedState:
        """Main as it is at the forge now. Raises as `sync` and `read_governed_state`."""
        self._known = current_main(self._merger, self._known)
        return self._known


def current_main(merger: Merger, known: GovernedState | None) -> GovernedState:
    """Main of the forge, from ``known``, as it was read before: costs what changed since. Raises as `MainReader`."""
    commit = sync(merger)
    if known is None:
        return read_governed_state(merger.workspace.git, commit)
    return known if known.tree.commit == commit else governed_state_after(known, commit)


def open_promotion(
    harness: Harness,
    event: Event,
    draft: RecordDraft,
    evidence: Mapping[str, bytes],
    title: str,
    body: str,
    known: GovernedState | None = None,
) -> PullRequest:
    """Propose the specialist's next event; an open proposal with the same record is adopted, signature and all.

    Not when main no longer trusts the key that signed the record, or the one that opened the proposal: then it is
    signed and proposed anew. ``known`` is main as the caller has read it.
    """
    main = current_main(harness, known)
    record = next_record(main, event, draft, evidence)
    branch = branch_of(record.cluster, record.specialist, record.sequence, event)
    adopted = open_with(harness, main, branch, _due(main, record))
    if adopted:
        return adopted
    files = _promotion_files(harness, main, record, evidence)
    for data in (body.encode(), *(data for data in files.values() if data)):
        assert_clean(data, machine_names(), lambda: known_ids(main, record.cluster))
    git = harness.workspace.git
    head = git.commit_files(main.tree.commit, files, f"{title}\n", ident(harness))
    pull = harness.forge.open(
        Proposal(branch=branch, title=title, body=body, head=head, base=main.tree.commit, requester=draft.requested_by)
    )
    announce(harness.forge, main, pull)
    return pull


class Signed(NamedTuple):
    """A file of a proposal, and whose signature beside it says what."""

    path: str
    data: bytes
    signature: str
    """Path of the bundle."""
    said: Mapping[str, Any]
    """The statement that is signed."""
    trusted: Sequence[Trusted]


def open_with(harness: Harness, main: GovernedState, branch: str, due: Signed) -> PullRequest | None:
    """The open pull request by which this harness has proposed that file already, signed by whom main believes.

    None, too, when main no longer trusts the key that opened it.
    """
    for pull in harness.forge.list("open"):
        if (pull.branch, pull.preparer) == (branch, harness.actor) and opener_doubt(pull, main.people) is None:
            files, _ = read_each(harness.workspace.revision(pull.head), [due.path, due.signature])
            if files.get(due.path) == due.data and holds(files.get(due.signature, b""), due.said, due.trusted):
                return pull
    return None


def _due(main: GovernedState, record: PromotionRecord) -> Signed:
    folder, trusted = record_folder(record), main.signers(record.cluster)
    data = canonical_json(record)
    return Signed(f"{folder}/{RECORD_FILE}", data, f"{folder}/{RECORD_SIGNATURE}", _sealed(record), trusted)


def _sealed(record: PromotionRecord) -> dict[str, Any]:
    predicate = {"cluster": record.cluster, "specialist": record.specialist, "event": record.event}
    return statement(RECORD_FILE, canonical_json(record), RECORD_TYPE, predicate)


def _promotion_files(
    harness: Harness, main: GovernedState, record: PromotionRecord, evidence: Mapping[str, bytes]
) -> dict[str, bytes | None]:
    folder = record_folder(record)
    data = canonical_json(record)
    files: dict[str, bytes | None] = {f"{folder}/{name}": content for name, content in evidence.items()}
    files[f"{folder}/{RECORD_FILE}"] = data
    files[f"{folder}/{RECORD_SIGNATURE}"] = seal(_sealed(record), harness.signer)
    if changes_routing(record):
        files[f"clusters/{record.cluster}/routing.yaml"] = routing_after(main, record)
    return files


def merge_pull(merger: Merger, number: int, known: GovernedState | None = None) -> PullRequest:
    """Merge a pull request whose gate is open, with its receipts; merged already is fine.

    Merge and receipts are one push, unless the forge's rules want to merge by themselves: then the receipts follow,
    and a run that was ended in between is made good by the next one.

    Where main moves meanwhile, it is judged anew. ``known`` is main as the caller has read it.

    Raises:
        WaitingForPerson: approvals are missing, or the forge queued it.
        GateNotCleared: a check failed, someone rejected it, or it does not merge.
        IntegrityFailure: as `add_receipts`.
        InfrastructureFailure: ``ref-moved`` when others keep moving main.
    """
    for _ in range(ATTEMPTS):
        try:
            return _merge(merger, number, known)
        except InfrastructureFailure as error:
            if error.code != "ref-moved":
                raise
    raise too_busy()


def _merge(merger: Merger, number: int, known: GovernedState | None) -> PullRequest:
    pull = merger.forge.get(number)
    if pull.status == "merged" and not pull.unreceipted:
        sync(merger)
        return pull
    waiting = merger.forge.unreceipted()
    for earlier in waiting:
        _add_receipts_of_any(merger, earlier)
    if waiting:
        pull = merger.forge.get(number)
    if pull.status == "merged":
        return add_receipts(merger, number) if pull.unreceipted else pull
    if pull.status == "closed":
        raise GateNotCleared("closed", f"Pull request {number} is closed", "Open a new one.", number=number)
    git = merger.workspace.git
    main = current_main(merger, known)
    now = datetime.now(UTC).replace(microsecond=0)
    decided = _judged(merger, main, pull, now)
    message = merge_message(pull, decided)
    if merger.forge.land(number, message):
        return add_receipts(merger, number)
    who = ident(merger)
    merge = git.commit_tree(decided.tree, [main.tree.commit, pull.head], message, who)
    receipts = _receipts(merger, pull, decided, merge, now)
    tip = git.commit_files(merge, receipts, f"Receipts of pull request {number}\n", who)
    merged = merger.forge.merge(number, tip, main.tree.commit)
    sync(merger)
    return merged


def add_receipts(merger: Merger, number: int) -> PullRequest:
    """Push the receipts of a merge that the forge made by itself, once the gate opens for it as it was made.

    It is judged anew, on the main that it was merged into: others may have been faster than this merge. Receipts of
    what was merged before come first, since times on main only go forward.

    Raises:
        IntegrityFailure: ``merged-past-gate`` when the gate is shut for what was merged, or another tree came of it;
            ``receipts-too-late`` when a later merge has receipts, since times on main only go forward.
        WaitingForPerson: ``receipts-missing`` when this account may not push them.
    """
    git = merger.workspace.git
    for _ in range(ATTEMPTS):
        tip = sync(merger)
        pull = merger.forge.get(number)
        if not pull.unreceipted:
            return pull
        assert pull.merge
        waiting = merger.forge.unreceipted()
        if not any(number in one for one in waiting):
            raise _too_late(number, pull.merge)
        if number not in waiting[0]:
            _add_receipts_of_any(merger, waiting[0])
            continue
        main = read_governed_state(git, git.text("rev-parse", f"{pull.merge}^1"))
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            decided = _judged(merger, main, pull, now)
        except (GateNotCleared, WaitingForPerson) as error:
            raise _past_gate(pull, error.message) from None
        if git.text("rev-parse", f"{pull.merge}^{{tree}}") != decided.tree:
            raise _past_gate(pull, "the forge's merge has another tree than the one that was judged")
        receipts = _receipts(merger, pull, decided, pull.merge, now)
        commit = git.commit_files(tip, receipts, f"Receipts of pull request {number}\n", ident(merger))
        try:
            done = merger.forge.add_receipts(number, commit, tip)
        except GateNotCleared as error:
            raise _receipts_missing(number, error) from None
        except InfrastructureFailure as error:
            if error.code != "ref-moved":
                raise
            continue
        sync(merger)
        return done
    raise too_busy()


def _add_receipts_of_any(merger: Merger, numbers: Sequence[int]) -> None:
    """Push the receipts of one merge, as of the first of these pull requests whose gate opens for it.

    Who opens again what was merged, signed or not, so holds up nobody. Raises as `add_receipts`: of the first of them.
    """
    refusals: list[ModelsmithError] = []
    for number in numbers:
        try:
            add_receipts(merger, number)
        except (IntegrityFailure, GateNotCleared, InvalidInput) as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]


def _judged(merger: Merger, main: GovernedState, pull: PullRequest, now: datetime) -> MergeDecision:
    """The judgement of a pull request whose gate is open."""
    decided = decide_merge(main, pull, now)
    refuse_unless_open(pull, decided)
    if pull.opening is None:
        raise GateNotCleared(
            "nobody-opened",
            f"Nobody has signed for having opened pull request {pull.number}",
            "Have it proposed again: `modelsmith pr open`.",
            number=pull.number,
        )
    return decided


def _receipts(
    merger: Merger, pull: PullRequest, decided: MergeDecision, merge: str, now: datetime
) -> dict[str, bytes | None]:
    return dict(
        receipt_files(
            pull,
            decided.change,
            decided.decision,
            Merged(merge, merger.actor, now),
            lambda receipt: ssh.sign(receipt, merger.key, MERGE_NAMESPACE).encode(),
        )
    )


def _past_gate(pull: PullRequest, why: str) -> IntegrityFailure:
    return IntegrityFailure(
        "merged-past-gate",
        f"The forge merged pull request {pull.number} as {str(pull.merge)[:12]}, and no receipts can be given: {why}",
        "Nobody's clone verifies main with it. Somebody who passes the rules of main moves it back to before that "
        "merge; then have the change proposed again.",
        number=pull.number,
        merge=pull.merge,
    )


def _too_late(number: int, merge: str) -> IntegrityFailure:
    return IntegrityFailure(
        "receipts-too-late",
        f"Pull request {number} was merged as {merge[:12]} without receipts, and a later merge has some",
        "Times on main only go forward, so none can be added. Move main back to before that merge, and merge both "
        "again.",
        number=number,
        merge=merge,
    )


def _receipts_missing(number: int, error: GateNotCleared) -> WaitingForPerson:
    return WaitingForPerson(
        "receipts-missing",
        f"Pull request {number} is merged, and this account may not push its receipts: {error.message}",
        "An account on the bypass list of main's rules runs `{next}`. Until then main does not verify.",
        number=number,
    ).then(step("pr merge", {"number": number}))


def refuse_unless_open(pull: PullRequest, decided: MergeDecision) -> None:
    """Raise what a closed gate means for the caller's exit code."""
    decision = decided.decision
    if decision.open:
        return
    if decision.refusals:
        show = step("pr show", {"number": pull.number})
        raise GateNotCleared(
            "gate-closed",
            f"Pull request {pull.number}: " + "; ".join(refusal.sentence for refusal in decision.refusals),
            "See `{next}`.",
            refusals=[refusal.code for refusal in decision.refusals],
        ).then(show)
    several = sum(need.satisfied_by is None for need in decision.needs) > 1
    approve = step("approve", {"number": pull.number}, key="KEY")
    who = "For each, one owner" if several else "One of them"
    raise WaitingForPerson(
        "approval-missing",
        f"Pull request {pull.number} waits for {decision.decides}",
        f"{who} runs `{{next}}`.",
        waiting_for=list(decision.waiting_for),
    ).then(approve)


def merge_message(pull: PullRequest, decided: MergeDecision) -> str:
    """Message of the merge commit; its trailers are an index for people, never proof."""
    trailers = [f"Reviewed-by: {actor}" for actor in sorted(decided.decision.approvers)]
    trailers += [f"Pull-request: {pull.number}", f"Change: {decided.change.digest()}"]
    return f"Merge pull request {pull.number}: {pull.title}\n\n" + "\n".join(trailers) + "\n"


def sync(merger: Merger) -> str:
    """Bring the forge's main into this clone and return its commit.

    The work tree follows when main is checked out, nothing is staged and nothing uncommitted would be lost.

    Raises:
        IntegrityFailure: ``reserved-path`` when main holds what belongs to one machine; the work tree stays as it is.
    """
    workspace = merger.workspace
    git = workspace.git
    commit = merger.forge.fetch_into(git)
    refuse_local(git, commit)
    on_main = git.branch() == "refs/heads/main"
    local = git.rev("refs/heads/main")
    if local == commit or (local is not None and not git.is_ancestor(local, commit)):
        return commit
    if on_main:
        staged = git.text("diff-index", "--cached", "--name-only", local, "--") if local else ""
        if not staged and not overwritten(git, workspace.files, local, commit):
            git.run("merge", "--quiet", "--ff-only", commit)
    else:
        git.update_ref("refs/heads/main", commit, local)
    return commit
