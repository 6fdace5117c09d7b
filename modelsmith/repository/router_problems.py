"""What is wrong with the rules of ``clusters/router.yaml`` beside its fields. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Set

from modelsmith.points.patterns import MAX_SIZE, size
from modelsmith.repository.document import Problem, meant
from modelsmith.repository.set_files import Source
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.router import Router, When


def router_problems(source: Source[Router], clusters: Set[str]) -> Iterator[Problem]:
    """Clusters that are not there, names used twice, patterns that RE2 refuses, and rules that are never reached."""
    names: set[str] = set()
    taker: str | None = None
    spent = 0
    for number, rule in enumerate(source.value.rules):
        if rule.cluster not in clusters:
            mend = meant(rule.cluster, sorted(clusters)) if clusters else "Add the cluster first."
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
