"""``modelsmith events``: what has happened in this clone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.events import Recorded


class EventsRequest(Request):
    """Typed events after a cursor, oldest first. Ask again with the last cursor: none is missed, none comes twice."""

    since: Annotated[
        str | None, Field(max_length=64, description="Cursor of the last event that you know; else from the first.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="How many at most.")] = 50


class EventsResult(Result):
    """Oldest first."""

    events: tuple[Recorded, ...]
    cursor: str | None
    """What to ask with next."""
    more: int
    """How many come after these."""


def run(workspace: Workspace, request: EventsRequest) -> EventsResult:
    """Read the ledger; nothing is changed."""
    found = ledger_of(workspace).events(request.since)
    shown = tuple(found[: request.limit])
    return EventsResult(events=shown, cursor=shown[-1].cursor if shown else request.since, more=len(found) - len(shown))
