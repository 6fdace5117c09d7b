"""One request from its decision to its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final

from aiohttp import web

from modelsmith.door.deadlines import Deadlines
from modelsmith.door.ended import TRACE_PARENT, Ended
from modelsmith.door.follow import Ready
from modelsmith.door.format_checks import FormatChecks
from modelsmith.door.holding import Holding, part
from modelsmith.door.journal import Journal
from modelsmith.door.metrics import DoorMetrics
from modelsmith.door.reading import Ahead
from modelsmith.door.refusal import Down, Refused, unavailable
from modelsmith.door.settings import Limits
from modelsmith.door.shadow import Shadows
from modelsmith.door.telemetry import Telemetry, parent_of
from modelsmith.door.upstream import (
    COMMENTS,
    EVENTS,
    FREE,
    JSON,
    LARGEST_ANSWER,
    PAUSE,
    Turn,
    Usage,
    is_answer,
    says_nothing,
)
from modelsmith.door.written import NAME, WrittenResponse, write_whole
from modelsmith.fleet.doors import DoorSign
from modelsmith.governance.router import Route, assigned
from modelsmith.live.port import Answered, Decision, Recorder
from modelsmith.promotion.serving import Arm

PREFIX: Final = "x-modelsmith-"
HUNG_UP: Final = 499
"""Status noted where the caller left before the end; nginx's convention."""
TOO_LONG: Final = 504
_OF_STREAMS: Final = {"Server": NAME, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Counting:
    """Limits of exchanges, and the counters that they go to."""

    limits: Limits
    recorder: Recorder
    journal: Journal
    metrics: DoorMetrics
    formats: FormatChecks
    shadows: Shadows
    telemetry: Telemetry | None = None
    sign: DoorSign | None = None
    """The sign that trainings on the same machine read."""
    room: int = 1 << 31
    """Connections to backends that there is room for, however many callers there are."""
    holding: Holding = field(default_factory=Holding)

    @cached_property
    def deadlines(self) -> Deadlines:
        """Deadlines of whole exchanges."""
        return Deadlines(self.limits.total_seconds)


def decide(recorder: Recorder, ready: Ready, key: str) -> tuple[Decision, Arm]:
    """Who answers, and the note of it. A deployment that was taken back here gets nothing."""
    line = ready.line
    watched = None if line.watched and recorder.latched(line.watched.record) else line.watched
    name, incumbent = line.cluster.cluster, line.incumbent
    if watched is None:
        arm, under_watch, share = incumbent, incumbent, 0.0
    else:
        to_specialist = assigned(key, name, watched.specialist, line.share)
        arm, under_watch, share = watched if to_specialist else incumbent, watched, line.share
    decision = recorder.decided(
        cluster=name,
        specialist=under_watch.specialist,
        incumbent=incumbent.specialist,
        record=under_watch.record,
        arm="specialist" if arm is watched else "incumbent",
        key=key,
        share=share,
        stage=line.stage if watched else "full",
    )
    return decision, arm


class Exchange:
    """One request from its decision to its end, which is noted once, however it comes.

    Args:
        counting: Where it is counted.
        request: Whose answer it is.
        ready: The cluster's models at the moment that it came.
        route: Whose request it is.
        body: What the model is asked.
        caller: Id of the key that it came with; None where nobody needs one.
        turns: Requests that the cluster may have under way.
    """

    def __init__(
        self,
        counting: Counting,
        request: web.Request,
        ready: Ready,
        route: Route,
        body: Mapping[str, Any],
        caller: str | None,
        turns: int,
    ) -> None:
        self._counting, self._request, self._ready, self._route, self._body = counting, request, ready, route, body
        self._caller, self._turns = caller, turns
        self._begin = time.perf_counter()
        key = route.key if route.key is not None else secrets.token_urlsafe(16)
        self._decision, self._arm = decide(counting.recorder, ready, key)
        self._copy = counting.shadows.begin(ready, key, self._arm, body, route.key is not None)
        self._usage = Usage()
        self._sample = counting.formats.sample(ready.line.format)
        self._samples = [sample for sample in (self._sample, self._copy and self._copy.answer) if sample]
        self._ahead: Ahead | None = None
        """Of a stream that is copied: the backend's pace, not the caller's, is what the copy is compared with."""
        self._turn, self._price = Turn(), FREE
        self._first: float | None = None
        self._begun: web.StreamResponse | None = None
        """The stream that goes to the caller: from then on nobody else is asked."""
        self._answering: Arm | None = None
        self._failed: Down | None = None
        """Of the arm that was assigned."""
        self._status = HUNG_UP
        self._not_asked = False

    async def answer(self) -> web.StreamResponse:
        """The answer of the assigned arm, or of the incumbent where that one's backend gives none.

        Raises:
            Refused: nobody gave one.
        """
        try:
            async with asyncio.timeout(None) as block:
                deadline = self._counting.deadlines.begin(partial(block.reschedule, 0.0))
                try:
                    return await self._of_someone()
                finally:
                    self._counting.deadlines.end(deadline)
        except Refused as refused:
            self._status, self._not_asked = refused.status, refused.ours
            refused.headers = self._headers(self._arm)
            raise
        except TimeoutError:
            late = Refused(TOO_LONG, "too-long", "The answer took too long.", after=5)
            if self._begun is not None:
                return await self._break_off(self._begun, late)
            self._status = late.status
            late.headers = self._headers(self._arm)
            raise late from None
        except Exception as error:
            self._status = HUNG_UP if isinstance(error, ConnectionError) else 500
            if self._begun is None:
                raise
            self._hang_up()
            return self._begun
        finally:
            self._note()

    async def _of_someone(self) -> web.StreamResponse:
        incumbent = self._ready.line.incumbent
        failure = Down(503, "none")
        for turn, arm in enumerate((self._arm, incumbent)):
            if turn and arm == self._arm:
                if not failure.again:
                    break
                await asyncio.sleep(PAUSE)
            try:
                return await self._of(arm)
            except Down as down:
                failure = down
                self._failed = self._failed or down
                self._counting.metrics.down(self._ready.line.cluster.cluster, arm.specialist, down.reason)
        raise unavailable(failure)

    async def _of(self, arm: Arm) -> web.StreamResponse:
        line = self._ready.line
        if arm != line.watched:
            return await self._asked(arm)
        most = part(min(self._turns, self._counting.room), line.share)
        with self._counting.holding.slot(line.cluster.cluster, arm.specialist, most):
            return await self._asked(arm)

    async def _asked(self, arm: Arm) -> web.StreamResponse:
        self._usage, self._ahead = Usage(), None
        for sample in self._samples:
            sample.restart()
        async with self._ready.model(arm).ask(self._body) as reply:
            self._turn, self._price = reply.turn, reply.price
            if reply.content_type == EVENTS and self._copy:
                async with Ahead(reply.pieces) as self._ahead:
                    return await self._stream(arm, reply.status, self._ahead)
            if reply.content_type == EVENTS:
                return await self._stream(arm, reply.status, aiter(reply.pieces))
            received = bytearray()
            async for piece in reply.pieces:
                received += piece
                if len(received) > LARGEST_ANSWER:
                    raise Down(502, "too large", again=False)
            if reply.status == 200 and not is_answer(received):
                raise Down(502, "no answer", again=False)
            return await self._whole(arm, reply.status, bytes(received))

    async def _whole(self, arm: Arm, status: int, answer: bytes) -> web.StreamResponse:
        """The answer goes out before it is looked at any further."""
        self._answering, self._status = arm, status
        try:
            return await write_whole(self._request, status, JSON, answer, self._headers(arm))
        except ConnectionError:
            self._status = HUNG_UP
            return WrittenResponse(self._request, status)
        finally:
            self._usage.saw_whole(answer)
            for sample in self._samples:
                sample.saw(answer)

    async def _stream(self, arm: Arm, status: int, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
        try:
            piece = await anext(pieces)
            while says_nothing(piece) and len(piece) < COMMENTS:
                piece += await anext(pieces)
        except StopAsyncIteration:
            raise Down(502, "empty") from None
        self._saw(piece)
        if self._usage.failed:
            raise Down(502, "no answer", again=False)
        headers = {**self._headers(arm), "Content-Type": EVENTS, **_OF_STREAMS}
        self._answering, self._begun = arm, web.StreamResponse(status=status, headers=headers)
        await self._begun.prepare(self._request)
        self._first = self._milliseconds()
        while True:
            try:
                async with asyncio.timeout(self._counting.limits.body_seconds):
                    await self._begun.write(piece)
            except TimeoutError:
                self._hang_up()
                return self._begun
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except Down as down:
                return await self._break_off(self._begun, unavailable(down))
            self._saw(piece)
            if self._usage.failed:
                return await self._break_off(self._begun, unavailable(Down(502, "no answer")))
        if not self._usage.done:
            return await self._break_off(self._begun, unavailable(Down(502, "broke off")))
        await self._begun.write_eof()
        self._status = 200
        return self._begun

    def _saw(self, piece: bytes) -> None:
        self._usage.saw(piece)
        for sample in self._samples:
            sample.saw(piece)

    async def _break_off(self, response: web.StreamResponse, why: Refused) -> web.StreamResponse:
        """Say in the stream that it breaks off, and end it so that no client takes it for whole."""
        self._status = why.status
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                await response.write(b"data: " + why.body() + b"\n\n")
        self._hang_up()
        return response

    def _hang_up(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()

    def _headers(self, arm: Arm) -> dict[str, str]:
        """Headers that name who answers, and by which record."""
        headers = {"decision": self._decision.id, "cluster": self._decision.cluster, "specialist": arm.specialist}
        if arm.record:
            headers["record"] = arm.record
        if arm != self._arm:
            headers["failed-over-from"] = self._arm.specialist
        return {PREFIX + name: value for name, value in headers.items()}

    def _milliseconds(self) -> float:
        return (time.perf_counter() - self._begin) * 1000

    def _note(self) -> None:
        """Count the outcome for the arm that was assigned, whoever answered."""
        tokens_in, answered = self._usage.tokens
        failed = self._failed if self._failed and self._answering != self._arm else None
        total = self._milliseconds()
        outcome = Answered(
            status=failed.status if failed else self._status,
            first_token_ms=self._first,
            total_ms=total,
            tokens_in=tokens_in,
            tokens_out=answered,
            cost=self._usage.cost(self._price),
            failed_over=self._answering not in (None, self._arm),
            hung_up=self._status == HUNG_UP and failed is None,
            not_asked=self._not_asked and failed is None,
        )
        self._count(outcome)
        if self._counting.sign and (self._status == HUNG_UP or not 400 <= self._status < 500):
            self._counting.sign.answered(total, complete=self._status < 400)
        self._counting.journal.note(
            "answered",
            decision=self._decision.id,
            cluster=self._decision.cluster,
            rule=self._route.rule,
            specialist=self._arm.specialist,
            answered_by=self._answering.specialist if self._answering else None,
            status=self._status,
            failed=self._failed.reason if self._failed else None,
            key=self._caller,
            milliseconds=round(total, 1),
            tokens_in=tokens_in,
            tokens_out=answered,
        )
        if self._counting.telemetry:
            self._counting.telemetry.note(self._ended(total, tokens_in, answered))

    def _ended(self, total: float, tokens_in: int, answered: int) -> Ended:
        return Ended(
            decision=self._decision,
            specialist=self._arm.specialist,
            record=self._arm.record,
            rule=self._route.rule,
            answered_by=self._answering.specialist if self._answering else None,
            status=self._status,
            stream=bool(self._body.get("stream")),
            first_ms=self._first,
            total_ms=total,
            tokens_in=tokens_in,
            tokens_out=answered,
            parent=parent_of(self._request.headers.getall(TRACE_PARENT, []), self._route.key),
        )

    def _count(self, outcome: Answered) -> None:
        """Tell the recorder, with the format's verdict where the assigned arm gave the whole answer."""
        if self._copy:
            self._counting.shadows.follow(self._copy, self._as_copied(outcome))
        recorder, decision, sample = self._counting.recorder, self._decision, self._sample
        if sample and self._status == 200 and self._answering == self._arm:
            report = partial(_answered, recorder, decision, outcome)
            self._counting.formats.check(sample, self._begun is not None, report)
            return
        if sample:
            self._counting.formats.drop(sample)
        recorder.answered(decision, outcome)

    def _as_copied(self, outcome: Answered) -> Answered:
        """The outcome as a copy's is measured: until the backend's answer was whole, not until the caller had it.

        Where the caller took so long that this cannot be told, there is nothing to compare.
        """
        ahead, waited = self._ahead, self._turn.waited_ms
        if ahead is None:
            return replace(outcome, total_ms=outcome.total_ms - waited) if waited else outcome
        if ahead.held_up or (ahead.whole_at and self._status == TOO_LONG):
            return replace(outcome, hung_up=True)
        whole_ms = (ahead.whole_at - self._begin) * 1000 if ahead.whole_at else outcome.total_ms
        return replace(outcome, total_ms=whole_ms - waited)


def _answered(recorder: Recorder, decision: Decision, outcome: Answered, format_ok: bool | None) -> None:
    recorder.answered(decision, replace(outcome, format_ok=format_ok))
