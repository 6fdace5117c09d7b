"""What the operating system refuses, told in the one vocabulary of failures. Every command passes through here."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError

_SHOWN = 200
"""Characters of a path that a message shows."""


class _Kind(NamedTuple):
    """What an error number of the system means to the person who ran the command."""

    error: type[ModelsmithError]
    code: str
    mend: str


_FULL = _Kind(InfrastructureFailure, "disk-full", "Make room there, then run the command again.")
_CLOSED = _Kind(InfrastructureFailure, "not-permitted", "Make it readable and writable for this user.")
_WRONG = _Kind(InvalidInput, "bad-path", "Name another place, or put there what belongs there.")
_LONG = _Kind(InvalidInput, "too-long", "Use a shorter name.")
_SHORT_OF = _Kind(
    InfrastructureFailure, "out-of-resources", "Let other programs end, or raise the limit (`ulimit -a`)."
)
_OTHER = _Kind(InfrastructureFailure, "system", "Mend what the system names, then run the command again.")
_KINDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.E2BIG), _LONG),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN), _SHORT_OF),
    **dict.fromkeys(
        (
            errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL, errno.ENOTEMPTY,
            errno.ENXIO, errno.ENODEV,
        ),
        _WRONG,
    ),
}  # fmt: skip


@contextmanager
def known_failures() -> Iterator[None]:
    """Raise what the operating system refuses inside as a ModelsmithError.

    Raises:
        InvalidInput: a path that cannot be used, or text that cannot be encoded.
        InfrastructureFailure: permissions, room, memory, connections, the clone's own databases.
    """
    try:
        yield
    except OSError as error:
        raise from_system(error) from error
    except UnicodeError as error:
        raise not_text(str(error)) from error
    except MemoryError as error:
        raise InfrastructureFailure("out-of-memory", "There is not enough memory", _SHORT_OF.mend) from error
    except Exception as error:
        sqlite = sys.modules.get("sqlite3")
        if sqlite and isinstance(error, sqlite.Error):
            mend = "See that .git/modelsmith/ is writable and has room; what it holds is made anew when removed."
            raise InfrastructureFailure(
                "database", f"A database of this clone: {error}", mend, reason=str(error)
            ) from error
        raise


def from_system(error: OSError) -> ModelsmithError:
    """The failure that an error number stands for, with the path that it is about."""
    kind = _KINDS.get(error.errno or 0, _OTHER)
    path = error.filename if error.filename is not None else error.filename2
    reason = error.strerror or str(error) or type(error).__name__
    if path is None or isinstance(path, int):
        return kind.error(kind.code, reason, kind.mend)
    text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
    path_text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return kind.error(kind.code, f"{path_text}: {reason}", kind.mend, path=path_text)


def not_text(problem: str) -> InvalidInput:
    """The failure for a name or text that is not Unicode, or that the locale cannot say."""
    return InvalidInput(
        "not-utf8", f"Not UTF-8: {problem}", "Use UTF-8 names and texts, and a UTF-8 locale, such as LC_ALL=C.UTF-8."
    )


def require_text(word: str) -> str:
    """The word itself, unless it stands for bytes that are no text: they could be neither recorded nor shown.

    Raises:
        InvalidInput: ``not-utf8``.
    """
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise not_text(ascii(word))
    return word
