"""What a backend sends, read a portion at a time and only while it was asked: aiohttp's protocol in all else.

An event loop hands over all that has come at once, some 256 KB, and aiohttp reads it to its end before anybody else
has a turn: cut into chunks of one byte, that takes 0.4 s. Here the rest waits for the next turn of the loop, and
nothing more is taken from the socket meanwhile.

aiohttp also keeps what comes over a connection that nobody uses, and gives it to whoever asks next over it: from then
on each caller would get the answer of the one before. Here such a connection is closed.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from typing_extensions import override

PORTION: Final = 1 << 13
"""Bytes that are read in one turn of the event loop."""
MOST_INTERIM: Final = 32
"""Interim answers (1xx) that may come before the one that counts: a flood of them is not an answer."""
_SWITCHING: Final = 101
"""The one of them after which no other answer comes."""


class Portions(ResponseHandler):
    """One connection to a backend, for aiohttp's session and for `door.posting` alike."""

    _rest = b""
    """Bytes that have arrived and were not read yet."""
    _asked = False
    """Whether an answer is due."""
    _interim = 0
    """Interim answers to the request that is under way."""

    @property
    @override
    def should_close(self) -> bool:
        return bool(self._rest) or super().should_close

    @override
    def set_response_params(self, **params: Any) -> None:
        self._asked, self._interim = True, 0
        super().set_response_params(**params)

    @override
    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            return
        self._read(data[:PORTION])
        if len(data) > PORTION and self.transport is not None:
            self._rest = data[PORTION:]
            self._pause_reading_for_buffer()
            self._loop.call_soon(self._read_on)

    @override
    def resume_reading(self, resume_parser: bool = True) -> None:
        super().resume_reading(resume_parser)
        if self._rest and not self._reading_paused:
            self._loop.call_soon(self._read_on)

    @override
    def feed_data(self, data: Any, size: int = 0) -> None:
        interim = 100 <= data[0].code < 200 and data[0].code != _SWITCHING
        if interim and self._asked and self._interim < MOST_INTERIM:
            self._interim += 1
            return
        if interim or not self._asked:
            self._refuse()
            return
        self._asked = False
        super().feed_data(data, size)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        rest, self._rest = self._rest, b""
        if rest and self.transport is not None:
            self._read(rest)
        super().connection_lost(exc)

    def _read(self, data: bytes) -> None:
        super().data_received(data)
        if self._interim and self._asked:  # aiohttp takes an interim answer for the end of the wait
            self._reschedule_timeout()

    def _read_on(self) -> None:
        if self._reading_paused or not self._rest:
            return
        data, self._rest = self._rest[:PORTION], self._rest[PORTION:]
        self._read(data)
        if self.transport is None:
            self._rest = b""
        elif self._rest:
            self._loop.call_soon(self._read_on)
        else:
            self._resume_reading_for_buffer()

    def _refuse(self) -> None:
        """Take no more: this is not an answer to anything."""
        if self._asked:
            self.set_exception(HttpProcessingError(message="too many interim answers"))
        self._asked, self._rest = False, b""
        self.force_close()
        if self.transport is not None:
            self.transport.close()
