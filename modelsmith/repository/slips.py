"""Slips of the pen that a YAML parser reports as something else: what stands there, and its mend. Pure.

A parser says where it gave up, which is the line of the slip or the one after it, and not what was meant. These look
at what stands there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from modelsmith.repository.document import UNSHOWN
from modelsmith.schema.plaintext import described, first_odd_space

OPENING = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2039\u203a\uff02\uff07"
"""Quotation marks of print, which quote nothing in YAML."""
QUOTES = "Put the text in quotes."

_LINE = re.compile(r"(?P<indent> *)(?P<dashes>(?:- +)*)(?:(?P<key>[\w.-]+):(?:(?P<gap> +)|$))?(?P<value>.*)")
_CONFLICT = re.compile(r"(<{7}|>{7})( |$)")
_TAB = re.compile(r" *(?:- *)?(?:[\w.-]+: *)?\t")
_WIDE_COLON = re.compile(r" *(?:- +)?[\w.-]+ *([\uff1a\ufe55\u2236\ua789])")
_DASH = re.compile(r" *([\u2010-\u2015\u2212\u2022\u00b7\u2043\u25aa\u25cf*+])(?=[ \u00a0])")
_GLUED_DASH = re.compile(r" *-(?=[\w\"'{\[])")
_GLUED_COLON = re.compile(r" *(?:- +)?([A-Za-z_][\w-]*):(?!//)[^\s:][^:]*")
_EQUALS = re.compile(r" *(?:- +)?([A-Za-z_][\w-]*) *= *\S.*")
_BLOCK = re.compile(r".*[:-] +[|>][-+1-9]{0,2}")
_SHOWN = 30


class Slip(NamedTuple):
    """A slip in a line: its number, what is wrong, how to mend it."""

    line: int
    """Counted from 1."""
    message: str
    mend: str


def find_slip(lines: Sequence[str], reported: int | None, opened: int | None) -> Slip | None:
    """The slip behind a parser's refusal; None when nothing known is seen.

    ``reported`` is the line where the parser gave up, ``opened`` the one where what it was reading begins.
    """
    for number, line in enumerate(lines, start=1):
        if mark := _CONFLICT.match(line):
            return Slip(number, f"a merge was left unfinished: {mark[1]}", "Keep one side, and remove the marks.")
    for number in _near(lines, reported, opened):
        for look in _LOOKS:
            if slip := look(lines[number - 1]):
                return Slip(number, *slip)
    return _unclosed(lines, opened) or (_indented(lines, reported) if reported else None)


def _near(lines: Sequence[str], reported: int | None, opened: int | None) -> Iterator[int]:
    """Where to look: the line itself, then the last one with something on it before, then where the value begins."""
    if reported is None:
        return
    line_number = min(reported, len(lines))
    yield line_number
    yield from (number for number in range(line_number - 1, max(0, line_number - 4), -1) if lines[number - 1].strip())
    if opened is not None and opened < line_number - 3:
        yield opened


_SlipWords = tuple[str, str] | None


def _tab(line: str) -> _SlipWords:
    return ("a tab", "Use two spaces.") if _TAB.match(line) else None


def _odd_space(line: str) -> _SlipWords:
    odd = first_odd_space(line.split("#")[0])
    if odd is None or odd.character == "\t":
        return None
    return f"{odd.name} stands where a space belongs", "Write an ordinary space."


def _wide_colon(line: str) -> _SlipWords:
    match = _WIDE_COLON.match(line)
    return (f"{described(match[1])} ends no field's name", "Write : and a space.") if match else None


def _other_dash(line: str) -> _SlipWords:
    match = _DASH.match(line)
    return (f"{described(match[1])} begins no item of a list", "Write - and a space.") if match else None


def _glued_dash(line: str) -> _SlipWords:
    return ("no space follows the -", "Write '- ' and then the item.") if _GLUED_DASH.match(line) else None


def _print_quotes(line: str) -> _SlipWords:
    value = _value(line)
    return print_quotes(value) if value[:1] in OPENING and value else None


def print_quotes(value: str) -> tuple[str, str]:
    """Message and mend for a text in quotation marks of print."""
    return f"{described(value[0])} quotes nothing", 'Write straight quotes: "...".'


def _indicator(line: str) -> _SlipWords:
    value = _value(line)
    begins = value[:1]
    if not begins or not (begins in "@`%*&!,]}" or re.match(r"[-?](?: |$)|[|>][^-+1-9 #]|[|>] +[^#]", value)):
        return None
    return f"the text begins with {begins}, which means something else in YAML", QUOTES


def _after_quote(line: str) -> _SlipWords:
    value = _value(line)
    quote = value[:1]
    if quote not in "\"'" or not quote:
        return None
    inner = re.match(r'"(?:\\.|[^"\\])*"|' + r"'(?:''|[^'])*'", value)
    if inner is None or not value[inner.end() :].strip() or re.match(r"\s+#|\s*[,:}\]]", value[inner.end() :]):
        return None
    other = "'" if quote == '"' else '"'
    return f"words follow the closing {quote}", f"Put the whole text in {other}...{other}."


def _bracket(line: str) -> _SlipWords:
    value = _value(line)
    if not re.match(r"\{[^{}]*\} *[^ #,}\]]|\[[^\[\]]*\] *[^ #,}\]]", value):
        return None
    return f"the text begins with {value[0]}, which means something else in YAML", QUOTES


def _colon(line: str) -> _SlipWords:
    value = _value(line)
    if not value or value[0] in "\"'{[|>#":
        return None
    match = re.search(r":(?= |$)", value)
    if not match or not (_key(line) or line.lstrip().startswith("- ")):
        return None
    context = "" if _key(line) in UNSHOWN else f" after '{_short(value[: match.start()])}'"
    return f"a colon stands in the text{context}", QUOTES


def _glued_colon(line: str) -> _SlipWords:
    match = _GLUED_COLON.fullmatch(line.split(" #")[0].rstrip())
    return ("no space follows the colon", f"Write '{match[1]}: ' and then the value.") if match else None


def _equals(line: str) -> _SlipWords:
    match = _EQUALS.fullmatch(line)
    return ("= gives no field its value", f"Write '{match[1]}: ' and then the value.") if match else None


_LOOKS: tuple[Callable[[str], _SlipWords], ...] = (
    _tab, _odd_space, _wide_colon, _other_dash, _glued_dash, _print_quotes, _bracket, _after_quote, _indicator, _colon,
    _glued_colon, _equals,
)  # fmt: skip


def _unclosed(lines: Sequence[str], opened: int | None) -> Slip | None:
    if opened is None or opened > len(lines):
        return None
    value = _value(lines[opened - 1])
    inside = re.search(r"[{\[](?=[^{}\[\]]*$)", value)
    begins = value[:1] if value[:1] in ('"', "'") else inside[0] if inside else ""
    if not begins:
        return None
    closing = {"{": "}", "[": "]"}.get(begins, begins)
    return Slip(opened, f"a {begins} opens here and is not closed", f"Write {closing} where it ends.")


def _indented(lines: Sequence[str], reported: int) -> Slip | None:
    """A field that stands in no column of the fields above it."""
    line_number = min(reported, len(lines))
    above = [number for number in range(line_number - 1, 0, -1) if lines[number - 1].strip(" \r")]
    for number, before in zip((line_number, *above), above[:2], strict=False):
        if _BLOCK.fullmatch(lines[before - 1].rstrip()):
            mark = lines[before - 1].split()[-1]
            return Slip(
                number, f"the text after {mark} is not indented", "Indent it by two spaces more than its field."
            )
    for number in (line_number, *above[:1]):
        part = _LINE.fullmatch(lines[number - 1])
        if part is None or part["key"] is None:
            continue
        column = len(part["indent"]) + len(part["dashes"])
        columns = [_column(lines[above_line - 1]) for above_line in above if above_line < number]
        if columns and column not in columns:
            nearest = min(columns, key=lambda indent: abs(indent - column))
            spaces = f"{column} space{'' if column == 1 else 's'}"
            words = f"the field is indented by {spaces}, and those beside it by {nearest}"
            return Slip(number, words, f"Indent it by {nearest}; an item of a list begins with '- '.")
    return None


def _column(line: str) -> int:
    part = _LINE.fullmatch(line.rstrip("\r"))
    return len(part["indent"]) + len(part["dashes"]) if part else 0


def _value(line: str) -> str:
    """The text behind the field's name, or behind the dash."""
    part = _LINE.fullmatch(line.rstrip("\r"))
    return part["value"] if part else ""


def _key(line: str) -> str | None:
    part = _LINE.fullmatch(line.rstrip("\r"))
    return part["key"] if part else None


def _short(text: str) -> str:
    """A text, or only its end where it is too long to show."""
    return text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"
