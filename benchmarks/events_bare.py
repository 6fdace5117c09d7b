"""A bare peer of the stream of events: the same SSE library, the same rows of the ledger, and nothing else.

Started by benchmarks/events.py: python events_bare.py LEDGER PORT
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator

import anyio.to_thread
import uvicorn
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

PAGE = 100


def page(ledger: str, after: int) -> list[tuple[int, str]]:
    database = sqlite3.connect(ledger)
    rows = database.execute(
        "SELECT sequence, event FROM happened WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, PAGE)
    ).fetchall()
    database.close()
    return rows


async def stored_events(ledger: str) -> AsyncIterator[ServerSentEvent]:
    after = 0
    while rows := await anyio.to_thread.run_sync(page, ledger, after):
        for after, event in rows:
            yield ServerSentEvent(event, event="event", id=f"{after}-bare")
    await anyio.sleep_forever()


def main(ledger: str, port: str) -> None:
    async def events(request: Request) -> EventSourceResponse:
        return EventSourceResponse(stored_events(ledger), sep="\n")

    app = Starlette(routes=[Route("/events", events)])
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
