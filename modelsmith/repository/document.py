"""The data of one file that remembers where each value stands, and what both readers of it (YAML, JSON) refuse.

The rule behind every refusal: what a person sees in a diff and what a parser reads are the same. So a file is plain
text (`schema.plaintext`), its keys are told apart by the eye, and everything takes time in proportion to its size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any, NamedTuple

from modelsmith.governance.names import mixed_alphabets, skeleton
from modelsmith.schema.plaintext import BLANKS, MAX_BLANKS, Odd, described, first_hidden, first_odd_space

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 50
MAX_VALUES = 100_000
"""Values of one file, each list and mapping included, so that a file of a MiB is read in bounded time."""
MAX_KEY = 1024
"""Longest key; YAML allows no longer one on a line (https://yaml.org/spec/1.2.2/#742-flow-mappings)."""
MAX_NAME = 64
"""No name is longer, so that nothing longer is a misspelt one."""
MAX_PROBLEMS = 100
"""Mistakes named of one file; who has more mends these first."""
MORE_PROBLEMS = f"more than {MAX_PROBLEMS} mistakes; the rest is not read"
MAX_INTEGER = 2**53 - 1
"""The largest integer that JSON readers agree on (RFC 8785, section 3.2.2.3)."""

UNSHOWN = frozenset({"url", "key_env", "key"})
"""Fields whose wrong value may be a secret: no message repeats it."""

_ESCAPE = re.compile(r"\\(?:(?:x|u00|U000000)([3-7][0-9a-fA-F])|.)", re.DOTALL)

Location = tuple[str | int, ...]
"""Keys and indices from the file's top down to a value."""


@dataclass(frozen=True)
class Problem:
    """One mistake in one file, and how to mend it."""

    file: str
    line: int | None
    """Counted from 1; None when the mistake has no single line."""
    field: str
    """Dotted path as the user writes it (``criteria[0].pass``); empty for the whole file."""
    message: str
    mend: str


class Place(NamedTuple):
    """File and line where something stands."""

    file: str
    line: int | None


@dataclass
class Document:
    """Data of one file (or of files laid over each other) with the place of every value."""

    path: str
    data: Any
    values: dict[Location, Place] = field(default_factory=dict)
    keys: dict[Location, Place] = field(default_factory=dict)

    def place(self, location: Location) -> Place:
        """Where the value stands; the nearest enclosing one when it is not in the file."""
        while location and location not in self.values:
            location = location[:-1]
        return self.values.get(location) or Place(self.path, None)

    def key_place(self, location: Location) -> Place:
        """Where the key of the value stands."""
        return self.keys.get(location) or self.place(location)

    def over(self, lower: Document) -> Document:
        """This document laid over another: mappings merge key by key, everything else is replaced."""
        replaced: set[Location] = set()
        data = _merge(lower.data, self.data, (), replaced)
        values = {
            location: place
            for location, place in lower.values.items()
            if not any(location[:depth] in replaced for depth in range(len(location) + 1))
        }
        return Document(self.path, data, values | self.values, lower.keys | self.keys)


class Unreadable(Exception):
    """The file cannot be read as data; carries every reason found.

    ``document`` holds what could be read all the same, with None where a single value could not.
    """

    def __init__(self, *problems: Problem, document: Document | None = None) -> None:
        super().__init__(problems[0].message)
        self.problems = list(problems)
        self.document = document


def dotted(location: Location) -> str:
    """A location as the user reads it: ``criteria[0].pass``."""
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def first_of(path: str, problems: Iterable[Problem]) -> list[Problem]:
    """Problems of one file as far as anybody reads them; the rest is not looked for."""
    first_problems = list(islice(problems, 2 * MAX_PROBLEMS + 1))
    if len(first_problems) > 2 * MAX_PROBLEMS:
        first_problems[-1] = Problem(path, None, "", MORE_PROBLEMS, "Mend those before it first.")
    return first_problems


def named(names: Iterable[str], mark: str = "") -> str:
    """Names for a mend, sorted, the first twenty of many; ``none yet`` without any."""
    every = sorted(names)
    rest = f" and {len(every) - 20} more" if len(every) > 20 else ""
    return ", ".join(mark + name for name in every[:20]) + rest or "none yet"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was most likely meant; None when none is near."""
    if len(name) > MAX_NAME:
        return None
    by_form = {_form(choice): choice for choice in names}
    near = get_close_matches(_form(name), by_form, n=1)
    return by_form[near[0]] if near else None


def nearest_mend(name: str, names: Iterable[str], mark: str = "") -> str:
    """The mend for a name that is not among the others: the nearest of them, or all."""
    choices = list(names)
    near = nearest(name, choices)
    return f"Did you mean '{mark}{near}'?" if near else f"Write one of: {named(choices, mark)}."


def _form(name: str) -> str:
    return name.lower().replace("-", "_")


def decoded(path: str, data: bytes, line: int | None = None) -> str:
    """The file as text.

    Raises:
        Unreadable: unless it is UTF-8 without a byte order mark, which is a character for some readers.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line or data[: error.start].count(b"\n") + 1
        raise Unreadable(Problem(path, at, "", "not UTF-8 text", "Save the file as UTF-8.")) from None
    if text.startswith("\ufeff"):
        message = f"the file begins with {described(text[0])}, which some readers take for text"
        raise Unreadable(Problem(path, line or 1, "", message, "Save the file as UTF-8 without byte order mark."))
    return text


def hidden_problem(path: str, line: int, field: str, odd: Odd) -> Problem:
    """A character in a file that readers do not see alike."""
    number = ord(odd.character)
    escape = f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    message = f"{odd.name} stands here; control characters and invisible ones are not allowed"
    if odd.character == "\r":
        mend = "End lines with LF, or all with CR LF."
    elif odd.character < "\xa0":
        mend = "Remove it."
    else:
        mend = f'Remove it. Where a text needs it, write the text in double quotes and the character as "{escape}".'
    return Problem(path, line, field, message, mend)


def sight_problems(path: str, text: str) -> Iterator[Problem]:
    """Places where a line goes on out of sight."""
    plain = text.isascii() and "\t" not in text
    for run in () if plain and " " * MAX_BLANKS not in text else BLANKS.finditer(text):
        if text[run.end() : run.end() + 1] not in ("", "\n", "\r"):
            line = text.count("\n", 0, run.start()) + 1
            yield Problem(
                path, line, "", f"{MAX_BLANKS} blanks or more put the rest of the line out of sight", "Remove them."
            )
            return


def key_problem(key: str) -> tuple[str, str] | None:
    """Message and mend when a key is not what it looks like; None for most."""
    if len(key) > MAX_KEY:
        return f"a key has more than {MAX_KEY} characters", "Write a short word."
    if key.isascii() and key.isprintable():
        return None
    odd = first_hidden(key) or first_odd_space(key) or next((Odd(0, c) for c in key if c in "\t\n\r"), None)
    if odd is not None:
        return f"a key contains the control character or invisible one {odd.name}", "Write the key as one plain word."
    strange = mixed_alphabets(key)
    if strange:
        names = ", ".join(described(letter) for letter in sorted(strange))
        return f"the key '{key}' mixes alphabets in one word: {names}", "Write the key with letters of one alphabet."
    return None


def escape_problem(text: str) -> tuple[str, str] | None:
    """Message and mend when a quoted text spells a letter or digit by its number, which only hides the word."""
    for escape in _ESCAPE.finditer(text):
        letter = chr(int(escape[1], 16)) if escape[1] else ""
        if letter.isalnum():
            return f"{escape[0]} is a way of writing '{letter}' that hides the word", f"Write {letter}."
    return None


def alike(keys: Collection[str]) -> Iterable[tuple[str, str]]:
    """Pairs of keys of one mapping that look the same."""
    if all(key.isascii() for key in keys):
        return
    by_skeleton: dict[str, str] = {}
    for key in keys:
        first = by_skeleton.setdefault(skeleton(key), key)
        if first != key:
            yield first, key


def alike_problem(path: str, line: int | None, at: Location, first: str, second: str) -> Problem:
    """Two keys that nobody tells apart."""
    names = ", ".join(described(letter) for letter in sorted(set(first) ^ set(second)))
    return Problem(
        path, line, dotted((*at, second)), f"the keys '{first}' and '{second}' look alike: {names}", "Rename one."
    )


def number_problem(text: str, value: float) -> tuple[str, str] | None:
    """Message and mend for a number that some readers do not take as one, or that rounding makes zero."""
    if not math.isfinite(value):
        words = "too large for a finite number" if text[-1].isdigit() else "not a finite number"
        return f"{text[:40]} is {words}", "Write a finite number, or put the text in quotes."
    if value == 0 and any(digit in "123456789" for digit in re.split("[eE]", text)[0]):
        return f"{text[:40]} is too small for a number", "Write 0, or put the text in quotes."
    return None


def _merge(lower: Any, upper: Any, at: Location, replaced: set[Location]) -> Any:
    if not (isinstance(lower, dict) and isinstance(upper, dict)):
        replaced.add(at)
        return upper
    merged = dict(lower)
    for key, value in upper.items():
        merged[key] = _merge(lower[key], value, (*at, key), replaced) if key in lower else value
    return merged
