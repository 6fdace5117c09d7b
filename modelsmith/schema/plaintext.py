r"""Plain text: what every reader (a parser, git's diff, a forge's page, a terminal) shows and reads the same.

Plain is what `schema.assigned` lists: letters, marks, numbers and signs that are assigned and show something. So not
plain are characters that end a line for some readers only, that steer a terminal, that show nothing, that change the
order in which others are shown (https://trojansource.codes), whose shape the reader's font decides, or that nobody has
assigned yet. The list does not come from the Unicode tables of this Python: what one machine lets in, every other
machine reads. Names in messages come from those tables.

In governed files such a character may stand as an escape, which everybody sees (``"\u200c"`` in double quotes). Words
of people (titles, reasons) know no escapes: there, what joins letters of Persian or Hindi, or the parts of an emoji,
is welcome between such characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from modelsmith.schema.assigned import is_known, is_shown

_LONE_RETURN = re.compile(r"\r(?!\n)")
_ODD_SPACE = re.compile(r"[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_ALONE = r"[^\x00-\xa8\xaa-\xad\xaf-\u024f\u200c\u200d]"
"""No Latin letter, digit or mark, and no joiner."""
_JOINED = re.compile(rf"(?<={_ALONE})(?:[\u200c\u200d](?={_ALONE})|[\ufe0e\ufe0f])|\ufe0f(?=\u20e3)")
"""Joiners between two such characters, and the choice between text and picture after one or before a key's frame."""
MAX_BLANKS = 200
"""Blanks in a row from which on the rest of a line counts as out of sight."""
BLANKS = re.compile(rf"[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]{{{MAX_BLANKS},}}")
_TO_ONE_LINE = re.compile(r"[\t\n\r]")
_NOT_ASCII = re.compile(rf"({_JOINED.pattern})|[^\x20-\x7e]")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_NAMES = {
    "\x00": "NULL", "\x07": "BELL", "\x08": "BACKSPACE", "\t": "TAB", "\n": "LINE FEED", "\x0b": "LINE TABULATION",
    "\x0c": "FORM FEED", "\r": "CARRIAGE RETURN", "\x1b": "ESCAPE", "\x7f": "DELETE", "\x85": "NEXT LINE",
    "\x9b": "CONTROL SEQUENCE INTRODUCER", "\ufeff": "BYTE ORDER MARK",
}  # fmt: skip


class Odd(NamedTuple):
    """A character that is not plain text, and where it stands; or so many blanks that what follows is out of sight."""

    at: int
    character: str
    times: int = 1

    @property
    def name(self) -> str:
        """The character for messages, itself never shown: ``U+2028 LINE SEPARATOR``."""
        return described(self.character) + (f" {self.times} times in a row" if self.times > 1 else "")


def described(character: str) -> str:
    """Code point and name of a character."""
    name = _NAMES.get(character) or unicodedata.name(character, "")
    return f"U+{ord(character):04X} {name or 'without a name'}"


def first_hidden(text: str) -> Odd | None:
    """The first character that readers of a file see or read differently; tabs and ends of lines are welcome."""
    odd = _hidden(text)
    odd_one = next(_where(odd, text)) if odd else None
    lone = _first_match(_LONE_RETURN, text) if "\r" in text else None
    return min(filter(None, (odd_one, lone)), default=None)


def every_hidden(text: str) -> list[Odd]:
    """Every character that `first_hidden` looks for, in order."""
    return sorted((*_where(_hidden(text), text), *(Odd(match.start(), "\r") for match in _LONE_RETURN.finditer(text))))


def first_unsayable(text: str) -> Odd | None:
    """The first character that no value holds, not even by an escape: controls, and what Unicode 14.0.0 does not know.

    Python's own tables say more with each version, and what is compared by them would not come out the same again.
    """
    if text.isascii() and text.isprintable():
        return None
    odd = {letter for letter in set(text) - set("\t\n\r") if not is_known(letter)}
    return next(_where(odd, text), None)


def first_odd_space(text: str) -> Odd | None:
    """The first character that looks like a space and separates no words for a parser."""
    return _first(_ODD_SPACE, text)


def first_unwelcome(text: str) -> Odd | None:
    """The first character that is not plain in words of people: hidden, and no joiner where a script needs it.

    Else the first of `MAX_BLANKS` in a row. What a gate lets in by this and files are read by must be one rule: what
    stands under ``promotions/`` can never be mended.
    """
    hidden = first_hidden(text)
    if hidden is not None and hidden.character in "\u200c\u200d\ufe0e\ufe0f":
        hidden = first_hidden(_JOINED.sub("-", text))
    return hidden or _first_blanks(text)


def _first_blanks(text: str) -> Odd | None:
    plain = text.isascii() and "\t" not in text
    run = None if plain and " " * MAX_BLANKS not in text else BLANKS.search(text)
    return Odd(run.start(), text[run.start()], len(run[0])) if run else None


def first_break(text: str) -> Odd | None:
    """The first tab or end of a line, which one line does not hold."""
    return _first_match(_TO_ONE_LINE, text)


def visible(text: str) -> str:
    r"""The text as one line in which every character is seen: what is not plain, or ends a line, is spelled ``\u202e``.

    For whatever shows words of others. Joiners stay where a script needs them.
    """
    if text.isascii() and text.isprintable():
        return text
    return _NOT_ASCII.sub(lambda match: match[0] if match[1] or is_shown(match[0]) else _spelled(match[0]), text)


def _spelled(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _hidden(text: str) -> set[str]:
    """Which characters of the text are not plain; texts are long and their alphabets small."""
    line = text.replace("\n", "")
    if line.isascii() and line.isprintable():
        return set()
    return {character for character in set(line) - {"\t", "\r"} if not is_shown(character)}


def _where(characters: set[str], text: str) -> Iterator[Odd]:
    return (
        (Odd(at, character) for at, character in enumerate(text) if character in characters) if characters else iter(())
    )


def _first(kind: re.Pattern[str], text: str) -> Odd | None:
    """The first character of a kind; texts are long and their alphabets small, so that is looked at first."""
    line = text.replace("\n", "")
    if line.isascii() and line.isprintable():
        return None
    return _first_match(kind, text) if any(map(kind.match, set(text))) else None


def _first_match(pattern: re.Pattern[str], text: str) -> Odd | None:
    match = pattern.search(text)
    return Odd(match.start(), match.group()) if match else None


def _words(text: str) -> str:
    odd = first_unwelcome(text)
    if odd is not None:
        raise ValueError(f"it holds {odd.name}, which readers do not see alike; write plain text")
    return text


def _one_line(text: str) -> str:
    odd = first_break(text)
    if odd is not None:
        raise ValueError(f"it holds {odd.name}; write one line")
    return _words(text)


PlainText = Annotated[str, AfterValidator(_words)]
"""Words of people over any number of lines (descriptions, comments)."""

PlainLine = Annotated[str, AfterValidator(_one_line)]
"""Words of people on one line (titles, reasons)."""
