"""Who opened a pull request, as a receipt that proves it: whoever opens a change may not approve it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from modelsmith.governance.keys import CLOCK_TOLERANCE, key_doubt
from modelsmith.governance.people import listed_keys
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_machine_file
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import EVENT_NAMESPACE, Receipt
from modelsmith.schema.pull import PullEvent, PullRequest
from modelsmith.signing import ssh

OPENING = "opened.json"
OPENING_SIGNATURE = "opened.json.sig"


def opening_files(folder: str, pull: PullRequest) -> dict[str, bytes]:
    """The opening exactly as it was signed; nothing where a forge authenticated it by login."""
    if pull.opening is None:
        return {}
    return {
        f"{folder}/{OPENING}": pull.opening.statement.encode(),
        f"{folder}/{OPENING_SIGNATURE}": pull.opening.signature.encode(),
    }


def opening_doubt(
    pull: PullRequest, change: str, line: Collection[str], spent: Collection[int], now: datetime
) -> str | None:
    """Why the pull request's opening cannot stand for what would be merged now; None when it can. Replay asks the same.

    Args:
        pull: The pull request.
        change: Digest of what its merge would change.
        line: Commits of main along its first parents.
        spent: Numbers of the pull requests that main has merged.
        now: The present.
    """
    if pull.number in spent:
        return f"main has merged a pull request {pull.number} before"
    if pull.opened_at > now + 2 * CLOCK_TOLERANCE:
        return f"it is dated {pull.opened_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, which has not come yet"
    if pull.numbered_at is not None and pull.opened_at < pull.numbered_at - CLOCK_TOLERANCE:
        return f"it is dated {pull.opened_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, before the forge had numbered it"
    if pull.moved is not None:
        return f"its branch moved on at the forge, to {pull.moved[:12]}"
    if pull.opening is None:
        return None
    event = PullEvent.model_validate_json(pull.opening.statement)
    if event.base not in line:
        return f"it was opened on a main that is no more ({event.base[:12]})"
    if event.change != change:
        return "main has changed the same files since, so this is no longer the change that was opened"
    return None


def check_opening(
    main: GovernedState, tree: Revision, folder: str, receipt: Receipt, head: str | None, line: Collection[str]
) -> PullEvent:
    """The opening that somebody signed; refuses receipts that name another opener, requester, change or past.

    Args:
        main: What governed before the merge.
        tree: Main with the receipts.
        folder: Where they lie.
        receipt: What was signed about the merge.
        head: Commit that was merged; None when the merge has no second parent.
        line: Commits of main along its first parents, up to the merge.

    Raises:
        IntegrityFailure: ``unproven-opening``, or as `ssh.verify`.
    """
    path = f"{folder}/{OPENING}"
    if not tree.exists(path):
        raise _unproven("nobody has signed for having opened its pull request", folder)
    event = load_machine_file(tree, path, PullEvent)
    signature = tree.read(f"{folder}/{OPENING_SIGNATURE}").decode("utf-8", "replace")
    keys = [ssh.AllowedKey(*key) for key in listed_keys(main.people)]
    signer, key = ssh.verify(tree.read(path), signature, EVENT_NAMESPACE, keys)
    stated = (event.kind, event.repository, event.pull, event.head, event.actor, event.requester)
    due = ("opened", main.policy.repository, receipt.pull, head, receipt.prepared_by, receipt.requested_by)
    if signer != event.actor or stated != due:
        raise _unproven("who opened its pull request is not who its receipts say", path)
    if event.change != receipt.change:
        raise _unproven("its pull request was opened for another change", path)
    if event.base not in line:
        raise _unproven(f"its pull request was opened on another main: {event.base[:12]} is not on this one", path)
    doubt = key_doubt(main.people, event.actor, key, event.at, None)
    if doubt:
        raise _unproven(f"the opening of its pull request proves nothing: {doubt}", path)
    return event


def _unproven(problem: str, path: str) -> IntegrityFailure:
    return IntegrityFailure("unproven-opening", problem, "Compare with a clone that verifies.", path=path)
