"""Why a server died, from what it wrote: the last lines that name an error, without paths. Pure."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"^(\([\w ]+=\d+\)\s*)*((DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+[\d:. -]+(\[[^\]]*\])?\s*)?")
_ERROR = re.compile(
    r"^(?:[\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit): ?\S"
    r"|^Value error, \S|\berror: \S|\bKilled\b|out of memory",
    re.IGNORECASE,
)
_VAGUE = re.compile(
    r"see (root cause|stack trace)|\d+ validation errors? for|engine core (initialization )?failed|worker.* died",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w.:/])~?(?:/[^\s/'\",:;()\[\]]+){2,}/?")


def telling_lines(text: str, most: int = 3) -> tuple[str, ...]:
    """The last lines that name an error, oldest first; those that only point to another are left out if others exist.

    >>> telling_lines("(EngineCore pid=7) ERROR 01-02 03:04:05 [a.py:1] ValueError: no model in /srv/models/x")
    ('ValueError: no model in x',)
    """
    lines: list[str] = []
    for raw in text.splitlines():
        line = _without_paths(_PREFIX.sub("", raw).strip())[:300]
        if _ERROR.search(line) and line not in lines:
            lines.append(line)
    clear = [line for line in lines if not _VAGUE.search(line)]
    return tuple((clear or lines)[-most:])


def _without_paths(line: str) -> str:
    return _PATH.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], line)
