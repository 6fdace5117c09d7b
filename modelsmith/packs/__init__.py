"""Packs: what makes a coding agent's client a driver of Modelsmith. Made from the tools, so they cannot drift."""

from typing import Literal

Client = Literal["claude", "cursor", "codex"]
"""Whose pack: Claude Code's, Cursor's or Codex's."""
