"""Whose server listens on a port of this machine, as far as the kernel says it.

A server's port stands in its command line, for everybody to read, some seconds before the server takes it. Another user
who is quicker would be asked in its place, with its key, and could answer an eval.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS: Final = "0A"


def is_ours(port: int) -> bool | None:
    """Whether this user listens there, and nobody else; None where nobody does.

    Where the kernel has no such table (macOS) whoever listens counts as this user.
    """
    lines: list[str] = []
    for table in _TABLES:
        with suppress(OSError):
            lines += table.read_text(encoding="ascii", errors="replace").splitlines()[1:]
    if not lines:
        return True
    users = owners(lines, port)
    return users == {os.geteuid()} if users else None


def owners(lines: Iterable[str], port: int) -> set[int]:
    """User ids of those who listen on a port, by lines of Linux's ``/proc/net/tcp`` (proc(5)). Pure.

    >>> owners(["0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 1 1 0 100 0"], 8080)
    {1000}
    """
    words = (line.split() for line in lines)
    end = f":{port:04X}"
    return {int(fields[7]) for fields in words if len(fields) > 7 and fields[3] == _LISTENS and fields[1].endswith(end)}
