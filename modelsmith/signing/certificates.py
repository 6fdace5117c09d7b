"""What a Sigstore certificate says of who signed. Whether it is genuine is for `modelsmith.signing.keyless`.

Source of the object identifiers: Fulcio's ``docs/oid-info.md``. Only those from 8 on are read, whose values are DER
UTF8Strings; the older ones say the same a second time, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.schema.workflows import SignedBy

if TYPE_CHECKING:
    from cryptography import x509

_FULCIO = "1.3.6.1.4.1.57264.1"
_FIELDS = {
    "issuer": 8,
    "signer": 9,
    "signer_digest": 10,
    "runner": 11,
    "repository": 12,
    "commit": 13,
    "ref": 14,
    "repository_id": 15,
    "owner": 16,
    "owner_id": 17,
    "config": 18,
    "config_digest": 19,
    "event": 20,
    "run": 21,
}


def signed_by(certificate: x509.Certificate) -> SignedBy:
    """The claims of a certificate.

    Raises:
        ValueError: a certificate whose extensions cannot be read.
    """
    fields = {name: _text(certificate, f"{_FULCIO}.{number}") for name, number in _FIELDS.items()}
    return SignedBy(
        **fields,
        name=_name(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _name(certificate: x509.Certificate) -> str | None:
    """The one URI that the certificate is for; None for any other number or kind of names."""
    from cryptography import x509

    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None
    only = names[0] if len(names) == 1 else None
    return only.value if isinstance(only, x509.UniformResourceIdentifier) else None


def _text(certificate: x509.Certificate, oid: str) -> str | None:
    from cryptography import x509

    try:
        value = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    except x509.ExtensionNotFound:
        return None
    assert isinstance(value, x509.UnrecognizedExtension)
    return _utf8(value.value)


def _utf8(der: bytes) -> str | None:
    """The text of a DER UTF8String of less than 64 KiB (X.690, 8.23 and 10.1); None for anything else."""
    if len(der) < 2 or der[0] != 0x0C:
        return None
    length, begin = der[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(der[2 : 2 + count]), 2 + count
        shortest = 1 if length < 0x100 else 2
        if count not in (1, 2) or count != shortest or length < 0x80:
            return None
    text = der[begin:]
    try:
        return text.decode() if len(text) == length else None
    except UnicodeDecodeError:
        return None
