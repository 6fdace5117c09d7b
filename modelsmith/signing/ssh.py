"""SSH signatures by people: ``ssh-keygen -Y``, so that keys stay in the files, agents and tokens that people have.

Plain Ed25519 signatures are checked in this process (`sshsig`); of all others, and of every doubt, ``ssh-keygen``
decides.

Who signed follows from the signature's key alone: a name is looked up by the key, never offered by the signer.
Format: PROTOCOL.sshsig and ALLOWED SIGNERS of ssh-keygen(1). Needs OpenSSH 8.9 or later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shlex
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.signing.sshsig import fields, is_plain, is_plainly_signed, is_strong_point, spelled, unarmored

_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_PUBLIC_LINE = re.compile(rb"([a-z0-9@.-]+ [A-Za-z0-9+/=]+)(?: [^\r\n\0]*)?\n?")
_LARGEST_PUBLIC_FILE = 16_384
_SMALLEST_RSA_BITS = 2048
_CURVES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
_MOST_PROVEN = 4096
_proven: set[bytes] = set()
"""Digests of what ``ssh-keygen`` has found to be signed: it is asked once in a process."""


class AllowedKey(NamedTuple):
    """A public key that speaks for one actor."""

    actor: str
    key: str
    """``ssh-ed25519 AAAA...``: type and base64, without comment."""


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


def verify(payload: bytes, signature: str, namespace: str, allowed: Sequence[AllowedKey]) -> AllowedKey:
    """Signer and key of the payload, by the signature's key only.

    When a key may sign, and whether what it signed still counts, is for `modelsmith.governance.keys` to say: this
    function knows no time.

    Args:
        payload: What was signed.
        signature: The armored signature.
        namespace: What the signature is for; one made for another purpose is refused.
        allowed: Every key that may speak, from the governed people file.

    Raises:
        IntegrityFailure: ``unknown-key``, ``ambiguous-key`` (two actors hold it), or ``bad-signature`` (not a
            signature, another namespace, or a changed payload).
        InvalidInput: ``invalid-allowed-key`` or ``invalid-namespace``.
        InfrastructureFailure: ``missing-ssh-keygen``.
    """
    _check_namespace(namespace)
    holders = _holders(allowed)
    key = signing_key(signature)
    if key is None:
        raise _bad("The signature is not an armored SSH signature.")
    actors = holders.get(key, [])
    if len(actors) > 1:
        raise IntegrityFailure(
            "ambiguous-key",
            f"The signing key is held by {' and '.join(sorted(actors))}, so it names nobody.",
            "Give each actor a key of their own in people.yaml.",
            actors=sorted(actors),
        )
    if not is_plain(signature):
        raise _bad("The signature is not written as `ssh-keygen -Y sign` writes one.")
    if not _fits(payload, signature, namespace, key, actors[0] if actors else None):
        raise _bad("The signature does not fit what it is said to sign.")
    if not actors:
        raise IntegrityFailure(
            "unknown-key",
            "The signature is by a key that nobody here holds.",
            "Sign with a key that is listed in people.yaml.",
        )
    return AllowedKey(actors[0], key)


def _fits(payload: bytes, signature: str, namespace: str, key: str, actor: str | None) -> bool:
    """Of Ed25519 this library has the only word: it is strict (RFC 8032), and versions of ``ssh-keygen`` differ."""
    if key.startswith("ssh-ed25519 "):
        with suppress(UnsupportedAlgorithm):
            return is_plainly_signed(payload, signature, namespace, key)
    return _Check(payload, signature, namespace, key, actor).holds()


def signing_key(signature: str) -> str | None:
    """The public key that an armored signature says made it, **verified by nobody**; None for what is not one."""
    try:
        return spelled(fields(unarmored(signature))[0])
    except (ValueError, struct.error):
        return None


def public_key(path: Path) -> str:
    """The public key of a private or public key file: type and base64, without comment.

    A passphrase is asked for only where the file's format hides the public half.

    Raises:
        InvalidInput: ``missing-key``, ``key-permissions`` or ``unusable-key``.
        InfrastructureFailure: ``missing-ssh-keygen``.
    """
    _check_present(path)
    beside = path.with_name(f"{path.name}.pub")
    public = _plain_public_key(path) or _plain_public_key(beside)
    if public:
        return public
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


def _plain_public_key(path: Path) -> str | None:
    """What a file of nothing but one plain public key says; None for any other, which ``ssh-keygen`` reads.

    It looks where ``ssh-keygen`` looks first, too, and would say the same of it.
    """
    try:
        with path.open("rb") as file:
            key = _PUBLIC_LINE.fullmatch(file.read(_LARGEST_PUBLIC_FILE + 1))
        if key is None:
            return None
        check_key(key_text := key[1].decode("ascii"))
    except (OSError, InvalidInput):
        return None
    return key_text


def check_key(key: str) -> None:
    """Refuse anything but one plain public key in its one canonical spelling.

    Two spellings of one key would let one key pass as two; a newline or option would add lines to ``allowed_signers``.
    Nor is a key one by which everybody signs what they like, holding nothing.

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
    """One signature that ``ssh-keygen`` is asked about."""

    payload: bytes
    signature: str
    namespace: str
    key: str
    actor: str | None
    """The person who holds the key; None when nobody does."""

    def holds(self) -> bool:
        """Whether the signature fits payload and namespace: by the holder's key, or by whatever key without one."""
        content = hashlib.sha256(repr(self).encode()).digest()
        if content in _proven:
            return True
        with tempfile.TemporaryDirectory(prefix="modelsmith-") as folder:
            sound = self._ask(Path(folder))
        if sound:
            if len(_proven) >= _MOST_PROVEN:
                _proven.clear()
            _proven.add(content)
        return sound

    def _ask(self, folder: Path) -> bool:
        (folder / "signature").write_text(self.signature, "ascii")
        question = ["check-novalidate"]
        if self.actor is not None:
            line = f'{self.actor} namespaces="{self.namespace}" {self.key}\n'
            (folder / "allowed").write_text(line, "ascii")
            question = ["verify", "-f", "allowed", "-I", self.actor]
        arguments = ["-Y", *question, "-n", self.namespace, "-s", "signature"]
        return keygen(*arguments, stdin=self.payload, folder=folder).returncode == 0


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


def _is_public_key(kind: str, blob: bytes) -> bool:
    """Whether the blob is one public key of this type in its one encoding (RFC 4253, 5656, 8709; PROTOCOL.u2f)."""
    parts = fields(blob)
    if parts[0] != kind.encode("ascii"):
        return False
    if kind == "ssh-ed25519":
        return len(parts) == 2 and is_strong_point(parts[1])
    if kind == "sk-ssh-ed25519@openssh.com":
        return len(parts) == 3 and is_strong_point(parts[1])
    if kind == "ssh-rsa":
        return len(parts) == 3 and all(map(_is_positive, parts[1:])) and _is_strong_rsa(*parts[1:])
    token = kind == "sk-ecdsa-sha2-nistp256@openssh.com"
    curve = "nistp256" if token else kind.removeprefix("ecdsa-sha2-")
    return (
        (token or kind.startswith("ecdsa-sha2-"))
        and len(parts) == 3 + token
        and parts[1] == curve.encode("ascii")
        and len(parts[2]) == _CURVES.get(curve, 0)
        and parts[2][:1] == b"\x04"
    )


def _is_positive(number: bytes) -> bool:
    """A positive multiple-precision integer without needless leading zeros (RFC 4251, section 5)."""
    return number[:1] != b"" and number[0] < 0x80 and (number[0] != 0 or (len(number) > 1 and number[1] >= 0x80))


def _is_strong_rsa(exponent: bytes, modulus: bytes) -> bool:
    """Whether it is long enough, and both numbers are odd; with an exponent of 1 everybody signs."""
    both_odd = exponent[-1] % 2 == modulus[-1] % 2 == 1
    return both_odd and exponent != b"\1" and int.from_bytes(modulus).bit_length() >= _SMALLEST_RSA_BITS


def _check_namespace(namespace: str) -> None:
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(
            "invalid-namespace",
            f"{namespace!a} is not a namespace.",
            "Use lower-case letters, digits, - and dot.",
            namespace=namespace,
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
            f"As its owner, run: chmod 600 {shlex.quote(str(key))}",
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
