"""The form of an SSH signature (PROTOCOL.sshsig), and the check of its plainest kind without a process.

A signature counts in one spelling only, the one that ``ssh-keygen -Y sign`` writes: else anybody could write one on
main in other bytes, or with words in it that nobody signed, and the next version of OpenSSH might refuse it for ever.
Ed25519 is what almost everybody has, and a history has thousands of such signatures: they are checked here.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ARMOR = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END SSH SIGNATURE-----\n?", re.ASCII
)
_LARGEST_SIGNATURE = 16_384
_PREAMBLE = b"SSHSIG"
_MAGIC = _PREAMBLE + b"\x00\x00\x00\x01"
_KIND = b"ssh-ed25519"
_HASHES = (b"sha256", b"sha512")
_PRIME = 2**255 - 19
"""Of edwards25519's field (RFC 8032, 5.1)."""
_OF_SMALL_ORDER = frozenset(
    {
        0, 1, _PRIME - 1,
        int("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16),
        int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16),
    }
)  # fmt: skip
"""The y of the eight points of small order: as a key each is the same to anybody, since a signature of zeros fits one
text in so few (https://eprint.iacr.org/2020/1244)."""


def is_plainly_signed(payload: bytes, signature: str, namespace: str, key: str) -> bool:
    """Whether the Ed25519 key made this signature of the payload, by the strict rules of RFC 8032.

    Args:
        payload: What was signed.
        signature: The armored signature.
        namespace: What the signature is for.
        key: Type and base64 of the public key.

    Raises:
        UnsupportedAlgorithm: this build of the library knows no Ed25519.
    """
    try:
        public, stated_namespace, reserved, hashed, signature_blob = fields(unarmored(signature, canonical=True))
        kind, point = fields(public)
        algorithm, proof = fields(signature_blob)
        plain = (kind, algorithm, reserved, stated_namespace) == (_KIND, _KIND, b"", namespace.encode())
        if not plain or hashed not in _HASHES or spelled(public) != key:
            return False
        content = hashlib.new(hashed.decode(), payload).digest()
        signed = b"".join(struct.pack(">I", len(part)) + part for part in (stated_namespace, reserved, hashed, content))
        Ed25519PublicKey.from_public_bytes(point).verify(proof, _PREAMBLE + signed)
    except (ValueError, struct.error, InvalidSignature):
        return False
    return True


def is_strong_point(point: bytes) -> bool:
    """Whether 32 bytes can be an Ed25519 key that somebody alone signs by: in its one encoding, of large order."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return len(point) == 32 and y < _PRIME and y not in _OF_SMALL_ORDER


def is_plain(signature: str) -> bool:
    """Whether the signature is in its one canonical base64, and has nothing in the field that nobody uses yet."""
    try:
        _, _, reserved, _, _ = fields(unarmored(signature, canonical=True))
    except (ValueError, struct.error):
        return False
    return reserved == b""


def unarmored(signature: str, canonical: bool = False) -> bytes:
    """Content of an armored signature after its magic number and version.

    Args:
        signature: The armored signature.
        canonical: Whether to refuse all base64 but the one that an encoder writes.

    Raises:
        ValueError: it is none.
    """
    if len(signature) > _LARGEST_SIGNATURE or not _ARMOR.fullmatch(signature):
        raise ValueError("no armored signature")
    body = "".join(signature.strip("\n").split("\n")[1:-1])
    blob = base64.b64decode(body, validate=True)
    if blob[: len(_MAGIC)] != _MAGIC or (canonical and base64.b64encode(blob).decode("ascii") != body):
        raise ValueError("no SSH signature of version 1")
    return blob[len(_MAGIC) :]


def spelled(public: bytes) -> str:
    """Type and base64 of a public key.

    Raises:
        ValueError: its type is not text.
        struct.error: it is cut short.
    """
    return f"{fields(public)[0].decode('ascii')} {base64.b64encode(public).decode('ascii')}"


def fields(blob: bytes) -> list[bytes]:
    """The strings, each behind its length, that a blob is made of; at least one.

    Raises:
        ValueError: one is cut short.
        struct.error: a length is.
    """
    parts = []
    position = 0
    while position < len(blob):
        (size,) = struct.unpack_from(">I", blob, position)
        field = blob[position + 4 : position + 4 + size]
        if len(field) != size:
            raise ValueError("truncated")
        parts.append(field)
        position += 4 + size
    return parts or [b""]
