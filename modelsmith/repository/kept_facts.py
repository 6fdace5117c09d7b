"""What follows from objects that never change, kept so that it need not be worked out at each push.

A fact is a small JSON value under the id of the git object that it follows from, so it can be lost but never go out of
date: without it, the object is read again, and the verdict is the same. What could change a verdict is a false one. So
facts lie outside of every clone, under ``MODELSMITH_HOME`` beside the keys, each file with a code (HMAC-SHA256) under a
secret of that folder, for one toolkit, one repository and one kind of fact. Whoever can write there has the keys, too.
A file that is damaged, or anybody else's, is none.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import modelsmith
from modelsmith import __version__
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

GOVERNED = "folders of main, 2"
"""Facts about folders of promotions and receipts."""
_SECRET_BYTES = 32
_LARGEST = 1 << 26
"""Bytes of a file that is read (64 MiB)."""
_HEADER = 100
"""Bytes in which the first line of a block ends: a code of 64, a length."""
_MOST_BLOCKS = 64
"""What is new is put at the end of a file so often; then the file is written again."""
_STALE = 4
"""It is also written again when more than one fact in so many was not asked for."""


class KeptFacts:
    """Facts of one kind about one repository. Those that nobody asks for are forgotten when the file is written again.

    A file is a list of blocks: a line with the code and the length of what follows, then a line for each fact. A block
    that is torn or false is none, and nothing after it is read; blocks that are lost, in another order or there twice
    say nothing that is not so. So two processes may add to a file at once: at worst, one's facts are lost.

    A fact is parsed when somebody asks what it says: there are thousands, and few are looked at.
    """

    def __init__(self, home: Path | None, kind: str, place: str) -> None:
        """Read what is kept; nothing is kept without ``home``.

        Args:
            home: The folder ``MODELSMITH_HOME``.
            kind: What the facts are about; changed when they change their form.
            place: The repository, as one string.
        """
        self._folder = home / "kept" if home else None
        self._home, self._kind, self._place = home, kind, place
        self._beside: dict[str, KeptFacts] = {}
        self._about = f"{kind} of {place} by {__version__}"
        name = hashlib.sha256(self._about.encode()).hexdigest()[:24]
        self._file = self._folder / f"{name}.facts" if self._folder else None
        self._blocks = 0
        """Of the file; none where nothing can be put at its end, so that it is written again."""
        self._known: dict[str, str] = {}
        """Facts as they lie in the file."""
        self._asked: set[str] = set()
        self._new: dict[str, str] = {}
        try:
            self._read()
        except (OSError, ValueError):
            self._blocks = 0

    def beside(self, kind: str) -> KeptFacts:
        """Facts of another kind about the same, in a file of their own that is saved with this one.

        For what is not asked for together: all of a file is forgotten that nobody asks for.
        """
        if kind not in self._beside:
            self._beside[kind] = KeptFacts(self._home, f"{self._kind}, {kind}", self._place)
        return self._beside[kind]

    def get(self, key: str) -> Any:
        """The fact under a key; None when there is none."""
        found = self.text(key)
        return None if found is None else json.loads(found)

    def text(self, key: str) -> str | None:
        """The fact under a key as it is kept: JSON on one line, without spaces between its parts."""
        found = self._known.get(key)
        if found is not None:
            self._asked.add(key)
            return found
        return self._new.get(key)

    def add(self, key: str, fact: Any) -> None:
        """Keep a fact, which is JSON and not None; under a key that could not stand on a line, it is not kept."""
        if key.isprintable():
            self._new[key] = json.dumps(fact, separators=(",", ":"))

    def save(self) -> None:
        """Write what is new, and what was asked for where that is due; a folder that cannot be written is left."""
        for facts in self._beside.values():
            facts.save()
        if self._file is None or self._folder is None or not self._new:
            return
        stale = len(self._known) - len(self._asked)
        with suppress(OSError, ValueError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if 0 < self._blocks < _MOST_BLOCKS and _STALE * stale <= len(self._known):
                self._append(self._file, self._block(self._new))
            else:
                kept = {key: fact for key, fact in self._known.items() if key in self._asked}
                write_atomically(self._file, self._block(kept | self._new))
            self._known |= self._new
            self._asked |= self._new.keys()
            self._new.clear()

    def _append(self, file: Path, block: bytes) -> None:
        """Put it at the end, in one piece, where another process may do so at the same time."""
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(handle, block)
            self._blocks += 1
        finally:
            os.close(handle)

    def _read(self) -> None:
        """Read the blocks of the file up to the first that does not hold.

        Raises:
            OSError: what the file system said.
            ValueError: nothing of it, or no more, is ours.
        """
        if self._file is None or self._file.stat().st_size > _LARGEST:
            return
        data, secret, at = memoryview(read_plain(self._file)), self._secret(), 0
        while at < len(data):
            line, _, _ = bytes(data[at : at + _HEADER]).partition(b"\n")
            code, _, length = line.partition(b" ")
            begin = at + len(line) + 1
            at = begin + int(length)
            block = data[begin:at]
            if len(block) != int(length) or not hmac.compare_digest(code, self._code(secret, block).encode()):
                raise ValueError(f"{self._file} is not ours from byte {begin} on")
            lines = (line.partition("\t") for line in str(block, "utf-8").split("\n"))
            self._known.update((key, fact) for key, _, fact in lines)
            self._blocks += 1

    def _block(self, facts: Mapping[str, str]) -> bytes:
        data = "\n".join(f"{key}\t{fact}" for key, fact in facts.items()).encode()
        return f"{self._code(self._secret(), data)} {len(data)}\n".encode() + data

    def _code(self, secret: bytes, data: bytes | memoryview) -> str:
        code = hmac.new(secret, self._about.encode() + b"\n", hashlib.sha256)
        code.update(data)
        return code.hexdigest()

    def _secret(self) -> bytes:
        """The folder's secret, made when there is none; one of another length is none.

        Raises:
            OSError: what the file system said.
            ValueError: the file is not ours.
        """
        assert self._folder
        path = self._folder / "secret"
        if not path.exists():
            with suppress(FileExistsError):
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(file, "wb") as stream:
                    stream.write(secrets.token_bytes(_SECRET_BYTES))
        secret = read_plain(path)
        if len(secret) != _SECRET_BYTES:
            raise ValueError(f"{path} is not a secret of {_SECRET_BYTES} bytes")
        return secret


def this_toolkit() -> str:
    """The toolkit as it is installed: names, sizes and times of its modules, and what else is installed by version.

    For facts that hang on all of its code, and on that of libraries.
    """
    hashed = hashlib.sha256(sys.version.encode())
    for folder in filter(os.path.isdir, sys.path):
        hashed.update("\n".join(sorted(name for name in os.listdir(folder) if name.endswith(".dist-info"))).encode())
    top = Path(modelsmith.__file__).parent
    for folder, _, names in sorted(os.walk(top)):
        for name in sorted(names):
            if name.endswith((".py", ".toml", ".yaml", ".json")):
                status = os.stat(f"{folder}/{name}")
                hashed.update(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return hashed.hexdigest()
