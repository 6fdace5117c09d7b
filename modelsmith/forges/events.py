"""The local forge's pull requests as logs of signed events, folded. Pure.

A pull request is the ref ``refs/modelsmith/pulls/<N>``: a chain of commits over an empty root commit, one for each
event. An event's tree holds ``event.json`` (canonical JSON of `PullEvent`) with the actor's SSH signature, and for a
review the approval exactly as the person signed it. The second parent of ``opened`` is the proposal's head. An event
``attested`` holds the bundle that a workflow signed in place of an actor's signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from modelsmith.schema.canonical import canonical_json, is_canonical
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure
from modelsmith.schema.promotion import Approval
from modelsmith.schema.pull import PullEvent, PullRequest, Review, SignedApproval, SignedEvent, odd_words
from modelsmith.signing.ssh import signing_key

EVENT_FILE = "event.json"
EVENT_SIGNATURE = "event.json.sig"
APPROVAL_FILE = "approval.json"
APPROVAL_SIGNATURE = "approval.json.sig"

ATTESTATION_FILE = "reviews.sigstore.json"

_FILES = frozenset({EVENT_FILE, EVENT_SIGNATURE})
_REVIEW_FILES = _FILES | {APPROVAL_FILE, APPROVAL_SIGNATURE}
_ATTESTED_FILES = frozenset({EVENT_FILE, ATTESTATION_FILE})
EVENT_FILES = _REVIEW_FILES | _ATTESTED_FILES
"""Every name that an event's tree may hold."""

LONGEST = {"title": 256, "branch": 256, "body": 100_000, "reason": 4000}
"""Letters of what people say of a pull request."""


@dataclass(frozen=True)
class LoggedEvent:
    """One event as it stands in the log. That its signatures are good is for the reader to check."""

    commit: str
    event: PullEvent
    statement: bytes
    """``event.json`` exactly as signed."""
    signature: str
    approval: Approval | None
    proof: SignedApproval | None
    """The signed statement of a review; None for other events."""
    attestation: str | None = None
    """Of ``attested``: what the workflow signed, which nobody has verified yet. The event itself has no signature, and
    says nothing that its place in the log does not."""


def event_files(event: PullEvent, signature: str, proof: SignedApproval | None) -> dict[str, bytes]:
    """Tree of an event's commit."""
    files = {EVENT_FILE: canonical_json(event), EVENT_SIGNATURE: signature.encode()}
    if proof is not None:
        files |= {APPROVAL_FILE: proof.statement.encode(), APPROVAL_SIGNATURE: proof.signature.encode()}
    return files


def attested_files(event: PullEvent, bundle: bytes) -> dict[str, bytes]:
    """Tree of the commit of an ``attested`` event."""
    return {EVENT_FILE: canonical_json(event), ATTESTATION_FILE: bundle}


def parse_event(commit: str, parents: Sequence[str], files: Mapping[str, bytes]) -> LoggedEvent:
    """Read one event's commit; ``parents`` includes the empty root of ``opened``.

    Raises IntegrityFailure (``bad-event``) unless every file is canonical and agrees with the others and the parents.
    """
    try:
        statement = files[EVENT_FILE]
        event = PullEvent.model_validate_json(statement)
        review = event.kind == "reviewed"
        approval = Approval.model_validate_json(files[APPROVAL_FILE]) if review else None
        proof = None
        if approval:
            text, signature = files[APPROVAL_FILE].decode(), files[APPROVAL_SIGNATURE].decode("ascii")
            proof = SignedApproval(statement=text, signature=signature)
        attested = event.kind == "attested"
        event_signature = "" if attested else files[EVENT_SIGNATURE].decode("ascii")
        attestation = files[ATTESTATION_FILE].decode() if attested else None
        logged = LoggedEvent(commit, event, statement, event_signature, approval, proof, attestation)
    except (KeyError, ValidationError, UnicodeDecodeError) as error:
        raise _bad(commit, f"cannot be read ({type(error).__name__})") from None
    if files.keys() != (_REVIEW_FILES if review else _ATTESTED_FILES if attested else _FILES):
        raise _bad(commit, "holds other files than an event's")
    if not is_canonical(statement, event) or (approval and not is_canonical(files[APPROVAL_FILE], approval)):
        raise _bad(commit, "is not canonical JSON")
    follows = tuple(parents[1:]) == (event.head,) if event.kind == "opened" else tuple(parents) == (event.previous,)
    if not follows:
        raise _bad(commit, "does not follow what it says it follows")
    if approval and not _agrees(event, approval):
        raise _bad(commit, "is a review that says something else than its signed approval")
    if not _complete(event):
        raise _bad(commit, f"lacks what an event of kind {event.kind} must say")
    return logged


def check_lengths(event: PullEvent, approval: Approval | None) -> None:
    """Refuse words that nobody could read in a list, a commit or a receipt.

    Raises GateNotCleared (``over-limits``).
    """
    texts = {"title": event.title, "branch": event.branch, "body": event.body, "reason": approval and approval.reason}
    for name, text in texts.items():
        if text and len(text) > LONGEST[name]:
            raise GateNotCleared(
                "over-limits",
                f"The {name} has {len(text)} letters; {LONGEST[name]} are allowed.",
                "Shorten it.",
                name=name,
                count=len(text),
            )


def check_plain(title: str, branch: str, body: str, reason: str = "") -> None:
    """Refuse words that would steer a terminal or a chat.

    Raises GateNotCleared (``odd-text``).
    """
    odd = odd_words(title, branch, body, reason)
    if odd:
        raise GateNotCleared("odd-text", odd, "Say it in plain text.")


def opened(log: Sequence[LoggedEvent]) -> PullEvent:
    """The first event of a log that `fold_pull` or `check_log` accepted."""
    return log[0].event


def check_log(log: Sequence[LoggedEvent]) -> None:
    """Refuse a log whose events are not one pull request's, in order.

    Raises IntegrityFailure (``bad-event``): something before ``opened``, two of them, anything but a comment after the
    end, or another repository, number or head in between.
    """
    if not log:
        raise IntegrityFailure(
            "bad-event", "A pull request without events is none.", "Restore the ref from a trusted copy of the forge."
        )
    first, ended = log[0].event, False
    for index, logged in enumerate(log):
        event = logged.event
        if (event.kind == "opened") != (index == 0) or (event.previous is None) != (index == 0):
            raise _bad(logged.commit, "is out of order")
        if index and event.previous != log[index - 1].commit:
            raise _bad(logged.commit, "does not follow the event before it")
        if (event.repository, event.pull, event.head) != (first.repository, first.pull, first.head):
            raise _bad(logged.commit, "is about another pull request")
        if ended and event.kind != "commented":
            raise _bad(logged.commit, "comes after the pull request had ended")
        ended = ended or event.kind in ("closed", "merged")


def is_closed(log: Sequence[LoggedEvent]) -> bool:
    """Whether it was closed without a merge."""
    return any(logged.event.kind == "closed" for logged in log)


def fold_pull(log: Sequence[LoggedEvent], merge: str | None) -> PullRequest:
    """The pull request that a log tells of.

    Args:
        log: Its events, oldest first, their signatures checked.
        merge: The merge of it that main contains, if any. This, not an event, is what makes it merged: a forge that was
            killed between moving main and saying so is read correctly, and a closing that came too late closes nothing.

    Raises:
        IntegrityFailure: ``bad-event`` as `check_log`, or ``false-merge`` when an event speaks of a merge that main
            does not contain.
    """
    check_log(log)
    first = opened(log)
    assert first.title is not None
    assert first.branch is not None
    assert first.requester is not None
    for logged in log:
        if logged.event.kind == "merged" and logged.event.merge != merge:
            raise IntegrityFailure(
                "false-merge",
                f"Pull request {first.pull} says that it was merged by a commit that main does not contain.",
                "Restore main, or the pull request's ref, from a trusted copy of the forge.",
                pull=first.pull,
            )
    return PullRequest(
        number=first.pull,
        title=first.title,
        body=first.body,
        status="merged" if merge else "closed" if is_closed(log) else "open",
        branch=first.branch,
        base=first.base,
        head=first.head,
        requester=first.requester,
        preparer=first.actor,
        opened_at=first.at,
        key=signing_key(log[0].signature),
        opening=SignedEvent(statement=log[0].statement.decode(), signature=log[0].signature),
        reviews=tuple(review_of(logged.approval, logged.proof) for logged in log if logged.approval),
        attested=tuple(logged.attestation for logged in log if logged.attestation),
        merge=merge,
    )


def new_event(
    previous: LoggedEvent, kind: str, actor: str, at: datetime, base: str, **facts_given: object
) -> PullEvent:
    """The event that follows another one of the same pull request."""
    before = previous.event
    facts: dict[str, object] = {
        "repository": before.repository,
        "pull": before.pull,
        "kind": kind,
        "actor": actor,
        "at": at,
        "head": before.head,
        "base": base,
        "change": before.change,
        "previous": previous.commit,
    }
    return PullEvent.model_validate(facts | facts_given)


def review_of(approval: Approval, proof: SignedApproval | None) -> Review:
    """The review in a review's event, for the gate."""
    return Review(
        actor=approval.actor,
        verdict=approval.verdict,
        change=approval.change,
        at=approval.at,
        base=approval.base,
        reason=approval.reason,
        proof=proof,
        key=signing_key(proof.signature) if proof else None,
    )


def _agrees(event: PullEvent, approval: Approval) -> bool:
    return (approval.repository, approval.pull, approval.change, approval.verdict, approval.actor) == (
        event.repository,
        event.pull,
        event.change,
        event.verdict,
        event.actor,
    )


def _complete(event: PullEvent) -> bool:
    """Whether exactly the fields of its kind are set."""
    proposal = (event.branch is not None, event.title is not None, event.requester is not None)
    return (
        proposal == ((event.kind == "opened"),) * 3
        and (event.verdict is not None) == (event.kind == "reviewed")
        and (event.merge is not None) == (event.kind == "merged")
    )


def _bad(commit: str, problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "bad-event",
        f"Event {commit[:12]} {problem}.",
        "Restore the pull request's ref from a trusted copy of the forge.",
        event=commit,
    )
