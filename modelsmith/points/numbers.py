r"""The number that a text says, as people and models write numbers.

The text says one number, or none can be read: whatever can be read in two ways (``2,5``, ``1/2``, ``10k``, ``5-10``,
``<5``, ``($5)``, ``5 or 7``) is not a number, with the reason, so that a wrong answer never passes by half of it.

- Digits, separators and sign are taken together: digits of any script; one kind of separator between groups
  (``1,234``, ``1 234`` with a no-break or thin space, ``1'234``, ``1_234``, ``12,34,567``), a dot before the decimals,
  an exponent (``1.2e6``).
- A sign stands directly before it, its currency or its brackets (``-5``, U+2212, ``-$5.00``, ``$-5``, ``-(5)``,
  ``minus 5``); with a space between, where one of ``: = ( {`` stands before it (``bid: - 5``). A hyphen that begins a
  line may be the mark of a list's item, so ``- 5`` is not a number; U+2212 is a minus there, too.
- Where a text says which number is its answer (``Answer: 5`` at the beginning of a line, ``#### 5``, ``\boxed{5}``),
  what stands before that does not count. Two numbers that are the same are one.
- A number in words anywhere is another number, unless it is the same (``5 (five)``); so is a word for thousands or
  millions (``$5, in millions``), and a word for a minus that is not the number's sign (``5 (negative)``).
- ``about 5`` and ``~5`` name one number, 5; the check's tolerance says how near it has to be.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import NamedTuple

from modelsmith.points.scales import (
    BOUND_AFTER,
    BOUND_BEFORE,
    COUNTED_AFTER,
    COUNTED_BEFORE,
    DENIED_AFTER,
    DENIED_BEFORE,
    FRACTION_AFTER,
    MINUS,
    multiplies,
    names_a_scale,
    spelled,
)
from modelsmith.points.spelling import DASHES, SPACES, STRUCK, UNSPACED, as_displayed


class StatedNumber(NamedTuple):
    """A number as a text says it."""

    number: Decimal
    per: int = 1
    """100 for a percentage, 1000 and 10000 for its smaller kin: what the number is to be divided by to be a share."""


_GAP = rf"[ {SPACES}]"
_GROUP_MARKS = rf",_'{SPACES}"
_SIGNS = r"$\u00a2-\u00a5\u0e3f\u20a0-\u20cf\uff04"
"""Signs of currencies, for a class of characters."""
_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|ZAR|KRW|SGD|HKD|TWD|TRY|RUB"
    "|UAH|ILS|AED|SAR|THB|IDR|VND|Rs|Rp|kr|zl|Fr|RM"
)
_AFTER_UNSPACED = re.compile(f"[{UNSPACED}]")

_TOKEN = re.compile(rf"(?:(?<![\w.])\.)?[0-9](?:[0-9.{_GROUP_MARKS}]*[0-9])?(?:[eE][+{DASHES}]?[0-9]+)?(?![0-9])")
"""A number with all its separators; it does not end with one of them."""
_NUMBER = re.compile(
    rf"""(?:
        [1-9][0-9]{{0,2}}(?P<mark>[{_GROUP_MARKS}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*  # 1,234,567
      | [1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}                                         # 12,34,567
      | [0-9]*
    )(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{{1,4}})?""",
    re.VERBOSE,
)
_ANSWER = re.compile(
    r"""\\f?boxed\s*\{ | ^[ \t]*\#{4}\s
      | ^[ \t\#>]*(?:(?:so|thus|therefore|hence),?\s+)?(?:the\s+|my\s+|your\s+)?(?:final\s+|correct\s+)?
        (?:answer|result|antwort|ergebnis|r\u00e9ponse|respuesta|resposta|risposta|antwoord)(?:\s+is\b|\s*[:=])
      | ^[ \t]*(?:\u6700\u7ec8)?(?:\u7b54\u6848|\u7b54\u3048|\uc815\ub2f5|\ub2f5)\s*[:\u662f]""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
"""Where a text says that its answer comes."""

_CODE = re.compile(rf"(?<![^\W\d_])(?:{_CODES})\Z")
_CURRENCY = rf"(?:(?:{_CODES})\.?{_GAP}?|[A-Z]{{3}}{_GAP}|[A-Z]{{0,3}}[{_SIGNS}])"
_LEAD = re.compile(rf"(?:[\[({{\"]{_GAP}?)?(?:{_CURRENCY}{_GAP}?)?[\[({{\"]?\Z")
"""Brackets and currency between a number and its sign."""
_SIGN = re.compile(
    rf"(?:(?P<sign>[+{DASHES}])"
    rf"|(?P<word>(?<!\w)(?i:minus|negativ[eo]?|moins|menos|meno|m\u00ednus|miinus|eksi|\u00e2m|\u043c\u0438\u043d\u0443\u0441){_GAP}"
    rf"|[\u8d1f\u8ca0]|\u96f6\u4e0b|\u30de\u30a4\u30ca\u30b9|\ub9c8\uc774\ub108\uc2a4|\uc601\ud558))(?P<gap>{_GAP}*)\Z"
)
_MINUS_FROM = re.compile(
    rf"(?:\A|[^\w\s)\]}}%]|\n|[{UNSPACED}]"
    r"|(?<!\w)(?i:is|was|are|be|to|at|of|by|with|an?|the|about|around|roughly|equals?|means|ist|sind|war|auf|bei|von|um"
    r"|est|\u00e0|de|es|son|\u00e9|\u00e8|\u00e8|di|op|\u043d\u0430|\u0434\u043e))\s*\Z"
)
"""What a minus in words follows where it is a sign: ``x minus 5`` is a difference."""
_UNIT_POWER = re.compile(r"(?<![^\W\d_])(?:[kcdm\u00b5n]?m|s|ft|in|yd|kg|A|K|px)\^[{(]?[-+\u2212]?\Z")
"""What a unit's power follows, as in 5 m^2."""
_MINUSES = "\u2212\u207b\u208b\u2796"
"""Dashes that are nothing but a minus."""
_ARROW = re.compile(r"[-=]+>")
_STRAY_DASH = re.compile(rf"[{DASHES}][^\w\n]*\Z|(?:^|\n)[ \t]*[{DASHES}][ \t]*\n\s*\Z")
"""A dash that stands before a number and is not its sign, with signs between the two or on a line of its own."""
_OF = (
    "product|quotient|square|cube|root|opposite|negative|inverse|reciprocal|factorial|logarithm|multiple"
    "|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth"
)
_PART = re.compile(
    rf"(?:\\[dt]?frac\s*\{{?|[\u221a-\u221c]\s?[{{(]?|(?<!\w)(?:log|ln|exp|sin|cos|tan|sqrt)\s?\(?|(?<!\w)(?i:{_OF})\s+of|\u00b1|[+]\s?/\s?[^\w\s]|[\w)\]}}]\s?\*\s?|[/\u00d7\u00f7]\s?|\^\s?[{{(]?)"
    rf"\s*[+{DASHES}]?\s*\Z"
)
"""What makes the number after it a part of something."""
_ENCLOSED = re.compile(rf"\(\s*{_CURRENCY}?{_GAP}?\Z")
_LAST_WORD = re.compile(r"(?<!\w)[^\W\d_]+\s?\Z")
_CLOSED = re.compile(rf"{_GAP}?(?:%|{_CURRENCY})?{_GAP}?\)")
_PER = re.compile(
    rf"{_GAP}?(?:(?P<hundred>%|(?i:percent|per{_GAP}cent|pct|prozent|procent|por{_GAP}ciento|pour{_GAP}cent|pp|"
    rf"percentage{_GAP}points?)(?!\w))|(?P<thousand>\u2030)|(?P<myriad>\u2031|(?i:bps?|basis{_GAP}points?)(?!\w)))"
)
_PARTS = {"hundred": 100, "thousand": 1000, "myriad": 10000}
_GOES_ON = re.compile(
    rf"""(?P<group>[ ][0-9]{{3}}(?![0-9]))
      | (?P<ratio>\s{{0,3}}/\s{{0,3}}[0-9] | [ -]?[0-9]{{1,9}}\s?/\s?[0-9] | [\s,.-]{{0,2}}[\u00bc-\u00be\u2150-\u2189])
      | (?P<time>:[0-9] | \s:\s[0-9])
      | (?P<power>[\s(]{{0,3}}[xX*\u00d7\u00b7\u22c5\u2219]\s?10[0,.]*(?![0-9])
          | \s?(?:\*\*|\u03c0|(?:pi|sqrt|root)(?!\w))|\s?\^|\s[eE][+{DASHES}]?[0-9]
          | {_GAP}?[\u00b2\u00b3\u00b9\u2070-\u207f])
      | (?P<dot>[\u00b7\u22c5\u2219][0-9])
      | (?P<range>{_GAP}*(?:[{DASHES}+*~\u00d7\u00f7\uff5e\u301c\u2026<>\u00b1]|\.\.+){_GAP}*{_CURRENCY}?[0-9.]
          | [{DASHES}](?![^\W\d_]) | {_GAP}+[{DASHES}]\s*$)
      | (?P<multiplier>{_GAP}?[{_SIGNS}]?{_GAP}?(?:[kKMBTb]|bn|Bn|mn|tn|kk|MM|(?:grand|gross)
          |[Gmt](?={_GAP}?(?:[{_SIGNS}]|(?:{_CODES})(?!\w))))(?!\w))
      | (?P<hexadecimal>[xXbBoO][0-9a-fA-F] | [\u2080-\u2089])
      | (?P<struck>[\u0300-\u036f])
    """,
    re.VERBOSE,
)
_AFTER_UNIT = re.compile(rf"{_GAP}?[{_SIGNS}]?[\s-]?")
_MILLIONS = re.compile(rf"{_GAP}?(?i:mm?|mi|bi?|tr?|trn|[lg])(?!\w)")
_MONEY = re.compile(rf"{_CURRENCY}\s?\Z")
_WHY = {
    "group": "it cannot be told whether the space in it parts one number or two",
    "ratio": "it is part of a fraction or a date",
    "time": "it is part of a time or a ratio",
    "power": "it is part of a product or power; 1.2e6 would be one number",
    "dot": "its separators can be read in more than one way; a dot goes before decimals",
    "range": "it is part of a range or a sum, or its minus stands behind it",
    "multiplier": "a multiplier follows it; written out it would be one number",
    "hexadecimal": "it is not decimal",
    "bound": "it is a bound or a question, not a value",
    "denied": "what stands beside it denies it",
    "struck": "it is struck out",
    "part": "it is part of what stands before it",
    "words": "a number in words stands beside it",
    "share": "it is part of a fraction or power in words",
    "brackets": "it cannot be told whether its brackets mean a minus",
    "dash": "it cannot be told whether the dash before it is a minus",
    "out": "it is out of range",
    "cut": "the answer was cut off at its limit of tokens, perhaps in the middle of it",
}
_JOINED = re.compile(r"(?:[^\w\n=(:;.\u2248]*[^\W\d_]+){0,2}[^\w\n=(:;.\u2248]*")
"""What stands between two equal numbers that may be a list, a sum or a product: two words, or signs alone."""
_NO_NUMBER = StatedNumber(Decimal(0))
_NEAR = 60
"""Characters before a number that are looked at for its sign, and after it for what goes on."""
_LONGEST_MULTIPLIER = 12
"""Characters after a number within which the answer's end may have cut off its digits or what multiplies it."""
_MOST = 100
"""Numbers of an answer that are looked at."""


def number_in_text(text: str, *, cut_off: bool = False) -> tuple[StatedNumber, str]:
    """The number that the text says and an empty string; or 0 and why none can be read in one way.

    Of a text that was cut off a number near its end may be half of one, or lack its multiplier.

    >>> number_in_text("It fell by 12.5 percent.")
    (StatedNumber(number=Decimal('12.5'), per=100), '')
    >>> number_in_text("Between 3 and 5.")[1]
    "the number '3' cannot be read: it is a bound or a question, not a value"
    """
    plain = as_displayed(text)
    answer = _ANSWER.search(plain)
    if answer is not None:
        plain = plain[answer.start() :]
    first: StatedNumber | None = None
    end = 0
    for count, token in enumerate(_TOKEN.finditer(plain)):
        if count == _MOST:
            return _none("the answer holds too many numbers")
        if _inside_a_word(plain, token.start()):
            continue
        stated, why = _read(plain, token)
        rest = plain[token.end() : token.end() + _LONGEST_MULTIPLIER]
        if cut_off and len(rest) < _LONGEST_MULTIPLIER and "\n" not in rest:
            why = "cut"
        if why:
            return _none(f"the number {token.group()[:40]!a} cannot be read: {_WHY[why]}")
        near = token.start() - end <= _NEAR
        if first is not None and (stated != first or (near and _JOINED.fullmatch(plain, end, token.start()))):
            return _none(f"cannot tell which number is meant, {_as_text(first)} or {_as_text(stated)}")
        first, end = stated, token.end()
    if first is None:
        return _none("the answer contains no number")
    problem = _stated_elsewhere(plain, first)
    return _none(problem) if problem else (first, "")


def _stated_elsewhere(plain: str, stated: StatedNumber) -> str:
    """Why something in the text, wherever it stands, may make another number of the one that it says in digits."""
    if STRUCK in plain:
        return "something in the answer is struck out"
    other = next((number for number in spelled(plain) if number != abs(stated.number)), None)
    if other is not None:
        return f"cannot tell which number is meant, {_as_text(stated)} or {other}, in words"
    if names_a_scale(plain):
        return f"a word for a scale stands beside the number {_as_text(stated)}; written out it would be one number"
    if stated.number > 0 and MINUS.search(plain):
        return f"it cannot be told whether a word for a minus belongs to the number {_as_text(stated)}"
    return ""


def _none(problem: str) -> tuple[StatedNumber, str]:
    return _NO_NUMBER, problem


def _as_text(stated: StatedNumber) -> str:
    return f"{stated.number}"[:40] + {100: "%", 1000: " per mille", 10000: " basis points"}.get(stated.per, "")


def _inside_a_word(text: str, start: int) -> bool:
    """Whether what starts there goes on a word, like ``p95`` or ``a_1``; behind a currency it does not."""
    lead = text[max(0, start - 6) : start]
    if _UNIT_POWER.search(lead):
        return True
    if lead[-1:] == "_":
        return lead[-2:-1].isalnum()
    return lead[-1:].isalpha() and not _AFTER_UNSPACED.match(lead[-1]) and not _CODE.search(lead)


def _read(plain: str, token: re.Match[str]) -> tuple[StatedNumber, str]:
    """One number with its sign, and an empty string; or the name of what is wrong with it."""
    before = plain[max(0, token.start() - _NEAR) : token.start()]
    after = plain[token.end() : token.end() + _NEAR]
    digits = re.sub(rf"(?<=[eE])[{DASHES}]", "-", token.group())
    per = _PER.match(after)
    if why := _goes_on(before, after[per.end() :] if per else after):
        return _NO_NUMBER, why
    if _NUMBER.fullmatch(digits) is None:
        return _NO_NUMBER, "dot"
    number = Decimal(re.sub(rf"[{_GROUP_MARKS}]", "", digits))
    if not math.isfinite(float(number)):
        return _NO_NUMBER, "out"
    lead = before[: _LEAD.search(before).start()]  # type: ignore[union-attr]
    sign = _SIGN.search(lead)
    behind = before if sign is None else lead[: sign.start()]
    if why := _held_back(before, behind, signed=sign is not None, closed=_CLOSED.match(after) is not None):
        return _NO_NUMBER, why
    negative = _negative(sign, behind)
    if negative is None:
        return _NO_NUMBER, "dash"
    return StatedNumber(-number if negative else number, _PARTS[per.lastgroup or ""] if per else 1), ""


def _goes_on(before: str, after: str) -> str:
    """The part after a number that makes another of it."""
    if match := _GOES_ON.match(after):
        return match.lastgroup or ""
    word = after[_AFTER_UNIT.match(after).end() :]  # type: ignore[union-attr]
    money = _MONEY.search(before) is not None
    if multiplies(word) or COUNTED_AFTER.match(after) or (money and _MILLIONS.match(after)):
        return "multiplier"
    if FRACTION_AFTER.match(after):
        return "share"
    if BOUND_AFTER.match(after):
        return "bound"
    return "denied" if DENIED_AFTER.match(after) else ""


def _held_back(before: str, behind: str, *, signed: bool, closed: bool) -> str:
    """The part before a number, and ``behind`` its sign, that makes another of it."""
    if _PART.search(before) or _PART.search(behind):
        return "part"
    for part in (before, behind, behind[: _LEAD.search(behind).start()]):  # type: ignore[union-attr]
        if BOUND_BEFORE.search(part):
            return "bound"
        if DENIED_BEFORE.search(part):
            return "denied"
        if COUNTED_BEFORE.search(part):
            return "words"
    enclosed = _ENCLOSED.search(before) if closed and not signed else None
    return "brackets" if enclosed and not _spelled_before(before[: enclosed.start()]) else ""


def _spelled_before(text: str) -> bool:
    """Whether a number in words ends the text, as in ``five (5)``."""
    word = _LAST_WORD.search(text)
    return word is not None and any(True for _ in spelled(word.group()))


def _negative(sign: re.Match[str] | None, lead: str) -> bool | None:
    """Whether the sign makes the number after it negative; None when that can be read in two ways."""
    if sign is None:
        return None if _STRAY_DASH.search(_ARROW.sub("", lead)) else False
    if _SIGN.search(lead) or _SIGN.search(lead[: _LEAD.search(lead).start()]):  # type: ignore[union-attr]
        return None
    if sign["word"] and not _MINUS_FROM.search(lead):
        return None
    if sign["word"] or sign["sign"] == "+":
        return bool(sign["word"])
    if sign["sign"] in "\u2014\u2015":
        return None
    if not sign["gap"]:
        clear = not lead or not lead[-1].isalnum() or _AFTER_UNSPACED.match(lead[-1])
        return True if clear else None
    lead = re.sub(rf"[\t {SPACES}]+$", "", lead)
    if lead and lead[-1] in ":=({":
        return True
    return True if sign["sign"] in _MINUSES and (not lead or lead[-1] == "\n") else None
