"""Paths that no commit may hold, whoever approves.

Some names belong to one machine: git's own folder, what the toolkit and Python keep beside the files. Whoever commits
one puts something there in every clone. Others steer git or a program that git starts, so that a reader sees something
else than what was approved, or gets what nobody approved.

A name is refused in every spelling that a file system takes for it. The rules are git's own for ``.git``
(``is_hfs_dotgit``, ``is_ntfs_dot_generic``): no difference of case, characters that HFS+ ignores, spaces and dots at
the end, what follows a colon, and the short names of NTFS. They are applied to all of these names.

And some names cannot stand on every disk: with one such file on main, nobody can check main out on Windows.
"""

from __future__ import annotations

import re
from functools import lru_cache

from modelsmith.governance.names import fold_name

KEPT_LOCALLY = {
    ".git": "git's own folder",
    ".iterate": "the toolkit's folder in one clone",
    ".venv": "programs of one machine",
    ".vllm": "programs of one machine",
    ".demo": "keys and models of one machine's demo",
    "__pycache__": "compiled code that nobody reads",
}
"""Folders of one machine; no part of the repository's content at any depth."""
_STEERING = {
    ".gitattributes": "it changes what git shows and writes of other files, and which programs it starts for that",
    ".gitmodules": "it brings in files that nobody here approves",
    ".lfsconfig": "it says where file contents are fetched from",
}
_IGNORED_BY_HFS = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_HASHED = {"gi7eba": ".gitmodules", "gi7d29": ".gitattributes"}
"""What NTFS calls these two when their usual short names are taken."""
_NOT_ON_WINDOWS = frozenset('<>:"|?*\\')
_DEVICES = frozenset(
    {
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
    }
)


def why_reserved(path: str) -> str | None:
    """Why no commit may hold the path; None for any other.

    >>> why_reserved("notes/.git/config")
    "git's own folder"
    """
    parts = _parts(path)
    steering = next((why for part in parts if (why := _STEERING.get(part))), None)
    bare = "git takes a folder with such a file for a repository" if parts[-1] == "head" else None
    return why_local(path) or steering or bare


def why_local(path: str) -> str | None:
    """Why the path belongs to one machine, in whatever spelling; None when it does not.

    >>> why_local("docs/ITERAT~1/state.json")
    "the toolkit's folder in one clone"
    """
    parts = _parts(path)
    if len(parts) > 2 and parts[0] == "clusters" and parts[2] == ".local":
        return "what one machine keeps for a cluster"
    return next((why for part in parts if (why := KEPT_LOCALLY.get(part))), None)


def why_unportable(path: str) -> str | None:
    """Why a clone on some system cannot hold the path; None where every one can.

    >>> why_unportable("docs/aux.md")
    "Windows takes 'aux.md' for a device"
    """
    for part in path.split("/"):
        if odd := next((letter for letter in part if letter in _NOT_ON_WINDOWS), None):
            return f"Windows allows no {odd} in a name"
        if part.endswith((" ", ".")):
            return f"Windows drops the {'blank' if part[-1] == ' ' else 'dot'} at the end of {part!a}"
        if fold_name(part.partition(".")[0]).rstrip(" ") in _DEVICES:
            return f"Windows takes {part!a} for a device"
    return None


def _parts(path: str) -> list[str]:
    return [_name(part) for part in re.split(r"[/\\]", path)]


@lru_cache(maxsize=4096)
def _name(part: str) -> str:
    """The reserved name that a file system may take a name for, else the name, folded."""
    folded = fold_name(part.translate(_IGNORED_BY_HFS)).partition(":")[0].rstrip(" .")
    stem, tilde, number = folded.rpartition("~")
    if not tilde or not number.isascii() or not number.isdigit():
        return folded
    return _HASHED.get(stem) or next(
        (name for name in (*KEPT_LOCALLY, *_STEERING) if stem == name.replace(".", "")[:6]), folded
    )
