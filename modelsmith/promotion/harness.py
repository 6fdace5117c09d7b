"""The machine that prepares, checks and merges: its identity, keys and forge in one clone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelsmith.forges.github.app import find_access
from modelsmith.forges.github.place import is_github, parse_place
from modelsmith.forges.github.workflow import place_of_workflow
from modelsmith.forges.local import LocalForge
from modelsmith.forges.mirror import Mirror
from modelsmith.forges.port import Forge, ForgeIdentity
from modelsmith.repository.git import Ident
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import Preparer
from modelsmith.signing.dsse import Signer
from modelsmith.signing.keyless import Ambient

SSH_KEY = "harness-ssh"
"""File of the harness's SSH key among its keys."""
CONFIG_VARIABLE = "MODELSMITH_SIGSTORE"
"""Path of a private Sigstore's client trust config. The environment names it, as a token goes where it says."""


@dataclass(frozen=True)
class Merger:
    """The merging actor, in a clone and at a forge: the harness or a person."""

    workspace: Workspace
    actor: str
    forge: Forge
    key: Path
    """Their SSH key: it signs what they do, merges among it."""


@dataclass(frozen=True)
class Harness(Merger):
    """The machine that prepares: it can also sign."""

    signer: Signer
    """For records, evidence and artifacts: the file of an EC P-256 key, or the identity of this job."""

    @property
    def preparer(self) -> Preparer:
        """The harness as records name it."""
        return Preparer(id=self.actor, kind="harness")


def ident(merger: Merger) -> Ident:
    """Author of commits made now."""
    return Ident(merger.actor, f"{merger.actor}@modelsmith.invalid", datetime.now(UTC))


def open_harness(workspace: Workspace) -> Harness:
    """The harness of this clone.

    Raises:
        InvalidInput: ``no-forge`` or ``no-harness`` when the clone is not set up, ``bad-signer``.
    """
    identity_keys = _identity(workspace)
    if identity_keys is None:
        raise InvalidInput(
            "no-harness",
            "This clone has no harness identity",
            "You are a person? Give your key, where the command takes one: --key KEY. In a harness's clone run "
            "`git config modelsmith.identity NAME` and `git config modelsmith.keys FOLDER`.",
        )
    identity, keys = identity_keys
    return Harness(workspace, identity, open_forge(workspace), keys / SSH_KEY, _signer(workspace, keys))


def open_forge(workspace: Workspace, speaker: ForgeIdentity | None = None) -> Forge:
    """The clone's forge, spoken to as ``speaker``, else as the harness; read only when the clone has none.

    ``modelsmith.forge`` is a path (a relative one begins at the clone's top), git's URL of a forge on another host, or
    ``github:OWNER/REPO``. A workflow's clone says none of these: its forge is the repository that the workflow is run
    for.

    Raises:
        InvalidInput: ``no-forge``; for GitHub as `parse_place` and `find_access`.
    """
    forge = workspace.setting("forge") or place_of_workflow(os.environ)
    if not forge:
        raise InvalidInput(
            "no-forge",
            "This clone does not say where its forge is",
            "Run `git config modelsmith.forge` with the path of the bare repository, its git URL on another host, or "
            "github:OWNER/REPO.",
        )
    identity_keys = _identity(workspace)
    if speaker is None and identity_keys:
        speaker = ForgeIdentity(identity_keys[0], identity_keys[1] / SSH_KEY)
    if is_github(forge):
        from modelsmith.forges.github.forge import GitHubForge

        where = parse_place(forge)
        access = find_access(where, workspace.root)
        return GitHubForge(where, access, workspace.private, workspace.git, speaker)
    if is_url(forge):
        mirror = Mirror(forge, workspace.private / "forge.git", workspace.git)
        return LocalForge(mirror.path, workspace.git, speaker, mirror)
    return LocalForge(place(Path(forge), workspace.root), workspace.git, speaker)


def is_url(forge: str) -> bool:
    """Whether a forge's place is a URL (``ssh://...``) or ``host:path``, by git's own rule, rather than a path."""
    return "://" in forge or ":" in forge.split("/", 1)[0]


def ambient() -> Ambient:
    """Keyless, by the instance whose client trust config `CONFIG_VARIABLE` names; else Sigstore's public one."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Ambient(Path(named) if named else None)


def _signer(workspace: Workspace, keys: Path) -> Signer:
    setting = workspace.setting("signer")
    if setting in (None, "", "key"):
        return keys / "harness.pem"
    if setting == "keyless":
        return ambient()
    raise InvalidInput(
        "bad-signer",
        f"modelsmith.signer is {setting!r}",
        "Set it to `key`, or to `keyless` where this job has an OIDC token: `git config modelsmith.signer keyless`.",
        signer=setting,
    )


def _identity(workspace: Workspace) -> tuple[str, Path] | None:
    identity, keys = workspace.setting("identity"), workspace.setting("keys")
    return (identity, place(Path(keys), workspace.root)) if identity and keys else None
