"""The machine that prepares, checks and merges: its identity, keys and forge in one clone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelsmith.forges.github.place import is_github, parse_place
from modelsmith.forges.github.token import find_token
from modelsmith.forges.local import LocalForge
from modelsmith.forges.mirror import Mirror
from modelsmith.forges.port import Forge, ForgeIdentity
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import Preparer

SSH_KEY = "harness-ssh"
"""File of the harness's SSH key among its keys."""
READER = "reader"
"""Who speaks to the forge from a clone without harness; it signs nothing."""


@dataclass(frozen=True)
class Merger:
    """Who merges, in which clone, at which forge: the harness or a person."""

    workspace: Workspace
    actor: str
    forge: Forge
    key: Path
    """Their SSH key: it signs what they do, merges among it."""


@dataclass(frozen=True)
class Harness(Merger):
    """The machine that prepares: it can also sign."""

    signing_key: Path
    """EC P-256 key for records, evidence and artifacts."""

    @property
    def preparer(self) -> Preparer:
        """How records name it."""
        return Preparer(id=self.actor, kind="harness")


def open_harness(workspace: Workspace) -> Harness:
    """The harness of this clone.

    Raises:
        InvalidInput: ``no-forge`` or ``no-harness`` when the clone is not set up.
    """
    found = _identity(workspace)
    if found is None:
        raise InvalidInput(
            "no-harness",
            "This clone has no harness identity",
            "Run `git config modelsmith.identity NAME` and `git config modelsmith.keys FOLDER`.",
        )
    identity, keys = found
    return Harness(workspace, identity, open_forge(workspace), keys / SSH_KEY, keys / "harness.pem")


def open_forge(workspace: Workspace, speaker: ForgeIdentity | None = None) -> Forge:
    """The clone's forge, spoken to as ``speaker``, else as the harness; read only when the clone has none.

    ``modelsmith.forge`` is a path, git's URL of a forge on another host, or ``github:OWNER/REPO``.

    Raises:
        InvalidInput: ``no-forge``; for GitHub as `parse_place` and `find_token`.
    """
    forge = workspace.setting("forge")
    if not forge:
        raise InvalidInput(
            "no-forge",
            "This clone does not say where its forge is",
            "Run `git config modelsmith.forge` with the path of the bare repository, its git URL on another host, or "
            "github:OWNER/REPO.",
        )
    found = _identity(workspace)
    if speaker is None and found:
        speaker = ForgeIdentity(found[0], found[1] / SSH_KEY)
    if is_github(forge):
        from modelsmith.forges.github.forge import GitHubForge

        return GitHubForge(parse_place(forge), find_token(), workspace.private, workspace.git, speaker)
    if is_url(forge):
        mirror = Mirror(forge, workspace.private / "forge.git", workspace.git)
        return LocalForge(mirror.path, workspace.git, speaker, mirror)
    return LocalForge(Path(forge), workspace.git, speaker)


def is_url(forge: str) -> bool:
    """Whether a forge's place is a URL (``ssh://...``) or ``host:path``, by git's own rule, rather than a path."""
    return "://" in forge or ":" in forge.split("/", 1)[0]


def _identity(workspace: Workspace) -> tuple[str, Path] | None:
    identity, keys = workspace.setting("identity"), workspace.setting("keys")
    return (identity, Path(keys)) if identity and keys else None
