"""Whether live answers keep the rubric's format: looked at in a thread, after the caller has them, and forgotten."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any, Final, NamedTuple

from modelsmith.points.format_points import keeps_format
from modelsmith.schema.rubric import RubricPoint
from modelsmith.schema.source import Chat
from modelsmith.substrates.chat import answer_after

LONGEST: Final = 1 << 20
"""Bytes of an answer as it came; the format of a longer one is not checked."""
_log = logging.getLogger(__name__)


class Format(NamedTuple):
    """What a cluster's rubric asks of every answer."""

    points: tuple[RubricPoint, ...]
    chat: Chat


class Sample:
    """One answer that is kept until its format has been checked."""

    def __init__(self, wanted: Format) -> None:
        self.wanted = wanted
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

    def verdict(self, streamed: bool) -> bool | None:
        """Whether the answer keeps the format; None where it has no text that could."""
        if not 0 < self._size <= LONGEST:
            return None
        said = texts(b"".join(self._pieces), streamed)
        if not said:
            return None
        return all(_keeps(self.wanted, *one) for one in said)


class FormatChecks:
    """Samples answers, whoever gives them, so that no arm is favoured; so many at once that memory is bounded."""

    def __init__(self, at_once: int) -> None:
        self._room = Semaphore(at_once)
        self._thread = ThreadPoolExecutor(1, "format")

    def sample(self, wanted: Format) -> Sample | None:
        """Room for one answer; None where all of it is taken, or the rubric asks for no format."""
        return Sample(wanted) if wanted.points and self._room.acquire(blocking=False) else None

    def drop(self, sample: Sample) -> None:
        """Give the room back without a verdict."""
        sample.restart()
        self._room.release()

    def check(self, sample: Sample, streamed: bool, told: Callable[[bool | None], None]) -> None:
        """Check it in the thread, tell the verdict there, and give the room back."""

        def work() -> None:
            verdict = None
            try:
                verdict = sample.verdict(streamed)
            except Exception:  # an answer that cannot be checked was not checked; serving goes on
                _log.exception("the format of an answer could not be checked")
            finally:
                self.drop(sample)
            told(verdict)

        self._thread.submit(work)

    def close(self) -> None:
        """Check what is waiting, and end."""
        self._thread.shutdown()


def texts(raw: bytes, streamed: bool) -> list[tuple[str, bool]] | None:
    """Text of each choice, and whether it reached its limit of tokens; None where one is no text, as a tool's call is.

    >>> texts(b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}', streamed=False)
    [('yes', False)]
    """
    try:
        choices = [*_streamed(raw)] if streamed else json.loads(raw)["choices"]
        said: dict[int, list[str]] = {}
        ends: dict[int, Any] = {}
        for choice in choices:
            part, number = choice["delta" if streamed else "message"], int(choice.get("index", 0))
            if part.get("tool_calls") or part.get("function_call"):
                return None
            said.setdefault(number, []).append(part.get("content") or "")
            ends[number] = choice.get("finish_reason") or ends.get(number)
        return [("".join(said[number]), ends[number] == "length") for number in sorted(said)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _streamed(raw: bytes) -> Iterator[Any]:
    for line in raw.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield from json.loads(line[5:]).get("choices") or ()


def _keeps(wanted: Format, text: str, cut_off: bool) -> bool:
    answer = answer_after(text, "length" if cut_off else "stop", wanted.chat)
    return keeps_format(wanted.points, answer.text, cut_off=answer.finish == "length")
