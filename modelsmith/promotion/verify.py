"""Replay of main from its governance root, offline, in a plain clone. Trusts no hook, merge commit or summary.

At each step main is what `read_governed_state` would read at that commit: the step is judged by the rules, keys and
histories that main had before it. Main is carried from step to step (`governed_state_after`), so a step costs what it
changes.

What is signed binds the steps to each other: opening and approval name the main that their giver saw, the receipt the
merge and so all before it. A step that is left out or moved breaks the next signed statement after it. Receipts belong
to the merge that they name, so others may be merged before they come; times are compared in the order of the merges,
so who merged in between was not allowed more by it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, NoReturn

from modelsmith.governance.observed import observed_in
from modelsmith.governance.people import listed_keys
from modelsmith.governance.shape import promotion_folder
from modelsmith.promotion.attestation import about, read_attestation, verdicts, with_attested
from modelsmith.promotion.authors import Commits, authorship
from modelsmith.promotion.checks import is_promotion
from modelsmith.promotion.clock import check_times
from modelsmith.promotion.governed_state import GovernedState, governed_state_after, read_governed_state
from modelsmith.promotion.merge_decision import decide_tree
from modelsmith.promotion.merges import check_merge
from modelsmith.promotion.openings import OPENING, OPENING_SIGNATURE, check_opening
from modelsmith.promotion.passing import check_earlier_commits
from modelsmith.promotion.receipt_commits import ReceiptCommits, Receipts, read_receipts
from modelsmith.promotion.receipts import (
    MERGE_RECEIPT,
    MERGE_SIGNATURE,
    proof_files,
    receipts_folder,
    signed_name,
)
from modelsmith.repository.budgets import read_commits
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.look_ahead import look_ahead
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import parse_canonical
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, ModelsmithError
from modelsmith.schema.governance import People
from modelsmith.schema.progress import Notify, Progress
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, Approval, Receipt
from modelsmith.schema.pull import Change, Review, SignedApproval
from modelsmith.signing import ssh

_LOOK_AHEAD = 64
"""Steps of which git is asked together."""
_SMALL_COMMIT = 1 << 16


@dataclass
class Replay:
    """Main as it stands after the steps that were replayed and found to hold."""

    main: GovernedState
    """Main at the last step."""
    line: set[str]
    """Commits of main along its first parents, up to the last step: what a signed statement may name as its base."""
    spent: set[int]
    """Numbers of the pull requests that were merged so far."""
    latest: datetime
    """Time of the latest merge so far: the clock of the past."""
    changes: int = 0
    promotions: int = 0
    approvals: int = 0


class Part(NamedTuple):
    """Steps of main that are judged one after the other, and where in main they stand."""

    start: str
    """Commit of main that is trusted: the governance root, or a tip that was replayed before."""
    before: Sequence[str]
    """Ids of the steps between it and these: main's first parents, oldest first."""
    steps: Sequence[Commit]
    tip: str
    """Last of all steps, those after these included."""


def replay(git: Git, start: str, steps: Sequence[Commit], notify: Notify, now: datetime) -> Replay:
    """Judge steps of main again, by the rules and keys that main had before each.

    Args:
        git: The repository; an `ObjectReader`, unless the steps are few.
        start: Commit of main that is trusted: the governance root, or a tip that was replayed before.
        steps: Main's first parents after it, oldest first.
        notify: Told of each change.
        now: The verifier's present: nothing can have been signed after it.

    Raises:
        IntegrityFailure: ``history-does-not-hold`` for the first step that does not, with its ``commit``, the ``cause``
            and, where one file is to blame, its ``path`` in the details.
        InfrastructureFailure: git or ``ssh-keygen`` failed, so that nothing can be said.
    """
    return replay_part(git, Part(start, (), steps, steps[-1].id if steps else start), notify, now)


def replay_part(git: Git, part: Part, notify: Notify, now: datetime) -> Replay:
    """Judge a part of the steps by main as its files are where the part begins; receipts count from within it alone.

    What is found is what `replay` finds at the end of the part if that, where the part begins, has come to what is read
    there: see `carried_as_read`. Args and errors are those of `replay`.
    """
    begins = part.before[-1] if part.before else part.start
    main = read_governed_state(git, begins)
    line = {*git.first_parents(part.start), *part.before}
    result = Replay(main, line, set(main.signed.pulls), main.signed.latest)
    commits = Commits(git, part.start, part.tip)
    commits.pass_over(begins)
    receipt_commits, used = ReceiptCommits(git, part.steps), set[str]()
    for at, step in enumerate(part.steps):
        if at % _LOOK_AHEAD == 0 and isinstance(git, ObjectReader):
            _look_ahead(git, part.steps[at : at + _LOOK_AHEAD])
        try:
            if step.id not in used:
                receipts = _receipts_of(git, part, at, receipt_commits, used)
                _step(git, step, receipts, commits, result, now)
                used.add(receipts.commit.id)
                completed, total = len(part.before) + at + 2, len(part.before) + len(part.steps)
                notify(Progress("verify", step.subject, completed, total))
            elif result.main.tree.commit != step.id:
                result.main = governed_state_after(result.main, step.id)
        except InfrastructureFailure:
            raise
        except ModelsmithError as error:
            raise _does_not_hold(step, error.message, error.code, error.details.get("path")) from None
        except ValueError as error:
            words = str(error).splitlines()[0]
            raise _does_not_hold(step, f"holds a file that cannot be read: {words}", "unreadable-file") from None
        commits.pass_over(step.id)
        result.line.add(step.id)
    return result


def carried_as_read(result: Replay) -> bool:
    """Whether what was carried to the last step is what its files say: what a replay of the next part would begin with.

    The line is not compared: of it every part is told.
    """
    main = result.main
    reread = read_governed_state(main.tree.git, main.tree.commit)
    same = replace(main, tree=reread.tree) == reread and main.tree.commit == reread.tree.commit
    return same and (result.latest, result.spent) == (reread.signed.latest, {*reread.signed.pulls})


def _look_ahead(git: ObjectReader, steps: Sequence[Commit]) -> None:
    """Have the objects of the next steps read together, which is faster than one after the other."""
    heads = [step.parents[1] for step in steps if len(step.parents) == 2]
    git.ahead(heads, "commit", _SMALL_COMMIT)
    pairs = [(parent, step.id) for step in steps for parent in step.parents]
    for head in heads:
        with suppress(IntegrityFailure, InfrastructureFailure):
            pairs += [(parent, head) for parent in git.commit(head).parents]
    look_ahead(git, pairs)


def _does_not_hold(commit: Commit, problem: str, cause: str, path: str | None = None) -> IntegrityFailure:
    place = {"path": path} if path else {}
    return IntegrityFailure(
        "history-does-not-hold",
        f"Commit {commit.id[:12]}: {problem} (its subject: {commit.subject})",
        "Do not trust main from here on; compare with a clone that verifies.",
        commit=commit.id,
        cause=cause,
        **place,
    )


def _receipts_of(git: Git, part: Part, at: int, receipt_commits: ReceiptCommits, used: Collection[str]) -> Receipts:
    """The receipts that speak of a step: in the next commit, or later where others were merged before they came.

    Where none speaks of it, those of the next commit, for the reason why they do not count.
    """
    if receipts := receipt_commits.of(at):
        return receipts
    step = part.steps[at]
    beside = part.steps[at + 1] if at + 1 < len(part.steps) else None
    if beside is None or beside.id in used or len(beside.parents) != 1:
        merge = len(step.parents) == 2
        wait = "; if the forge merged it by itself, `modelsmith pr receipts` adds them" if merge else ""
        _broken(f"changed main without receipts: no pull request stands behind it{wait}")
    return read_receipts(git, beside) or _broken("has no receipt of its merge", _subject(_change(git, step)))


def _change(git: Git, commit: Commit) -> Change:
    return git.change(commit.parents[0], commit.id)


def _step(git: Git, step: Commit, receipts: Receipts, commits: Commits, result: Replay, now: datetime) -> None:
    """One change of main with the receipts that speak of it."""
    main = result.main
    if step.parents[0] != main.tree.commit or len(step.parents) > 2:
        _broken("is not a change of the commit before it")
    change = _change(git, step)
    after = Revision(git, receipts.commit.id)
    folder, receipt = receipts.folder, receipts.receipt
    if folder != receipts_folder(change, receipt.pull):
        _broken("has its receipts in another folder than theirs", folder)
    _only_receipts(after, receipts)
    git.read_blobs([added.new_blob for added in receipts.added])  # asked for together: an `ObjectReader` remembers them
    if receipt.pull in result.spent:
        _broken(f"uses pull request {receipt.pull} a second time", f"{folder}/{MERGE_RECEIPT}")
    if receipt.change != change.digest():
        _broken("is not the change that its receipts speak of", f"{folder}/{MERGE_RECEIPT}")
    head = step.parents[1] if len(step.parents) == 2 else None
    opening = check_opening(main, after, folder, receipt, head, result.line)
    try:
        payload, signature = after.read(f"{folder}/{MERGE_RECEIPT}"), _text(after, f"{folder}/{MERGE_SIGNATURE}")
        check_merge(main, receipt, step.id, payload, signature)
        reviews = _reviews(main, after, folder, receipt, head, change, result.line)
    except IntegrityFailure as error:
        error.details.setdefault("path", folder)
        raise
    for review in reviews:
        if review.base is not None and review.base not in result.line:
            _broken(
                f"has an approval that {review.actor} gave on another main: {review.base[:12]} is not on this one",
                folder,
            )
    read_times = [review.source.read_at for review in reviews if review.source]
    times = [opening.at, *(review.at for review in reviews)]
    check_times(receipt, [*times, *read_times], result.latest, now)
    latest_signed = max([result.latest, receipt.at, *times])
    limits = main.policy.limits
    ids = commits.pass_over(step.parents[-1] if len(step.parents) == 2 else step.id)
    proposal = read_commits(git, ids, limits)
    earlier = check_earlier_commits(git, main.tree.commit, ids, change, limits, merging=False)
    decided = decide_tree(
        git, main, step.tree,
        reviews=reviews, requester=receipt.requested_by, preparer=receipt.prepared_by,
        authorship=authorship(proposal, main.people), latest_signed=latest_signed, opener=(earlier,),
    )  # fmt: skip
    decision = decided.decision
    if not decision.open:
        reasons = [refusal.sentence for refusal in decision.refusals]
        reasons += [f"the approval of {owner} is missing" for owner in decision.waiting_for]
        _broken(f"does not pass its gate: {'; '.join([*reasons, *decision.notes])}", _subject(change))
    if set(receipt.approvals) != set(decision.approvers):
        _broken("has receipts of approvals that do not count", folder)
    if receipt.gate != decision.gate:
        _broken(f"has a receipt that says {receipt.gate} opened its gate, where {decision.gate} did", folder)
    result.changes += 1
    result.approvals += len(decision.approvals)
    result.promotions += is_promotion(change) and not observed_in(change)
    result.main = governed_state_after(main, after.commit if receipts.commit.parents == (step.id,) else step.id)
    result.spent.add(receipt.pull)
    result.latest = max(result.latest, receipt.at)


def _subject(change: Change) -> str | None:
    """The path that a change is about: a promotion's folder, or the only file."""
    for path in change.paths:
        if folder := promotion_folder(path.path):
            return folder
    return change.paths[0].path if len(change.paths) == 1 else None


def _only_receipts(after: Revision, receipts: Receipts) -> None:
    """The receipts commit adds what the receipt names, and nothing else."""
    names = {
        MERGE_RECEIPT,
        MERGE_SIGNATURE,
        *(file for item in receipts.receipt.approvals.items() for file in proof_files(*item)),
    }
    if after.exists(f"{receipts.folder}/{OPENING}"):
        names |= {OPENING, OPENING_SIGNATURE}
    odd = {path.path for path in receipts.added} ^ {f"{receipts.folder}/{name}" for name in names}
    if odd:
        _broken("is followed by a commit that holds other files than its receipts", min(odd))
    for path in receipts.added:
        if path.old_mode != "000000" or path.new_mode != "100644":
            _broken("is followed by a commit that changes receipts", path.path)


def _reviews(
    main: GovernedState,
    after: Revision,
    folder: str,
    receipt: Receipt,
    head: str | None,
    change: Change,
    line: Collection[str],
) -> tuple[Review, ...]:
    """Every verdict that the receipts hold: approvals that people signed, and what an attestation says of all.

    Of an attestation, approvals count for whom the receipt names; a rejection counts whoever gave it.
    """
    signed: list[Review] = []
    bundles: dict[str, bytes] = {}
    for actor, name in receipt.approvals.items():
        if not proof_files(actor, name):
            _broken(f"has a receipt of {actor} under the name {name}")
        if name != signed_name(actor):
            bundles[actor] = after.read(f"{folder}/{name}")
            continue
        statement, signature = (_text(after, path) for path in (f"{folder}/{name}", f"{folder}/{name}.sig"))
        review = authenticate(
            SignedApproval(statement=statement, signature=signature),
            main.people, main.policy.repository, receipt.pull,
        )  # fmt: skip
        if review.actor != actor:
            _broken(f"has a receipt of {actor} that {review.actor} signed", f"{folder}/{name}")
        signed.append(review)
    if not bundles:
        return tuple(signed)
    if len(set(bundles.values())) > 1:
        _broken("has receipts of two readings of its reviews", folder)
    attested = read_attestation(next(iter(bundles.values())), main, line)
    doubt = about(attested.attestation, receipt.pull, head, change.digest())
    if doubt:
        _broken(f"has an attestation of reviews that {doubt}", folder)
    attested_reviews = verdicts(attested, main)[0]
    for actor in bundles.keys() - {review.actor for review in attested_reviews if review.verdict == "approve"}:
        _broken(f"has an attestation of reviews that says nothing of an approval by {actor}", folder)
    return with_attested(
        signed, [other for other in attested_reviews if other.verdict != "approve" or other.actor in bundles]
    )


def _text(tree: Revision, path: str) -> str:
    try:
        return tree.read(path).decode()
    except UnicodeDecodeError:
        _broken(f"has a receipt {path} that is no text")


def authenticate(signed: SignedApproval, people: People, repository: str, pull: int) -> Review:
    """The verdict that a receipt holds, if its signature, repository and pull request are right.

    Whether its key counts at the merge is for the gate.

    Raises:
        IntegrityFailure: ``bad-file``, ``broken-step``, or as `ssh.verify`.
    """
    payload = signed.statement.encode()
    approval = parse_canonical("the approval", payload, Approval)
    keys = [ssh.AllowedKey(*key) for key in listed_keys(people)]
    signer, key = ssh.verify(payload, signed.signature, APPROVAL_NAMESPACE, keys)
    if signer != approval.actor:
        _broken(f"has an approval in the name of {approval.actor} that {signer} signed")
    if (approval.repository, approval.pull) != (repository, pull):
        _broken("has an approval of another pull request or repository")
    return Review(
        actor=signer,
        verdict=approval.verdict,
        change=approval.change,
        at=approval.at,
        base=approval.base,
        reason=approval.reason,
        proof=signed,
        key=key,
    )


def _broken(problem: str, path: str | None = None) -> NoReturn:
    place = {"path": path} if path else {}
    raise IntegrityFailure("broken-step", problem, "Compare with a clone that verifies.", **place)
