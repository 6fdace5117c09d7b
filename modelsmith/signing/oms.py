"""Artifact signatures in the OpenSSF Model Signing format (OMS v1.0): ``model.sig`` beside the files that it lists.

Signing with a key is the reference implementation's (``model-signing``, the ``sign`` extra); verifying that needs
nothing but this package. The signature lists every file but itself, with SHA-256 and without any other exception, and
the artifact must be sealed: its ``SHA256SUMS`` agrees with the list. So the artifact id follows from the signature.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure
from modelsmith.schema.one_reading import read_json
from modelsmith.signing import dsse, wire
from modelsmith.signing.files import (
    PLAIN_NAME,
    SIGNATURE_FILE,
    SUMS_FILE,
    clear_partials,
    compare,
    digests,
    measure,
    sums,
    write_atomically,
)
from modelsmith.signing.keyless import Ambient
from modelsmith.signing.keys import key_password, load_signing_key, to_pem
from modelsmith.signing.refusals import not_a_bundle

PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class _Serialization(Frozen):
    """Whole files, SHA-256, no symbolic link, nothing left out but the signature itself."""

    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]
    ignore_paths: tuple[Literal["model.sig"]]


class _Resource(Frozen):
    algorithm: Literal["sha256"]
    digest: wire.Hex64
    name: Annotated[str, Field(pattern=rf"^{PLAIN_NAME}(/{PLAIN_NAME})*$")]


class _Predicate(Frozen):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


def sign_directory(directory: Path, signer: dsse.Signer) -> None:
    """Write ``model.sig``; a signature by this key that holds already is left as it is, one by a job is made anew.

    Args:
        directory: A sealed artifact.
        signer: The file of an EC P-256 private key, or the identity of this job.

    Raises:
        InvalidInput: ``missing-directory``, and as `keys.load_signing_key` or `keyless.sign`.
        IntegrityFailure: ``not-sealed``, ``unsafe-entry``.
        InfrastructureFailure: ``extra-missing`` without ``model-signing``, ``signature-not-written``; as
            `keyless.sign`.
    """
    private = None if isinstance(signer, Ambient) else load_signing_key(signer)
    target = directory / SIGNATURE_FILE
    clear_partials(directory)
    measured = digests(measure(directory))
    if measured.get(SUMS_FILE) != hashlib.sha256(sums(measured)).hexdigest():
        raise IntegrityFailure(
            "not-sealed",
            f"{SUMS_FILE} does not list the files of {directory}.",
            "Seal the artifact, then sign it.",
            directory=str(directory),
        )
    if target.exists() and private is not None:
        try:
            verify_directory(directory, [to_pem(private.public_key())], measured)
        except IntegrityFailure:
            pass
        else:
            return
    try:
        if isinstance(signer, Ambient):
            signature = dsse.seal(_statement(measured), signer)
        else:
            signature = _by_key(directory, signer, measured)
        write_atomically(target, signature)
    except OSError as error:
        raise InfrastructureFailure(
            "signature-not-written",
            f"The signature could not be written: {error.strerror}.",
            "Check the folder's permissions and the disk.",
            path=str(target),
        ) from error


def _by_key(directory: Path, key: Path, measured: Mapping[str, str]) -> bytes:
    try:
        from model_signing import signing
    except ImportError:
        raise InfrastructureFailure(
            "extra-missing", "Signing artifacts needs model-signing.", "Run: pip install 'modelsmith[sign]'"
        ) from None
    config = signing.Config().use_elliptic_key_signer(private_key=key, password=key_password())
    with tempfile.TemporaryDirectory(prefix="modelsmith-") as folder:
        path = Path(folder) / SIGNATURE_FILE
        config.set_hashing_config(_Measured(measured)).sign(directory, path)
        return path.read_bytes()


def _statement(files: Mapping[str, str]) -> dict[str, Any]:
    """What OMS signs about these files (name to hex digest): ``model-signing`` keeps its own maker to itself."""
    listed = sorted(files.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in listed)).hexdigest()
    predicate = {
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": [SIGNATURE_FILE],
        },
        "resources": [{"algorithm": "sha256", "digest": digest, "name": name} for name, digest in listed],
    }
    return dsse.statement(f"sha256:{files[SUMS_FILE]}", f"sha256:{root}", PREDICATE_TYPE, predicate)


def verify_directory(directory: Path, trusted: Sequence[dsse.Trusted], files: Mapping[str, str] | None = None) -> str:
    """The id of the artifact, once a trusted key's signature holds for every file in the directory, and for no other.

    Args:
        directory: The artifact with its ``model.sig``.
        trusted: Whose signatures count.
        files: Name to SHA-256 (hex) of every file, when the caller has just measured them; measured here when not
            given.

    Raises:
        IntegrityFailure: ``missing-signature``, ``not-a-bundle``, ``untrusted-key``, ``bad-signature``,
            ``wrong-type``, ``not-sealed``; ``file-added``, ``file-missing``, ``file-changed`` or ``unsafe-entry``,
            naming the first offending file.
        InvalidInput: ``invalid-public-key``, ``missing-directory``.
    """
    try:
        bundle = (directory / SIGNATURE_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise IntegrityFailure(
            "missing-signature", f"The artifact has no {SIGNATURE_FILE}.", "Sign it, or fetch it with its signature."
        ) from None
    signed = _signed_files(dsse.open_envelope(bundle, trusted))
    compare(signed, digests(measure(directory)) if files is None else files, "the signature")
    return _artifact(signed)


def verify_manifest(signature: bytes, listing: bytes, trusted: Sequence[dsse.Trusted]) -> str:
    """The id of the artifact, once a trusted key's signature holds for exactly the files of a ``SHA256SUMS``.

    Needs no weights: it says what was signed, and `verify_directory` says whether the files at hand are that. It says
    nothing else: a field that stands twice, or a subject by another name, would be a place for any text.

    Raises:
        IntegrityFailure: ``not-a-bundle``, ``untrusted-key``, ``bad-signature``, ``wrong-type``, ``not-sealed``, or
            ``wrong-subject`` for the listing of other files, and for another name of its subject than the artifact's.
        InvalidInput: ``invalid-public-key``.
    """
    payload = dsse.open_envelope(signature, trusted)
    signed = _signed_files(payload)
    artifact = _artifact(signed)
    try:
        named = read_json(signature) and read_json(payload)["subject"][0]["name"]
    except (ValueError, RecursionError):
        raise not_a_bundle() from None
    mend = "Put the artifact's own signature beside it."
    if sums(signed) != listing:
        raise IntegrityFailure("wrong-subject", f"The signature is for another {SUMS_FILE}.", mend)
    if named != artifact:
        raise IntegrityFailure("wrong-subject", "The signature gives its subject another name than the id.", mend)
    return artifact


def artifact_of(signature: bytes) -> str:
    """The id of the artifact that a ``model.sig`` claims to sign, **whoever signed it**.

    Raises:
        IntegrityFailure: ``not-a-bundle``, ``wrong-type``, ``not-sealed``.
    """
    return _artifact(_signed_files(dsse.peek(signature)))


def _artifact(signed: Mapping[str, str]) -> str:
    if signed.get(SUMS_FILE) != hashlib.sha256(sums(signed)).hexdigest():
        raise IntegrityFailure(
            "not-sealed",
            f"{SUMS_FILE} does not list the files that are signed.",
            "Fetch the artifact again.",
            file=SUMS_FILE,
        )
    return f"sha256:{signed[SUMS_FILE]}"


def _signed_files(payload: bytes) -> dict[str, str]:
    statement = wire.parse_statement(payload)
    if statement.predicate_type != PREDICATE_TYPE:
        raise IntegrityFailure(
            "wrong-type", "The signature is not one of an artifact.", "Put the artifact's own signature beside it."
        )
    try:
        predicate = _Predicate.model_validate_json(canonical_json(statement.predicate))
    except ValueError:
        raise not_a_bundle() from None
    signed = {resource.name: resource.digest for resource in predicate.resources}
    root = hashlib.sha256(b"".join(bytes.fromhex(resource.digest) for resource in predicate.resources)).hexdigest()
    if len(signed) != len(predicate.resources) or root != statement.subject[0].digest.sha256:
        raise not_a_bundle()
    return signed


class _Measured:
    """A hashing configuration of ``model-signing`` that answers with known digests, so no file is read twice."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def hash(self, model_path: Path, *, files_to_hash: None = None) -> Any:
        """The manifest that ``model_signing.hashing.Config.hash`` would make; no path enters it."""
        from model_signing import hashing, manifest

        files = manifest.SerializationType.from_args(
            {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE_FILE]}
        )
        items = [
            files.new_item(name, hashing.hashing.Digest("sha256", bytes.fromhex(digest)))
            for name, digest in self._files.items()
        ]
        return manifest.Manifest(f"sha256:{self._files[SUMS_FILE]}", items, files)
