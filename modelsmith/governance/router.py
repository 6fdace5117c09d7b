"""Which cluster a request belongs to, and which of its models answers. Pure: rules and request in, decision out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from modelsmith.normal_form import normalized
from modelsmith.points.patterns import PatternSet, compiled
from modelsmith.schema.router import Router, Rule, StickyKey

_SPACE: Final = 2**64
_MISSING: Final = object()


class RequestParts(NamedTuple):
    """The parts of a request that rules look at."""

    model: str
    headers: Mapping[str, str]
    """By lower-case name. One that came twice is left out: nobody can say which of the two counts."""
    body: Mapping[str, Any]


class Route(NamedTuple):
    """Where a request goes: cluster, rule, and the key that keeps a caller there."""

    cluster: str
    rule: str | None
    """Name of the rule that took it; None where no rules stand and ``model`` named the cluster."""
    key: str | None
    """The key by which the request is assigned to an arm; None: each request by itself."""


class _Tested(NamedTuple):
    """A rule, made ready."""

    rule: Rule
    equal: tuple[tuple[tuple[str, ...], Any], ...]
    """Places and the values that they must hold."""
    pattern: Any


class Rules:
    """The rules of one ``router.yaml``, made ready once: a request is held only against those that can take it.

    Raises:
        InvalidInput: ``bad-pattern``.
    """

    def __init__(self, router: Router | None, clusters: Collection[str]) -> None:
        self._clusters = frozenset(clusters)
        self._rules = None if router is None else tuple(map(_tested, router.rules))
        self._by_value: dict[tuple[str, ...], dict[tuple[type, Any], list[int]]] = {}
        self._always: list[int] = []
        searched: list[int] = []
        for number, tested in enumerate(self._rules or ()):
            when = tested.rule.when
            if when.model:
                for name in when.model:
                    self._anchor(("model",), name, number)
            elif tested.equal:
                self._anchor(*tested.equal[0], number)
            elif tested.pattern:
                searched.append(number)
            else:
                self._always.append(number)
                break
        self._searched = searched
        self._patterns = PatternSet([self._pattern(number) for number in searched]) if searched else None

    @property
    def count(self) -> int:
        """How many rules there are; where there are none, ``model`` names the cluster."""
        return len(self._rules or ())

    def route(self, request: RequestParts) -> Route | None:
        """Where the request goes; None where no rule takes it."""
        if self._rules is None:
            return Route(request.model, None, None) if request.model in self._clusters else None
        text = last_text(request.body) if self._patterns else ""
        for number in self._candidates(request, text):
            rule = self._rules[number].rule
            if _unmet(self._rules[number], request) is None:
                return Route(rule.cluster, rule.name, sticky(rule.key, request) if rule.key else None)
        return None

    def passed_over(self, request: RequestParts) -> Iterator[tuple[str, str]]:
        """Each rule before the one that takes the request, with its first condition that does not hold."""
        for tested in self._rules or ():
            unmet = _unmet(tested, request)
            if unmet is None:
                return
            yield tested.rule.name, unmet

    def _candidates(self, request: RequestParts, text: str) -> list[int]:
        candidates = [*self._always]
        for place, values in self._by_value.items():
            value = _at(place, request)
            candidates += values.get((type(value), value), ()) if isinstance(value, (str, int)) else ()
        if self._patterns:
            candidates += (self._searched[number] for number in self._patterns.matching(text))
        return sorted(candidates)

    def _anchor(self, place: tuple[str, ...], value: Any, number: int) -> None:
        self._by_value.setdefault(place, {}).setdefault((type(value), value), []).append(number)

    def _pattern(self, number: int) -> str:
        assert self._rules is not None
        pattern = self._rules[number].rule.when.last_message
        assert pattern is not None
        return pattern


def readable(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    r"""The headers that rules look at, as `RequestParts` holds them: none that came twice, and not the caller's key.

    A value in other letters than ASCII's is one text, whether its client wrote it in UTF-8 or, as many libraries do, in
    Latin-1 (RFC 9110, section 5.5): a server that reads UTF-8 gives bytes that are none as halves of characters.

    >>> readable([("x-city", "Zürich"), ("x-town", b"Z\xfcrich".decode("utf-8", "surrogateescape"))])
    {'x-city': 'Zürich', 'x-town': 'Zürich'}
    >>> readable([("X-User", "7"), ("x-tier", "gold"), ("X-Tier", "free"), ("Authorization", "Bearer k")])
    {'x-user': '7'}
    """
    headers_by_name: dict[str, str] = {}
    hidden = {"authorization"}
    for header, value in headers:
        name = header.lower()
        if name in headers_by_name:
            hidden.add(name)
        headers_by_name[name] = value if value.isascii() else _in_one_coding(value)
    for name in hidden:
        headers_by_name.pop(name, None)
    return headers_by_name


def _in_one_coding(value: str) -> str:
    """A header's value as its client meant it, whichever coding it wrote."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def assigned(key: str, cluster: str, specialist: str, share: float) -> bool:
    """Whether requests with this key are the specialist's, by a keyed hash (BLAKE2b) read as a number in [0, 1).

    The hash is salted with cluster and specialist: who was among the first to see one candidate is not among the first
    to see the next. A share that grows only adds keys.
    """
    salt = blake2b(f"{cluster}\0{specialist}".encode(), digest_size=32).digest()
    drawn = blake2b(key.encode("utf-8", "surrogatepass"), key=salt, digest_size=8).digest()
    return int.from_bytes(drawn, "big") < share * _SPACE


def sticky(key: StickyKey, request: RequestParts) -> str | None:
    """The request's key; None where it has none, or one that is neither text nor a whole number."""
    value = request.headers.get(key.header) if key.header else _at(_place(key.body or ""), request)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value) or None


def last_text(body: Mapping[str, Any]) -> str:
    """The text of the last message, in Unicode's composed form (NFC); empty where there is none.

    >>> last_text({"messages": [{"role": "user", "content": "Why did we lose the auction?"}]})
    'Why did we lose the auction?'
    """
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        content = "\n".join(part for part in parts if isinstance(part, str))
    return normalized("NFC", content) if isinstance(content, str) else ""


def _tested(rule: Rule) -> _Tested:
    when = rule.when
    equal: list[tuple[tuple[str, ...], Any]] = [(("header", name), value) for name, value in when.headers.items()]
    equal += [(_place(pointer), value) for pointer, value in when.body.items()]
    equal += [(("body", "metadata", name), value) for name, value in when.metadata.items()]
    return _Tested(rule, tuple(equal), compiled(when.last_message) if when.last_message else None)


def _unmet(tested: _Tested, request: RequestParts) -> str | None:
    """The first condition that does not hold, as it is written in the rule; None when all do."""
    when = tested.rule.when
    if when.model and request.model not in when.model:
        return "model"
    for place, expected in tested.equal:
        value = _at(place, request)
        if type(value) is not type(expected) or value != expected:
            return f"header {place[1]}" if place[0] == "header" else "body /" + "/".join(place[1:])
    if tested.pattern is not None and not tested.pattern.search(last_text(request.body).encode("utf-8", "replace")):
        return "last_message"
    return None


def _place(pointer: str) -> tuple[str, ...]:
    """``body`` and the parts of a JSON pointer (RFC 6901).

    >>> _place("/metadata/a~1b")
    ('body', 'metadata', 'a/b')
    """
    return ("body", *(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]))


def _at(place: tuple[str, ...], request: RequestParts) -> Any:
    if place[0] == "model":
        return request.model
    if place[0] == "header":
        return request.headers.get(place[1], _MISSING)
    value: Any = request.body
    for part in place[1:]:
        if isinstance(value, Mapping):
            value = value.get(part, _MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and part == str(int(part)):
            value = value[int(part)] if int(part) < len(value) else _MISSING
        else:
            return _MISSING
    return value
