"""``modelsmith approve``: a person's verdict, signed with a key of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.forges.port import ForgeIdentity
from modelsmith.governance.gate import why_uncounted
from modelsmith.governance.keys import key_holder
from modelsmith.governance.people import is_harness
from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.promotion.merge_decision import decide_merge
from modelsmith.repository.secrets import refuse_secret
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import Exit, GateNotCleared, InvalidInput
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, Approval
from modelsmith.schema.pull import SignedApproval
from modelsmith.schema.steps import step
from modelsmith.signing.ssh import public_key, sign


class ApproveRequest(Request):
    """Signs a statement about exactly this change with KEY and adds it to the pull request.

    The key must be listed in people.yaml under a person. Any later edit of the change voids the approval. One that
    does not count (of who opened the change, or owns none of its paths) ends the command with 4 and says why.
    """

    number: PullNumber
    key: Annotated[Path, Field(description="Your private SSH key (or the public half of one in your agent).")]
    reason: Annotated[PlainLine, Field(description="Why, for the record.")] = ""


class VerdictResult(Result):
    """The verdict and the gate after it."""

    verdict: Literal["approve", "reject"]
    actor: str
    change: str
    counts: bool
    """Whether the gate takes it into account."""
    because: str | None
    """Why it does not count; it is in the pull request's log all the same."""
    pull: PullView

    @override
    def exit_code(self) -> Exit:
        return Exit.DONE if self.counts else Exit.WAITING_FOR_PERSON


def run(workspace: Workspace, request: ApproveRequest) -> VerdictResult:
    """Approve a pull request with a person's key."""
    return give_review(workspace, request.number, request.key, "approve", request.reason)


def give_review(
    workspace: Workspace, number: int, key: Path, verdict: Literal["approve", "reject"], reason: str
) -> VerdictResult:
    """Sign the verdict on the change as it is now, and add it to the pull request.

    Raises:
        IntegrityFailure: as `key_holder`, by main's people.yaml.
        GateNotCleared: ``harness-key``.
        InvalidInput: ``not-open``; ``secret`` in the reason.
    """
    refuse_secret("The reason", reason)
    git = workspace.git
    reader = open_forge(workspace)
    main = read_governed_state(git, reader.fetch_into(git))
    actor = key_holder(main.people, public_key(key), datetime.now(UTC))
    if is_harness(actor, main.people):
        raise GateNotCleared(
            "harness-key", f"{actor} is a machine; it decides nothing for people", "Use a key of your own.", actor=actor
        )
    pull = reader.get(number)
    if pull.status != "open":
        raise InvalidInput(
            "not-open",
            f"Pull request {number} is {pull.status}",
            "Look at `{next}`.",
            number=number,
            status=pull.status,
        ).then(step("pr list", {}))
    change = decide_merge(main, pull, datetime.now(UTC)).change.digest()
    statement = Approval(
        repository=main.policy.repository,
        pull=number,
        base=main.tree.commit,
        change=change,
        verdict=verdict,
        actor=actor,
        at=datetime.now(UTC).replace(microsecond=0),
        reason=reason,
    )
    payload = canonical_json(statement)
    signed = SignedApproval(statement=payload.decode(), signature=sign(payload, key, APPROVAL_NAMESPACE))
    forge = open_forge(workspace, ForgeIdentity(actor, key))
    forge.review(number, signed)
    reviewed = forge.get(number)
    announce(forge, main, reviewed)
    because = why_uncounted(decide_merge(main, reviewed, datetime.now(UTC)).decision, main.people, actor, verdict)
    return VerdictResult(
        verdict=verdict,
        actor=actor,
        change=change,
        counts=because is None,
        because=because,
        pull=view(main, reviewed),
    )
