"""Texts as people compare them: what looks the same is the same, and a word is found as a word. Pure."""

from __future__ import annotations

import re

from modelsmith.points.answers import composed_text
from modelsmith.points.spelling import DASHES, INVISIBLE, UNSPACED

_WRITTEN = {
    "-": "\u2010\u2011\u2212\ufe63\uff0d",
    "'": "\u2018\u2019\u201a\u201b\u02bc\uff07\u2039\u203a",
    '"': "\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02",
}
_ALIKE = INVISIBLE | {ord(c): like for like, written in _WRITTEN.items() for c in written}
_BLANK = re.compile(r"\s+")
_IN_WORD = re.compile(rf"[^\W{UNSPACED}]|[\u0300-\u036f]")
"""A character that makes one word with the next, in scripts that put spaces between words."""
_ANY = "_"
"""Stands for what a text that was cut off would go on with: something that makes one word with any."""
_NUMBER = re.compile(r"[^\w\s]?\d")
_NUMBER_BEFORE = re.compile(rf"(?:[{DASHES}+.]|[0-9][,'])$")
_NUMBER_AFTER = re.compile(r"[.,'][0-9]")


def alike(text: str, *, ignore_case: bool) -> str:
    """The text in one spelling: composed letters, one blank for any run of them, one kind of hyphen and quotation mark.

    What shows nothing (a zero-width space, a soft hyphen) is left out.
    """
    spelt = composed_text(text.translate(_ALIKE))
    spelt = _BLANK.sub(" ", spelt).strip()
    return composed_text(spelt.casefold()) if ignore_case else spelt


def holds(text: str, wanted: str, *, cut_off: bool = False) -> bool:
    """Whether the text holds the wanted words as words: ``cat`` is not in ``concatenate``, nor ``5 ms`` in ``1.5 ms``.

    Between letters of scripts without spaces any place will do. A word at the end of a text that was cut off may go on.
    """
    text += _ANY if cut_off else ""
    at = text.find(wanted)
    while at >= 0:
        if not _goes_on_before(text, at) and not _goes_on_after(text, at + len(wanted)):
            return True
        at = text.find(wanted, at + 1)
    return False


def _goes_on_before(text: str, at: int) -> bool:
    before = text[max(0, at - 2) : at]
    if _NUMBER.match(text, at) and _NUMBER_BEFORE.search(before):
        return True
    return _joined(before[-1:], text[at])


def _goes_on_after(text: str, end: int) -> bool:
    last, after = text[end - 1], text[end : end + 2]
    if last.isdecimal() and _NUMBER_AFTER.match(after):
        return True
    return _joined(last, after[:1])


def _joined(one: str, other: str) -> bool:
    return _IN_WORD.match(one) is not None and _IN_WORD.match(other) is not None
