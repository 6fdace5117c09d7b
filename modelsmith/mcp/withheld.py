"""What no agent is shown, whatever it asks for: the texts of held-out scenarios."""

from __future__ import annotations

from typing import Any

_FILE = "diff --git "
"""How git begins the lines of a file; no line of a file's own begins so."""


def without_held_out(value: Any) -> Any:
    """The value with no line of a held-out file in any difference that it shows."""
    if isinstance(value, dict):
        visible = {name: without_held_out(item) for name, item in value.items()}
        lines = value.get("lines")
        if isinstance(lines, list) and isinstance(value.get("left_out"), list):
            visible_lines, files = _lines(lines)
            visible["lines"] = visible_lines
            visible["left_out"] = [*value["left_out"], *(f"held-out, for people alone: {name}" for name in files)]
        return visible
    return [without_held_out(item) for item in value] if isinstance(value, list) else value


def _lines(lines: list[str]) -> tuple[list[str], list[str]]:
    visible_lines: list[str] = []
    files: list[str] = []
    held_out = False
    for line in lines:
        if line.startswith(_FILE):
            held_out = "/held_out/" in line
            if held_out:
                files.append(line.removeprefix(_FILE))
        if not held_out:
            visible_lines.append(line)
    return visible_lines, files
