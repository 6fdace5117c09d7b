"""What programs may read in a text: with its escapes resolved, in UTF-16, and what runs of it say in another spelling.

Line by line the same, so that what is found has a line in the file. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from modelsmith.repository.encoded import encoded

_ESCAPE: Final = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|/)")
"""A character as YAML, JSON and most languages may spell it."""
_SPELLINGS: Final = 2
"""How many spellings within one another are read: base64 within percent signs, or within base64."""
_PIECE: Final = 1 << 20
"""Characters of a text that are decoded together, about: so much of what they say is held at a time."""
_BETWEEN: Final = re.compile(r"[\s\"']")
"""Where a text may be cut and no spelling is cut with it."""


class Spelled(NamedTuple):
    """What runs of a text say, in the order of their spellings, and where each begins."""

    says: str
    """All of them, one below the other."""
    lines: list[int]
    """For each line of that, the line of the text in which its run begins; counted from 1."""


def readings(data: bytes) -> Iterator[bytes]:
    """The bytes as they are, and with escapes resolved.

    Without NULs, ASCII in UTF-16 and UTF-32 is ASCII, whichever their order of bytes.
    """
    yield data
    if b"\0" in data:
        data = data.replace(b"\0", b"")
        yield data
    if b"\\" in data:
        plain = _ESCAPE.sub(_unescaped, _unfolded(data))
        if plain != data:
            yield plain


def spelled(text: str) -> Iterator[Spelled]:
    """What the text says in base64, hexadecimal, percent signs, references of HTML and escapes; see `encoded`."""
    begin, line = 0, 1
    while begin < len(text):
        cut = _BETWEEN.search(text, begin + _PIECE)
        end = cut.start() if cut else len(text)
        piece = text[begin:end]
        run = _spelled(piece, line)
        for spelling in range(1, _SPELLINGS + 1):
            if not run.says:
                break
            yield run
            if spelling < _SPELLINGS:
                inner = _spelled(run.says, 1)
                run = Spelled(inner.says, [run.lines[at - 1] for at in inner.lines])
        begin, line = end, line + piece.count("\n")


def _spelled(text: str, line: int) -> Spelled:
    """What runs of a text say whose first line has this number; what one line says alike several times, once."""
    found_readings: dict[tuple[int, str], None] = {}
    at = counted = 0
    for run in encoded(text):
        if run.start < counted:
            at = counted = 0
        at, counted = at + text.count("\n", counted, run.start), run.start
        found_readings.setdefault((line + at, run.says))
    lines = [begins for begins, says in found_readings for _ in range(says.count("\n") + 2)]
    return Spelled("".join(f"{says}\n\x01\n" for _, says in found_readings), lines)


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = next((int(digits, 16) for digits in match.groups() if digits), ord("/"))
    return bytes([code]) if 32 <= code < 127 else b" "


def _unfolded(data: bytes) -> bytes:
    """Lines that end in a backslash go on with the next; the line feeds come after the whole."""
    first, *rest = data.replace(b"\r\n", b"\n").split(b"\\\n")
    parts, waiting = [first], 0
    for part in rest:
        waiting += 1
        line, end, after = part.lstrip(b" \t").partition(b"\n")
        parts.append(line)
        if end:
            parts += [b"\n" * (waiting + 1), after]
            waiting = 0
    return b"".join(parts)
