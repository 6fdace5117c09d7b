"""Decision ids: who was to answer one request, in a text that only this door can have made.

An id is ``base64url(facts) . base64url(HMAC-SHA-256)``; the second is over the text of the first, cut to 128 bits. So a
report that comes back needs no table to be placed, and one of an invented id is refused. The key lies in
``MODELSMITH_HOME``, outside of every clone; doors that share it know each other's ids.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from modelsmith.live.port import Arm, Decision, Stage
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import sync_folder

LONGEST: Final = 1024
"""Characters of an id at most; one has some 300."""
_VERSION: Final = "1"
_BETWEEN: Final = "\x1f"
"""Between the parts of an id; no name of a cluster or specialist, and no digest, holds it."""
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
        key = read_plain(path)
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


def known_key(home: Path) -> bytes | None:
    """The key of this home's decision ids; None where no front door of it has ever made one. Raises as `key_of`."""
    return key_of(home) if (home / "live" / _KEY_FILE).exists() else None


class Ids:
    """Makes decision ids, and reads those that it made."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._begun = hmac.new(key, b"decision\0", "sha256")
        """Of every mark, made ready once."""

    def unit(self, cluster: str, specialist: str, key: str) -> str:
        """What stands for a key: from it nobody without the secret learns, or guesses, whose it is."""
        text = f"{cluster}\0{specialist}\0{key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=8, person=b"unit").hexdigest()

    def decision(
        self,
        cluster: str,
        specialist: str,
        incumbent: str,
        record: str,
        arm: Arm,
        unit: str,
        share: float,
        stage: Stage,
        at: datetime,
    ) -> Decision:
        """The decision with an id of its own."""
        facts = (
            *(_VERSION, cluster, specialist, incumbent, record, arm, unit, repr(share), stage),
            *(str(int(at.timestamp() * 1000)), os.urandom(8).hex()),
        )
        text = _text(_BETWEEN.join(facts).encode())
        return Decision(
            f"{text}.{self._mark(text)}", cluster, specialist, incumbent, record, arm, unit, share, stage, at
        )

    def read(self, text_or_other: object) -> Decision | None:
        """The decision of an id; None for what this key has not made."""
        if not isinstance(text_or_other, str) or len(text_or_other) > LONGEST or not text_or_other.isascii():
            return None
        text, _, mark = text_or_other.partition(".")
        if not hmac.compare_digest(mark, self._mark(text)):
            return None
        facts = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(_BETWEEN)
        if facts[0] != _VERSION:
            return None
        _, cluster, specialist, incumbent, record, arm, unit, share, stage, at, _ = facts
        moment = datetime.fromtimestamp(int(at) / 1000, UTC)
        # What the HMAC covers is what `decision` wrote.
        return Decision(
            text_or_other,
            cluster,
            specialist,
            incumbent,
            record,
            cast(Arm, arm),
            unit,
            float(share),
            cast(Stage, stage),
            moment,
        )

    def _mark(self, text: str) -> str:
        mac = self._begun.copy()
        mac.update(text.encode())
        return _text(mac.digest()[:16])


def handle(decision: Decision) -> bytes:
    """Eight bytes that stand for a decision in the store."""
    return hashlib.blake2b(decision.id.encode(), digest_size=8).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
