"""Folders whose files were hashed before: trusted again only while nothing about the files has moved.

A file that was hashed is known again by inode, size, and the times of its last change of content and of status. That is
written down in a place of the reader's own, not beside the files. Files that were changed just now are hashed again the
next time: one that is changed once more within the same tick of the file system's clock has the same times.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from stat import S_ISREG

from modelsmith.schema.canonical import file_digest
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

SETTLED_SECONDS = 2.0
"""Age from which a file that is changed again has another time, however coarse the file system's clock is."""


def holds(folder: Path, marker: str, memory: Path | None) -> bool:
    """Whether the folder holds exactly the files that its marker lists, each with its size and digest.

    The marker, a JSON file, gives name to size and digest; hidden files do not count, and a link is none of its files:
    of what it leads to nothing is known again. With a `memory` file, what was
    hashed before is not hashed again, and a marker that says something else than it did then is not believed; without
    one every byte is read.
    """
    try:
        listing = json.loads(read_plain(folder / marker))
        present = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {marker}
        if not listing or present != listing.keys():
            return False
        if any(not S_ISREG((folder / name).lstat().st_mode) for name in present):
            return False
        if any((folder / name).stat().st_size != size for name, (size, _) in listing.items()):
            return False
        traits = {name: _traits(folder / name) for name in listing}
        state = {"marker": file_digest(folder / marker), "files": traits}
        before = _recall(memory).get(folder.name)
        if before == state:
            return True
        if isinstance(before, dict) and before.get("marker") != state["marker"]:
            return False
        if any(file_digest(folder / name) != digest for name, (_, digest) in listing.items()):
            return False
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return False
    settled = all(_is_settled(trait) for trait in traits.values())
    _remember(memory, folder.name, state if settled else state | {"files": {}})
    return True


def forget(memory: Path | None, folder: Path) -> None:
    """Let a folder be believed anew: it is about to be made again."""
    if memory is not None and folder.name in (entries := dict(_recall(memory))):
        del entries[folder.name]
        _write(memory, entries)


def _traits(path: Path) -> list[int]:
    status = path.lstat()
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_settled(traits: Sequence[int]) -> bool:
    return abs(time.time() - traits[3] / 1e9) > SETTLED_SECONDS


def _recall(memory: Path | None) -> Mapping[str, object]:
    try:
        entries = json.loads(read_plain(memory)) if memory else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _remember(memory: Path | None, name: str, state: Mapping[str, object]) -> None:
    if memory is not None:
        _write(memory, {**_recall(memory), name: state})


def _write(memory: Path, entries: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(entries, indent=1).encode() + b"\n")
