"""Decision ids: who was to answer one request, in a text that only this door can have made.

An id is ``base64url(JSON) . base64url(HMAC-SHA-256)``; the second is over the text of the first, cut to 128 bits. So a
report that comes back needs no table to be placed, and one of an invented id is refused. The key lies in
``MODELSMITH_HOME``, outside of every clone; doors that share it know each other's ids.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modelsmith.live.port import Decision
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.signing.files import sync_folder

LONGEST: Final = 1024
"""Characters of an id at most; one has some 300."""
_VERSION: Final = 1
_KEY_FILE: Final = "decisions.key"
_KEY_BYTES: Final = 32


def key_of(home: Path) -> bytes:
    """The key of this home's decision ids; made, readable by its owner alone, when there is none.

    Raises:
        InfrastructureFailure: ``key-not-written`` where it can be neither read nor made.
    """
    path = home / "live" / _KEY_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        if not path.exists():
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
                    file.flush()
                    os.fsync(handle)
                os.link(part, path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
            sync_folder(path.parent)
        key = path.read_bytes()
    except OSError as error:
        raise InfrastructureFailure(
            "key-not-written", f"{path}: {error.strerror}", "Make the folder writable for this user.", path=str(path)
        ) from None
    if len(key) != _KEY_BYTES:
        raise InfrastructureFailure(
            "key-not-written",
            f"{path} is no key of decision ids",
            "Remove the file; a new key is made.",
            path=str(path),
        )
    return key


class Ids:
    """Makes decision ids, and reads those that it made."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def unit(self, cluster: str, specialist: str, key: str) -> str:
        """What stands for a key: from it nobody without the secret learns, or guesses, whose it is."""
        text = json.dumps(["unit", cluster, specialist, key]).encode()
        return hmac.digest(self._key, text, hashlib.sha256)[:8].hex()

    def named(self, decision: Decision) -> Decision:
        """The decision with its id."""
        facts = [
            *(_VERSION, decision.cluster, decision.specialist, decision.incumbent, decision.record, decision.arm),
            *(decision.unit, decision.share, decision.stage, round(decision.at.timestamp() * 1000)),
            secrets.token_hex(8),
        ]
        text = _text(json.dumps(facts, separators=(",", ":")).encode())
        return replace(decision, id=f"{text}.{self._mark(text)}")

    def read(self, given: object) -> Decision | None:
        """The decision of an id; None for what this key has not made."""
        if not isinstance(given, str) or len(given) > LONGEST or not given.isascii():
            return None
        text, _, mark = given.partition(".")
        if not hmac.compare_digest(mark, self._mark(text)):
            return None
        version, cluster, specialist, incumbent, record, arm, unit, share, stage, at, _ = json.loads(
            urlsafe_b64decode(text + "=" * (-len(text) % 4))
        )
        if version != _VERSION:
            return None
        moment = datetime.fromtimestamp(at / 1000, UTC)
        return Decision(given, cluster, specialist, incumbent, record, arm, unit, share, stage, moment)

    def _mark(self, text: str) -> str:
        return _text(hmac.digest(self._key, b"decision\0" + text.encode(), hashlib.sha256)[:16])


def handle(decision: Decision) -> bytes:
    """Eight bytes that stand for a decision in the store."""
    return hashlib.blake2b(decision.id.encode(), digest_size=8).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
