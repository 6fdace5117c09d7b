"""Prompts: the slash commands of the session's role."""

from __future__ import annotations

import re
from collections.abc import Mapping

import mcp_types as types

from modelsmith.mcp.calls import Reply, Session, refusal
from modelsmith.mcp.commands import COMMANDS, Command
from modelsmith.mcp.tools import find_tool
from modelsmith.schema.errors import InvalidInput

_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}")
"""A name, a base model's address, a range of dates. No blank and no mark: a value can neither say something nor end
the text that it stands in."""


def of(session: Session) -> list[Command]:
    """The commands whose tool the session may call."""
    return [command for command in COMMANDS if (tool := find_tool(command.tool)) and session.has(tool)]


def listed(session: Session) -> list[types.Prompt]:
    """The session's commands as prompts."""
    return [
        types.Prompt(
            name=command.name,
            description=command.summary,
            arguments=[
                types.PromptArgument(name=name, required=name in command.takes)
                for name in command.takes + command.may_take
            ],
        )
        for command in of(session)
    ]


def get(session: Session, name: str, arguments: Mapping[str, str]) -> Reply:
    """The prompt of that name; a command outside of the session's role is refused like the tool beneath it."""
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        return _refused(session, "no-such-tool", f"There is no prompt {name[:60]!a}", "List the prompts.")
    if command not in of(session):
        return _refused(
            session,
            "outside-role",
            f"/{name} calls {command.tool}, which a session of the role {session.role} may not",
            "Leave it to a session that may.",
        )
    plain = all(_VALUE.fullmatch(value) for value in arguments.values())
    if not plain or set(command.takes) - set(arguments) or set(arguments) - set(command.takes + command.may_take):
        return _refused(session, "usage", f"/{name} takes {command.hint or 'nothing'}", "Give plain names.")
    return Reply({"text": command.text(arguments)}, refused=False)


def _refused(session: Session, code: str, message: str, mend: str) -> Reply:
    return Reply(refusal(session, InvalidInput(code, message, mend)), refused=True)
