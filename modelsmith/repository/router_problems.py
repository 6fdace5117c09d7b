"""What is wrong with the rules of ``clusters/router.yaml`` beside its fields. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from modelsmith.points.patterns import MAX_SIZE, size
from modelsmith.repository.document import Problem, nearest_mend
from modelsmith.repository.set_files import Source
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.router import Router, When

_HIDDEN = "authorization"
"""Header that no rule sees: it holds the caller's key."""
_Condition = tuple[str, type, object]
"""Place, kind and value."""


class _Taker(NamedTuple):
    number: int
    rule: str
    conditions: frozenset[_Condition]
    """Conditions of the rule; a request that meets them is taken."""


def router_problems(source: Source[Router], clusters: Set[str]) -> Iterator[Problem]:
    """Clusters that are not there, names used twice, patterns that RE2 refuses, and rules that are never reached."""
    names: set[str] = set()
    taker: str | None = None
    spent = 0
    for number, rule in enumerate(source.value.rules):
        if rule.cluster not in clusters:
            mend = nearest_mend(rule.cluster, sorted(clusters)) if clusters else "Add the cluster first."
            yield source.problem(("rules", number, "cluster"), f"there is no cluster '{rule.cluster}'", mend)
        if rule.name in names:
            words = f"'{rule.name}' names an earlier rule too"
            yield source.problem(("rules", number, "name"), words, "Give each rule a name of its own.")
        names.add(rule.name)
        if taker:
            words = f"the rule is never reached: '{taker}' before it takes every request"
            yield source.problem(("rules", number), words, "Move it before that one, or remove it.")
        taker = taker or (rule.name if rule.when == When() else None)
        if rule.when.last_message is not None:
            try:
                spent += size(rule.when.last_message)
            except InvalidInput as error:
                yield source.problem(("rules", number, "when", "last_message"), error.message, error.mend)
    if spent > MAX_SIZE:
        words = f"the patterns together need {spent} steps, and {MAX_SIZE} are allowed"
        yield source.problem(("rules",), words, "Repeat less in the patterns, or use fewer.")


def odd_rules(source: Source[Router]) -> Iterator[Problem]:
    """Rules that no request ever comes to, since those before them take all that they would, or that none can meet."""
    before: dict[_Condition, list[_Taker]] = {}
    for number, rule in enumerate(source.value.rules):
        alternatives = [*_alternatives(rule.when)]
        takers = [_taker(alternative, before) for alternative in alternatives]
        if rule.when != When() and all(takers):
            names = " and ".join(f"'{taker.rule}'" for taker in dict.fromkeys(takers) if taker)
            words = f"the rule is never reached: {names} before it takes every request that it would"
            yield source.problem(("rules", number), words, "Move it before that one, or remove it.")
        for name, value in rule.when.headers.items():
            at = ("rules", number, "when", "headers", name)
            if name == _HIDDEN:
                yield source.problem(at, "no rule sees the caller's key", "Ask for another header.")
            elif value != value.strip(" \t"):
                words = "no request has it: HTTP takes away blanks at both ends of a header's value"
                yield source.problem(at, words, "Leave the blanks out.")
        for alternative in filter(None, alternatives):
            before.setdefault(min(alternative, key=repr), []).append(_Taker(number, rule.name, alternative))


def _alternatives(when: When) -> Iterator[frozenset[_Condition]]:
    """The conditions of a rule that all have to hold, once for each model that it takes."""
    conditions: list[_Condition] = [(f"header {name}", str, value) for name, value in when.headers.items()]
    conditions += [(pointer, type(value), value) for pointer, value in when.body.items()]
    conditions += [(f"/metadata/{_escaped(name)}", type(value), value) for name, value in when.metadata.items()]
    if when.last_message is not None:
        conditions.append(("last_message", str, when.last_message))
    for model in when.model or (None,):
        yield frozenset(conditions if model is None else [*conditions, ("model", str, model)])


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _taker(conditions: frozenset[_Condition], before: Mapping[_Condition, Sequence[_Taker]]) -> _Taker | None:
    """The first rule before this one that asks for nothing that it does not ask for."""
    takers = (
        taker for condition in conditions for taker in before.get(condition, ()) if taker.conditions <= conditions
    )
    return min(takers, default=None, key=lambda taker: taker.number)
