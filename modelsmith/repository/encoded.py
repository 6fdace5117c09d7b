"""Runs of a text that say something in another spelling, and what they say. Pure.

Mail, forms, tokens and logs write texts in base64 (RFC 4648), hexadecimal, percent signs (RFC 3986), references of HTML
and escapes of JSON; under base64 and hexadecimal may lie UTF-8 or UTF-16. What none of these spells as text that can be
read is left alone, so digests and pictures are no texts. Not looked into: what is compressed or encrypted,
quoted-printable (`=40` is a figure in most texts), base32.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote_plus


class Run(NamedTuple):
    """A run of a text and what it says."""

    start: int
    end: int
    says: str
    complete: bool
    """Whether nothing of it can be read without decoding, as in base64."""


_LEAST: Final = 12
"""Signs of a run of base64 or hexadecimal: the shortest addresses take as many."""
_LINE_END: Final = r"(?:\n[ \t]*|\\n)"
"""Before the next line of a run: indented as in YAML, or as JSON writes it."""
_STANDARD, _FOR_ADDRESSES = "A-Za-z0-9+/", "A-Za-z0-9_-"
_HEX: Final = re.compile(rf"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{{2}}){{{_LEAST // 2},}}(?![0-9A-Za-z])")
_WORD: Final = re.compile(r"(?<![^\s\"'<>])[^\s\"'<>%&\\]*+[%&\\][^\s\"'<>]*")
"""A word with a sign in it that may spell another; each word is walked through once."""
_REFERENCE: Final = re.compile(r"&(?:#\d|#[xX][0-9a-fA-F]|[a-zA-Z]{2})")
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_ESCAPE: Final = re.compile(
    r"(?<!\\)\\+(?:u([0-9A-Fa-f]{4})|u\{(0{0,2}[0-9A-Fa-f]{1,4})\}|U0000([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|([@.]))"
)
"""With more than one backslash where a text was put into another; before a sign of an address as in Markdown."""


def _base64(signs: str) -> tuple[re.Pattern[str], ...]:
    """Lines of mail that go on in the next, and runs of one line."""
    lines = rf"[{signs}]{{60,76}}(?:{_LINE_END}[{signs}]{{60,76}})*{_LINE_END}[{signs}]+={{0,2}}"
    return re.compile(rf"(?<![{signs}]){lines}"), re.compile(rf"(?<![{signs}])[{signs}]{{{_LEAST},}}={{0,2}}")


def _of_base64(run: str) -> bytes:
    plain = re.sub(r"\\n|[\s=]", "", run).replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(plain[: len(plain) - (len(plain) % 4 == 1)] + "==")


_WHOLE: Final[tuple[tuple[re.Pattern[str], Callable[[str], bytes]], ...]] = (
    *((pattern, _of_base64) for signs in (_STANDARD, _FOR_ADDRESSES) for pattern in _base64(signs)),
    (_HEX, bytes.fromhex),
)


def _unescaped(match: re.Match[str]) -> str:
    return match[5] or chr(int(next(filter(None, match.groups())), 16))


_WITHIN: Final[tuple[tuple[re.Pattern[str], Callable[[str], str]], ...]] = (
    (_PERCENT, unquote_plus),
    (_REFERENCE, html.unescape),
    (_ESCAPE, lambda word: _ESCAPE.sub(_unescaped, word)),
)


def encoded(text: str) -> Iterator[Run]:
    """Every run that says something in another spelling; they may lie on one another."""
    if any(sign in text for sign in "%&\\"):
        for match in _WORD.finditer(text):
            says = match.group()
            for pattern, read_spelling in _WITHIN:
                says = read_spelling(says) if pattern.search(says) else says
            if says != match.group():
                yield Run(*match.span(), says, complete=False)
    for runs, decode in _WHOLE:
        for match in runs.finditer(text):
            if (read_as := _readable(decode(match.group()))) is not None:
                yield Run(*match.span(), read_as, complete=True)


def _readable(raw: bytes) -> str | None:
    """What the bytes say in UTF-8; in UTF-16 where a third are NULs, as in its Latin letters."""
    for code in ("utf-16-le", "utf-16-be") if 3 * raw.count(0) >= len(raw) else ("utf-8",):
        try:
            text = raw.decode(code).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        if text and re.sub(r"[\r\n\t]", "", text).isprintable():
            return text
    return None
