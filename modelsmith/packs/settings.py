"""The clients' own settings, in which our server is one entry among those of others. Pure.

JSON is read and written whole. TOML is text: only our table is touched, and the result is read back and held against
what it should say, so that no comment and no other entry is lost.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from modelsmith.packs import Client
from modelsmith.schema.errors import InvalidInput

_NAME = "modelsmith"
_ELSEWHERE = frozenset({"type", "url", "headers", "cwd"})
"""Fields of an entry by which a client would not start our command, or not in this folder; none of them stays."""
_LEADS_ELSEWHERE = re.compile(r"PATH|ENV|BASH_ENV|(?:PYTHON|LD_|DYLD_|GIT_|NODE_)\w*|MODELSMITH_ROLE")
"""Variables in `env` by which another program or library would run under our command's name, or in another role."""
_OURS = re.compile(rf"(?m)^\[mcp_servers\.{_NAME}\]\s*\n(?:(?:command|args) = [^#\n]*(?:\n|\Z))*")
"""Our table's head and the lines that we write under it. What is written in another way is a person's to change."""


class Merged(NamedTuple):
    """Settings with our server in them."""

    text: str
    ours_differed: bool
    """An entry of our name was there, and started something else."""


def merge_json(path: str, before: str, server: Mapping[str, Any]) -> Merged:
    """``mcpServers`` of Claude Code and Cursor; what our entry holds besides, such as ``env``, stays.

    An address in it does not, nor a variable by which another program would run: the client would go there, or start
    that, in place of our command.

    Raises:
        InvalidInput: ``unreadable-settings``.
    """
    try:
        document = json.loads(before or "{}")
        servers = document.setdefault("mcpServers", {})
        entry = servers.get(_NAME, {})
        merged = _ours(entry, server)
        if merged == entry:
            return Merged(before, ours_differed=False)
        servers[_NAME] = merged
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        text.encode()
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _unreadable(path) from error
    return Merged(text, ours_differed=bool(entry))


def merge_toml(path: str, before: str, server: Mapping[str, Any]) -> Merged:
    """Settings of Codex with our server among its ``mcp_servers``.

    Raises:
        InvalidInput: ``unreadable-settings``, also where our table is written in another way than as a table.
    """
    try:
        document = tomllib.loads(before)
        servers = document.setdefault("mcp_servers", {})
        entry = servers.get(_NAME, {})
        merged = _ours(entry, server)
        if merged == entry:
            return Merged(before, ours_differed=False)
        block = f"[mcp_servers.{_NAME}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in server.items())
        unchanged = f"{before.rstrip()}\n\n" if before.strip() else ""
        text = _OURS.sub(lambda _: block, before) if entry else unchanged + block
        servers[_NAME] = merged
        if tomllib.loads(text) != document:
            raise _unreadable(path)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _unreadable(path) from error
    return Merged(text, ours_differed=bool(entry))


def _ours(entry: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: value for name, value in entry.items() if name not in _ELSEWHERE or value == "stdio"}
    if "env" in settings:
        settings["env"] = {
            name: value for name, value in settings["env"].items() if not _LEADS_ELSEWHERE.fullmatch(name)
        }
    return settings | dict(server)


SETTINGS: dict[Client, tuple[str, Callable[[str, str, Mapping[str, Any]], Merged]]] = {
    "claude": (".mcp.json", merge_json),
    "cursor": (".cursor/mcp.json", merge_json),
    "codex": (".codex/config.toml", merge_toml),
}
"""Where each client keeps the servers of a repository, and how one is added."""


def read_text(path: str, data: bytes) -> str:
    """The text of settings.

    Raises:
        InvalidInput: ``unreadable-settings`` where it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(path) from error


def _unreadable(path: str) -> InvalidInput:
    return InvalidInput(
        "unreadable-settings",
        f"{path} cannot be read, or has the server {_NAME} in a form that is not changed without loss",
        f"Mend it, or write the entry {_NAME} by hand; docs/mcp.md shows it.",
        path=path,
    )
