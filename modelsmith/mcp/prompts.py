"""Prompts: the slash commands, each of them a call of one tool in a sentence for the agent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import mcp_types as types

from modelsmith.mcp.calls import Reply, Session, refusal
from modelsmith.mcp.tools import find_tool
from modelsmith.schema.errors import InvalidInput

_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Command(NamedTuple):
    """One slash command."""

    name: str
    tool: str
    takes: tuple[str, ...]
    summary: str
    then: str


COMMANDS = (
    Command(
        "ms-eval",
        "modelsmith_eval_run",
        ("cluster",),
        "Run the governed eval set against a cluster.",
        "Follow its job with modelsmith_train_status until it has ended; then say verdict, composite and held-out.",
    ),
    Command(
        "ms-train",
        "modelsmith_iterate",
        ("cluster",),
        "Evaluate, train on the failures, and promote what clears the gate.",
        "Follow its job with modelsmith_train_status. Where it waits for a person, say for whom, and stop.",
    ),
    Command(
        "ms-promote",
        "promote",
        ("cluster",),
        "Write a promotion record with evidence bundle and rollback contract.",
        "Say which pull request waits, and for whom. Approving is theirs.",
    ),
    Command(
        "ms-rollback",
        "rollback",
        ("cluster",),
        "Return traffic to who served before, within the rollback window.",
        "Give a reason. Say who serves now, and who must clear the hold.",
    ),
    Command(
        "ms-fleet",
        "modelsmith_status",
        (),
        "Summarise specialists, what is in validation, and pending approvals.",
        "One line a cluster; then who is waited for.",
    ),
    Command(
        "ms-audit",
        "modelsmith_verify",
        (),
        "Replay the history offline: signatures, approvals, evidence.",
        "Say what was verified, from which root, and what could not be.",
    ),
)


def of(session: Session) -> list[Command]:
    """The commands whose tool the session may call."""
    return [one for one in COMMANDS if (tool := find_tool(one.tool)) and session.has(tool)]


def listed(session: Session) -> list[types.Prompt]:
    """The session's commands as prompts."""
    return [
        types.Prompt(
            name=one.name,
            description=one.summary,
            arguments=[types.PromptArgument(name=name, required=True) for name in one.takes],
        )
        for one in of(session)
    ]


def text_of(command: Command, arguments: Mapping[str, str]) -> str:
    """What the agent is told."""
    given = ", ".join(f"{name} `{arguments[name]}`" for name in command.takes)
    return f"Call the tool `{command.tool}`{f' with {given}' if given else ''}. {command.then}"


def get(session: Session, name: str, arguments: Mapping[str, str]) -> Reply:
    """The prompt of that name; a command outside of the session's role is refused like the tool beneath it."""
    known = next((one for one in COMMANDS if one.name == name), None)
    if known is None:
        return _refused(session, "no-such-tool", f"There is no prompt {name[:60]!a}", "List the prompts.")
    if known not in of(session):
        return _refused(
            session,
            "outside-role",
            f"/{name} calls {known.tool}, which a session of the role {session.role} may not",
            "Leave it to a session that may.",
        )
    wrong = [one for one in known.takes if not _VALUE.fullmatch(arguments.get(one, ""))]
    if wrong or set(arguments) - set(known.takes):
        return _refused(session, "usage", f"/{name} takes {', '.join(known.takes) or 'nothing'}", "Give plain names.")
    return Reply({"text": text_of(known, arguments)}, refused=False)


def _refused(session: Session, code: str, message: str, mend: str) -> Reply:
    return Reply(refusal(session, InvalidInput(code, message, mend)), refused=True)
