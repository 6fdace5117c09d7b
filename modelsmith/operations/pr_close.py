"""``modelsmith pr close``: end a pull request without merging it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.operations.pr_merge import open_merger
from modelsmith.repository.secrets import refuse_secret
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.plaintext import PlainLine


class PrCloseRequest(Request):
    """Closes a pull request for good; closed already is fine.

    Only who opened or asked for it, or could decide about a path that it changes, may close it.
    """

    number: PullNumber
    reason: Annotated[PlainLine, Field(min_length=1, description="Why, for whoever opened it.")]
    key: Annotated[
        Path | None, Field(description="Close as the holder of this SSH key instead of as the clone's harness.")
    ] = None


class PrCloseResult(Result):
    """The pull request that was closed."""

    number: int
    title: str
    status: str


def run(workspace: Workspace, request: PrCloseRequest) -> PrCloseResult:
    """Close a pull request."""
    refuse_secret("The reason", request.reason)
    pull = open_merger(workspace, request.key).forge.close(request.number, request.reason)
    return PrCloseResult(number=pull.number, title=pull.title, status=pull.status)
