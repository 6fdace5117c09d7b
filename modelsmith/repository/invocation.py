"""How git is run: with settings and an environment that neither user, clone nor calling hook can bend."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from modelsmith.schema.errors import InfrastructureFailure

_SETTINGS = (
    "core.quotePath=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "core.commitGraph=false",
    "log.showSignature=false",
    "advice.graftFileDeprecated=false",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "merge.renames=true",
    "merge.renameLimit=7000",
    "merge.directoryRenames=false",
    "merge.renormalize=false",
    "diff.renames=true",
)
_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_QUARANTINE = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
_INHERITED = re.compile(r"GIT_(SSH|SSL|HTTP|PROXY|ASKPASS|EXEC_PATH|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)$)")


def command(folder: Path | str, args: Sequence[str]) -> list[str]:
    """The command line that runs git in a folder."""
    settings = [flag for setting in _SETTINGS for flag in ("-c", setting)]
    return ["git", "-C", str(folder), *settings, *args]


def environment(path: Path) -> dict[str, str]:
    """The process's environment without what a calling git put there, except a hook's quarantined objects."""
    root = path.resolve()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or _INHERITED.match(k)}
    quarantine = os.environ.get("GIT_QUARANTINE_PATH")
    if quarantine and Path(quarantine).resolve().is_relative_to(root):
        kept |= {name: os.environ[name] for name in _QUARANTINE if name in os.environ}
    return kept | _ENVIRONMENT | {"GIT_CEILING_DIRECTORIES": str(root.parent)}


def git_missing() -> InfrastructureFailure:
    """No git on this machine."""
    return InfrastructureFailure("git-missing", "The command `git` was not found", "Install git 2.39 or newer.")


def git_failed(args: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> InfrastructureFailure:
    """What git said when it ended with an error; names and passwords in URLs are left out."""
    words = done.stderr.decode("utf-8", "replace").strip()
    words = re.sub(r"(\w+://)[^/\s@]+@", r"\1", words)
    last = words.splitlines()[-1] if words else f"exit status {done.returncode}"
    return InfrastructureFailure(
        "git-failed",
        f"git {args[0]} failed: {last}",
        "Read git's message; check that the folder is a git repository that you may read and write.",
        command=args[0],
        status=done.returncode,
        stderr=words[-2000:],
    )
