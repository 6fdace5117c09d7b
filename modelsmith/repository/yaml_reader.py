"""YAML as plain data that remembers where each value stands.

What people write is read as YAML 1.2 core (https://yaml.org/spec/1.2.2/#103-core-schema), less everything that can
surprise: no tags, anchors, aliases or directives, no second meaning of ``yes``, ``12:30`` or ``012``, no duplicate
keys, no timestamps, at most 1 MiB and 50 levels. Only libyaml's event stream is used; no constructor ever runs.

libyaml is more lenient than the standard. What it reads and other readers do not, or read otherwise, is refused here:
comments without a blank before them, tabs between words, continued lines that are indented like new keys.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from functools import lru_cache
from typing import Any

import yaml

from modelsmith.repository.document import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_KEY,
    MAX_PROBLEMS,
    MAX_VALUES,
    MORE_PROBLEMS,
    Document,
    Location,
    Place,
    Problem,
    Unreadable,
    alike,
    alike_problem,
    decoded,
    dotted,
    escape_problem,
    hidden_problem,
    key_problem,
    number_problem,
    sight_problems,
)
from modelsmith.repository.slips import find_slip
from modelsmith.schema.plaintext import Odd, every_hidden, first_hidden, first_odd_space, first_unsayable

try:
    from yaml import CSafeLoader as _Parser
except ImportError:  # pragma: no cover
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]


def read_yaml(path: str, data: bytes) -> Document:
    """Read a YAML file; nobody changes what is returned, as who reads the same small file again gets the same.

    Raises:
        Unreadable: with every mistake up to the first that stops the parser.
    """
    if len(data) > MAX_BYTES:
        raise Unreadable(
            Problem(path, None, "", f"the file has {len(data)} bytes, more than 1 MiB", "Split it into smaller files.")
        )
    return _read_small(path, data) if len(data) <= _SMALL else _read(path, data)


def _read(path: str, data: bytes) -> Document:
    return _YamlReader(path, decoded(path, data)).document()


_SMALL = 16_384
_read_small = lru_cache(maxsize=512)(_read)
"""One decision reads main's files several times: to judge the change, to show its packet, to judge it again."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DISAGREED = re.compile(r"[-+]?(0[0-9]+|\.[0-9]+[eE][0-9]+)")
_NUMERIC = frozenset("0123456789+-.")
_MAYBE_NOT_TEXT = _NUMERIC | frozenset("~tTfFnN")
_BETWEEN = re.compile(r"(?:\A|(?<=[ \n]))(?P<comment>#[^\n]*)|(?P<odd>[#\t])")
"""Between values: comments, and what is none although libyaml takes it for one."""
_BLOCK_HEAD = re.compile(r"[|>][-+1-9]{0,2}(?: *| +#.*)\r?")
_CLOSERS = re.compile(r" *[\]}][\]}, ]*(?:#.*)?\r?")


class _YamlReader:
    """Builds data from libyaml's events; collects mistakes and goes on where the structure stays clear."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.values: dict[Location, Place] = {}
        self.keys: dict[Location, Place] = {}
        self.hidden: list[tuple[int, Odd]] = []
        """Lines with a character that is not plain, and the first such character."""
        if first_hidden(text):
            text = self._plain(text)
        self.text = text
        self.lines = text.split("\n")
        self.blanks = "\t" in text or first_odd_space(text) is not None
        """Whether there are blanks that no parser takes for a space, or not every parser."""
        self.careful = self.blanks or "#" in text
        self.escapes = "\\" in text
        self.strange = self.escapes or not text.isascii()
        """Whether keys can look alike."""
        self.read_to = 0
        """Where the last value ends."""
        self.plain_to = -1
        """Where the last one without quotes ends."""

    def document(self) -> Document:
        try:
            self.parser: Any = _Parser(self.text)
            try:
                data = self._stream()
            finally:
                self.parser.dispose()
        except yaml.YAMLError as error:
            raise Unreadable(*self._found(), self._syntax(error)) from None
        document = Document(self.path, data, self.values, self.keys)
        problems = self._found()
        if problems:
            raise Unreadable(*problems, document=document)
        return document

    def _plain(self, text: str) -> str:
        """The text with a visible sign for each character that is not plain, so that the rest can be read."""
        letters, line, at = list(text), 1, 0
        for odd in every_hidden(text):
            line, at = line + text.count("\n", at, odd.at), odd.at
            if len(self.hidden) <= MAX_PROBLEMS and (not self.hidden or self.hidden[-1][0] != line):
                self.hidden.append((line, odd))
            letters[odd.at] = "\ufffd"
        return "".join(letters)

    def _found(self) -> list[Problem]:
        """Every mistake so far; those of the text as such with the field that stands on their line."""
        problems = list(sight_problems(self.path, self.text))
        if not self.hidden:
            return [*problems, *self.problems]
        places = sorted((place.line or 0, number) for number, place in enumerate(self.values.values()))
        locations = list(self.values)
        for line, odd in self.hidden:
            before = bisect_right(places, (line, len(locations)))
            comment = self.lines[line - 1].lstrip().startswith("#")
            field = dotted(locations[places[before - 1][1]]) if before and not comment else ""
            problems.append(hidden_problem(self.path, line, field, odd))
        return [*problems, *self.problems]

    def _stop(self, line: int, at: Location, message: str, mend: str) -> Unreadable:
        return Unreadable(*self._found(), Problem(self.path, line, dotted(at), message, mend))

    def _stream(self) -> Any:
        self._next(yaml.StreamStartEvent)
        if self.parser.check_event(yaml.StreamEndEvent):
            raise self._stop(1, (), "the file is empty", "Write its fields, or remove the file.")
        start = self._next(yaml.DocumentStartEvent)
        if start.version or start.tags:
            self._problem(start.start_mark.line + 1, (), "directives (%YAML, %TAG) are not allowed", "Remove it.")
        data = self._value((), -1)
        end = self._next(yaml.DocumentEndEvent)
        if end.explicit:
            self._problem(end.start_mark.line + 1, (), "the end of the document is marked", "Remove the '...'.")
        if not self.parser.check_event(yaml.StreamEndEvent):
            line = self.parser.peek_event().start_mark.line + 1
            raise self._stop(line, (), "a second document begins here", "Keep one document a file; remove the '---'.")
        if self.careful:
            self._between(len(self.text))
        return data

    def _next(self, kind: type[Any]) -> Any:
        event = self.parser.get_event()
        if not isinstance(event, kind):  # pragma: no cover
            raise yaml.YAMLError(f"unexpected {type(event).__name__}")
        return event

    def _value(self, at: Location, indent: int | None) -> Any:
        """The value that begins here; ``indent`` is that of the lines around it, None inside of brackets."""
        event: Any = self.parser.get_event()
        line, last = event.start_mark.line + 1, event.end_mark.line + 1
        self.values[at] = Place(self.path, line)
        if isinstance(event, yaml.AliasEvent):
            self._problem(line, at, f"aliases (*{event.anchor}) are not allowed", "Write the value out.")
            return None
        if event.anchor is not None:
            self._problem(
                line,
                at,
                f"anchors (&{event.anchor}) are not allowed",
                "Remove it and write the value out; a text that begins so stands in quotes.",
            )
        if event.tag is not None:
            self._problem(
                line,
                at,
                f"the tag {event.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed",
                "Remove the tag and write a plain value; quote text.",
            )
        if len(at) >= MAX_DEPTH:
            raise self._stop(line, (), f"nested more than {MAX_DEPTH} levels deep", "Flatten it.")
        if len(self.values) > MAX_VALUES:
            raise self._stop(line, (), f"the file holds more than {MAX_VALUES} values", "Split it into smaller files.")
        if isinstance(event, yaml.ScalarEvent):
            if self.careful or line != last:
                self._written(event, at, indent)
            return self._scalar(event, line, at) if event.tag is None else None
        inner = None if event.flow_style else event.start_mark.column
        mapping = isinstance(event, yaml.MappingStartEvent)
        data = self._mapping(at, inner) if mapping else self._sequence(at, inner)
        end = self.parser.get_event()
        if inner is None and indent is not None:
            self._continued(line, end.end_mark.line + 1, at, indent)
        return data

    def _sequence(self, at: Location, indent: int | None) -> list[Any]:
        items: list[Any] = []
        while not self.parser.check_event(yaml.SequenceEndEvent):
            items.append(self._value((*at, len(items)), indent))
        return items

    def _mapping(self, at: Location, indent: int | None) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not self.parser.check_event(yaml.MappingEndEvent):
            event = self.parser.get_event()
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                raise self._stop(line, at, "a key must be plain text", "Write the key as one plain word.")
            location = (*at, event.value)
            if space := first_odd_space(event.value):
                words = f"{space.name} stands in a field's name or before it"
                raise self._stop(line, at, words, "Write an ordinary space before it, and none in it.")
            if self.careful:
                self._written(event, at, indent)
            self._key(event, line, at)
            if event.value in mapping:
                first = self.keys[location].line
                message = f"the key '{event.value}' stands here twice (first on line {first})"
                self._problem(line, location, message, "Remove one of them.")
            self.keys[location] = Place(self.path, line)
            mapping[event.value] = self._value(location, indent)
        for key, other in alike(mapping) if self.strange else ():
            self._add(alike_problem(self.path, self.keys[(*at, other)].line, at, key, other))
        return mapping

    def _key(self, event: Any, line: int, at: Location) -> None:
        text, plain = event.value, event.implicit[0]
        problem = key_problem(text)
        if problem and len(text) > MAX_KEY:
            raise self._stop(line, at, *problem)
        if event.end_mark.line + 1 != line or event.style in ("|", ">"):
            problem = "a key goes over several lines", "Write the key as one plain word."
        elif event.style == '"' and (spelled := self._spelled(event)):
            problem = spelled
        elif plain and text == "<<":
            problem = "merge keys (<<) are not allowed", "Write the fields out."
        elif plain and (not text or text[0] in _MAYBE_NOT_TEXT) and not isinstance(_core(text), str):
            problem = f"YAML readers disagree on the key {text[:40] or 'that is missing'}", "Write the key in quotes."
        if problem:
            self._problem(line, at, *problem)

    def _written(self, event: Any, at: Location, indent: int | None) -> None:
        """How a scalar and what stands before it are written."""
        start, end = event.start_mark, event.end_mark
        if self.careful:
            self._between(start.index)
            self.read_to = end.index
            self.plain_to = end.index if event.implicit[0] else -1
        if event.style in ("|", ">"):
            if not at:
                self._problem(start.line + 1, at, "the file is one long text", "Write its fields.")
            if not _BLOCK_HEAD.fullmatch(self.lines[start.line], start.column):
                self._problem(start.line + 1, at, f"something else follows the {event.style}", "End the line there.")
            self._led_in(start.line + 1, at)
        elif event.implicit[0]:
            text = self.text[start.index : end.index]
            odd = "a tab" if "\t" in text else space.name if (space := first_odd_space(text)) else ""
            if self.blanks and odd:
                self._problem(start.line + 1, at, f"{odd} stands in the text", "Write a space, or put it in quotes.")
        elif start.line != end.line and indent is not None:
            self._continued(start.line + 1, end.line + 1, at, indent)

    def _led_in(self, first: int, at: Location) -> None:
        """Refuse blanks on an empty line before the first words of a block: readers indent it otherwise."""
        for number in range(first, len(self.lines)):
            line = self.lines[number].rstrip("\r")
            if line.strip(" "):
                return
            if line:
                self._problem(number + 1, at, "spaces stand on an empty line before the text", "Remove them.")
                return

    def _spelled(self, event: Any) -> tuple[str, str] | None:
        """Check the escapes of a text in double quotes."""
        return escape_problem(self.text[event.start_mark.index : event.end_mark.index]) if self.escapes else None

    def _between(self, end: int) -> None:
        """Refuse what only libyaml takes for a comment or a blank between the last value and this place."""
        tabs: set[int] = set()
        for match in _BETWEEN.finditer(self.text, self.read_to, end):
            line = self.text.count("\n", 0, match.start()) + 1
            if match["comment"]:
                self._comment(match["comment"], match.start(), line)
            elif match["odd"] == "\t" and line not in tabs:
                tabs.add(line)
                self._problem(line, (), "a tab", "Use spaces.")
            elif match["odd"] == "#" and line not in tabs:
                self._problem(line, (), "a comment begins without a blank before the '#'", "Write a space there.")

    def _comment(self, comment: str, at: int, line: int) -> None:
        """Refuse a comment that is more likely the rest of a text, which ends before it."""
        before = self.lines[line - 1][: at - (self.text.rfind("\n", 0, at) + 1)]
        close = before.strip() and comment[1:2].strip("#!")
        if close or (self.plain_to == at - 1 and " " in before.strip().partition(": ")[2]):
            mend = "Put the text in quotes; before a comment write two spaces, and one after the #."
            self._problem(line, (), "the # begins a comment, so the text ends before it", mend)

    def _continued(self, first: int, last: int, at: Location, indent: int) -> None:
        """Refuse a value whose continued line begins where a new key of the mapping around it would."""
        for number in range(first, last):
            line = self.lines[number]
            begin = len(line) - len(line.lstrip(" "))
            if begin <= indent and line.strip() and not _CLOSERS.fullmatch(line):
                self._problem(
                    number + 1, at, "this line goes on with a value and is indented like a new field",
                    "Indent it deeper than the key that it belongs to.",
                )  # fmt: skip
                return

    def _scalar(self, event: Any, line: int, at: Location) -> Any:
        text: str = event.value
        if event.style == '"' and (odd := first_unsayable(text)):
            message = f"the text contains a control character, or one that not every reader knows: {odd.name}"
            self._problem(line, at, message, "Remove it.")
        if event.style == '"' and (spelled := self._spelled(event)):
            self._problem(line, at, *spelled)
        if not event.implicit[0] or (text and text[0] not in _MAYBE_NOT_TEXT):
            return text
        if text[:1] in _NUMERIC and _DISAGREED.fullmatch(text):
            digits = text.lstrip("+-").lstrip("0")
            bare = "-"[: text.startswith("-")] + (digits if digits[:1].isdigit() else f"0{digits}")
            self._problem(
                line,
                at,
                f"YAML readers disagree on the number {text[:40]}",
                f"Write {bare[:40]}, or '{text[:40]}' in quotes for text.",
            )
            return None
        value = _core(text)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            mend = "Put it in quotes if it is a name."
            self._problem(line, at, "the number is beyond 2^53 - 1, where readers disagree", mend)
            return None
        if problem := number_problem(text, value):
            self._problem(line, at, *problem)
            return None
        return value

    def _problem(self, line: int, at: Location, message: str, mend: str) -> None:
        self._add(Problem(self.path, line, dotted(at), message, mend))

    def _add(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) > MAX_PROBLEMS:
            raise self._stop(problem.line or 1, (), MORE_PROBLEMS, "Mend those before it first.")

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        words = getattr(error, "problem", None) or getattr(error, "reason", None) or "the syntax is wrong"
        line = mark.line + 1 if mark else None
        opened = getattr(error, "context_mark", None)
        if slip := find_slip(self.lines, line, opened.line + 1 if opened else None):
            return Problem(self.path, slip.line, "", slip.message, slip.mend)
        if line is None and (position := getattr(error, "position", None)) is not None:
            line = self.text.encode()[:position].count(b"\n") + 1
        return Problem(
            self.path, line, "", f"not YAML: {words}", "Correct indentation, quotes or colons around this line."
        )


def _core(text: str) -> str | int | float | bool | None:
    """A plain scalar by the core schema; an integer that is too large to look at is MAX_INTEGER + 1."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0].isalpha():
        return text
    if _INTEGER.fullmatch(text):
        return MAX_INTEGER + 1 if len(text.lstrip("+-").lstrip("0")) > 16 else int(text)
    if _HEX.fullmatch(text):
        return MAX_INTEGER + 1 if len(text) > 20 else int(text, 0)
    if _NOT_FINITE.fullmatch(text):
        return math.inf
    return float(text) if _DECIMAL.fullmatch(text) else text
