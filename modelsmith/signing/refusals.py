"""Failures that local keys and Sigstore's identities share."""

from __future__ import annotations

from modelsmith.schema.errors import IntegrityFailure


def not_a_bundle() -> IntegrityFailure:
    """The failure for bytes that are no bundle of the one form in use."""
    return IntegrityFailure(
        "not-a-bundle",
        "The signature file is not a Sigstore bundle of one in-toto statement with one signature, in canonical form.",
        "Restore the signature file as it was written.",
    )
