"""The beginning of a GGUF file, read strictly, so that no loader is made to read, allocate or seek without bound.

A GGUF file holds no code. Its header holds counts, lengths and offsets that loaders in C and Python believe, so each
is held against the size of the file before anybody loads it. Every byte must belong to something: header, tensors and
their padding. Format: GGUF versions 2 and 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; sizes of
blocks as in ``GGML_QUANT_SIZES`` of the ``gguf`` package.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure

LARGEST_HEADER: Final = 64 << 20
"""Bytes; the vocabularies of today's models take less than a third of it."""
_MOST_VALUES: Final = 1 << 16
_MOST_TENSORS: Final = 1 << 16
_LONGEST_NAME: Final = 256
_MOST_DIMENSIONS: Final = 4
_LARGEST_ALIGNMENT: Final = 1 << 16
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type; 8 is a string, 9 an array."""
_UINT32, _STRING, _ARRAY = 4, 8, 9
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1),
    25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Values and bytes of a block by the type of a tensor: those that files hold, not those of computation alone."""
_NAME = re.compile(rb"[\x21-\x7e]{1,256}")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Header(NamedTuple):
    """The parsed header of a GGUF file: its values and where its tensors lie."""

    architecture: str
    """``general.architecture``: the kind of network, such as ``llama``."""
    tensors: int
    bytes: int
    """Bytes of the header, before the tensors' data."""


def require_sound(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        IntegrityFailure: ``gguf-header``, with what is wrong.
        InfrastructureFailure: ``unreadable``.
    """
    try:
        with path.open("rb") as file:
            return read_header(file, path.stat().st_size)
    except OSError as error:
        raise InfrastructureFailure(
            "unreadable", f"{path.name} cannot be read: {error.strerror}.", "Check its permissions.", path=str(path)
        ) from error
    except _Bad as bad:
        raise IntegrityFailure(
            "gguf-header",
            f"{path.name} is not one whole GGUF file: {bad}.",
            "Make the file again with a tool that you trust; nothing of it was loaded.",
            file=path.name,
        ) from None


class _Bad(Exception):
    """A header that cannot be relied on; the message says why."""


def read_header(file: BinaryIO, size: int) -> Header:
    """Read it from the file's beginning, never more than `LARGEST_HEADER` bytes; ``size`` is the file's, in bytes."""
    reader = _Reader(file, min(size, LARGEST_HEADER))
    if reader.take(4) != b"GGUF":
        raise _Bad("it does not begin with the letters GGUF")
    version, tensors, values = reader.unpack("<IQQ")
    if version not in (2, 3):
        raise _Bad(f"version {version} is not known")
    if not 0 < tensors <= _MOST_TENSORS or values > _MOST_VALUES:
        raise _Bad(f"{tensors} tensors and {values} values are not what a model has")
    metadata = _values(reader, values)
    architecture, alignment = metadata.get(b"general.architecture"), metadata.get(b"general.alignment", 32)
    if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
        raise _Bad("it does not say its general.architecture")
    if not isinstance(alignment, int) or not 0 < alignment <= _LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise _Bad("its general.alignment is not a power of two up to 65536")
    if metadata.get(b"split.count", 1) not in (0, 1):
        raise _Bad("it is a part of several files")
    _require_data(_extents(reader, tensors), alignment, size - -(-reader.done // alignment) * alignment)
    return Header(architecture, tensors, reader.done)


class _Reader:
    """Takes bytes from a file within a budget."""

    def __init__(self, file: BinaryIO, budget: int) -> None:
        self._file, self._budget, self.done = file, budget, 0

    def take(self, count: int) -> bytes:
        self._spend(count)
        data = self._file.read(count)
        if len(data) != count:
            raise _Bad("it ends within its header")
        return data

    def skip(self, count: int) -> None:
        self._spend(count)
        self._file.seek(count, 1)

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def text(self) -> bytes:
        return self.take(self.unpack("<Q")[0])

    def name(self) -> bytes:
        length = self.unpack("<Q")[0]
        name = self.take(length) if length <= _LONGEST_NAME else b""
        if not _NAME.fullmatch(name):
            raise _Bad("a name in it is empty, too long, or holds more than plain characters")
        return name

    def _spend(self, count: int) -> None:
        if count > self._budget - self.done:
            raise _Bad(f"its header does not end within the file, or within {LARGEST_HEADER} bytes")
        self.done += count


def _values(reader: _Reader, count: int) -> dict[bytes, str | int | None]:
    """Every key, with its value where that is text or a whole number of 32 bits."""
    values: dict[bytes, str | int | None] = {}
    for _ in range(count):
        key, (kind,) = reader.name(), reader.unpack("<I")
        if key in values:
            raise _Bad("a key in it stands twice")
        values[key] = _value(reader, kind)
    return values


def _value(reader: _Reader, kind: int) -> str | int | None:
    if kind == _STRING:
        return reader.text().decode("utf-8", "replace")
    if kind == _ARRAY:
        inner, length = reader.unpack("<IQ")
        if inner in _SIZES:
            reader.skip(_SIZES[inner] * length)
        elif inner == _STRING:
            for _ in range(length):
                reader.skip(reader.unpack("<Q")[0])
        else:
            raise _Bad("an array in it holds values of an unknown type, or arrays")
        return None
    if kind not in _SIZES:
        raise _Bad("a value in it is of an unknown type")
    data = reader.take(_SIZES[kind])
    return int.from_bytes(data, "little") if kind in (2, _UINT32) else None


def _extents(reader: _Reader, count: int) -> list[tuple[int, int]]:
    """Offset and length of each tensor's data, in bytes."""
    names: set[bytes] = set()
    extents = []
    for _ in range(count):
        name, (dimensions,) = reader.name(), reader.unpack("<I")
        if name in names:
            raise _Bad("a tensor in it stands twice")
        names.add(name)
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise _Bad("a tensor in it has no dimensions, or more than four")
        shape = reader.unpack(f"<{dimensions}Q")
        kind, offset = reader.unpack("<IQ")
        if kind not in _BLOCKS:
            raise _Bad(f"a tensor in it is of type {kind}, which no file should hold")
        values, size = _BLOCKS[kind]
        if 0 in shape or shape[0] % values:
            raise _Bad("a tensor in it has no whole number of blocks")
        length = size
        for extent in (shape[0] // values, *shape[1:]):
            length *= extent
        extents.append((offset, length))
    return extents


def _require_data(extents: list[tuple[int, int]], alignment: int, room: int) -> None:
    """Tensors lie one behind the other from the data's beginning to the file's end, with padding only between."""
    at = 0
    for offset, length in sorted(extents):
        if offset != -(-at // alignment) * alignment:
            raise _Bad("its tensors overlap, or leave room for something else")
        at = offset + length
    if not at <= room <= -(-at // alignment) * alignment:
        raise _Bad("it ends before its tensors do, or goes on after them")
