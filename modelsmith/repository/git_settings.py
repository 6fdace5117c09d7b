"""Settings of a repository's own configuration file, read once while the file is as it was."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from modelsmith.repository.answers import Key, key_of
from modelsmith.repository.git_process import GitProcess, answers
from modelsmith.repository.invocation import git_failed

_SETTLED_SECONDS = 0.1
"""Age from which a file that is written again has another time of change, however coarse the file system's clock is."""


def read_settings(git: GitProcess) -> list[tuple[str, str]]:
    """Name and value of each setting in the repository's own configuration; nothing of a file that is not there."""
    args = ("config", "--local", "--list", "-z")
    key = _key(git, args)
    output = answers.get(key) if key else None
    if output is None:
        process = git.attempt(args)
        if process.returncode:
            file = git.text("rev-parse", "--path-format=absolute", "--git-path", "config")
            if Path(file).exists():
                raise git_failed(args, process)
            return []
        output = process.stdout
        if key:
            answers.keep(key, output)
    pairs = (os.fsdecode(setting).partition("\n") for setting in output.split(b"\0")[:-1])
    return [(name, value) for name, _, value in pairs]


def _key(git: GitProcess, args: Sequence[str]) -> Key | None:
    """What a setting is remembered by: the configuration file as it is now, unless it was written just now."""
    place = git.plain_place()
    if place is None:
        return None
    try:
        status = (place / "config").stat()
    except OSError:
        return None
    settled = abs(time.time() - status.st_mtime) > _SETTLED_SECONDS
    stamp = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return key_of(git.path, place, (*args, stamp), ()) if settled else None
