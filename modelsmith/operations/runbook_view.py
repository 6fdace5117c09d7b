"""How the steps of a runbook are shown before they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

from modelsmith.operations.runbook_check import operation_named
from modelsmith.operations.runbooks import GovernedRunbook, command_line, owners_of
from modelsmith.operations.table import Effect
from modelsmith.schema.base import Frozen
from modelsmith.schema.runbook import Condition, Owners, Reference


class PlannedStep(Frozen):
    """A step as it would be called."""

    step: str
    about: str
    call: str
    command: str
    effect: Effect
    roles: tuple[str, ...]
    """Roles that may call it."""
    when: tuple[str, ...]
    """The step is passed over unless all of these hold."""
    goes_on: tuple[str, ...]
    """Conditions that must hold after the step."""
    who: str
    """Who is asked where it does not hold; empty where the runbook has failed then."""
    asks: str


def planned(governed: GovernedRunbook, parameters: Mapping[str, JsonValue] | None) -> tuple[PlannedStep, ...]:
    """Each step; without parameters, those stand as ``<name>``."""
    values = parameters if parameters is not None else {name: f"<{name}>" for name in governed.runbook.parameters}
    steps = []
    for step in governed.runbook.steps:
        row = operation_named(step.call)
        assert row is not None
        person = step.person
        steps.append(
            PlannedStep(
                step=step.id,
                about=step.about,
                call=step.call,
                command=command_line(step, values, {}),
                effect=row.effect,
                roles=row.roles,
                when=tuple(map(_sentence, step.when)),
                goes_on=(f"it ends with {' or '.join(map(str, step.exits))}", *map(_sentence, step.expect)),
                who="" if person is None else _deciders(governed, person.who),
                asks="" if person is None else person.asks,
            )
        )
    return tuple(steps)


def _deciders(governed: GovernedRunbook, person: Owners | Reference) -> str:
    return (
        ", ".join(owners_of(governed.tree, person.owners_of))
        if isinstance(person, Owners)
        else f"whoever {_named(person)} names"
    )


def _sentence(condition: Condition) -> str:
    to = json.dumps(condition.to if not isinstance(condition.to, tuple) else list(condition.to))
    return f"{_named(condition)} {condition.test.replace('-', ' ')} {to}"


def _named(named: Reference) -> str:
    return named.parameter if named.parameter is not None else f"{named.step}.{named.field}"
