"""The number that a text says, as people and models write numbers.

The first number of the text counts. Its digits, separators and sign are taken together and must then be one number
by the grammar below; whatever can be read in two ways (``2,5``, ``1/2``, ``10k``) is no number, with the reason, so
that a wrong answer never passes by half of what it says.

- digits of any script; one kind of separator between groups (``1,234``, ``1 234`` with a no-break or thin space,
  ``1'234``, ``1_234``, ``12,34,567``), a dot before the decimals, an exponent (``1.2e6``);
- a sign directly before it or before its currency (``-5``, U+2212, ``-$5.00``, ``$-5``, ``minus 5``); with a space
  between, where nothing or one of ``: = (`` stands before it (``- 5``), for elsewhere a dash only parts words, and in
  a list it is the mark of an item.
"""

from __future__ import annotations

import math
import re
import unicodedata

_DASHES = r"\-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_THIN = "\u00a0\u2007\u2009\u202f"
_APOSTROPHES = "'\u2019"
_CURRENCY = r"(?:[A-Z]{1,3}[ \u00a0\u202f]?)?\\?[$\u00a2-\u00a5\u0e3f\u20a0-\u20cf\uff04]?[ \u00a0\u202f]?"

_TOKEN = re.compile(
    rf"(?<![^\W_])(?<![^\W_][._])(?:(?<![\w.])\.)?[0-9](?:[0-9.,_{_APOSTROPHES}{_THIN}]*[0-9])?(?:[eE][+{_DASHES}]?[0-9]+)?"
)
"""A number with all its separators: not inside a word (``p95``), and not ending with one of them."""
_SIGN = re.compile(
    rf"(?:(?P<sign>[+{_DASHES}])|(?P<word>\b(?:minus|negative)[ {_THIN}]))(?P<gap>[ {_THIN}]?)(?:{_CURRENCY})$",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    rf"""(?:
        [0-9]{{1,3}}(?:(?P<mark>[,_{_APOSTROPHES}{_THIN}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*)   # 1,234,567
      | [0-9]{{1,2}}(?:,[0-9]{{2}})+,[0-9]{{3}}                                                 # 12,34,567
      | [0-9]*
    )(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{{1,4}})?""",
    re.VERBOSE,
)
_GOES_ON = re.compile(
    rf"""(?P<group>[ ][0-9]{{3}}(?![0-9]))
      | (?P<ratio>\s?[/\u2044][ ]?[0-9])
      | (?P<time>:[0-9])
      | (?P<power>[ ]?(?:[x*\u00d7\u00b7][ ]?10(?![0-9])|(?:\^|\*\*)[0-9({{+{_DASHES}]))
      | (?P<multiplier>(?:[kKMBT]|bn|mn|mio|mrd|tn)(?!\w)
          | [ {_THIN}](?:hundred|thousand|million|billion|trillion|lakh|crore|dozen)s?\b)
      | (?P<hexadecimal>[xX][0-9a-fA-F])
    """,
    re.VERBOSE,
)
_WHY = {
    "group": "it cannot be told whether the space in it parts one number or two",
    "ratio": "it is part of a fraction or a date",
    "time": "it is part of a time or a ratio",
    "power": "it is part of a product or power; 1.2e6 would be one number",
    "multiplier": "a multiplier follows it; written out it would be one number",
    "hexadecimal": "it is hexadecimal",
}
_NEAR = 40
"""Characters before a number that are looked at for its sign, and after it for what goes on."""


def number_in_text(text: str) -> tuple[float, str]:
    """The first number of the text and an empty string; or 0 and why there is none that can be read in one way."""
    plain = _ascii_digits(text)
    token = _TOKEN.search(plain)
    if token is None:
        return 0.0, "the answer contains no number"
    said = token.group()
    after = plain[token.end() : token.end() + _NEAR]
    if goes_on := _GOES_ON.match(after):
        return 0.0, _unclear(said, _WHY[goes_on.lastgroup or ""])
    if after[:1] and unicodedata.category(after[0]) == "No":
        return 0.0, _unclear(said, _WHY["power"])
    digits = _plain_exponent(said)
    if _NUMBER.fullmatch(digits) is None:
        return 0.0, _unclear(said, "its separators can be read in more than one way; a dot goes before decimals")
    number = float(re.sub(rf"[,_{_APOSTROPHES}{_THIN}]", "", digits))
    if not math.isfinite(number):
        return 0.0, _unclear(said, "it is out of range")
    return (-number if _negative(plain, token.start()) else number), ""


def _negative(text: str, start: int) -> bool:
    """Whether what stands before the number makes it negative."""
    before = text[max(0, start - _NEAR) : start]
    sign = _SIGN.search(before)
    if sign is None or sign["sign"] == "+":
        return False
    if sign["word"]:
        return True
    lead = before[: sign.start()]
    if not sign["gap"]:
        return not lead or not (lead[-1].isalnum() or lead[-1] == "_")
    if lead.strip():
        return lead.rstrip()[-1] in ":=("
    return len(re.findall(rf"(?m)^[ \t]*[{_DASHES}][ {_THIN}]", text)) == 1


def _ascii_digits(text: str) -> str:
    """The text with the digits and marks of other scripts as ASCII, character for character."""
    if text.isascii():
        return text
    marks = {"\u066b": ".", "\u066c": ","}
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else marks.get(c, c) for c in text)


def _plain_exponent(said: str) -> str:
    mantissa, mark, exponent = said.partition("e" if "e" in said else "E")
    return mantissa + mark + (f"-{exponent[1:]}" if re.match(f"[{_DASHES}]", exponent) else exponent)


def _unclear(said: str, why: str) -> str:
    return f"the number {said[:40]!a} cannot be read: {why}"
