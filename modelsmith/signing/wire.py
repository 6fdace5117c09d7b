"""The forms on the wire: an in-toto Statement, and the two kinds of Sigstore bundle that hold one.

Reading proves nothing of who signed: `modelsmith.signing.dsse` does. Each form has one spelling, so that no two readers
can read the same bytes differently.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationError

from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import is_canonical
from modelsmith.signing.refusals import not_a_bundle

PAYLOAD_TYPE: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
BUNDLE_TYPE: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = "application/vnd.dev.sigstore.bundle.v0.3+json"

Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SubjectDigest(Frozen):
    """Digests of a subject: SHA-256 and no other."""

    sha256: Hex64


class Subject(Frozen):
    """A file that a statement speaks of, by its digest."""

    name: str
    digest: SubjectDigest


class Statement(Frozen):
    """An in-toto Statement about exactly one subject."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicate_type: str = Field(alias="predicateType")
    predicate: dict[str, JsonValue]


class _Signature(Frozen):
    sig: str
    keyid: Literal[""]


class _KeylessSignature(Frozen):
    sig: str


class _Envelope(Frozen):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=1)]


class _KeylessEnvelope(Frozen):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: Annotated[tuple[_KeylessSignature, ...], Field(min_length=1, max_length=1)]


class _PublicKey(Frozen):
    hint: Hex64


class _Material(Frozen):
    public_key: _PublicKey = Field(alias="publicKey")
    tlog_entries: Annotated[tuple[JsonValue, ...], Field(alias="tlogEntries", max_length=0)]


class Bundle(Frozen):
    """A bundle signed with a key."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    verification_material: _Material = Field(alias="verificationMaterial")
    envelope: _Envelope = Field(alias="dsseEnvelope")


class _Certificate(Frozen):
    raw_bytes: str = Field(alias="rawBytes")


class _KeylessMaterial(Frozen):
    certificate: _Certificate
    tlog_entries: Annotated[tuple[JsonValue, ...], Field(alias="tlogEntries", min_length=1, max_length=1)]
    timestamps: JsonValue = Field(alias="timestampVerificationData", default=None)


class KeylessBundle(Frozen):
    """What can be said of a keyless bundle without Sigstore's library, which reads the rest."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    verification_material: _KeylessMaterial = Field(alias="verificationMaterial")
    envelope: _KeylessEnvelope = Field(alias="dsseEnvelope")


def parse_bundle(bundle: bytes) -> Bundle | KeylessBundle:
    """The bundle in these bytes, of either kind.

    Raises:
        IntegrityFailure: ``not-a-bundle``.
    """
    for kind in (Bundle, KeylessBundle):
        with suppress(ValidationError):
            return kind.model_validate_json(bundle)
    raise not_a_bundle()


def parse_statement(payload: bytes) -> Statement:
    """The in-toto statement in a payload.

    Raises:
        IntegrityFailure: ``not-a-bundle``.
    """
    try:
        return Statement.model_validate_json(payload)
    except ValidationError:
        raise not_a_bundle() from None


def canonical(data: bytes) -> bytes:
    """The bytes, when they are the RFC 8785 form of what they say; so no two readers can read them differently.

    Raises:
        IntegrityFailure: ``not-a-bundle``.
    """
    try:
        if is_canonical(data, json.loads(data)):
            return data
    except (ValueError, RecursionError):
        pass
    raise not_a_bundle()


def from_base64(text: str) -> bytes:
    """The bytes that this text is the one standard form of.

    Raises:
        IntegrityFailure: ``not-a-bundle``.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise not_a_bundle() from None
    if base64.b64encode(data).decode("ascii") != text:
        raise not_a_bundle()
    return data
