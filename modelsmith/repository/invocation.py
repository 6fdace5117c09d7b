"""How git is run: with settings and an environment that neither user, clone nor calling hook can bend."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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
    "merge.default=text",
    "merge.renames=true",
    "merge.renameLimit=7000",
    "merge.directoryRenames=false",
    "merge.renormalize=false",
    "merge.verifySignatures=false",
    "diff.renames=true",
    "push.followTags=false",
    "push.gpgSign=false",
    "fetch.prune=false",
    "fetch.pruneTags=false",
    "submodule.recurse=false",
    "protocol.file.allow=always",
    "safe.bareRepository=all",
)
"""A forge may be a path, whatever a user forbids to submodules, and it may be bare: repositories are named here, and
never looked for from inside others, which is what ``safe.bareRepository`` guards against."""


def _encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


_ENVIRONMENT = _encoded(
    {
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": "/dev/null",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
)
_QUARANTINE = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
_INHERITED = re.compile(rb"GIT_(DEFAULT_HASH$|SSH|SSL|HTTP|PROXY|ASKPASS|EXEC_PATH|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)$)")

_STEERING = (
    *("GIT_DEFAULT_HASH", "GIT_EXEC_PATH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    *("PATH", "HOME", "XDG_CONFIG_HOME", *_QUARANTINE),
)


def command(folder: Path | str, args: Sequence[str]) -> list[str]:
    """The command line that runs git in a folder."""
    settings = [flag for setting in _SETTINGS for flag in ("-c", setting)]
    return ["git", "-C", str(folder), *settings, *args]


def environment(path: Path, extra: Mapping[str, str] | None = None) -> dict[bytes, bytes]:
    """The process's environment without what a calling git put there, except a hook's quarantined objects.

    As bytes, in which the system keeps it: read as text it would take a tenth of what a short git command takes.
    """
    root = os.path.realpath(path)
    inherited = {k: v for k, v in os.environb.items() if not k.startswith(b"GIT_") or _INHERITED.match(k)}
    quarantine = os.environ.get("GIT_QUARANTINE_PATH")
    if quarantine and Path(quarantine).resolve().is_relative_to(root):
        inherited |= _encoded({name: os.environ[name] for name in _QUARANTINE if name in os.environ})
    inherited |= _ENVIRONMENT
    inherited[b"GIT_CEILING_DIRECTORIES"] = os.fsencode(os.path.dirname(root))
    return inherited | _encoded(extra) if extra else inherited


def steering() -> tuple[str | None, ...]:
    """Values in the process's environment that decide which git answers about a repository, and from what."""
    return tuple(os.environ.get(name) for name in _STEERING)


class Place(NamedTuple):
    """Which repository, and whose: a folder whatever it is called, and what steers git there."""

    device: int
    folder: int
    steering: tuple[str | None, ...]


def place_of(path: Path) -> Place | None:
    """The place of a repository; None where nothing stands."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Place(status.st_dev, status.st_ino, steering())


def git_missing() -> InfrastructureFailure:
    """Error: there is no git on this machine."""
    return InfrastructureFailure("git-missing", "The command `git` was not found", "Install git 2.39 or newer.")


class _Trouble(NamedTuple):
    """A kind of failure that git has many words for."""

    pattern: re.Pattern[str]
    code: str
    mend: str


_ASIDES = re.compile(
    r"(hint|warning|To|From|Cloning|remote: (Counting|Compressing|Enumerating|Total))\b|remote:\s*$|\s*$"
)
"""Lines that tell nothing of why git stopped."""
_OTHER_MEND = "Read git's message; check that the folder is a git repository that you may read and write."
_TROUBLES = (
    _Trouble(
        re.compile(r"dubious ownership in repository at '(?P<where>[^']*)'"),
        "foreign-owner",
        "Work as the folder's owner; or, where you trust it: git config --global --add safe.directory '{where}'",
    ),
    _Trouble(
        re.compile(r"mismatched algorithms|object.format", re.IGNORECASE),
        "object-format",
        "Clone the forge anew: a repository of SHA-1 names and one of SHA-256 names cannot exchange commits.",
    ),
    _Trouble(
        re.compile(r"No space left|[Qq]uota exceeded|File too large"),
        "disk-full",
        "Make room, then run this again.",
    ),
    _Trouble(
        re.compile(
            r"resolve host|[Cc]onnection (refused|timed out|reset|closed)|unable to access|unreachable|"
            r"Could not read from remote|does not appear to be a git repository|Permission denied \(publickey"
        ),
        "unreachable",
        "See where `git config modelsmith.forge` points, and whether `git ls-remote` reaches it from here.",
    ),
    _Trouble(
        re.compile(r"Permission denied|Read-only file system|Operation not permitted|insufficient permission"),
        "not-writable",
        "Make the repository readable and writable for this user.",
    ),
    _Trouble(
        re.compile(r"bad (numeric )?config|invalid config"), "bad-config", "Mend that line, or remove it."
    ),
    _Trouble(
        re.compile(r"Unable to create '(?P<where>[^']*\.lock)': File exists"),
        "busy",
        "Wait for the other git command; when none runs any more, remove {where}.",
    ),
)  # fmt: skip


_ADDRESS = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]*://)([^\s'"<>]+)""")
_PLAIN_HOST = re.compile(r"[^/@:]*(?::[0-9]*)?(?:/.*)?")
"""A host, with a port or without, and a path, in which an ``@`` ends no password."""


def without_passwords(words: str) -> str:
    """Words of git, in which every URL is without name, password and query.

    A password with ``@`` or ``/`` in it is none to git, which then tells all of it. So of a URL that has one, only what
    follows the last ``@`` is left.

    >>> without_passwords("at 'https://me:pa/s@s@host/a.git?token=x', ssh://host:22/a@b")
    "at 'https://host/a.git', ssh://host:22/a@b"
    """

    def plain(match: re.Match[str]) -> str:
        place = re.split("[?#]", match[2], maxsplit=1)[0]
        return match[1] + (place if _PLAIN_HOST.fullmatch(place) else place.rpartition("@")[2])

    return _ADDRESS.sub(plain, words)


def git_failed(args: Sequence[str], process: subprocess.CompletedProcess[bytes]) -> InfrastructureFailure:
    """What git said when it ended with an error: its first telling line, as the later ones are general advice.

    Names and passwords in URLs are left out. ``code`` is ``git-failed`` where the kind of trouble is not a known one.
    """
    words = without_passwords(process.stderr.decode("utf-8", "replace").strip())
    telling = [line for line in words.splitlines() if not _ASIDES.match(line)] or words.splitlines()
    reason = telling[0] if telling else f"exit status {process.returncode}"
    matches = ((trouble, trouble.pattern.search(words)) for trouble in _TROUBLES)
    trouble, match = next(((trouble, match) for trouble, match in matches if match), (None, None))
    return InfrastructureFailure(
        trouble.code if trouble else "git-failed",
        f"git {args[0]} failed: {reason}",
        trouble.mend.format(**match.groupdict()) if trouble and match else _OTHER_MEND,
        command=args[0],
        status=process.returncode,
        stderr=words[-2000:],
    )
