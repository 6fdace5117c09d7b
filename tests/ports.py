"""Ports for what tests start, which nothing else takes meanwhile."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _USUAL = 20_000, 32_768
_DRAW = random.SystemRandom()
"""Workers of a suite whose seeds are the same draw other ports."""
_given: set[int] = set()


def free_port() -> int:
    """A port of this machine at which nobody listens, and which the system gives to nobody of itself.

    Whoever is to listen there starts later, and may start again. A port that the system gave could meanwhile be given
    to any connection of any program, so this one lies beneath those that it gives. Where there is no room beneath, it
    is one of those.
    """
    try:
        above = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        above = _USUAL
    for _ in range(1000 if above > _LOWEST + 1000 else 0):
        port = _DRAW.randrange(_LOWEST, above)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
