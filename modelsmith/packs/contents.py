"""What the packs hold: skills, slash commands, the rule for editors, settings. Pure, but for prose beside this module.

Formats: Agent Skills (agentskills.io), plugins and commands of Claude Code, rules and plugins of Cursor, plugins and
settings of Codex, each by its own documentation. Tools and roles come from the operations table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelsmith import __version__
from modelsmith.mcp.commands import COMMANDS, Command
from modelsmith.mcp.tools import Tool, tools_of
from modelsmith.operations.table import EVERYONE, Role
from modelsmith.packs import Client

_PROSE = Path(__file__).parent / "prose"
_DESCRIPTIONS: dict[Role, str] = {
    "operator": "Drive the Modelsmith iterate loop (eval, diagnose, train, promote, rollback) by its typed tools. Use "
    "it when someone asks to evaluate, train, improve or promote a specialist, or about a cluster, run or job. Never "
    "self-approve.",
    "reviewer": "Read-only audit of a Modelsmith promotion repository: review a candidate or pull request, its "
    "evidence, lineage and rubric changes, and verify the record. Use it when someone asks whether a specialist may be "
    "promoted or what happened. Changes nothing.",
    "promoter": "Take Modelsmith specialists to their next state by pull request, ask for approvals, merge what the "
    "gate has opened, roll back. Use it when someone asks to promote, deploy or roll back a specialist. Never "
    "self-approve.",
}
_CHANGES = {"reads": "", "writes": "this clone", "proposes": "by pull request"}
_ABOUT = "Governed specialists: evaluate, train and promote small models by typed tools; people decide at the gates."
RULE_GLOBS = ("evals/**/*.yaml", ".iterate/**", "promotions/**")
"""Files that the rule for editors is about."""
_ENDPOINT = "https://localhost:7443/mcp"
"""Where `modelsmith mcp --http` listens by default."""


def files_of(client: Client) -> dict[str, str]:
    """Path and text of every file that the client's pack lays into a repository; settings that it shares are apart."""
    if client == "claude":
        return _below(".claude", _skills() | _commands())
    if client == "cursor":
        return _below(".cursor", _skills() | _commands() | {"rules/modelsmith.mdc": _rule()})
    as_skills = {f"skills/{command.name}/SKILL.md": _command_as_skill(command) for command in COMMANDS}
    return _below(".agents", _skills() | as_skills) | {".codex/plugins/modelsmith.json": _json(manifest())}


def server(role: Role | None) -> dict[str, Any]:
    """How a client starts the server; without a role, with that of the session (``MODELSMITH_ROLE``), or reviewer."""
    return {"command": "modelsmith", "args": ["mcp", *(("--role", role) if role else ())]}


def manifest() -> dict[str, Any]:
    """The tool registry for a client that comes over HTTP: endpoint, and the tools of each role as scopes."""
    return {
        "name": "modelsmith",
        "version": __version__,
        "runtime": "mcp",
        "endpoint": _ENDPOINT,
        "auth": "bearer:$MODELSMITH_TOKEN",
        "scopes": {role: [tool.name for tool in tools_of(role)] for role in EVERYONE},
    }


def plugin() -> dict[str, str]:
    """The plugin: one folder that Claude Code, Cursor and Codex install each by its own manifest."""
    about = {"name": "modelsmith", "version": __version__, "description": _ABOUT, "author": {"name": "Agentsia"}}
    shared = {"skills": "./skills/", "mcpServers": "./.mcp.json"}
    return {
        ".claude-plugin/plugin.json": _json(about),
        ".cursor-plugin/plugin.json": _json(about | shared | {"commands": "./commands/", "rules": "./rules/"}),
        ".codex-plugin/plugin.json": _json(about | shared),
        ".mcp.json": _json({"mcpServers": {"modelsmith": server(None)}}),
        **_skills(),
        **_commands(),
        "rules/modelsmith.mdc": _rule(),
        "README.md": _read("plugin"),
    }


def marketplace() -> dict[str, Any]:
    """The catalogue at the top of the toolkit's repository, from which Claude Code installs the plugin."""
    listed = {"name": "modelsmith", "source": "./packs/modelsmith", "description": _ABOUT}
    return {"name": "agentsia", "owner": {"name": "Agentsia"}, "metadata": {"description": _ABOUT}, "plugins": [listed]}


def _skills() -> dict[str, str]:
    return {f"skills/modelsmith-{role}/SKILL.md": _skill(role) for role in EVERYONE}


def _skill(role: Role) -> str:
    head = _front(
        name=f"modelsmith-{role}",
        description=_DESCRIPTIONS[role],
        compatibility=f"Needs the MCP server `modelsmith mcp --role {role}`, started in a promotion repository.",
    )
    rows = "\n".join(_row(tool) for tool in tools_of(role))
    return f"{head}\n{_read(role)}\n## Your tools\n\n| Tool | What it does | Changes |\n|---|---|---|\n{rows}\n"


def _row(tool: Tool) -> str:
    changes = _CHANGES[tool.row.effect] + ("; a job" if tool.row.long else "")
    return f"| `{tool.name}` | {tool.row.summary} | {changes} |"


def _commands() -> dict[str, str]:
    return {f"commands/{command.name}.md": _command(command) for command in COMMANDS}


def _command(command: Command) -> str:
    takes = {"argument-hint": command.hint} if command.hint else {}
    return f"{_front(description=command.summary, **takes)}\n{command.text({})}"


def _command_as_skill(command: Command) -> str:
    hint = f" Takes {command.hint}." if command.hint else ""
    description = f"{command.summary}{hint} Use it only when a person types {command.name}."
    return f"{_front(name=command.name, description=description)}\n{command.text({})}"


def _rule() -> str:
    """Patterns stand bare on one line with commas between, as Cursor documents them: it takes quotes as characters."""
    globs = ", ".join(RULE_GLOBS)
    return f"---\ndescription: Modelsmith operator rules\nglobs: {globs}\nalwaysApply: false\n---\n\n{_read('rule')}"


def _front(**fields: str) -> str:
    lines = "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())
    return f"---\n{lines}---\n"


def _below(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{path}": text for path, text in files.items()}


def _read(name: str) -> str:
    return (_PROSE / f"{name}.md").read_text(encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
