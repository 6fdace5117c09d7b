"""A job's folder: what the one who submits, the host and the worker say to each other, whatever the job.

The folder is all that a host needs, besides what it keeps itself and the job names by digest (a base model). So it can
lie on a disk that nobody shares.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.canonical import canonical_json, file_digest
from modelsmith.schema.plain_file import open_plain, read_plain
from modelsmith.signing.files import write_atomically

JOB_FILE = "job.json"
"""What is to be done, on which inputs; written by the one who submits."""
INPUTS = "inputs"
"""Folder of the inputs."""
HEARTBEAT_FILE = "heartbeat.jsonl"
"""Signs of life, one a line."""
RESULT_FILE = "result.json"
"""Written last, see `ResultFile`."""
ERROR_FILE = "error.json"
"""Why the worker gave up."""
LOG = "worker.log"
"""File with the worker's output."""
PUT_AWAY = "checkpoints"
"""Folder of what a worker has put away for the next one: folders, each with a `COMPLETE` of its own."""
COMPLETE = "COMPLETE.json"
"""Marker of a whole folder, written last: its files with their digests."""
BESIDE_FILE = "beside.json"
"""What a front door on the worker's machine is left; no file: the work waits for nobody. It is not part of the job."""
RECOVERIES_FILE = "recoveries.json"
"""What was done for the job after failures; written by the one who submits."""
GIVEN = frozenset({JOB_FILE, INPUTS, BESIDE_FILE, RECOVERIES_FILE})
"""What the one who submits writes and a worker only reads: nothing that another machine says of it is taken."""
LONE = frozenset({HEARTBEAT_FILE, RESULT_FILE, ERROR_FILE, LOG})
"""Files that everybody who looks at a job reads by their names; none of them is a folder."""
STAYS = frozenset({"tracked.json", "tracker.log", "curve.svg"})
"""What is made beside the worker, on the machine of the one who submits; no other machine gets it."""

_Inside = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$")]


class ResultFile(BaseModel):
    """What every ``result.json`` says, whatever it says besides: the files that the job made, in folders of theirs."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    files: Annotated[dict[_Inside, Digest], Field(min_length=1)]
    """Digest of each, by its path in the job's folder; a job that made none has no result."""


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a result, every file of it as the result lists it, and no other beside them.

    Inputs are no result; and a link, a pipe or anything but plain files and folders makes it none.
    """
    try:
        result = ResultFile.model_validate_json(read_plain(folder / RESULT_FILE))
        tops = {name.partition("/")[0] for name in result.files}
        paths = [path for top in tops for path in (folder / top, *(folder / top).rglob("*"))]
        modes = {path: path.lstat().st_mode for path in paths}
        if INPUTS in tops or not all(S_ISREG(mode) or S_ISDIR(mode) for mode in modes.values()):
            return False
        files = [path for path, mode in modes.items() if S_ISREG(mode)]
        return result.files == {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    except (OSError, ValidationError):
        return False


def clear(path: Path) -> None:
    """Take away whatever stands at a path: a folder with all that is in it, a file, or a link and not what it names."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def listing(folder: Path) -> dict[str, str]:
    """Digest of every file of a flat folder, by name; hidden files are left out."""
    return {
        path.name: file_digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }


def write_json(path: Path, value: Frozen) -> None:
    """Canonical JSON, whole or not at all."""
    write_atomically(path, canonical_json(value) + b"\n")


def say(folder: Path, beat: Frozen) -> None:
    """Write a sign of life into the job's folder."""
    with (folder / HEARTBEAT_FILE).open("ab") as file:
        file.write(beat.model_dump_json().encode() + b"\n")


def lines_since(path: Path, offset: int) -> tuple[list[bytes], int]:
    """Lines after the byte offset, and the next offset; a torn last line waits for its rest."""
    try:
        with open_plain(path) as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    return complete.splitlines(), offset + len(complete)
