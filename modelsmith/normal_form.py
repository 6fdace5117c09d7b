"""Unicode's normal forms, in time that grows with the text and not with its square. Pure.

CPython sorts the marks after a letter by moving each over those before it, and holds its lock the while: 160 kB of
marks in bad order take half a minute of the whole process. Marks may be sorted first, since both orders are the same
text to every normal form (Unicode Standard Annex 15, canonical ordering); what is in order costs nothing more.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final, Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
_SHORT: Final = 256
"""Characters of a text that is too short for its marks to matter."""
_RUN: Final = 32
"""Marks in a row from which they are sorted here; the longest of any language has fewer (stream-safe text: 30)."""
_PLACES: Final = range(0x0300, 0x1E94B)
"""Where marks lie."""
_OF_MARKS: Final[dict[Form, str]] = {"NFD": "\u0f73\u0f75\u0f81", "NFKD": "\u0f73\u0f75\u0f81\uff9e\uff9f"}
"""Characters that are no marks themselves, and of which nothing but marks is left when they are taken apart."""


def normalized(form: Form, text: str) -> str:
    """The text in a normal form, as `unicodedata.normalize` gives it, but in linear time."""
    if len(text) >= _SHORT and not text.isascii():
        apart: Form = "NFKD" if form in ("NFKC", "NFKD") else "NFD"
        text = _runs(apart).sub(lambda run: _sorted(apart, run[0]), text)
    return unicodedata.normalize(form, text)


def _sorted(apart: Form, run: str) -> str:
    return "".join(
        sorted("".join(unicodedata.normalize(apart, character) for character in run), key=unicodedata.combining)
    )


@cache
def _runs(apart: Form) -> re.Pattern[str]:
    marks = "".join(character for character in map(chr, _PLACES) if unicodedata.combining(character))
    return re.compile(f"[{marks}{_OF_MARKS[apart]}]{{{_RUN},}}")
