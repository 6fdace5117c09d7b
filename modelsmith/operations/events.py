"""``modelsmith events``: what has happened in this clone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue
from typing_extensions import override

from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.events import Recorded


class EventsRequest(Request):
    """Typed events after a cursor, oldest first. Ask again with the last cursor: none is missed, none comes twice."""

    since: Annotated[
        str | None, Field(max_length=64, description="Cursor of the last event that you know; else from the first.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="How many at most.")] = 50
    cloudevents: Annotated[bool, Field(description="Each as a CloudEvent, with the name of the repository.")] = False


class EventsResult(Result):
    """Events after the cursor, oldest first."""

    followed: ClassVar[str] = "events"
    events: tuple[Recorded, ...]
    cloudevents: tuple[dict[str, JsonValue], ...] = ()
    """The same events in the JSON form of CloudEvents, where they were asked for so."""
    cursor: str | None
    """The cursor to ask with next."""
    more: int
    """How many come after these."""

    @override
    def head(self, count: int) -> EventsResult:
        first_events = self.events[:count]
        return EventsResult(
            events=first_events,
            cloudevents=self.cloudevents[:count],
            cursor=first_events[-1].cursor,
            more=self.more + len(self.events) - len(first_events),
        )


def run(workspace: Workspace, request: EventsRequest) -> EventsResult:
    """Read the ledger; nothing is changed."""
    recorded, end = ledger_of(workspace).page(request.since, request.limit)
    cursor = recorded[-1].cursor if recorded else request.since
    return EventsResult(
        events=tuple(recorded),
        cloudevents=tuple(json.loads(envelope) for envelope in enveloped(recorded, workspace))
        if request.cloudevents
        else (),
        cursor=cursor,
        more=event_number(end) - event_number(cursor),
    )


def newest(workspace: Workspace) -> str | None:
    """Cursor of the last event; None where nothing has happened."""
    return ledger_of(workspace).end()


def enveloped(events: Sequence[Recorded], workspace: Workspace) -> list[str]:
    """The events as lines of JSON, each a CloudEvent.

    Raises:
        InfrastructureFailure: ``extra-missing``.
    """
    try:
        from modelsmith.delivery.envelope import line
        from modelsmith.delivery.source import source_of
    except ModuleNotFoundError as error:
        raise InfrastructureFailure(
            "extra-missing", "CloudEvents need the events extra.", "Run: pip install 'modelsmith[events]'"
        ) from error
    source = source_of(workspace)
    return [line(event, source) for event in events]


def event_number(cursor: str | None) -> int:
    """How many events had happened where the cursor stands."""
    return int(cursor.partition("-")[0]) if cursor else 0
