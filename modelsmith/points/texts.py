"""Texts as people compare them: what looks the same is the same, and a word is found as a word. Pure."""

from __future__ import annotations

import json
import re
import unicodedata

from modelsmith.points.answers import composed_text, read_answer_once
from modelsmith.points.spelling import DASHES, INVISIBLE, UNSPACED

_WRITTEN = {
    "'": "\u2018\u2019\u201a\u201b\u02b9\u02bb\u02bc\u02bd\u2032\u00b4`\uff07\u2039\u203a",
    '"': "\u201c\u201d\u201e\u201f\u2033\u301d-\u301f\u300c-\u300f\u00ab\u00bb\uff02",
    "-": rf"{DASHES}\u058a\u05be\u1806\u2e17\u2e3a\u2e3b\u2e40\ufe31\ufe32",
}
_ALIKE = [(re.compile(f"[{spellings}]"), like) for like, spellings in _WRITTEN.items()]
_SHOWN_AS_BLANK = dict.fromkeys(INVISIBLE, " ")
_BLANK = re.compile(r"\s+")
_IN_WORD = re.compile(rf"[^\W{UNSPACED}]")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_ANY = "_"
"""Stands for what a text that was cut off would go on with: something that makes one word with any."""
_POINTS = r".,'\u00b7\u066b\u066c\u060c"
_NUMBER = re.compile(r"[^\w\s]?\d")
_NUMBER_BEFORE = re.compile(rf"(?:(?<![\u0590-\u05ff])-|[+.]|\d[{_POINTS}/:^])\Z")
"""A sign, or a number's own point or bar. A hyphen behind a Hebrew letter joins a word to the number."""
_NUMBER_AFTER = re.compile(rf"[{_POINTS}/:^]\d")
_GROUP = re.compile(r"\d{3}(?!\d)")
_GROUPS_BEFORE = re.compile(r"(?<!\d)\d{1,3} \Z")
_GROUPS_AFTER = re.compile(r" \d{3}(?!\d)")
_LAST_GROUP = re.compile(r"(?<!\d)\d{1,3}\Z")
_ESCAPES = re.compile(r'(?:\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))+')


def alike(text: str, *, ignore_case: bool) -> str:
    """The text in one spelling: composed letters, one blank for any run of them, one kind of hyphen and quotation mark.

    What shows nothing (a zero-width space, a soft hyphen) is left out.

    >>> alike("The  PRICE Floor", ignore_case=True)
    'the price floor'
    """
    spelt = composed_text(text.translate(INVISIBLE))
    if not spelt.isascii() or "`" in spelt:
        for pattern, like in _ALIKE:
            spelt = pattern.sub(like, spelt)
    spelt = _BLANK.sub(" ", spelt).strip()
    return composed_text(spelt.casefold()) if ignore_case else spelt


def as_read(text: str) -> str:
    r"""What the text says: where it is exactly one JSON value, with its escapes read (``\u00e9``, ``\n``)."""
    return text if "\\" not in text or read_answer_once(text)[1] else _unescaped(text)


def every_reading(text: str) -> set[str]:
    """The text in each way in which somebody may read it: as it stands, or with escapes read; a blank or nothing shown.

    For what must not stand there: where one of them holds it, the text does.
    """
    once = _unescaped(text)
    readings = {text, once, _unescaped(once)}
    return readings | {reading.translate(_SHOWN_AS_BLANK) for reading in readings}


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(lambda match: str(json.loads(f'"{match[0]}"')), text)


def holds(text: str, part: str, *, cut_off: bool = False) -> bool:
    """Whether the text holds the wanted words as words: ``cat`` is not in ``concatenate``, nor ``5 ms`` in ``1.5 ms``.

    Between letters of scripts without spaces any place will do. A word at the end of a text that was cut off may go on.
    Both are spelled as `alike` does.

    >>> holds("The price floor was raised.", "price floor"), holds("Two price floors.", "price floor")
    (True, False)
    """
    text += _ANY if cut_off else ""
    at = text.find(part)
    while at >= 0:
        if not _goes_on_before(text, at) and not _goes_on_after(text, at + len(part)):
            return True
        at = text.find(part, at + 1)
    return False


def _goes_on_before(text: str, at: int) -> bool:
    before = text[max(0, at - 5) : at]
    if _NUMBER.match(text, at) and _NUMBER_BEFORE.search(before):
        return True
    if _GROUP.match(text, at) and _GROUPS_BEFORE.search(before):
        return True
    return _joined(before[-1:], text[at])


def _goes_on_after(text: str, end: int) -> bool:
    last, after = text[max(0, end - 4) : end], text[end : end + 5]
    if last[-1].isdecimal() and (
        _NUMBER_AFTER.match(after) or (_LAST_GROUP.search(last) and _GROUPS_AFTER.match(after))
    ):
        return True
    return _joined(last[-1], after[:1])


def _joined(character: str, other: str) -> bool:
    """Whether two characters belong to one word; a mark (a vowel sign, an accent) belongs to the letter before it."""
    return _is_mark(other) or (_in_word(character) and _in_word(other))


def _in_word(character: str) -> bool:
    """Whether it makes one word with the next, in scripts that put spaces between words."""
    return bool(_IN_WORD.match(character) or (_is_mark(character) and not _UNSPACED.match(character)))


def _is_mark(character: str) -> bool:
    return character != "" and unicodedata.category(character)[0] == "M"
