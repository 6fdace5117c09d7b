"""The machine that prepares, checks and merges: its identity, keys and forge in one clone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelsmith.forges.local import LocalForge
from modelsmith.forges.port import Forge, ForgeIdentity
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import Preparer


@dataclass(frozen=True)
class Harness:
    """Who acts, with which keys, at which forge."""

    workspace: Workspace
    actor: str
    signing_key: Path
    """EC P-256 key for records, evidence and artifacts."""
    forge: Forge

    @property
    def preparer(self) -> Preparer:
        """How records name it."""
        return Preparer(id=self.actor, kind="harness")


def open_harness(workspace: Workspace) -> Harness:
    """The harness of this clone.

    Raises:
        InvalidInput: ``no-forge`` or ``no-harness`` when the clone is not set up.
    """
    identity, keys = _identity(workspace)
    return Harness(workspace, identity, keys / "harness.pem", open_forge(workspace))


def open_forge(workspace: Workspace, actor: str | None = None, key: Path | None = None) -> Forge:
    """The clone's forge, spoken to as the harness, or as the person ``actor`` with their ``key``.

    Raises:
        InvalidInput: ``no-forge`` or ``no-harness``.
    """
    forge = workspace.setting("forge")
    if not forge:
        raise InvalidInput(
            "no-forge",
            "This clone does not say where its forge is",
            "Run `git config modelsmith.forge PATH` with the path of the bare repository.",
        )
    if actor is None or key is None:
        actor, keys = _identity(workspace)
        key = keys / "harness-ssh"
    return LocalForge(Path(forge), workspace.git, ForgeIdentity(actor, key))


def _identity(workspace: Workspace) -> tuple[str, Path]:
    identity, keys = workspace.setting("identity"), workspace.setting("keys")
    if not identity or not keys:
        raise InvalidInput(
            "no-harness",
            "This clone has no harness identity",
            "Run `git config modelsmith.identity NAME` and `git config modelsmith.keys FOLDER`.",
        )
    return identity, Path(keys)
