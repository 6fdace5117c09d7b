"""Opening and merging promotion pull requests. Everything is built in the object database, never in the work tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from modelsmith.evidence.sanitise import assert_clean, machine_names
from modelsmith.forges.log_writer import ATTEMPTS, too_busy
from modelsmith.forges.port import Proposal
from modelsmith.governance.keys import opener_doubt
from modelsmith.governance.routing_chain import changes_routing
from modelsmith.governance.states import folder_of, record_folder
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness, Merger, ident
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.merge_decision import MergeDecision
from modelsmith.promotion.receipting import add_missing_receipts, add_receipts, judged, receipts_of
from modelsmith.promotion.records import RecordDraft, next_record, routing_after
from modelsmith.promotion.syncing import current_main, sync
from modelsmith.repository.tree import read_each
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
)
from modelsmith.schema.promotion import (
    RECORD_FILE,
    RECORD_SIGNATURE,
    RECORD_TYPE,
    PromotionRecord,
)
from modelsmith.schema.pull import PullRequest
from modelsmith.signing.dsse import Trusted, holds, seal, statement


def branch_of(cluster: str, specialist: str, sequence: int, event: Event) -> str:
    """Branch on which a record is proposed: its folder, under ``promote/``."""
    return f"promote/{folder_of(cluster, specialist, sequence, event).removeprefix('promotions/')}"


def open_promotion(
    harness: Harness,
    event: Event,
    draft: RecordDraft,
    evidence: Mapping[str, bytes],
    title: str,
    body: str,
    governed: GovernedState | None = None,
) -> PullRequest:
    """Propose the specialist's next event; an open proposal with the same record is adopted, signature and all.

    Not when main no longer trusts the key that signed the record, or the one that opened the proposal: then it is
    signed and proposed anew. ``governed`` is main as the caller has read it.
    """
    main = current_main(harness, governed)
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
    predicate: Mapping[str, Any]
    """The statement that is signed."""
    trusted: Sequence[Trusted]


def open_with(harness: Harness, main: GovernedState, branch: str, due: Signed) -> PullRequest | None:
    """The open pull request by which this harness has proposed that file already, signed by whom main believes.

    None, too, when main no longer trusts the key that opened it.
    """
    for pull in harness.forge.list("open"):
        if (pull.branch, pull.preparer) == (branch, harness.actor) and opener_doubt(pull, main.people) is None:
            files, _ = read_each(harness.workspace.revision(pull.head), [due.path, due.signature])
            if files.get(due.path) == due.data and holds(files.get(due.signature, b""), due.predicate, due.trusted):
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


def merge_pull(merger: Merger, number: int, governed: GovernedState | None = None) -> PullRequest:
    """Merge a pull request whose gate is open, with its receipts; merged already is fine.

    Merge and receipts are one push, unless the forge's rules want to merge by themselves: then the receipts follow,
    and a run that was ended in between is made good by the next one.

    Where main moves meanwhile, it is judged anew. ``governed`` is main as the caller has read it.

    Raises:
        WaitingForPerson: approvals are missing, or the forge queued it.
        GateNotCleared: a check failed, someone rejected it, or it does not merge.
        IntegrityFailure: as `add_receipts`.
        InfrastructureFailure: ``ref-moved`` when others keep moving main.
    """
    for _ in range(ATTEMPTS):
        try:
            return _merge(merger, number, governed)
        except InfrastructureFailure as error:
            if error.code != "ref-moved":
                raise
    raise too_busy()


def _merge(merger: Merger, number: int, governed: GovernedState | None) -> PullRequest:
    pull = merger.forge.get(number)
    if pull.status == "merged" and not pull.unreceipted:
        sync(merger)
        return pull
    main = current_main(merger, governed)
    if add_missing_receipts(merger, main.tree.commit):
        pull, main = merger.forge.get(number), current_main(merger, main)
    if pull.status == "merged":
        return add_receipts(merger, number) if pull.unreceipted else pull
    if pull.status == "closed":
        raise GateNotCleared("closed", f"Pull request {number} is closed", "Open a new one.", number=number)
    git = merger.workspace.git
    now = datetime.now(UTC).replace(microsecond=0)
    decided = judged(merger, main, pull, now)
    message = merge_message(pull, decided)
    if merger.forge.land(number, message):
        return add_receipts(merger, number)
    merger_ident = ident(merger)
    merge = git.commit_tree(decided.tree, [main.tree.commit, pull.head], message, merger_ident)
    receipts = receipts_of(merger, pull, decided, merge, now)
    tip = git.commit_files(merge, receipts, f"Receipts of pull request {number}\n", merger_ident)
    merged = merger.forge.merge(number, tip, main.tree.commit)
    sync(merger)
    return merged


def merge_message(pull: PullRequest, decided: MergeDecision) -> str:
    """Message of the merge commit; its trailers are an index for people, never proof."""
    trailers = [f"Reviewed-by: {actor}" for actor in sorted(decided.decision.approvers)]
    trailers += [f"Pull-request: {pull.number}", f"Change: {decided.change.digest()}"]
    return f"Merge pull request {pull.number}: {pull.title}\n\n" + "\n".join(trailers) + "\n"
