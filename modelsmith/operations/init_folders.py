"""The folders that ``modelsmith init`` makes: apart from one another, and gone again when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelsmith.schema.errors import InvalidInput


def real_place(path: Path) -> Path:
    """The path without links, so that two names of one folder are seen to be one."""
    return Path(os.path.realpath(path))


def require_apart(target: Path, forge: Path | None, keys: Path) -> None:
    """Refuse folders that are in use, or that lie in one another.

    Raises:
        InvalidInput: ``not-a-folder``, ``not-empty``, ``same-place``.
    """
    for path in (target, *([forge] if forge else ())):
        if path.exists() and not path.is_dir():
            raise InvalidInput(
                "not-a-folder", f"{path} is no folder", "Choose another name, or remove this file.", path=str(path)
            )
        if path.exists() and any(path.iterdir()):
            raise InvalidInput(
                "not-empty",
                f"{path} exists and is not empty",
                "Choose another folder, or remove this one.",
                path=str(path),
            )
    pairs = [("keys", keys, target)]
    if forge:
        pairs = [("forge", forge, target), ("repository", target, forge), *pairs, ("keys", keys, forge)]
    for place, path, other in pairs:
        if path.is_relative_to(other):
            raise InvalidInput(
                "same-place",
                f"The {place} would lie in {other}: repository, forge and keys must not lie in one another",
                "Name another folder: DIR, --forge, or MODELSMITH_HOME for the keys.",
                path=str(path),
                other=str(other),
            )


@contextmanager
def stopped_by_exception() -> Iterator[None]:
    """Let a request to end (SIGTERM, SIGHUP) end this as Ctrl-C does, so that what was made is taken back."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def new_folders(*folders: Path) -> Iterator[None]:
    """Make the folders to be filled inside; when that fails they are as before: gone, or empty."""
    created: list[Path] = []
    try:
        for folder in folders:
            for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
                path.mkdir()
                created.append(path)
        yield
    except BaseException:
        for folder in folders:
            for entry in folder.iterdir() if folder.is_dir() else ():
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        for path in reversed(created):
            with suppress(OSError):
                path.rmdir()
        raise
