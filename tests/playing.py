"""Running runbooks from the command line."""

from __future__ import annotations

from typing import Any

from worlds import World


def must(world: World, code: int, *words: str) -> Any:
    """Run a command that must end with a code; what it printed."""
    result = world.modelsmith(*words, "--json")
    assert result.code == code, result.out + result.err
    return result.json


def play(world: World, code: int, name: str, **values: object) -> Any:
    """Run a runbook with these values of its parameters; what it printed."""
    options = [word for parameter, value in values.items() for word in ("--param", f"{parameter}={value}")]
    return must(world, code, "runbook", "run", name, *options)


def states(result: Any) -> dict[str, str]:
    """How each step stands."""
    return {step["step"]: step["state"] for step in result["steps"]}
