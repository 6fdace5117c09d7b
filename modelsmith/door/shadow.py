"""Copies of requests for a specialist before it is deployed: its answers are measured beside the caller's, and go.

A copy is asked when the caller has the incumbent's answer, so it delays nobody; and only while few are under way, so
that a slow specialist loses copies and not memory. Whether there is room is asked before anybody answers, so it favours
neither side. Both are measured alike: until the backend's answer is whole, with one more try where a backend could not
be reached, and without what each waited for its turn where one engine answers everybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from modelsmith.door.follow import Ready
from modelsmith.door.format_checks import FormatChecks, Pair, Sample
from modelsmith.door.refusal import Down, Refused
from modelsmith.door.settings import Limits
from modelsmith.door.upstream import EVENTS, FREE, LARGEST_ANSWER, PAUSE, Model, Price, Turn, Usage, is_answer
from modelsmith.governance.router import assigned
from modelsmith.live.port import Answered, Arm, Decision, Recorder
from modelsmith.promotion.serving import Arm as Who

_log = logging.getLogger(__name__)
_SHARE: Final = 0.5
"""Both answer each copied request, so each has half of what is compared."""
_KEYS: Final = 100_000
"""Sticky keys that are remembered: some 10 MB."""
_FAILED: Final = Answered(status=504, first_token_ms=None, total_ms=0.0, tokens_in=0, tokens_out=0)


@dataclass(frozen=True)
class Copy:
    """A request that the incumbent answers and the specialist will, too."""

    model: Model
    body: Mapping[str, Any]
    decisions: tuple[Decision, Decision]
    """The incumbent's, and the specialist's."""
    answer: Sample
    """The incumbent's, as the caller gets it."""


class Shadows:
    """The copies of one door. Belongs to one event loop."""

    def __init__(self, limits: Limits, recorder: Recorder, formats: FormatChecks) -> None:
        self._limits, self._recorder, self._formats = limits, recorder, formats
        self._begun: Counter[str] = Counter()
        """By cluster, so that one whose specialist hangs takes no copies from others."""
        self._asking: set[asyncio.Task[None]] = set()
        self._keys: dict[int, None] = {}
        """Of sticky keys that were copied, the oldest first."""

    def begin(self, ready: Ready, key: str, arm: Who, body: Mapping[str, Any], sticky: bool = False) -> Copy | None:
        """A copy of a request that comes in; None where none is due, too many are under way, or enough were made.

        Of a sticky key only the first counts, so no other is asked for.
        """
        line = ready.line
        if ready.shadow is None or line.shadow is None or arm != line.incumbent:
            return None
        name, shadow = line.cluster.cluster, line.shadow
        if self._begun[name] >= self._limits.shadows_at_once or not assigned(
            f"shadow {key}", name, shadow.specialist, line.cluster.deployment.shadow_share
        ):
            return None
        copied = self._recorder.copies(line.shadowed_as)
        if copied.number >= self._limits.shadows_in_all:
            return None
        if sticky and not self._is_new((copied.period, key)):
            return None
        self._begun[name] += 1
        mine, theirs = (self._decided(ready, shadow, arm, key) for arm in ("incumbent", "specialist"))
        return Copy(ready.shadow, body, (mine, theirs), Sample(line.format))

    def follow(self, copy: Copy, outcome: Answered) -> None:
        """Ask the specialist, now that the caller has an answer; who left, or got none, leaves nothing to compare."""
        if outcome.hung_up or outcome.not_asked:
            self._end(copy)
            return
        task = asyncio.get_running_loop().create_task(self._ask(copy, outcome))
        self._asking.add(task)
        task.add_done_callback(partial(self._done, copy))

    def _is_new(self, key: tuple[str, str]) -> bool:
        """Whether a key was not copied yet, as far as is remembered."""
        hashed = hash(key)
        if hashed in self._keys:
            return False
        self._keys[hashed] = None
        if len(self._keys) > _KEYS:
            self._keys.pop(next(iter(self._keys)))
        return True

    @property
    def under_way(self) -> int:
        """Copies that are not answered yet."""
        return self._begun.total()

    async def close(self) -> None:
        """Let the specialists stop."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _done(self, copy: Copy, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._end(copy)

    def _end(self, copy: Copy) -> None:
        self._begun[copy.decisions[0].cluster] -= 1

    def _decided(self, ready: Ready, model: Who, arm: Arm, key: str) -> Decision:
        """Each side counts a key once, so the key has the side in it."""
        return self._recorder.decided(
            cluster=ready.line.cluster.cluster,
            specialist=model.specialist,
            incumbent=ready.line.incumbent.specialist,
            record=ready.line.shadowed_as,
            arm=arm,
            key=f"{arm} {key}",
            share=_SHARE,
            stage="shadow",
        )

    async def _ask(self, copy: Copy, outcome: Answered) -> None:
        sample, heard_answer, begin = Sample(copy.answer.wanted), _AnswerSoFar(), time.perf_counter()
        try:
            theirs = await self._answer(copy, sample, heard_answer, begin)
        except asyncio.CancelledError:
            # The door closes. Who is slower than the incumbent already is not lost for that: a door that is opened
            # and closed often would else hide whoever hangs.
            if (
                not heard_answer.turn.waits
                and (waited := _milliseconds(begin) - heard_answer.turn.waited_ms) > outcome.total_ms
            ):
                self._tell(copy, Pair(None, None, False), outcome, replace(_FAILED, total_ms=waited, hung_up=True))
            raise
        if theirs.not_asked:
            return
        pair = Pair(
            copy.answer if outcome.status == 200 else None,
            sample if theirs.status == 200 else None,
            heard_answer.streamed,
        )
        # It is under way until its format is looked at: else answers would pile up before a check that takes long.
        await asyncio.wait({self._tell(copy, pair, outcome, theirs)})

    async def _answer(self, copy: Copy, sample: Sample, reply_state: _AnswerSoFar, begin: float) -> Answered:
        """How it ended; asked once more where the incumbent would be."""
        status, ours = 504, False
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                try:
                    status = await self._read(copy, sample, reply_state)
                except Down as down:
                    if not down.again or reply_state.first:
                        raise
                    await asyncio.sleep(PAUSE)
                    sample.restart()
                    reply_state.usage = Usage()
                    status = await self._read(copy, sample, reply_state)
        except TimeoutError:
            pass
        except (Down, Refused) as error:
            status, ours = error.status, isinstance(error, Refused) and error.ours
        except Exception as error:  # whatever asking it comes to is the specialist's failure, and never goes uncounted
            _log.error("a copy could not be asked: %s", type(error).__name__)  # its words may hold what was asked
            status = 500
        tokens_in, tokens_out = reply_state.usage.tokens
        return Answered(
            status=status,
            first_token_ms=(reply_state.first - begin) * 1000 if reply_state.first else None,
            total_ms=_milliseconds(begin) - reply_state.turn.waited_ms,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=reply_state.usage.cost(reply_state.price),
            not_asked=ours,
        )

    async def _read(self, copy: Copy, sample: Sample, reply_state: _AnswerSoFar) -> int:
        """Status that the answer comes to; a caller would get no 200 for less than a whole one."""
        size = 0
        async with copy.model.ask(copy.body) as reply:
            reply_state.streamed, reply_state.turn, reply_state.price = (
                reply.content_type == EVENTS,
                reply.turn,
                reply.price,
            )
            async for piece in reply.pieces:
                size += len(piece)
                if reply_state.streamed:
                    reply_state.first = reply_state.first or time.perf_counter()
                elif size > LARGEST_ANSWER:
                    return 502
                reply_state.usage.saw(piece)
                sample.saw(piece)
        if reply_state.streamed and not size:
            raise Down(502, "empty")
        answer = sample.body()
        fine = (
            reply_state.usage.done
            if reply_state.streamed
            else answer is None or reply.status != 200 or is_answer(answer)
        )
        return reply.status if fine and not reply_state.usage.failed else 502

    def _tell(self, copy: Copy, pair: Pair, outcome: Answered, theirs: Answered) -> asyncio.Future[None]:
        """Both, once their formats have been looked at; over when that is."""

        def count(mine_ok: bool | None, theirs_ok: bool | None, differs: bool | None) -> None:
            mine, specialist = copy.decisions
            try:
                self._recorder.answered(mine, replace(outcome, format_ok=mine_ok))
                self._recorder.answered(specialist, replace(theirs, format_ok=theirs_ok, differs=differs))
            finally:
                with suppress(RuntimeError):  # the loop is closed: nobody waits
                    loop.call_soon_threadsafe(future.cancel)

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._formats.compare(pair, count)
        return future


@dataclass
class _AnswerSoFar:
    """An answer in progress: what is known of it so far."""

    usage: Usage = field(default_factory=Usage)
    turn: Turn = field(default_factory=Turn)
    price: Price = FREE
    streamed: bool = False
    first: float | None = None
    """When the first piece of a stream came."""


def _milliseconds(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
