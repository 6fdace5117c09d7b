"""What to run next: a command and nothing else, whole for people and in its parts for agents."""

from __future__ import annotations

from collections.abc import Mapping

from modelsmith.schema.base import Frozen


class Step(Frozen):
    """One command. A value in capitals, such as ``KEY``, is for whoever runs it to fill in."""

    operation: str
    """Its name in the operations table: the words after ``modelsmith``."""
    arguments: dict[str, str | int | bool]
    """Fields of the operation's request."""
    command: str
    """Both, as a command line."""


def step(operation: str, arguments: Mapping[str, str | int], **options: str | bool) -> Step:
    """The step with these positional arguments and options; an option that is true is a flag."""
    words = ["modelsmith", operation, *(str(value) for value in arguments.values())]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return Step(operation=operation, arguments={**arguments, **options}, command=" ".join(words))
