"""What a target is, and what targets share: several parts in one input, spellings, keys and a folder."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.signing import keys, ssh

ROOT = Path(__file__).parents[1]
BETWEEN = b"\n%%%%\n"
"""Stands between the parts of an input that has several."""


@dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    """Valid inputs."""
    slow: bool = False
    """It starts processes: a few examples have to do where time is short."""

    def run(self, data: bytes) -> None:
        """Read an input; a refusal is an answer, any other exception is a finding."""
        try:
            self.read(data)
        except ModelsmithError:
            return


class Files:
    """A tree in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def paths(self, prefix: str = "") -> list[str]:
        """See `Tree`."""
        below = prefix.removesuffix("/")
        return sorted(p for p in self.files if not below or p == below or p.startswith(f"{below}/"))

    def read(self, path: str) -> bytes:
        """See `Tree`."""
        if path not in self.files:
            raise InvalidInput("missing-file", f"There is no file {path}", "Add it.")
        return self.files[path]

    def exists(self, path: str) -> bool:
        """See `Tree`."""
        return path in self.files


@cache
def scratch() -> Path:
    """A folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="modelsmith-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def signing_key() -> Path:
    """A key of a trusted harness."""
    keys.create_signing_key(scratch() / "harness.pem")
    return scratch() / "harness.pem"


@cache
def ssh_key() -> Path:
    """A key of the person maya."""
    keys.create_ssh_key(scratch() / "maya", "maya")
    return scratch() / "maya"


def trusted() -> list[bytes]:
    """The trust root."""
    return [keys.public_pem(signing_key())]


def parts(data: bytes, count: int) -> list[bytes]:
    """The parts of an input; those that it lacks are empty."""
    pieces = data.split(BETWEEN, count - 1)
    return pieces + [b""] * (count - len(pieces))


def spellings(data: bytes) -> Iterator[bytes]:
    """The bytes, and what they say in canonical JSON: a mutation rarely stays canonical."""
    yield data
    try:
        canonical = canonical_json(json.loads(data))
    except (ValueError, RecursionError):
        return
    if canonical != data:
        yield canonical


def each(data: bytes, read_spelling: Callable[[bytes], object]) -> None:
    """Read every spelling; the last refusal is the answer."""
    refused = None
    for spelling in spellings(data):
        try:
            read_spelling(spelling)
        except ModelsmithError as error:
            refused = error
    if refused:
        raise refused


@cache
def public() -> str:
    """Her public key."""
    return ssh.public_key(ssh_key().with_suffix(".pub"))
