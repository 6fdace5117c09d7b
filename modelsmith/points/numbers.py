"""The number that a text says, as people and models write numbers.

The first number of the text counts. Its digits, separators and sign are taken together and must then be one number
by the grammar below; whatever can be read in two ways (``2,5``, ``1/2``, ``10k``, ``is - 5``) is no number, with the
reason, so that a wrong answer never passes by half of what it says.

- digits of any script; one kind of separator between groups (``1,234``, ``1 234`` with a no-break or thin space,
  ``1'234``, ``1_234``, ``12,34,567``), a dot before the decimals, an exponent (``1.2e6``);
- a sign directly before it or before its currency (``-5``, U+2212, ``-$5.00``, ``$-5``, ``minus 5``); with a space
  between, where nothing or one of ``: = ( {`` stands before it (``- 5``), unless other lines begin so, too: then it
  is the mark of a list's item.

Characters that show nothing are left out, and what LaTeX writes for a separator or a product is read as that.
"""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import Decimal

_SPACES = "\u00a0\u2002-\u200a\u202f\u205f"
_GAP = rf"[ {_SPACES}]"
_DASHES = r"\-\u207b\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"
_GROUP_MARKS = rf",_'\u2019{_SPACES}"
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
)
"""Letters of scripts that put no space between words: a number may begin directly after one."""
_AFTER_UNSPACED = re.compile(f"[{_UNSPACED}]")

_INVISIBLE = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF])
_MARKS = {
    ord("\u066b"): ".", ord("\u066c"): ",", ord("\uff0c"): ",", ord("\uff0e"): ".", ord("\uff1a"): ":",
    ord("\uff0f"): "/", ord("\u2044"): "/", ord("\u2215"): "/", ord("\u00f7"): "/", ord("\u2236"): ":",
}  # fmt: skip
_LATEX = re.compile(r"\{,\}|\\[,;:! ]|\\(?:times|cdot)\b|\\[dt]?frac\b")

_TOKEN = re.compile(rf"(?:(?<![\w.])\.)?[0-9](?:[0-9.{_GROUP_MARKS}]*[0-9])?(?:[eE][+{_DASHES}]?[0-9]+)?(?![0-9])")
"""A number with all its separators; it does not end with one of them."""
_SIGN = re.compile(
    rf"(?:(?P<sign>[+{_DASHES}])"
    rf"|(?P<word>(?<!\w)(?i:minus|negative|moins|menos|meno){_GAP}|[\u8d1f\u8ca0]|\u30de\u30a4\u30ca\u30b9))"
    rf"(?P<gap>{_GAP}*)(?:[A-Z]{{3}}{_GAP})?(?:[A-Z]{{0,3}}\\?[$\u00a2-\u00a5\u0e3f\u20a0-\u20cf\uff04])?{_GAP}?$"
)
_BEFORE = re.compile(r"(?:\\[dt]?frac\s*\{?|\u221a|\u00b1|\\pm|[+]\s?/\s?[^\w\s])\s*$")
"""What makes the number after it a part of something."""
_CURRENCY = re.compile(r"[$\u00a2-\u00a5\u0e3f\u20a0-\u20cf\uff04]\s?$")
_NUMBER = re.compile(
    rf"""(?:
        [1-9][0-9]{{0,2}}(?P<mark>[{_GROUP_MARKS}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*  # 1,234,567
      | [1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}                                         # 12,34,567
      | [0-9]*
    )(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{{1,4}})?""",
    re.VERBOSE,
)
_GOES_ON = re.compile(
    rf"""(?P<group>[ ][0-9]{{3}}(?![0-9]))
      | (?P<ratio>\s{{0,3}}/\s{{0,3}}[0-9] | [ -]?[0-9]{{1,9}}\s?/\s?[0-9] | \s?[\u00bc-\u00be\u2150-\u215e])
      | (?P<time>:[0-9] | \s:\s[0-9])
      | (?P<power>\s?(?:[xX*\u00d7\u00b7\u22c5\u2219]\s?10(?![0-9])|(?:\^|\*\*)[0-9({{+{_DASHES}]|\u03c0)
          | [\u00b2\u00b3\u00b9\u2070-\u207f])
      | (?P<dot>[\u00b7\u22c5\u2219][0-9])
      | (?P<multiplier>{_GAP}?(?:[kKMBT]|bn|Bn|mn|tn)(?!\w)
          | [\s-]?(?i:(?:hundred|thousand|million|billion|trillion|lakh|crore|dozen|tausend|tsd|mio|mln|mrd
              |milliard|mille)
              (?:s|en|de|e|es)?\b
            | (?:\u0442\u044b\u0441|\u043c\u043b\u043d|\u043c\u043b\u0440\u0434|\u043c\u0438\u043b\u043b\u0438))
          | \s?[\u5343\u5341\u767e\u4e07\u842c\u5104\u4ebf\u5146\ub9cc\uc5b5\ucc9c\ubc31]
          | \s?(?:\u0e25\u0e49\u0e32\u0e19|\u0e2b\u0e21\u0e37\u0e48\u0e19|\u0e1e\u0e31\u0e19
              |\u0932\u093e\u0916|\u0915\u0930\u094b\u0921|\u0939\u091c\u093e\u0930))
      | (?P<hexadecimal>[xXbBoO][0-9a-fA-F])
    """,
    re.VERBOSE,
)
_MILLIONS = re.compile(r"m(?!\w)")
_WHY = {
    "group": "it cannot be told whether the space in it parts one number or two",
    "ratio": "it is part of a fraction or a date",
    "time": "it is part of a time or a ratio",
    "power": "it is part of a product or power; 1.2e6 would be one number",
    "dot": "its separators can be read in more than one way; a dot goes before decimals",
    "multiplier": "a multiplier follows it; written out it would be one number",
    "hexadecimal": "it is not decimal",
}
_NEAR = 40
"""Characters before a number that are looked at for its sign, and after it for what goes on."""


def number_in_text(text: str) -> tuple[Decimal, str]:
    """The first number of the text and an empty string; or 0 and why there is none that can be read in one way."""
    plain = _plain(text)
    for token in _TOKEN.finditer(plain):
        if not _inside_a_word(plain, token.start()):
            return _read(plain, token, plain[max(0, token.start() - _NEAR) : token.start()])
    return Decimal(0), "the answer contains no number"


def _inside_a_word(text: str, start: int) -> bool:
    """Whether what starts there goes on a word, like ``p95`` or ``a_1``."""
    lead = text[max(0, start - 2) : start]
    if lead[-1:] == "_":
        return lead[:-1].isalnum()
    return lead[-1:].isalpha() and not _AFTER_UNSPACED.match(lead[-1])


def _read(plain: str, token: re.Match[str], before: str) -> tuple[Decimal, str]:
    said = token.group()
    after = plain[token.end() : token.end() + _NEAR]
    goes_on = _GOES_ON.match(after)
    if goes_on:
        return _unclear(said, _WHY[goes_on.lastgroup or ""])
    if _CURRENCY.search(before) and _MILLIONS.match(after):
        return _unclear(said, _WHY["multiplier"])
    if _BEFORE.search(before):
        return _unclear(said, "it is part of what stands before it")
    digits = re.sub(rf"(?<=[eE])[{_DASHES}]", "-", said)
    if _NUMBER.fullmatch(digits) is None:
        return _unclear(said, _WHY["dot"])
    number = Decimal(re.sub(rf"[{_GROUP_MARKS}]", "", digits))
    if not math.isfinite(float(number)):
        return _unclear(said, "it is out of range")
    negative = _negative(plain, token.start(), before)
    if negative is None:
        return _unclear(said, "it cannot be told whether the dash before it is a minus")
    return (-number if negative else number), ""


def _negative(text: str, start: int, before: str) -> bool | None:
    """Whether what stands before the number makes it negative; None when that can be read in two ways."""
    sign = _SIGN.search(before)
    if sign is None or sign["sign"] == "+":
        return False
    if sign["word"]:
        return True
    lead = before[: sign.start()]
    if not sign["gap"]:
        word = bool(lead) and lead[-1].isalnum() and not _AFTER_UNSPACED.match(lead[-1])
        return False if word else None if sign["sign"] == "\u2014" else True
    lead = re.sub(rf"[*_`\t {_SPACES}]+$", "", lead)
    if lead and lead[-1] in ":=({":
        return True
    if lead and lead[-1] != "\n":
        return None
    marks = re.findall(rf"(?m)^[ \t]*[{_DASHES}]{_GAP}", text)
    return len(marks) == 1


def _plain(text: str) -> str:
    """The text as it is seen: digits and marks of other scripts in ASCII, LaTeX's in characters, nothing invisible."""
    if not text.isascii():
        text = text.translate(_INVISIBLE | _MARKS)
        text = "".join(str(unicodedata.decimal(c)) if c > "\x7f" and c.isdecimal() else c for c in text)
    if "\\" in text or "{,}" in text:
        text = _LATEX.sub(_latex, text)
    return text


def _latex(found: re.Match[str]) -> str:
    said = found.group()
    if said == "{,}":
        return ","
    if said in ("\\times", "\\cdot"):
        return "\u00d7"
    return said if "frac" in said else "\u2009"


def _unclear(said: str, why: str) -> tuple[Decimal, str]:
    return Decimal(0), f"the number {said[:40]!a} cannot be read: {why}"
