"""Rules of the front door: which cluster a request belongs to."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Frozen, Slug

MOST_RULES = 1000
HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
"""In lower case; the case of a request's headers does not matter."""
Pointer = Annotated[str, Field(pattern=r"^(/([^/~]|~[01]){1,128}){1,16}$", max_length=512)]
"""Place in a JSON document (RFC 6901): ``/metadata/tier``, ``/messages/0/content``."""
Scalar = Annotated[str, Field(max_length=1024)] | bool | int


class When(Frozen):
    """What a request must be for a rule to take it. All that is said must hold; what is not said does not matter."""

    model: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = ()
    """The request's ``model`` is one of these."""
    headers: dict[HeaderName, Annotated[str, Field(max_length=1024)]] = {}
    """Each of these headers is there once, with exactly this value."""
    body: dict[Pointer, Scalar] = {}
    """Each of these places of the JSON body holds exactly this value: text, a whole number, true or false."""
    metadata: dict[Annotated[str, Field(min_length=1, max_length=64)], Scalar] = {}
    """The same for fields of the body's ``metadata``."""
    last_message: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """RE2 pattern that is found somewhere in the text of the last message; ``^`` and ``$`` anchor it."""


class StickyKey(Frozen):
    """Whose requests stay with one model: requests with the same key are answered by the same specialist."""

    header: HeaderName | None = None
    body: Pointer | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.header is None) == (self.body is None):
            raise ValueError("names either a header or a place in the body")
        return self


class Rule(Frozen):
    """One rule; the first whose ``when`` holds decides."""

    name: Slug
    """Shown by `modelsmith route` and in the door's log; unique."""
    when: When = When.defaults()
    """Left out, the rule takes every request that comes to it."""
    cluster: Slug
    """The cluster that answers."""
    key: StickyKey | None = None
    """None, or a request that has no such key: each request is decided by itself."""


class Router(Frozen):
    """``clusters/router.yaml``: without it, a request's ``model`` names its cluster."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=MOST_RULES)]
    """In order. A request that no rule takes is refused; none is guessed."""
