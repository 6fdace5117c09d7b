"""Server-Sent Events: what happens in the clone, one CloudEvent after another, for as long as the reader reads.

Nothing is queued for a reader. It has a cursor, and each page is read from the ledger when the page before has gone
out; a reader that is slow, or was away, is behind and misses nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelsmith.mcp.calls import Session, refusal
from modelsmith.mcp.resources import has_events
from modelsmith.mcp.watching import Watch
from modelsmith.operations.events import EventsRequest, enveloped, run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError

PAGE = 100
"""Events of a reader that are in memory at a time, at most."""
HEARTBEAT = 15
"""Seconds of silence after which a comment is sent, so that nobody in between takes the connection for dead."""
PATIENCE = 60
"""Seconds for which a reader may take nothing before it is left; it comes back with its cursor."""
MOST = 256
"""Readers at a time."""
MOST_OF_ONE = 32
"""Streams of one token at the same time, at most."""
_LONGEST = 64
"""Characters of a cursor that are looked at; none has as many."""
RECHECK = 5.0
"""Seconds after which it is asked again whether a reader may still read."""

StillMay = Callable[[], Awaitable[Session | None]]
"""Who reads, asked anew; None for a token that was revoked or has expired."""


class EventStream:
    """Every reader of one clone's events."""

    def __init__(self, start: Path, watch: Watch) -> None:
        self._start = start
        self._watch = watch
        self._readers = Counter[str]()
        """By whose token it is."""

    async def answer(self, request: Request, still_may: StillMay) -> Response:
        """The stream, from after ``Last-Event-ID`` (or ``?since=``) on; from the first event where neither is given."""
        session = await still_may()
        if session is None or not has_events(session):
            outside = InvalidInput("outside-role", "This token is not for reading events", "Use one that is.")
            return JSONResponse(refusal(Session(self._start, "reviewer"), outside), 403)
        if self._full(session):
            return JSONResponse(refusal(session, _too_many()), 503, {"Retry-After": "10"})
        try:
            workspace = await anyio.to_thread.run_sync(session.workspace)
        except ModelsmithError as error:
            return JSONResponse(refusal(session, error), 503)
        cursor = request.headers.get("last-event-id") or request.query_params.get("since") or None
        pages = self._told(workspace, session, cursor and cursor[:_LONGEST], still_may)
        return EventSourceResponse(pages, ping=HEARTBEAT, send_timeout=PATIENCE, sep="\n")

    def _full(self, session: Session) -> bool:
        return self._readers.total() >= MOST or self._readers[session.holder] >= MOST_OF_ONE

    async def _told(
        self, workspace: Workspace, session: Session, cursor: str | None, still_may: StillMay
    ) -> AsyncIterator[ServerSentEvent | bytes]:
        if self._full(session):
            yield ServerSentEvent(json.dumps(refusal(session, _too_many())), event="too-many-readers")
            return
        self._readers[session.holder] += 1
        try:
            with self._watch.listening():
                while await still_may():
                    wake = self._watch.wake
                    try:
                        page, count, cursor = await anyio.to_thread.run_sync(_page, workspace, cursor)
                    except ModelsmithError as error:
                        anew = error.code == "unknown-cursor"
                        refused = json.dumps(refusal(session, error))
                        yield ServerSentEvent(refused, event=error.code, id="" if anew else None)
                        if not anew:
                            return
                        cursor = None
                        continue
                    if count:
                        yield page
                    if count < PAGE:
                        with anyio.move_on_after(RECHECK):
                            await wake.wait()
        finally:
            self._readers[session.holder] -= 1
            self._readers += Counter()


def _too_many() -> InfrastructureFailure:
    return InfrastructureFailure(
        "too-many-readers", "So many read events already, or so many by this token", "Try again later."
    )


def _page(workspace: Workspace, cursor: str | None) -> tuple[bytes, int, str | None]:
    """Events after the cursor as they are sent, how many, and the cursor after them."""
    result = run(workspace, EventsRequest(since=cursor, limit=PAGE))
    lines = enveloped(result.events, workspace)
    sent_events = [
        ServerSentEvent(line, event=event.event.name, id=event.cursor, sep="\n").encode()
        for event, line in zip(result.events, lines, strict=True)
    ]
    return b"".join(sent_events), len(sent_events), result.cursor
