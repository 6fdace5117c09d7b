"""Some value of any type that an operation returns, in which every string is the caller's."""

from __future__ import annotations

import types
from datetime import UTC, datetime
from enum import Enum
from random import Random
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AwareDatetime, BaseModel, JsonValue

from modelsmith.operations.proposal_view import PacketView

OURS = "The composite is 0.900."


def value(kind: Any, text: str, draw: Random) -> Any:
    """Some value of a type in which every string, identities and paths included, is ``text``."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return value(parts[0], text, draw)
    if origin is Literal:
        return draw.choice(parts)
    if origin in (Union, types.UnionType):
        return value(draw.choice(parts), text, draw)
    if kind is type(None):
        return None
    if origin is tuple and len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(value(parts[0], text, draw) for _ in range(draw.randint(1, 2)))
    if origin is tuple:
        return tuple(value(part, text, draw) for part in parts)
    if origin in (frozenset, set, list):
        return origin([value(parts[0], text, draw)])
    if origin is dict:
        keys = get_args(parts[0]) if get_origin(parts[0]) is Literal else (value(parts[0], text, draw),)
        return {key: value(parts[1], text, draw) for key in keys}
    simple = {
        str: text,
        Any: text,
        int: 3,
        float: 0.5,
        bool: draw.choice((True, False)),
        datetime: datetime(2026, 1, 1, tzinfo=UTC),
        AwareDatetime: datetime(2026, 1, 1, tzinfo=UTC),
    }
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return draw.choice(list(kind))
    if kind is PacketView:
        return draw.choice((_packet(text, False), _packet(OURS, True)))
    if kind is JsonValue:
        return text
    assert isinstance(kind, type), kind
    hints = get_type_hints(kind, include_extras=True)
    if issubclass(kind, BaseModel):
        return kind.model_construct(**{name: value(hints[name], text, draw) for name in kind.model_fields})
    return kind(**{name: value(hint, text, draw) for name, hint in hints.items()})


def _packet(text: str, rendering: bool) -> PacketView:
    return PacketView(path="promotions/packet.md", text=text, rendering=rendering)
