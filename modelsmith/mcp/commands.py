"""The slash commands: which tool each is about, what it takes, and what an agent is told to do.

Prompts of the server and the files of the packs are made of these. `prose/NAME.md` holds what an agent is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

_PROSE = Path(__file__).parent / "prose"


class Command(NamedTuple):
    """One slash command of an agent's client."""

    name: str
    tool: str
    """The tool that it is about. Who may not call that may not use the command."""
    summary: str
    takes: tuple[str, ...] = ()
    may_take: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """Hint of the arguments that are typed after its name: ``<cluster> [base]``."""
        return " ".join([*(f"<{name}>" for name in self.takes), *(f"[{name}]" for name in self.may_take)])

    def text(self, arguments: Mapping[str, str]) -> str:
        """What the agent is told to do with these arguments; without any, they are in the person's own words."""
        argument_lines = "".join(
            f"\n{name}: `{arguments[name]}`" for name in self.takes + self.may_take if name in arguments
        )
        return _prose(self.name) + (f"{argument_lines}\n" if argument_lines else "")


COMMANDS = (
    Command("ms-eval", "modelsmith_eval_run", "Run the governed eval set against a cluster.", ("cluster",)),
    Command(
        "ms-train",
        "modelsmith_iterate",
        "Evaluate a cluster, train on its failures, and promote what clears the gate.",
        ("cluster",),
        ("base",),
    ),
    Command(
        "ms-promote", "promote", "Write a promotion record with evidence bundle and rollback contract.", ("cluster",)
    ),
    Command(
        "ms-rollback", "rollback", "Return traffic to who served before, within the rollback window.", ("cluster",)
    ),
    Command(
        "ms-fleet", "modelsmith_status", "Summarise fleet state, specialists in validation, and pending approvals."
    ),
    Command("ms-audit", "audit", "Export the immutable audit bundle for a date range.", may_take=("range",)),
)


@cache
def _prose(name: str) -> str:
    return (_PROSE / f"{name}.md").read_text(encoding="utf-8")
