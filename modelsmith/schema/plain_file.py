"""Files of the machine, read without ever waiting for them.

A named pipe in the place of a file gives its reader nothing and holds up the command for ever; a device may as well.

What the product keeps is read by these functions, wherever somebody else might have put something odd in its place.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path
from typing import IO

from modelsmith.schema.errors import InvalidInput


def open_plain(path: str | Path) -> IO[bytes]:
    """The file, open for reading, when it is one.

    Raises:
        OSError: it cannot be opened; ``EISDIR`` for a folder, ``EINVAL`` for a pipe, a socket or a device.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "A pipe, a socket or a device lies where a file belongs", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: str | Path, most: int = -1) -> bytes:
    """Content of the file, at most so many bytes of it.

    Raises:
        OSError: as `open_plain`.
    """
    with open_plain(path) as file:
        return file.read(most)


def read_own(path: Path, most: int = -1) -> bytes:
    """What a file holds by which this machine decides where things go: nobody but its owner may write it.

    At most so many bytes of it are read.

    As OpenSSH reads its settings: the owner is this user or root, others may not write, and a group only where it is
    the owner's own, as many systems give each user one.

    Raises:
        InvalidInput: ``others-may-write``.
        OSError: as `open_plain`.
    """
    with open_plain(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (os.geteuid(), 0) or _others_write(status):
            raise InvalidInput(
                "others-may-write",
                f"{path} is another user's, or others may write it: it says where things go",
                f"Look at what it says, then run as the user whose it is to be: chmod go-w {path}",
                path=str(path),
            )
        return file.read(most)


def is_open_to_all(folder: Path) -> bool:
    """Whether everybody on this machine may make files in a folder. A sticky bit keeps them from removing, no more."""
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:  # whoever reads there says why not
        return False


def who_else_writes(folder: Path) -> str | None:
    """In words, who beside its owner may change what lies in a folder, or put another in its place; None for nobody.

    Raises:
        OSError: it cannot be looked at.
    """
    status, above = folder.stat(), folder.resolve().parent.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return "it is another user's"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_uid, status.st_gid):
        return "its group may write in it, and others are in that group"
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        return "everybody may put another in its place, by the permissions of the folder above"
    return None


def _others_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_own_group(status.st_uid, status.st_gid)


def _is_own_group(user: int, group: int) -> bool:
    """Whether the group has the user's name and no other member; one that the system does not know has others."""
    try:
        name, group_entry = pwd.getpwuid(user).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return group_entry.gr_name == name and set(group_entry.gr_mem) <= {name}
