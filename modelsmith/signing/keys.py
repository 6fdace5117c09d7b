"""Keys: EC P-256 for the harness's bundles, Ed25519 for SSH signatures.

No key, and no password, is ever logged or put into an error. A private signing key may be encrypted: its password is
read from the environment variable ``MODELSMITH_KEY_PASSWORD``.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.signing import ssh
from modelsmith.signing.files import sync_folder

PASSWORD_VARIABLE = "MODELSMITH_KEY_PASSWORD"  # noqa: S105 - the variable's name
_LARGEST_KEY_FILE = 65_536


def create_signing_key(path: Path) -> bytes:
    """Make an EC P-256 key: PKCS #8 PEM, mode 0600, encrypted when ``MODELSMITH_KEY_PASSWORD`` is set.

    Returns:
        The public key as PEM, for the trust root.

    Raises:
        InvalidInput: ``key-exists``; a key is never overwritten.
        InfrastructureFailure: ``key-not-written``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    password = key_password()
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(handle)
            os.link(part, path)
        finally:
            part.unlink()
        sync_folder(path.parent)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _not_written(path, error) from None
    return to_pem(key.public_key())


def create_ssh_key(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair with ``ssh-keygen``: ``path`` (mode 0600, without passphrase) and ``path.pub``.

    Returns:
        The public key, ``ssh-ed25519 AAAA...``, without comment.

    Raises:
        InvalidInput: ``key-exists``, or ``invalid-comment`` for one with control characters.
        InfrastructureFailure: ``missing-ssh-keygen`` or ``key-not-written``.
    """
    if not comment.isprintable():
        raise InvalidInput("invalid-comment", "The key's comment has control characters.", "Use plain text.")
    public = path.with_name(path.name + ".pub")
    if public.exists():
        raise _exists(public)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".key-") as folder:
            key_path = Path(folder) / "key"
            result = ssh.keygen("-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key_path))
            if result.returncode:
                raise OSError(result.returncode, "ssh-keygen made no key")
            os.link(key_path, path)
            os.link(key_path.with_name("key.pub"), public)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise _exists(Path(error.filename2 or path)) from None
    except OSError as error:
        raise _not_written(path, error) from None
    return ssh.public_key(public)


def load_signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file.

    Raises:
        InvalidInput: ``missing-key``, ``key-permissions`` (readable by everyone or writable by the group),
            ``key-encrypted``, ``wrong-password`` or ``not-a-signing-key`` (not an EC P-256 private key).
    """
    data = _read(path)
    if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise InvalidInput(
            "key-permissions",
            f"The signing key {path} is open to others.",
            f"Run: chmod 600 {shlex.quote(str(path))}",
            path=str(path),
        )
    password = key_password()
    try:
        with suppress(TypeError):
            return _p256(serialization.load_pem_private_key(data, None), path)
        if password is None:
            raise InvalidInput(
                "key-encrypted", f"The signing key {path} is encrypted.", f"Set {PASSWORD_VARIABLE}.", path=str(path)
            )
        return _p256(serialization.load_pem_private_key(data, password), path)
    except (ValueError, UnsupportedAlgorithm):
        if password is not None and b"ENCRYPTED" in data:
            raise InvalidInput(
                "wrong-password",
                f"The signing key {path} does not open with this password.",
                f"Set {PASSWORD_VARIABLE} to the password that the key was made with.",
                path=str(path),
            ) from None
        raise _not_a_key(path) from None


def load_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key in a PEM text.

    Raises:
        InvalidInput: ``invalid-public-key`` unless it is one EC P-256 public key.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput(
            "invalid-public-key",
            "A trusted key is not an EC P-256 public key in PEM.",
            "Put the public key that was printed when the signing key was made into the trust folder.",
        )
    return key


def public_pem(path: Path) -> bytes:
    """The public key, as PEM, of a private or public key file.

    Raises:
        InvalidInput: as `load_signing_key` and `load_public_key`.
    """
    data = _read(path)
    if b"-----BEGIN PUBLIC KEY-----" in data:
        return to_pem(load_public_key(data))
    return to_pem(load_signing_key(path).public_key())


def to_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(pem: bytes) -> str:
    """``sha256:<64 hex>`` of the key's DER SubjectPublicKeyInfo: one fingerprint, however its PEM is laid out.

    Raises:
        InvalidInput: ``invalid-public-key``.
    """
    der = load_public_key(pem).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def key_password() -> bytes | None:
    """The password of encrypted signing keys, when one is set."""
    return os.environ.get(PASSWORD_VARIABLE, "").encode() or None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEY_FILE + 1)
    except FileNotFoundError:
        raise InvalidInput("missing-key", f"There is no key at {path}.", "Name a key file.", path=str(path)) from None
    except PermissionError:
        raise InvalidInput(
            "key-permissions", f"The key {path} cannot be read.", "Run as the user who owns the key.", path=str(path)
        ) from None
    except OSError:
        raise _not_a_key(path) from None
    if len(data) > _LARGEST_KEY_FILE:
        raise _not_a_key(path)
    return data


def _p256(key: object, path: Path) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _not_a_key(path)
    return key


def _not_a_key(path: Path) -> InvalidInput:
    return InvalidInput(
        "not-a-signing-key",
        f"{path} is not an EC P-256 private key in PEM.",
        "Name the harness's signing key; SSH keys and other curves sign no bundles.",
        path=str(path),
    )


def _exists(path: Path) -> InvalidInput:
    return InvalidInput(
        "key-exists", f"There is a file at {path}; a key is never overwritten.", "Choose another path.", path=str(path)
    )


def _not_written(path: Path, error: OSError) -> InfrastructureFailure:
    return InfrastructureFailure(
        "key-not-written",
        f"The key {path} could not be written: {error.strerror}.",
        "Choose a folder that you can write to.",
        path=str(path),
    )
