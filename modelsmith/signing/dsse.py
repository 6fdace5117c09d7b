"""Records and evidence under seal: in-toto Statement, RFC 8785, DSSE, Sigstore bundle v0.3.

Who signs is a local EC P-256 key, or the identity of a job (`modelsmith.signing.keyless`). With a key, a bundle has one
signature and one spelling: any other byte in it is refused, and of the two signatures that ECDSA makes of one (``s``
and the order less ``s``) the one with the small ``s`` is ours. ``keyid`` stays empty and ``hint`` is the SHA-256 of the
public key's PEM, as cosign expects. Formats: in-toto attestation framework v1, DSSE v1.0.0 (PAE), Sigstore protobuf
specs v0.3.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from pydantic import JsonValue

from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.workflows import SignedBy
from modelsmith.signing.keyless import Ambient, Believed, open_keyless, sign
from modelsmith.signing.keys import load_public_key, load_signing_key, public_pem, to_pem
from modelsmith.signing.refusals import not_a_bundle
from modelsmith.signing.wire import (
    BUNDLE_TYPE,
    PAYLOAD_TYPE,
    STATEMENT_TYPE,
    KeylessBundle,
    canonical,
    from_base64,
    parse_bundle,
    parse_statement,
)

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of the group of P-256."""

Trusted = bytes | Believed
"""Whose signatures count: an EC P-256 public key as PEM, or a workflow."""
Signer = Path | Ambient
"""What signs: a private EC P-256 key's file, or the identity of this job."""


def statement(name: str, subject: bytes | str, predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement that says ``predicate`` about what has this name and these bytes, or this digest."""
    digest = {"sha256": (subject if isinstance(subject, str) else sha256(subject)).removeprefix("sha256:")}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": digest}],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def seal(statement: Mapping[str, Any], signer: Signer) -> bytes:
    """The statement, signed: a bundle's bytes. Two seals of one statement differ, because ECDSA draws at random.

    Raises:
        InvalidInput: ``invalid-statement`` for what RFC 8785 cannot write, and as `keys.load_signing_key` or
            `keyless.sign`.
        InfrastructureFailure: as `keyless.sign`.
    """
    payload = _payload(statement)
    if isinstance(signer, Ambient):
        return sign(statement, signer)
    private = load_signing_key(signer)
    signature = _sign(payload, private)
    return canonical_json(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": _hint(private.public_key())}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode("ascii"),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode("ascii"), "keyid": ""}],
            },
        }
    )


def unseal(
    bundle: bytes, trusted: Sequence[Trusted], subject: bytes | str, predicate_type: str
) -> dict[str, JsonValue]:
    """The predicate that a trusted signer has signed about the subject.

    Args:
        bundle: The bundle's bytes, as `seal` made them.
        trusted: Whose signatures count.
        subject: The bytes that the statement must speak of, or their digest (``sha256:<64 hex>``).
        predicate_type: The type that the statement must have.

    Raises:
        IntegrityFailure: ``not-a-bundle`` (including any other spelling of one), ``untrusted-key``,
            ``untrusted-identity``, ``bad-signature``, ``wrong-type`` or ``wrong-subject``.
        InvalidInput, InfrastructureFailure: as `open_envelope`.
    """
    return _about(open_envelope(_one_form(bundle), trusted), subject, predicate_type)


def unseal_keyless(
    bundle: bytes, believed: Believed, subject: bytes | str, predicate_type: str
) -> tuple[dict[str, JsonValue], SignedBy]:
    """`unseal` for what a workflow has signed, with what its certificate says of the job.

    Raises:
        IntegrityFailure, InvalidInput, InfrastructureFailure: as `unseal`.
    """
    payload, by = open_keyless(bundle, believed)
    return _about(payload, subject, predicate_type), by


def _about(payload: bytes, subject: bytes | str, predicate_type: str) -> dict[str, JsonValue]:
    """The predicate of a statement that has this type and speaks of this subject."""
    signed = parse_statement(canonical(payload))
    if signed.predicate_type != predicate_type:
        raise IntegrityFailure(
            "wrong-type",
            f"The signed statement is a {signed.predicate_type}, not a {predicate_type}.",
            "Put the signature that belongs to this file beside it.",
            predicate_type=signed.predicate_type,
        )
    expected = subject if isinstance(subject, str) else sha256(subject)
    if f"sha256:{signed.subject[0].digest.sha256}" != expected:
        raise IntegrityFailure(
            "wrong-subject",
            f"The signature is for another {signed.subject[0].name}: this one was changed, or the signature was moved.",
            "Restore the file as it was signed.",
        )
    return signed.predicate


def adopt_or_seal(
    existing: bytes | None, statement: Mapping[str, Any], signer: Signer, trusted: Sequence[Trusted] = ()
) -> bytes:
    """The existing bundle when it holds exactly this statement by this signer; a new seal otherwise.

    A signature that holds is never remade, so a rerun leaves every byte as it is; one of a former key is.

    Args:
        existing: What was signed before, if anything.
        statement: What to sign.
        signer: Who signs.
        trusted: Whose signatures count: among them, where a job signs, is every workflow that it may be.

    Raises:
        InvalidInput, InfrastructureFailure: as `seal`.
    """
    if existing is not None:
        jobs = [job for job in trusted if isinstance(job, Believed)]
        if holds(existing, statement, jobs if isinstance(signer, Ambient) else [public_pem(signer)]):
            return existing
    return seal(statement, signer)


def holds(bundle: bytes, statement: Mapping[str, Any], trusted: Sequence[Trusted]) -> bool:
    """Whether the bundle is exactly this statement by a trusted signer.

    Raises:
        InvalidInput: as `open_envelope` and `seal`.
    """
    try:
        return open_envelope(_one_form(bundle), trusted) == _payload(statement)
    except IntegrityFailure:
        return False


def open_envelope(bundle: bytes, trusted: Sequence[Trusted]) -> bytes:
    """The payload that a trusted signer has signed, whatever it says.

    Raises:
        IntegrityFailure: ``not-a-bundle``, ``untrusted-key``, ``untrusted-identity`` or ``bad-signature``.
        InvalidInput: ``invalid-public-key`` for a trusted key that is none, ``invalid-trusted-root``.
        InfrastructureFailure: ``extra-missing`` for a keyless bundle, without sigstore.
    """
    keys = {
        _hint(key): key for key in map(load_public_key, (signer for signer in trusted if isinstance(signer, bytes)))
    }
    parsed = parse_bundle(bundle)
    if isinstance(parsed, KeylessBundle):
        return _open_keyless(bundle, [signer for signer in trusted if isinstance(signer, Believed)])
    payload = from_base64(parsed.envelope.payload)
    signature = from_base64(parsed.envelope.signatures[0].sig)
    key = keys.get(parsed.verification_material.public_key.hint)
    if key is None:
        raise IntegrityFailure(
            "untrusted-key",
            "The signature is by a key that is not in the trust root.",
            "Sign with a trusted key, or have the key's owner add it to the trust root.",
        )
    try:
        key.verify(signature, _pae(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise _bad_signature() from None
    return payload


def peek(bundle: bytes) -> bytes:
    """The payload of a bundle, **whoever signed it**: a claim, good for telling bundles apart and for nothing else.

    Raises:
        IntegrityFailure: ``not-a-bundle``.
    """
    return from_base64(parse_bundle(bundle).envelope.payload)


def named_key(bundle: bytes) -> str:
    """The key that a bundle names as its own, as `key_name` writes it; **a claim** unless the bundle was verified.

    Of a keyless bundle the certificate's SHA-256, which is not a key's name.

    Raises:
        IntegrityFailure: ``not-a-bundle``.
    """
    parsed = parse_bundle(bundle)
    if isinstance(parsed, KeylessBundle):
        return hashlib.sha256(from_base64(parsed.verification_material.certificate.raw_bytes)).hexdigest()
    return parsed.verification_material.public_key.hint


def key_name(pem: bytes) -> str:
    """How bundles name a public key: SHA-256 of its PEM as OpenSSL writes it, 64 hex digits.

    Raises:
        InvalidInput: ``invalid-public-key``.
    """
    return _hint(load_public_key(pem))


def _bad_signature() -> IntegrityFailure:
    return IntegrityFailure(
        "bad-signature",
        "The signature does not fit its statement: one of them was changed after signing.",
        "Restore both files as they were signed.",
    )


def _open_keyless(bundle: bytes, believed: Sequence[Believed]) -> bytes:
    """The payload, once one of the workflows has signed it; the refusal of the last one otherwise."""
    refusal: ModelsmithError = IntegrityFailure(
        "untrusted-identity",
        "The signature is keyless, by a workflow, and main's policy believes none here.",
        "Sign with a trusted key, or have policy's owners name the workflow.",
    )
    for signer in believed:
        try:
            return open_keyless(bundle, signer)[0]
        except (IntegrityFailure, InvalidInput) as error:  # a root that is none takes nothing from the others
            refusal = error
    raise refusal


def _sign(payload: bytes, private: ec.EllipticCurvePrivateKey) -> bytes:
    """The one of the two signatures that prove the same whose second half is small."""
    r, s = decode_dss_signature(private.sign(_pae(payload), ec.ECDSA(hashes.SHA256())))
    return encode_dss_signature(r, min(s, _ORDER - s))


def _one_form(bundle: bytes) -> bytes:
    """The bytes of a bundle that nobody without the key can turn into other bytes that say and prove the same.

    A keyless one has its certificate and signature in the log's entry.
    """
    parsed = parse_bundle(canonical(bundle))
    if isinstance(parsed, KeylessBundle):
        return bundle
    signature = from_base64(parsed.envelope.signatures[0].sig)
    try:
        small = decode_dss_signature(signature)[1] <= _ORDER // 2
    except ValueError:
        raise _bad_signature() from None
    if not small:
        raise not_a_bundle()
    return bundle


def _payload(statement: Mapping[str, Any]) -> bytes:
    try:
        return canonical_json(dict(statement))
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput(
            "invalid-statement",
            "The statement cannot be written as canonical JSON.",
            "Use text, booleans, finite numbers and integers below 2**53 only.",
        ) from None


def _pae(payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode("ascii"), len(payload), payload)


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(to_pem(key)).hexdigest()
