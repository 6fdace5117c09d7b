"""Pull requests that somebody has signed for, without a forge."""

from __future__ import annotations

from pathlib import Path

from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import EVENT_NAMESPACE
from modelsmith.schema.pull import PullEvent, PullRequest, SignedEvent
from modelsmith.signing import ssh


def opened(pull: PullRequest, repository: str, change: str, key: Path) -> PullRequest:
    """The pull request with its opening, signed with ``key`` in the name of its preparer."""
    event = PullEvent(
        repository=repository, pull=pull.number, kind="opened", actor=pull.preparer, at=pull.opened_at, head=pull.head,
        base=pull.base, change=change, previous=None, branch=pull.branch, title=pull.title, requester=pull.requester,
        body=pull.body,
    )  # fmt: skip
    data = canonical_json(event)
    signed = SignedEvent(statement=data.decode(), signature=ssh.sign(data, key, EVENT_NAMESPACE))
    return pull.model_copy(update={"opening": signed})
