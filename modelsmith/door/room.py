"""How many connections the door can have, so that descriptors of files are left for its store, log and latch.

A system gives a process the lowest free number for each file or connection that it opens. So the number of a new
connection says how many are open, whatever they are. Callers are turned away first, then what would be asked for those
who are in: the rest is for what may not fail.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from modelsmith.door.refusal import Refused

Side = Literal["callers", "backends"]
"""Whose connection it is."""
CODE: Final = "no-room"
MEND: Final = "Raise the limit of open files (`ulimit -Hn`, systemd's LimitNOFILE), or let another door share the work."
_KEPT: Final = 128
"""Descriptors for the store, the log, the latch, git, name servers, models that are loaded: far more than they take."""
_SAID_EVERY: Final = 60.0
"""Seconds between two lines of the log about it."""
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of a connection to a backend that are this machine's, and say nothing of the backend."""


def raise_limit() -> int:
    """Let this process open as many files as the system allows it; how many that are."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        limit = hard
    return (1 << 31) if limit == resource.RLIM_INFINITY else limit


class Room:
    """Where descriptors end for callers, and for backends."""

    def __init__(
        self,
        limit: int,
        at_once: int,
        full: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        refused: Callable[[Side], None] = lambda side: None,
    ) -> None:
        """Divide what there is.

        Args:
            limit: Files that this process may open.
            at_once: Requests under way at most, each of which may need a connection to a backend.
            full: Called when a connection is refused, once a minute at most.
            clock: A steady one, in seconds.
            refused: Called for each connection that is refused.
        """
        self.backends = limit - min(_KEPT, limit // 2)
        self.kept = min(at_once, self.backends // 4)
        """Connections to backends that callers leave room for, however many they are."""
        self.callers = self.backends - self.kept
        self._full, self._clock, self._refused, self._last_notice = full, clock, refused, -_SAID_EVERY

    def takes(self, number: int) -> bool:
        """Whether a caller's connection, by its number, may stay."""
        return number < self.callers or self._refuse("callers")

    def socket(self, address: Sequence[Any]) -> socket.socket:
        """A socket for a connection to a backend; ``address`` is as `socket.getaddrinfo` gives it.

        Raises:
            OSError: ``EMFILE``, also where only what is kept for other things is left.
        """
        try:
            connection = socket.socket(*address[:3])
        except OSError as error:
            if is_ours(error):
                self._refuse("backends")
            raise
        if connection.fileno() >= self.backends:
            connection.close()
            self._refuse("backends")
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return connection

    def _refuse(self, side: Side) -> bool:
        self._refused(side)
        if self._clock() - self._last_notice >= _SAID_EVERY:
            self._last_notice = self._clock()
            self._full()
        return False


def is_ours(error: OSError) -> bool:
    """Whether a connection failed for want of something of this machine's."""
    return error.errno in _OURS


def no_room() -> Refused:
    """Refusal of a request for which there is no room."""
    return Refused(503, CODE, "The door has too many connections to ask anybody.", after=2, ours=True)
