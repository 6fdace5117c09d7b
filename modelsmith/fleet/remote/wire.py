"""What the two sides of a connection say to each other: frames, each a line of JSON and as many bytes as it names.

Neither side believes the other: a frame that is none, or is too long, ends the connection.
"""

from __future__ import annotations

import os
import select
import time
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from modelsmith.schema.base import Digest, Frozen

PROTOCOL: Final = 2
"""Rises when a frame comes to mean something else."""
GREETING: Final = b"modelsmith-host\n"
"""Line with which the host begins. What a login shell prints before it is passed over."""
PIECE: Final = 1 << 20
"""Most bytes of a file that one frame carries."""
MOST_NAME: Final = 800
"""Characters of a file's name; the longest that `remote.files` takes has fewer. A frame has room for some more."""
_MOST_HEADER: Final = 16_384
_MOST_BODY: Final = 8 << 20
_MOST_NOISE: Final = 1 << 16

Kind = Literal[
    "hello", "probe", "facts", "prepare", "busy", "missing", "ready", "put", "piece", "end", "gone", "remove", "start",
    "started", "refused", "attach", "ping", "lines", "kept", "ended", "stop", "list", "get", "clean", "done",
]  # fmt: skip


class Frame(Frozen):
    """One word, in either direction; which fields it has is the word's own."""

    kind: Kind
    name: Annotated[str, StringConstraints(max_length=1000)] = ""
    digest: Digest | None = None
    number: Annotated[int, Field(ge=-256, le=1 << 62)] | None = None
    seconds: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    body: Annotated[int, Field(ge=0, le=_MOST_BODY)] = 0
    """How many bytes follow."""


class Listed(Frozen):
    """The files of a job's folder, as the body of a frame says them."""

    files: dict[Annotated[str, StringConstraints(max_length=MOST_NAME)], Digest]


class Closed(Exception):
    """The other side is gone, or says what makes no sense."""


class Channel:
    """Frames over two file descriptors."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes, self._buffer = reads, writes, bytearray()

    def greet(self) -> None:
        """Say the line that begins."""
        self._write(b"\n" + GREETING)

    def find_greeting(self, seconds: float) -> None:
        """Pass over what comes before the line that begins.

        Raises:
            Closed: it does not come.
        """
        until, noise = time.monotonic() + seconds, 0
        while True:
            end = self._buffer.find(b"\n") + 1
            if end:
                line = bytes(self._buffer[:end])
                del self._buffer[:end]
                if line == GREETING:
                    return
                noise += end
            elif not self._read(until - time.monotonic()):
                raise Closed("it does not answer")
            if noise + len(self._buffer) > _MOST_NOISE:
                raise Closed("it says something else")

    def send(self, frame: Frame, body: bytes = b"") -> None:
        """Send a frame.

        Raises:
            Closed: nobody hears it.
        """
        full_frame = frame.model_copy(update={"body": len(body)})
        self._write(full_frame.model_dump_json(exclude_defaults=True).encode() + b"\n" + body)

    def receive(self, seconds: float) -> tuple[Frame, bytes] | None:
        """The next word; None when none came in time. What was begun is waited for by the next call.

        Raises:
            Closed: there will be none.
        """
        until = time.monotonic() + seconds
        while True:
            frame = self._whole()
            if frame:
                return frame
            if not self._read(until - time.monotonic()):
                return None

    def _whole(self) -> tuple[Frame, bytes] | None:
        end = self._buffer.find(b"\n") + 1
        if not end:
            if len(self._buffer) > _MOST_HEADER:
                raise Closed("it says something else")
            return None
        try:
            frame = Frame.model_validate_json(bytes(self._buffer[:end]))
        except ValidationError:
            raise Closed("it says something else") from None
        if len(self._buffer) < end + frame.body:
            return None
        body = bytes(self._buffer[end : end + frame.body])
        del self._buffer[: end + frame.body]
        return frame, body

    def _read(self, seconds: float) -> bool:
        try:
            if not select.select([self._reads], [], [], max(0.0, seconds))[0]:
                return False
            data = os.read(self._reads, PIECE)
        except OSError as error:
            raise Closed(str(error.strerror)) from None
        if not data:
            raise Closed("the connection ended")
        self._buffer += data
        return True

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._writes, view) :]
        except OSError as error:
            raise Closed(str(error.strerror)) from None
