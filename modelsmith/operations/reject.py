"""``modelsmith reject``: a person's no, signed with a key of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.operations.approve import VerdictResult, give_review
from modelsmith.operations.contract import PullNumber, Request
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.plaintext import PlainLine


class RejectRequest(Request):
    """Signs a rejection of exactly this change; while it stands, the gate stays closed whoever else approves.

    That of somebody who owns none of its paths does not count: the command says so and ends with 4.
    """

    number: PullNumber
    key: Annotated[Path, Field(description="Your private SSH key (or the public half of one in your agent).")]
    reason: Annotated[PlainLine, Field(min_length=1, description="Why: it is what the next attempt learns from.")]


def run(workspace: Workspace, request: RejectRequest) -> VerdictResult:
    """Reject a pull request with a person's key."""
    return give_review(workspace, request.number, request.key, "reject", request.reason)
