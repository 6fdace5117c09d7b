"""What an agent is given to read: short, with every free text marked as data, and no place of this machine in it.

Scenarios, answers of models, titles and reasons are words of others, and may speak to the agent that reads them. Which
field holds such words cannot be listed for ever; so every text is marked, our own sentences too, but for what `names`
knows as a name or a word of ours.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from modelsmith.mcp.names import NAME, NAMES, Words, is_bare
from modelsmith.mcp.schemas import Shortened
from modelsmith.schema.plaintext import visible

_PLACE = re.compile(r"(?<![\w:/.<])/(?:[\w.@+-]+/)+[\w.@+-]*")
"""A path from the root of a machine's file system."""


class Limits(NamedTuple):
    """How much of an answer is shown to an agent."""

    items: int
    characters: int
    """Characters of one text."""
    total: int
    """Characters of the answer."""


SHORT = Limits(20, 600, 16_000)
DETAILED = Limits(200, 8_000, 120_000)


class Excerpt(NamedTuple):
    """A shortened value, and the parts that are left out."""

    value: Any
    shortened: list[Shortened]


def shorten(value: Any, limits: Limits, offset: int = 0) -> Excerpt:
    """Cut lists, objects and texts so that the whole stays within the limits.

    ``offset`` is where lists that are longer than the limit begin.
    """
    items, characters = limits.items, limits.characters
    while True:
        left_out: list[Shortened] = []
        cut = _cut(value, "", items, characters, offset, left_out)
        if len(json.dumps(cut)) <= limits.total or (items <= 1 and characters <= 40):
            return Excerpt(cut, left_out)
        items, characters = max(1, items // 2), max(40, characters // 2)


def _cut(value: Any, at: str, items: int, characters: int, offset: int, left_out: list[Shortened]) -> Any:
    if isinstance(value, str) and len(value) > characters:
        left_out.append(Shortened(at=at, of=len(value), offset=0, shown=characters))
        return value[:characters]
    if isinstance(value, list):
        window = value[offset : offset + items] if len(value) > items else value
        if len(window) < len(value):
            left_out.append(Shortened(at=at, of=len(value), offset=offset, shown=len(window)))
        start = offset if window is not value else 0
        return [_cut(item, f"{at}/{start + n}", items, characters, offset, left_out) for n, item in enumerate(window)]
    if isinstance(value, dict):
        most = max(items, _MOST_FIELDS)
        head = dict(list(value.items())[:most])
        if len(head) < len(value):
            left_out.append(Shortened(at=at, of=len(value), offset=0, shown=len(head)))
        return {name: _cut(item, f"{at}/{name}", items, characters, offset, left_out) for name, item in head.items()}
    return value


_MOST_FIELDS = 64
"""Fields that an object keeps in any case: a result of a type loses none."""


def new_marker() -> str:
    """A name for the marks of one answer, which nobody could know before."""
    return f"data-{secrets.token_hex(4)}"


def mark(value: Any, marker: str, words: Words, field: str = "") -> Any:
    """Put every text that is not `is_bare` in its field between marks, with each character in it seen.

    A key that is not a field of ours, such as a specialist's id, holds what the object around it is called.
    """
    if isinstance(value, str):
        return value if is_bare(value, field, words) else quoted(value, marker)
    if isinstance(value, list):
        return [mark(item, marker, words, field) for item in value]
    if isinstance(value, dict):
        return {
            name if NAME.fullmatch(name) else quoted(name, marker): mark(
                item, marker, words, name if name in words or name in NAMES else field
            )
            for name, item in value.items()
        }
    return value


def quoted(text: str, marker: str) -> str:
    """A text of others between marks, with each character in it seen."""
    return f"<{marker}>{_visible_lines(text)}</{marker}>"


def _visible_lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))


def without_places(value: Any, places: Mapping[str, str], any_other: bool) -> Any:
    """The value with this machine's folders by name instead of by path; ``any_other`` takes out other paths too."""
    if isinstance(value, str):
        return _placeless(value, places.items(), any_other)
    if isinstance(value, list):
        return [without_places(item, places, any_other) for item in value]
    if isinstance(value, dict):
        return {
            _placeless(name, places.items(), any_other): without_places(item, places, any_other)
            for name, item in value.items()
        }
    return value


def _placeless(text: str, places: Iterable[tuple[str, str]], any_other: bool) -> str:
    if "/" not in text:
        return text
    for path, name in places:
        text = text.replace(path, name)
    return _PLACE.sub("<path>", text) if any_other else text
