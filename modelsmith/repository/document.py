"""YAML and JSON as plain data that remembers where each value stands.

What people write is read as YAML 1.2 core (https://yaml.org/spec/1.2.2/#103-core-schema), less everything that can
surprise: no tags, anchors or aliases, no second meaning of ``yes``, ``12:30`` or ``012``, no duplicate keys, no
timestamps, at most 1 MiB and 50 levels. Only libyaml's event stream is used; no constructor ever runs.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

try:
    from yaml import CSafeLoader as _Parser
except ImportError:  # pragma: no cover
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 50
MAX_INTEGER = 2**53 - 1
"""The largest integer that JSON readers agree on (RFC 8785, section 3.2.2.3)."""

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
    """Where something stands."""

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
        values, keys = dict(lower.values), dict(lower.keys)
        data = _merge(lower.data, self.data, (), values)
        return Document(self.path, data, values | self.values, keys | self.keys)


class Unreadable(Exception):
    """The file cannot be read as data; carries every reason found.

    ``document`` holds what could be read all the same, with None where a single value could not.
    """

    def __init__(self, *problems: Problem, document: Document | None = None) -> None:
        super().__init__(problems[0].message)
        self.problems = list(problems)
        self.document = document


def read_yaml(path: str, data: bytes) -> Document:
    """Read a YAML file.

    Raises:
        Unreadable: with every mistake up to the first that stops the parser.
    """
    if len(data) > MAX_BYTES:
        raise Unreadable(
            Problem(path, None, "", f"the file has {len(data)} bytes, more than 1 MiB", "Split it into smaller files.")
        )
    return _YamlReader(path, _text(path, data)).document()


def read_json(path: str, data: bytes, line: int | None = None) -> Document:
    """Read strict JSON: no duplicate keys, NaN or infinity. ``line`` is where it stands in a JSONL file.

    Raises:
        Unreadable: with the first mistake.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise Unreadable(
                Problem(
                    path, line, twice, f"the key '{twice}' stands here twice", "Keep one of them and remove the other."
                )
            )
        return made

    def number(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            raise ValueError("an integer is beyond 2^53 - 1, where JSON readers disagree")
        return int(text)

    def decimal(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} is too large for a number")
        return value

    text = _text(path, data)
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=number, parse_int=integer, parse_float=decimal)
    except json.JSONDecodeError as error:
        raise Unreadable(
            Problem(
                path, line or error.lineno, "", f"not JSON: {error.msg} (column {error.colno})", "Correct the syntax."
            )
        ) from None
    except RecursionError:
        raise Unreadable(Problem(path, line, "", "nested too deeply", "Flatten it.")) from None
    except ValueError as error:
        raise Unreadable(Problem(path, line, "", str(error), "Write a finite number, or text in quotes.")) from None
    return Document(path, value, {(): Place(path, line)})


def dotted(location: Location) -> str:
    """A location as the user reads it: ``criteria[0].pass``."""
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PADDED = re.compile(r"[-+]?0[0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MAYBE_NOT_TEXT = frozenset("0123456789+-.~tTfFnN")


class _YamlReader:
    """Builds data from libyaml's events; collects mistakes and goes on where the structure stays clear."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.problems: list[Problem] = []
        self.values: dict[Location, Place] = {}
        self.keys: dict[Location, Place] = {}

    def document(self) -> Document:
        try:
            self.parser: Any = _Parser(self.text)
            try:
                data = self._stream()
            finally:
                self.parser.dispose()
        except yaml.YAMLError as error:
            raise Unreadable(*self.problems, self._syntax(error)) from None
        document = Document(self.path, data, self.values, self.keys)
        if self.problems:
            raise Unreadable(*self.problems, document=document)
        return document

    def _stream(self) -> Any:
        self._next(yaml.StreamStartEvent)
        if self.parser.check_event(yaml.StreamEndEvent):
            raise Unreadable(Problem(self.path, 1, "", "the file is empty", "Write its fields, or remove the file."))
        self._next(yaml.DocumentStartEvent)
        data = self._value(())
        self._next(yaml.DocumentEndEvent)
        if not self.parser.check_event(yaml.StreamEndEvent):
            line = self.parser.peek_event().start_mark.line + 1
            self._problem(line, (), "a second document begins here", "Keep one document a file; remove the '---'.")
        return data

    def _next(self, kind: type[Any]) -> None:
        event = self.parser.get_event()
        if not isinstance(event, kind):  # pragma: no cover
            raise yaml.YAMLError(f"unexpected {type(event).__name__}")

    def _value(self, at: Location) -> Any:
        event = self.parser.get_event()
        line = event.start_mark.line + 1
        self.values[at] = Place(self.path, line)
        if isinstance(event, yaml.AliasEvent):
            self._problem(line, at, f"aliases (*{event.anchor}) are not allowed", "Write the value out.")
            return None
        if event.anchor is not None:
            self._problem(line, at, f"anchors (&{event.anchor}) are not allowed", "Remove it and write the value out.")
        if event.tag is not None:
            self._problem(
                line,
                at,
                f"the tag {event.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed",
                "Remove the tag and write a plain value; quote text.",
            )
        if len(at) >= MAX_DEPTH:
            raise Unreadable(
                *self.problems,
                Problem(self.path, line, "", f"nested more than {MAX_DEPTH} levels deep", "Flatten it."),
            )
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line, at) if event.tag is None else None
        return self._mapping(at) if isinstance(event, yaml.MappingStartEvent) else self._sequence(at)

    def _sequence(self, at: Location) -> list[Any]:
        items: list[Any] = []
        while not self.parser.check_event(yaml.SequenceEndEvent):
            items.append(self._value((*at, len(items))))
        self.parser.get_event()
        return items

    def _mapping(self, at: Location) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while not self.parser.check_event(yaml.MappingEndEvent):
            event = self.parser.get_event()
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                raise Unreadable(
                    *self.problems,
                    Problem(
                        self.path, line, dotted(at), "a key must be plain text", "Write the key as one plain word."
                    ),
                )
            here = (*at, event.value)
            if event.value in made:
                first = self.keys[here].line
                self._problem(
                    line,
                    here,
                    f"the key '{event.value}' stands here twice (first on line {first})",
                    "Remove one of them.",
                )
            if _CONTROL.search(event.value):
                self._problem(line, at, "a key contains a control character", "Write the key as one plain word.")
            self.keys[here] = Place(self.path, line)
            made[event.value] = self._value(here)
        self.parser.get_event()
        return made

    def _scalar(self, event: Any, line: int, at: Location) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            if _CONTROL.search(text):
                self._problem(line, at, "the text contains a control character", "Remove it.")
            return text
        if text and text[0] not in _MAYBE_NOT_TEXT:
            return text
        if text in _NULL:
            return None
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        if _PADDED.fullmatch(text):
            bare = int(text)
            self._problem(
                line,
                at,
                f"YAML readers disagree on the number {text}",
                f"Write {bare}, or '{text}' in quotes for text.",
            )
            return None
        if _INTEGER.fullmatch(text) or _HEX.fullmatch(text):
            if len(text) > 18 or abs(number := int(text, 0)) > MAX_INTEGER:
                self._problem(
                    line,
                    at,
                    "the number is beyond 2^53 - 1, where readers disagree",
                    "Put it in quotes if it is a name.",
                )
                return None
            return number
        if _NOT_FINITE.fullmatch(text) or (_DECIMAL.fullmatch(text) and not math.isfinite(float(text))):
            self._problem(
                line, at, f"{text} is not a finite number", "Write a finite number, or put the text in quotes."
            )
            return None
        return float(text) if _DECIMAL.fullmatch(text) else text

    def _problem(self, line: int, at: Location, message: str, mend: str) -> None:
        self.problems.append(Problem(self.path, line, dotted(at), message, mend))

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        words = getattr(error, "problem", None) or getattr(error, "reason", None) or "the syntax is wrong"
        line = mark.line + 1 if mark else None
        if line is None and (position := getattr(error, "position", None)) is not None:
            line = self.text.encode()[:position].count(b"\n") + 1
        return Problem(
            self.path, line, "", f"not YAML: {words}", "Correct indentation, quotes or colons around this line."
        )


def _merge(lower: Any, upper: Any, at: Location, values: dict[Location, Place]) -> Any:
    if isinstance(lower, dict) and isinstance(upper, dict):
        merged = dict(lower)
        for key, value in upper.items():
            merged[key] = _merge(lower[key], value, (*at, key), values) if key in lower else value
        return merged
    for location in [known for known in values if known[: len(at)] == at]:
        del values[location]
    return upper


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Unreadable(Problem(path, line, "", "not UTF-8 text", "Save the file as UTF-8.")) from None
