"""SSH signatures by people: ``ssh-keygen -Y``, so that keys stay in the files, agents and tokens that people have.

Who signed follows from the signature's key alone: a name is looked up by the key, never offered by the signer.
Format: PROTOCOL.sshsig and ALLOWED SIGNERS of ssh-keygen(1). Needs OpenSSH 8.9 or later.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput

_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_ARMOR = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END SSH SIGNATURE-----\n?", re.ASCII
)
_LARGEST_SIGNATURE = 16_384
_SMALLEST_RSA_BITS = 2048
_CURVES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
_EPOCH = datetime.fromtimestamp(0, UTC)


class AllowedKey(NamedTuple):
    """A public key that speaks for one actor while it is valid."""

    actor: str
    key: str
    """``ssh-ed25519 AAAA...``: type and base64, without comment."""
    valid_after: datetime | None = None
    """First moment of validity."""
    valid_before: datetime | None = None
    """First moment at which it is no longer valid."""


def sign(payload: bytes, key: Path, namespace: str) -> str:
    """The armored signature of the payload.

    The key file may be encrypted (``ssh-keygen`` asks on the terminal) or public, with the private half in an agent
    or a token.

    Raises:
        InvalidInput: ``missing-key``, ``key-permissions``, ``wrong-passphrase`` or ``unusable-key``.
        InfrastructureFailure: ``missing-ssh-keygen``.
    """
    _check_namespace(namespace)
    _check_present(key)
    result = keygen("-Y", "sign", "-f", str(key), "-n", namespace, stdin=payload)
    if result.returncode:
        raise _unusable(key, result.stderr)
    return result.stdout.decode("ascii").replace("\r\n", "\n")


def verify(payload: bytes, signature: str, namespace: str, allowed: Sequence[AllowedKey], at: datetime) -> str:
    """Who signed the payload, by the signature's key only.

    Args:
        payload: What was signed.
        signature: The armored signature.
        namespace: What the signature is for; one made for another purpose is refused.
        allowed: Every key that may speak, from the governed people file.
        at: The moment at which the key must be valid.

    Returns:
        The actor that holds the key.

    Raises:
        IntegrityFailure: ``unknown-key``, ``ambiguous-key`` (two actors hold it), ``key-not-valid`` at that moment,
            or ``bad-signature`` (not a signature, another namespace, or a changed payload).
        InvalidInput: ``invalid-allowed-key``, ``invalid-namespace`` or ``invalid-time``.
        InfrastructureFailure: ``missing-ssh-keygen``.
    """
    _check_namespace(namespace)
    moment = _timestamp(at)
    holders = _holders(allowed)
    if len(signature) > _LARGEST_SIGNATURE or not _ARMOR.fullmatch(signature):
        raise _bad("The signature is not an armored SSH signature.")
    with tempfile.TemporaryDirectory(prefix="modelsmith-") as folder:
        check = _Check(Path(folder), payload, signature, namespace, moment)
        found = check.find_principals(holders)
        if not found:
            if check.is_sound():
                raise IntegrityFailure(
                    "unknown-key",
                    "The signature is by a key that nobody here holds.",
                    "Sign with a key that is listed in people.yaml.",
                )
            raise _bad("The signature does not fit what it is said to sign.")
        if len(found) > 1:
            raise IntegrityFailure(
                "ambiguous-key",
                f"The signing key is held by {' and '.join(found)}, so it names nobody.",
                "Give each actor a key of their own in people.yaml.",
                actors=found,
            )
        actor = found[0]
        own = [entry for entry in allowed if entry.actor == actor]
        if check.is_signed_by(actor, [_line(entry, namespace) for entry in own if _is_valid(entry, at)]):
            return actor
        if check.is_signed_by(actor, [_line(AllowedKey(actor, entry.key), namespace) for entry in own]):
            raise IntegrityFailure(
                "key-not-valid",
                f"The key of {actor} was not valid at {at.isoformat()}.",
                "Sign with a key that is valid, or have its validity changed in people.yaml.",
                actor=actor,
            )
        raise _bad("The signature does not fit what it is said to sign.")


def public_key(path: Path) -> str:
    """The public key of a private or public key file: type and base64, without comment.

    A passphrase is asked for only where the file's format hides the public half.

    Raises:
        InvalidInput: ``missing-key``, ``key-permissions`` or ``unusable-key``.
        InfrastructureFailure: ``missing-ssh-keygen``.
    """
    _check_present(path)
    result = keygen("-e", "-m", "RFC4716", "-f", str(path))
    if result.returncode:
        raise _unusable(path, result.stderr)
    lines = result.stdout.decode("ascii", "replace").splitlines()
    body = "".join(line for line in lines if ":" not in line and not line.startswith("----"))
    try:
        blob = base64.b64decode(body, validate=True)
        (size,) = struct.unpack_from(">I", blob)
        key = f"{blob[4 : 4 + size].decode('ascii')} {body}"
        check_key(key)
    except (ValueError, struct.error, InvalidInput):
        raise _unusable(path, result.stderr) from None
    return key


def check_key(key: str) -> None:
    """Refuse anything but one plain public key in its one canonical spelling.

    Two spellings of one key would let one key pass as two; a newline or option would add lines to ``allowed_signers``.

    Raises:
        InvalidInput: ``invalid-allowed-key``.
    """
    kind, _, body = key.partition(" ")
    try:
        blob = base64.b64decode(body, validate=True)
        canonical = base64.b64encode(blob).decode("ascii") == body and _is_public_key(kind, blob)
    except (ValueError, binascii.Error, struct.error):
        canonical = False
    if not canonical:
        raise InvalidInput(
            "invalid-allowed-key",
            f"{key[:40]!a} is not a plain SSH public key.",
            "Write the key's type and base64 as in its .pub file, without options and comment.",
        )


def keygen(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run ``ssh-keygen``; times are UTC.

    Raises:
        InfrastructureFailure: ``missing-ssh-keygen``.
    """
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False, env=environment, cwd=folder
        )
    except FileNotFoundError:
        raise InfrastructureFailure(
            "missing-ssh-keygen", "ssh-keygen is not installed.", "Install OpenSSH 8.9 or later."
        ) from None


class _Check(NamedTuple):
    """One signature under examination, in a private folder."""

    folder: Path
    payload: bytes
    signature: str
    namespace: str
    moment: str

    def find_principals(self, holders: Mapping[str, Sequence[str]]) -> list[str]:
        """Every actor that holds the signature's key, whether it is valid now or not."""
        result = self._run(
            [f"{','.join(actors)} {key}" for key, actors in holders.items()],
            *("-Y", "find-principals", "-f", "allowed", "-s", "signature"),
        )
        return sorted(result.stdout.decode("ascii").split()) if result.returncode == 0 else []

    def is_sound(self) -> bool:
        """Whether the signature fits payload and namespace, by whatever key."""
        return self._run([], "-Y", "check-novalidate", "-n", self.namespace, "-s", "signature").returncode == 0

    def is_signed_by(self, actor: str, lines: Sequence[str]) -> bool:
        """Whether the signature fits payload and namespace, by a key of these lines."""
        options = ("-n", self.namespace, "-s", "signature", "-O", f"verify-time={self.moment}")
        return self._run(lines, "-Y", "verify", "-f", "allowed", "-I", actor, *options).returncode == 0

    def _run(self, lines: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
        (self.folder / "allowed").write_text("".join(line + "\n" for line in lines), "ascii")
        (self.folder / "signature").write_text(self.signature, "ascii")
        return keygen(*arguments, stdin=self.payload, folder=self.folder)


def _holders(allowed: Sequence[AllowedKey]) -> dict[str, list[str]]:
    holders: dict[str, list[str]] = {}
    for entry in allowed:
        if not _ACTOR.fullmatch(entry.actor):
            raise InvalidInput(
                "invalid-allowed-key",
                f"{entry.actor[:64]!a} cannot name the holder of a key.",
                "Use letters, digits, dot, hyphen and underscore.",
            )
        check_key(entry.key)
        actors = holders.setdefault(entry.key, [])
        if entry.actor not in actors:
            actors.append(entry.actor)
    return holders


def _line(entry: AllowedKey, namespace: str) -> str:
    options = [f'namespaces="{namespace}"']
    if entry.valid_after is not None and entry.valid_after > _EPOCH:
        options.append(f'valid-after="{_timestamp(entry.valid_after)}"')
    if entry.valid_before is not None:
        options.append(f'valid-before="{_timestamp(entry.valid_before)}"')
    return f"{entry.actor} {','.join(options)} {entry.key}"


def _is_valid(entry: AllowedKey, at: datetime) -> bool:
    for bound in (entry.valid_after, entry.valid_before):
        if bound is not None and bound.tzinfo is None:
            raise _bad_time(bound)
    return (entry.valid_after is None or entry.valid_after <= at) and (
        entry.valid_before is None or at < entry.valid_before
    )


def _timestamp(moment: datetime) -> str:
    """``YYYYMMDDHHMMSS`` in UTC. ``ssh-keygen`` reads 0 as "now", so only times after 1970 have a meaning."""
    if moment.tzinfo is None or moment <= _EPOCH:
        raise _bad_time(moment)
    try:
        return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")
    except OverflowError:
        raise _bad_time(moment) from None


def _is_public_key(kind: str, blob: bytes) -> bool:
    """Whether the blob is one public key of this type in its one encoding (RFC 4253, 5656, 8709; PROTOCOL.u2f)."""
    fields = _fields(blob)
    if fields[0] != kind.encode("ascii"):
        return False
    if kind == "ssh-ed25519":
        return len(fields) == 2 and len(fields[1]) == 32
    if kind == "sk-ssh-ed25519@openssh.com":
        return len(fields) == 3 and len(fields[1]) == 32
    if kind == "ssh-rsa":
        return len(fields) == 3 and all(map(_is_positive, fields[1:])) and _bits(fields[2]) >= _SMALLEST_RSA_BITS
    token = kind == "sk-ecdsa-sha2-nistp256@openssh.com"
    curve = "nistp256" if token else kind.removeprefix("ecdsa-sha2-")
    return (
        (token or kind.startswith("ecdsa-sha2-"))
        and len(fields) == 3 + token
        and fields[1] == curve.encode("ascii")
        and len(fields[2]) == _CURVES.get(curve, 0)
        and fields[2][:1] == b"\x04"
    )


def _fields(blob: bytes) -> list[bytes]:
    fields = []
    position = 0
    while position < len(blob):
        (size,) = struct.unpack_from(">I", blob, position)
        field = blob[position + 4 : position + 4 + size]
        if len(field) != size:
            raise ValueError("truncated")
        fields.append(field)
        position += 4 + size
    return fields or [b""]


def _is_positive(number: bytes) -> bool:
    """A positive multiple-precision integer without needless leading zeros (RFC 4251, section 5)."""
    return number[:1] != b"" and number[0] < 0x80 and (number[0] != 0 or (len(number) > 1 and number[1] >= 0x80))


def _bits(number: bytes) -> int:
    return int.from_bytes(number).bit_length()


def _check_namespace(namespace: str) -> None:
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(
            "invalid-namespace", f"{namespace!a} is not a namespace.", "Use lower-case letters, digits, - and dot."
        )


def _check_present(key: Path) -> None:
    try:
        present = key.is_file()
    except PermissionError:
        raise _unusable(key, b"Permission denied") from None
    if not present:
        raise InvalidInput("missing-key", f"There is no SSH key at {key}.", "Name a key file.", path=str(key))


def _unusable(key: Path, reason: bytes) -> InvalidInput:
    if b"incorrect passphrase" in reason:
        return InvalidInput(
            "wrong-passphrase",
            f"The SSH key {key} was not opened.",
            "Give its passphrase, or use an agent.",
            path=str(key),
        )
    if b"UNPROTECTED PRIVATE KEY" in reason or b"ermission" in reason:
        return InvalidInput(
            "key-permissions",
            f"The SSH key {key} must be readable by its owner, and by nobody else.",
            f"As its owner, run: chmod 600 {key}",
            path=str(key),
        )
    return InvalidInput(
        "unusable-key",
        f"{key} is not an SSH key that can be used here.",
        "Name a private key file, or a public one whose private half is in your agent.",
        path=str(key),
    )


def _bad(message: str) -> IntegrityFailure:
    return IntegrityFailure("bad-signature", message, "Have it signed again, by the person themselves.")


def _bad_time(moment: datetime) -> InvalidInput:
    return InvalidInput(
        "invalid-time",
        f"{moment.isoformat()} is not a time at which a key can be valid.",
        "Use a time after 1970 with its time zone.",
    )
