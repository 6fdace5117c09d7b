"""What to run next: an operation and its arguments, for machines; as a line for a shell, for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from modelsmith.schema.base import Frozen


class Step(Frozen):
    """One operation to call. A value in capitals, such as ``KEY``, is for whoever calls it to fill in."""

    operation: str
    """Its name in the operations table: the words after ``modelsmith``."""
    arguments: dict[str, str | int | bool]
    """Fields of the operation's request."""
    positional: Annotated[int, Field(exclude=True)] = 0
    """How many of them, from the first on, stand without an option's name on the command line."""


def step(operation: str, arguments: Mapping[str, str | int], **options: str | bool) -> Step:
    """The step with these positional arguments and options; an option that is true is a flag."""
    return Step(operation=operation, arguments={**arguments, **options}, positional=len(arguments))


def shell_line(step: Step) -> str:
    """The step as a command line. Everything that shows a step to people makes its line here.

    >>> shell_line(step("promote", {"cluster": "rtb-pricing"}))
    'modelsmith promote rtb-pricing'
    """
    words = ["modelsmith", *step.operation.split()]
    for number, (name, value) in enumerate(step.arguments.items()):
        if number >= step.positional:
            words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(shlex.quote(str(value)))
    return " ".join(words)
