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
_REWRITE = 50
"""A file is written again once one fact in so many is new: a push then costs the same however many there are."""


class KeptFacts:
    """Facts of one kind about one repository. Those that nobody asked for are forgotten when it is saved."""

    def __init__(self, home: Path | None, kind: str, place: str) -> None:
        """Read what is kept; nothing is kept without ``home``.

        Args:
            home: The folder ``MODELSMITH_HOME``.
            kind: What the facts are about; changed when they change their form.
            place: The repository, as one string.
        """
        self._folder = home / "kept" if home else None
        self._about = f"{kind} of {place} by {__version__}"
        name = hashlib.sha256(self._about.encode()).hexdigest()[:24]
        self._file = self._folder / f"{name}.json" if self._folder else None
        self._known = self._read()
        self._asked: dict[str, Any] = {}
        self._new = 0

    def get(self, key: str) -> Any:
        """The fact under a key; None when there is none."""
        fact = self._known.get(key)
        if fact is not None:
            self._asked[key] = fact
        return fact

    def add(self, key: str, fact: Any) -> None:
        """Keep a fact, which is JSON and not None."""
        self._asked[key] = fact
        self._new += 1

    def save(self) -> None:
        """Write what was asked for and what is new, once that is worth it; a folder that cannot be written is left."""
        if self._file and self._folder and self._new * _REWRITE >= len(self._asked) and self._new:
            with suppress(OSError, ValueError):
                self._folder.mkdir(parents=True, exist_ok=True)
                data = json.dumps(self._asked, separators=(",", ":")).encode()
                write_atomically(self._file, f"{self._code(self._secret(), data)}\n".encode() + data)
                self._new = 0

    def _read(self) -> dict[str, Any]:
        if self._file is None:
            return {}
        try:
            if self._file.stat().st_size > _LARGEST:
                return {}
            code, _, data = read_plain(self._file).partition(b"\n")
            if hmac.compare_digest(code, self._code(self._secret(), data).encode()):
                facts: dict[str, Any] = json.loads(data)
                return facts
        except (OSError, ValueError):
            pass
        return {}

    def _code(self, secret: bytes, data: bytes) -> str:
        return hmac.new(secret, self._about.encode() + b"\n" + data, hashlib.sha256).hexdigest()

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
