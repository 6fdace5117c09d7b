"""How the command line shows and installs packs for agents' clients."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modelsmith.cli.page import Page, write_json
from modelsmith.cli.serving import refuse_agents
from modelsmith.operations.table import Role
from modelsmith.packs import Client
from modelsmith.packs.laying import Laid, lay, plan
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput

_WORDS = {"new": "written", "same": "as it was", "added": "has our server too", "changed": "replaced"}
_PLANS = {"new": "is new", "same": "as it is", "added": "gets our server", "changed": "differs"}


def show(client: Client, role: Role, into: Path | None, as_json: bool) -> None:
    """Show what installing would do."""
    root = _root(into)
    _tell(root, client, role, plan(root, client, role), _PLANS, as_json)


def install(client: Client, role: Role, into: Path | None, replace: bool, as_json: bool) -> None:
    """Install a pack for an agent's client.

    Raises:
        InvalidInput: ``pack-differs``; ``outside-role`` in a session with a role; as `plan`.
    """
    refuse_agents("lay down what starts a server with a role")
    root = _root(into)
    files = plan(root, client, role)
    differing = [file for file in files if file.state == "changed"]
    if differing and not replace:
        if not as_json:
            _differences(differing)
        names = ", ".join(file.path for file in differing)
        raise InvalidInput(
            "pack-differs",
            f"Nothing was written: {names} {'are' if len(differing) > 1 else 'is'} not as the pack has it",
            "Read the difference. Keep what is yours, or give --replace.",
            differences={file.path: list(file.difference) for file in differing},
        )
    lay(root, files)
    _tell(root, client, role, files, _WORDS, as_json)
    if not as_json:
        page = Page()
        page.line(f"Your client starts `modelsmith mcp --role {role}` in this folder; no role can approve.")


def _tell(root: Path, client: Client, role: Role, files: list[Laid], words: dict[str, str], as_json: bool) -> None:
    if as_json:
        written_files: list[dict[str, Any]] = [
            {"path": file.path, "state": file.state, "difference": list(file.difference) if file.before else []}
            for file in files
        ]
        write_json({"client": client, "role": role, "into": str(root), "files": written_files})
        return
    page = Page()
    page.rows([(file.path, words[file.state]) for file in files])
    if words is _PLANS:
        _differences([file for file in files if file.state in ("added", "changed")])


def _differences(files: list[Laid]) -> None:
    page = Page()
    for file in files:
        page.gap()
        page.words("\n".join(file.difference))


def _root(into: Path | None) -> Path:
    return (into if into is not None else Workspace.find(Path(os.curdir)).root).resolve()
