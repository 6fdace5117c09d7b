"""Bearer tokens: what their holders may call. Only their hashes are kept, outside of every clone."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import AwareDatetime, StringConstraints, ValidationError

from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.plain_file import read_own
from modelsmith.schema.system import from_system
from modelsmith.signing.files import write_atomically

_PREFIX = "ms"
MOST_DAYS = 366


class Token(Frozen):
    """The record that is kept of one token; its secret is not in it."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    role: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,32}$")]
    scopes: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9._*-]{1,64}$")], ...]
    """Patterns of names: of tools, such as ``modelsmith_*``, or of clusters. They only take away."""
    hash: Digest
    """SHA-256 of the token, which is 256 random bits: no guess and no table leads back to it."""
    issued_at: AwareDatetime
    expires_at: AwareDatetime

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return datetime.now(UTC) >= self.expires_at


class _TokensFile(Frozen):
    """Content of the file of tokens."""

    tokens: tuple[Token, ...] = ()


class Tokens:
    """The tokens of one home and purpose: agents' (``tokens.json``), or those of the front door's callers."""

    def __init__(self, home: Path, name: str = "tokens", command: str = "mcp-token") -> None:
        self._path = home / f"{name}.json"
        self._command = command
        self._read: tuple[tuple[int, int, int], Mapping[str, Token]] | None = None
        """What the file was when it was read, and its tokens by their hash."""

    def issue(self, role: str, scopes: Sequence[str], days: int) -> tuple[Token, str]:
        """A new token, and what its holder presents: shown once, and kept nowhere.

        Raises:
            InvalidInput: ``usage`` for a scope that is not a pattern of tool names, or another time than 1 to 366 days.
        """
        name, now = secrets.token_hex(4), datetime.now(UTC)
        if not 1 <= days <= MOST_DAYS:
            raise InvalidInput("usage", f"A token holds for 1 to {MOST_DAYS} days", "Say --days so.", days=days)
        secret = f"{_PREFIX}_{name}_{secrets.token_urlsafe(32)}"
        try:
            token = Token(
                id=name,
                role=role,
                scopes=tuple(scopes) or ("*",),
                hash=_hash(secret),
                issued_at=now,
                expires_at=now + timedelta(days=days),
            )
        except ValidationError:
            raise InvalidInput(
                "usage", "A scope is a pattern of names", "Write it like modelsmith_eval_*.", scopes=list(scopes)
            ) from None
        with self._alone():
            self._write((*self.all(), token))
        return token, secret

    def revoke(self, name: str) -> Token:
        """Take a token away; the very next request with it is refused.

        Raises:
            InvalidInput: ``unknown-token``.
        """
        with self._alone():
            tokens = self.all()
            token = next((token for token in tokens if token.id == name), None)
            if token is None:
                raise InvalidInput(
                    "unknown-token",
                    f"There is no token {name[:40]!a}",
                    f"`modelsmith {self._command} list` shows them.",
                    token=name[:40],
                )
            self._write(tuple(token for token in tokens if token.id != name))
        return token

    def of(self, secret: str) -> Token | None:
        """The token of whoever presents this; None for what was never issued, was revoked, or has expired."""
        token = self._by_hash().get(_hash(secret))
        return None if token is None or token.expired else token

    def all(self) -> tuple[Token, ...]:
        """Every token that was not revoked; the file is read again when it is another.

        Raises:
            InvalidInput: ``others-may-write``: somebody else could have put a token of their own there.
            IntegrityFailure: ``tokens-damaged``.
            ModelsmithError: the system gives no file there (`from_system`).
        """
        return tuple(self._by_hash().values())

    def _by_hash(self) -> Mapping[str, Token]:
        try:
            status = os.stat(self._path)
            file = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is None or self._read[0] != file:
                stored = _TokensFile.model_validate_json(read_own(self._path))
                self._read = file, {token.hash: token for token in stored.tokens}
            return self._read[1]
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise from_system(error) from None
        except ValidationError:
            raise IntegrityFailure(
                "tokens-damaged", "The file of tokens cannot be read", "Remove it, and issue new tokens."
            ) from None

    def _alone(self) -> FileLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._path.with_suffix(".lock"), timeout=10)

    def _write(self, tokens: tuple[Token, ...]) -> None:
        write_atomically(self._path, _TokensFile(tokens=tokens).model_dump_json(indent=2).encode(), 0o600)


def callers(home: Path) -> Tokens:
    """Keys of applications that may ask the front door."""
    return Tokens(home, "callers", "serve-key")


def _hash(secret: str) -> str:
    return f"sha256:{hashlib.sha256(secret.encode('utf-8', 'replace')).hexdigest()}"
