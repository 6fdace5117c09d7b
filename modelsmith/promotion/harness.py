"""The machine that prepares, checks and merges: its identity, keys and forge in one clone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelsmith.forges.local import ForgeIdentity, LocalForge
from modelsmith.forges.port import Forge
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


def open_harness(workspace: Workspace, actor: str | None = None, key: Path | None = None) -> Harness:
    """The harness of this clone; with ``actor`` and ``key``, the forge is spoken to as that person instead.

    Raises:
        InvalidInput: ``no-forge`` when the clone is not set up.
    """
    forge, identity, keys = (workspace.setting(name) for name in ("forge", "identity", "keys"))
    if not forge or not identity or not keys:
        raise InvalidInput(
            "no-forge",
            "This clone knows no forge or no harness identity",
            "Set modelsmith.forge, modelsmith.identity and modelsmith.keys with `git config`, as `modelsmith init` does.",
        )
    speaker = ForgeIdentity(actor or identity, key or Path(keys) / "harness-ssh")
    return Harness(workspace, identity, Path(keys) / "harness.pem", LocalForge(Path(forge), workspace.git, speaker))
