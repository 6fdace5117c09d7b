"""Standard input, output and error as the command line needs them, whatever it was started with.

A result that cannot be written is an error. A note that cannot be written is lost, and stops nothing. A character that
the terminal's encoding lacks is written as an escape. A standard stream that was closed is opened, so that no file of
ours takes its number.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import BinaryIO, TextIO

from typing_extensions import override

_CLOSED = ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))
"""How a closed stream is opened on the null device: writing a result to one must fail as it would have."""


class OutputLost(Exception):
    """Standard output takes no more. No OSError, so that nobody on the way takes it for a failure of the work."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.reason = error.strerror or str(error)
        self.reader_left = error.errno == errno.EPIPE
        """Whether the other end of a pipe, ``head`` perhaps, has read all it wanted."""


class _Results(io.TextIOWrapper):
    """Standard output. Raises OutputLost; what is printed afterwards goes nowhere."""

    @override
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._lost(error) from None

    @override
    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> OutputLost:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        return OutputLost(error)


class _Notes(io.TextIOWrapper):
    """Standard error, as a stream for notes."""

    @override
    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    @override
    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Put our own streams in place of the interpreter's."""
    for number, mode in _CLOSED:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = _over(sys.stdout, 1, _Results)
    sys.stderr = _over(sys.stderr, 2, _Notes)


def _over(stream: TextIO | None, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    binary: BinaryIO
    if isinstance(stream, io.TextIOWrapper):
        encoding, binary = stream.encoding, stream.detach()
    else:
        encoding, binary = "utf-8", os.fdopen(number, "wb", closefd=False)
    lines = kind is _Notes or binary.isatty()
    return kind(binary, encoding=encoding, errors="backslashreplace", line_buffering=lines)
