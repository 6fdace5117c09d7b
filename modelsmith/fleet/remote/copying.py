"""A job's folder copied between this machine and a host: what differs by digest, file by file."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelsmith.fleet.folder import LONE, PUT_AWAY, RESULT_FILE
from modelsmith.fleet.remote import files
from modelsmith.fleet.remote.connection import Connection
from modelsmith.fleet.remote.files import OddPlaceError
from modelsmith.fleet.remote.wire import PIECE, Frame, Listed
from modelsmith.schema.canonical import file_digest

MOST_BYTES: Final = 64 << 30
"""Largest size of one file that a host sends."""
MOST_READ: Final = 128 << 20
"""Bytes of such a file where this machine reads it whole: heartbeats, log, result and error."""
MOST_LISTED: Final = 1_000
"""Files that a host names at once: what a worker leaves or puts away is some dozens."""
_SPARE: Final = 256 << 20
"""Bytes of this machine's disk that a host does not get."""
_PIECE_SECONDS: Final = 120.0
"""For which each `PIECE` of a file may take, and its end."""
_INCOMING: Final = ".incoming"
Other = Callable[[Frame, bytes], None]
"""Takes what the host says in between."""


def listed_in(connection: Connection, body: bytes) -> Listed:
    """The host's listing of a job's folder.

    Raises:
        HostLostError: it is none, or names more than a job makes; the connection is closed.
    """
    try:
        listing = Listed.model_validate_json(body)
    except ValidationError:
        raise connection.lost("it says something else") from None
    if len(listing.files) > MOST_LISTED:
        raise connection.lost("it names more files than a job makes")
    return listing


def push(connection: Connection, folder: Path, theirs: Listed) -> None:
    """Make the host's copy the same as the folder here.

    Raises:
        HostLostError: the connection is lost.
        InfrastructureFailure: ``host-refused``.
    """
    ours = files.listed(folder).files
    for name in sorted(theirs.files.keys() - ours.keys()):
        connection.say("remove", name)
    for name in sorted(name for name, digest in ours.items() if theirs.files.get(name) != digest):
        connection.say("put", name)
        with (folder / name).open("rb") as file:
            while data := file.read(PIECE):
                connection.say("piece", body=data)
        connection.say("end")
        connection.answer("done")


def bring(connection: Connection, folder: Path, theirs: Listed, other: Other | None = None) -> bool:
    """Make the folder here the same as the host's, but for what is not the host's to say.

    Whether every file came as the host had listed it.

    Raises:
        HostLostError: the connection is lost.
        OSError: this machine's disk.
    """
    complete = True
    digests = {name: digest for name, digest in theirs.files.items() if not files.is_given(name)}
    for name in sorted(digests, key=lambda name: (name == RESULT_FILE, name)):
        try:
            place = files.place_of(folder, name)
            same = place.is_file() and not place.is_symlink() and file_digest(place) == digests[name]
            complete &= files.stays(name) or same or get(connection, folder, name, name, digests[name], other)
        except OddPlaceError:
            complete = False
    for name in {*files.names(folder)} - digests.keys():
        if not files.is_given(name) and not files.stays(name):
            with suppress(OddPlaceError):
                files.remove(folder, name)
    return complete


def bring_put_away(connection: Connection, folder: Path, name: str, theirs: Listed, other: Other) -> bool:
    """Bring one folder that the worker has put away; it takes its place when it is whole. Older ones make room.

    Raises:
        HostLostError, OSError: as `bring`.
    """
    incoming, target = folder / _INCOMING, files.place_of(folder, f"{PUT_AWAY}/{name}/x").parent
    if "/" in name:
        return False
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    try:
        for path, digest in sorted(theirs.files.items()):
            if not get(connection, incoming, path, f"{PUT_AWAY}/{name}/{path}", digest, other):
                return False
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        incoming.rename(target)
    except OddPlaceError:
        return False
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return True


def get(connection: Connection, folder: Path, name: str, source: str, digest: str, other: Other | None = None) -> bool:
    """Bring one file; whether it came, with this digest. One that did not is not written.

    Raises:
        HostLostError: the connection is lost.
        OddPlaceError: it has no plain place here.
        OSError: this machine's disk.
    """
    connection.say("get", source)
    ended, complete, sha, received, bytes_received, begin = False, False, hashlib.sha256(), 0, 0, time.monotonic()
    most = MOST_READ if source in LONE else MOST_BYTES
    with suppress(_NotWholeError), files.writing(folder, name) as file:
        while not ended:
            message = connection.hear(_PIECE_SECONDS)
            if message is None:
                raise connection.lost("a file does not come")
            frame, body = message
            bytes_received += len(body) if frame.kind in ("piece", "lines") else 0
            if time.monotonic() - begin > _PIECE_SECONDS * (1 + bytes_received // PIECE):
                raise connection.lost("a file comes too slowly")
            if frame.kind == "piece":
                received += len(body)
                if received > most or not _room(folder):
                    raise connection.lost("it sends more than there is room for")
                sha.update(body)
                file.write(body)
            elif frame.kind == "refused":
                raise connection.refused(frame.name)
            elif frame.kind in ("end", "gone"):
                ended, complete = True, frame.kind == "end" and f"sha256:{sha.hexdigest()}" == digest
            elif other is not None:
                other(frame, body)
            else:
                raise connection.lost("it says something else")
        if not complete:
            raise _NotWholeError
    return complete


class _NotWholeError(Exception):
    pass


def _room(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize > _SPARE
