"""Whether live answers keep the rubric's format: looked at in a thread, after the caller has them, and forgotten."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Semaphore
from typing import Any, Final, NamedTuple

from modelsmith.door.behind import Behind
from modelsmith.points.answers import read_answer, same
from modelsmith.points.format_points import keeps_format
from modelsmith.schema.rubric import RubricPoint
from modelsmith.schema.source import Chat
from modelsmith.substrates.chat import Answer, answer_after

LONGEST: Final = 1 << 20
"""Bytes of an answer as it came; the format of a longer one is not checked."""
_PAUSE: Final = 0.05
"""Seconds between two looks at what is to be checked."""
_log = logging.getLogger(__name__)


class Format(NamedTuple):
    """The points of a cluster's rubric that decide the format of every answer."""

    points: tuple[RubricPoint, ...]
    chat: Chat


class Sample:
    """One answer that is kept until its format has been checked."""

    def __init__(self, answer_format: Format) -> None:
        self.wanted = answer_format
        self._pieces: list[bytes] = []
        self._size = 0

    def saw(self, piece: bytes) -> None:
        """Take the next piece, as long as the whole can be checked."""
        self._size += len(piece)
        if self._size <= LONGEST:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def restart(self) -> None:
        """Somebody else answers: what was seen is not of the answer."""
        self._pieces.clear()
        self._size = 0

    def body(self) -> bytes | None:
        """The answer's bytes; None where there were none, or more than are kept."""
        return b"".join(self._pieces) if 0 < self._size <= LONGEST else None

    def answers(self, streamed: bool) -> list[Answer]:
        """Each choice without its thoughts; none where it cannot be told, or one is not text."""
        answer = self.body()
        found_texts = texts(answer, streamed) if answer else None
        return [answer_after(text, "length" if cut else "stop", self.wanted.chat) for text, cut in found_texts or ()]

    def verdict(self, streamed: bool) -> bool | None:
        """Whether the answer keeps the format; None where it has no text that could, or no format is asked for."""
        answers = self.answers(streamed) if self.wanted.points else []
        if not answers:
            return None
        return all(
            keeps_format(self.wanted.points, answer.text, cut_off=answer.finish == "length") for answer in answers
        )


class Pair(NamedTuple):
    """What the caller got and what the specialist says to the same; None where one gave no answer."""

    mine: Sample | None
    theirs: Sample | None
    streamed: bool

    def verdicts(self) -> tuple[bool | None, bool | None, bool | None]:
        """Whether each keeps the format, and whether they differ; None of what cannot be told.

        What one of them answers takes no verdict from the other: else a specialist could choose what is compared.
        """
        mine, theirs = (_guarded(partial(sample.verdict, self.streamed)) if sample else None for sample in self[:2])
        return mine, theirs, _guarded(self._differ)

    def _differ(self) -> bool | None:
        both = [sample.answers(self.streamed) if sample else [] for sample in (self.mine, self.theirs)]
        return any(_differ(*pair) for pair in zip(*both, strict=True)) if len(both[0]) == len(both[1]) > 0 else None


class FormatChecks:
    """Samples answers, whoever gives them, so that no arm is favoured; so many at once that memory is bounded."""

    def __init__(self, at_once: int) -> None:
        self._room = Semaphore(at_once)
        self._checks = Behind[Callable[[], None]]("format", _PAUSE, _run)

    def sample(self, answer_format: Format) -> Sample | None:
        """Room for one answer; None where all of it is taken, or the rubric asks for no format."""
        return Sample(answer_format) if answer_format.points and self._room.acquire(blocking=False) else None

    def drop(self, sample: Sample) -> None:
        """Give the room back without a verdict."""
        sample.restart()
        self._room.release()

    def check(self, sample: Sample, streamed: bool, report: Callable[[bool | None], None]) -> None:
        """Check it in the thread, tell the verdict there, and give the room back."""

        def work() -> None:
            verdict = _guarded(partial(sample.verdict, streamed))
            self.drop(sample)
            report(verdict)

        self._checks.put(work)

    def compare(self, pair: Pair, report: Callable[[bool | None, bool | None, bool | None], None]) -> None:
        """Check two answers to one request in the thread; tell the verdict of each, and whether they differ."""
        self._checks.put(lambda: report(*pair.verdicts()))

    def close(self) -> None:
        """Check what is waiting, and end."""
        self._checks.close()


def _run(checks: Sequence[Callable[[], None]]) -> None:
    for check in checks:
        try:
            check()
        except Exception as error:  # of one answer; the others are checked all the same
            _log.error("what an answer's check came to could not be told: %s", type(error).__name__)


def _guarded(check: Callable[[], bool | None]) -> bool | None:
    """What a check says; an answer that cannot be checked was not checked, and serving goes on."""
    try:
        return check()
    except Exception as error:  # without its words: they may hold what was answered
        _log.error("the format of an answer could not be checked: %s", type(error).__name__)
        return None


def texts(raw: bytes, streamed: bool) -> list[tuple[str, bool]] | None:
    """Text of each choice, and whether it reached its limit of tokens; None where one is not text, as a tool's call is.

    >>> texts(b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}', streamed=False)
    [('yes', False)]
    """
    try:
        choices = [*_streamed(raw)] if streamed else json.loads(raw)["choices"]
        pieces: dict[int, list[str]] = {}
        ends: dict[int, Any] = {}
        for choice in choices:
            part, number = choice["delta" if streamed else "message"], int(choice.get("index", 0))
            if part.get("tool_calls") or part.get("function_call"):
                return None
            pieces.setdefault(number, []).append(part.get("content") or "")
            ends[number] = choice.get("finish_reason") or ends.get(number)
        return [("".join(pieces[number]), ends[number] == "length") for number in sorted(pieces)]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _streamed(raw: bytes) -> Iterator[Any]:
    for line in raw.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield from json.loads(line[5:]).get("choices") or ()


def _differ(mine: Answer, theirs: Answer) -> bool:
    """Whether two answers say something else: as JSON values where both are JSON, else as texts."""
    (a, odd), (b, other) = read_answer(mine.text), read_answer(theirs.text)
    return mine.text.strip() != theirs.text.strip() if odd or other else not same(a, b)
