"""Signatures without a key of one's own: Sigstore's, by the identity of a job, verified offline against a pinned root.

Whoever may ask an OIDC provider for a token (a job of GitHub Actions) gets a certificate for ten minutes from Fulcio,
signs with a key that is thrown away, and Rekor logs that. The bundle holds all of it. sigstore-python checks chain,
certificate log, signature, and the log entry with its inclusion proof; the time comes from the log itself (Rekor v1) or
from a timestamp authority (RFC 3161; Rekor v2). Nothing is asked of the network, no root is fetched.

A bundle is canonical JSON of exactly the fields that sigstore-python writes. The log's entry holds certificate and
signature, so nobody can put another spelling of them; what can differ is the log's own proof, made at another time.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modelsmith.governance.workflows import workflow_doubt
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.workflows import SignedBy, Workflow
from modelsmith.signing.certificates import signed_by
from modelsmith.signing.refusals import not_a_bundle

if TYPE_CHECKING:
    from cryptography import x509
    from sigstore.models import ClientTrustConfig
    from sigstore.verify import Verifier

LARGEST_ROOT = 1 << 18
"""Bytes of a trusted root (256 KiB); Sigstore's own has seven thousand."""
LARGEST_BUNDLE = 1 << 19
"""Bytes of a bundle (512 KiB)."""


@dataclass(frozen=True)
class Believed:
    """A workflow whose signatures count, with the trusted root by which they are checked."""

    workflow: Workflow
    root: bytes
    """The file that ``workflow.trust`` names."""


@dataclass(frozen=True)
class Ambient:
    """Sign by the identity of the job that runs this.

    ``config``: file of a private instance's client trust config; None for Sigstore's public one. It says where the
    job's token is sent, so it is named by whoever runs the command, and is not a file of the repository.
    """

    config: Path | None = None


def open_keyless(bundle: bytes, believed: Believed) -> tuple[bytes, SignedBy]:
    """The payload that a job of the workflow has signed, and what the certificate says of the job.

    Raises:
        IntegrityFailure: ``not-a-bundle`` (any other spelling of one, too), ``bad-signature`` when something does not
            hold by this root, ``untrusted-identity`` for another workflow.
        InvalidInput: ``invalid-trusted-root``.
        InfrastructureFailure: ``extra-missing`` without sigstore.
    """
    payload, by = verify(bundle, believed.root)
    doubt = workflow_doubt(believed.workflow, by)
    if doubt:
        raise IntegrityFailure(
            "untrusted-identity",
            f"The signature is not by {believed.workflow.repository}'s {believed.workflow.workflow}: {doubt}.",
            "Sign in that workflow, or have policy's owners name this one.",
            doubt=doubt,
        )
    return payload, by


def verify(bundle: bytes, root: bytes) -> tuple[bytes, SignedBy]:
    """The payload of a genuine bundle **of anybody**, and who that was.

    Raises:
        IntegrityFailure, InvalidInput, InfrastructureFailure: as `open_keyless`, but for the workflow.
    """
    verifier = _verifier(root)
    from sigstore.errors import Error
    from sigstore.models import Bundle, InvalidBundle

    if len(bundle) > LARGEST_BUNDLE:
        raise not_a_bundle()
    try:
        parsed = Bundle.from_json(bundle)
        if canonical_json(json.loads(parsed.to_json())) != bundle:
            raise not_a_bundle()
        certificate = parsed.signing_certificate
    except (InvalidBundle, ValueError, TypeError, RecursionError, Error):
        raise not_a_bundle() from None
    try:
        _, payload = verifier.verify_dsse(parsed, _Nobody())
        return payload, signed_by(certificate)
    except Exception as error:  # anybody may have made these bytes, and six libraries refuse each in its own words
        _does_not_hold(error)


def check_root(data: bytes) -> str | None:
    """Why the bytes cannot be pinned as a trusted root; None when they can. Asks for no extra.

    Whether sigstore-python takes it is asked where it is first used.
    """
    if len(data) > LARGEST_ROOT:
        return f"it has more than {LARGEST_ROOT} bytes"
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return "it is no JSON"
    kind = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
    if not isinstance(root, dict) or root.get("mediaType") != kind:
        return f"its mediaType is not {kind}"
    missing = [name for name in ("tlogs", "certificateAuthorities", "ctlogs") if not root.get(name)]
    return f"it names no {missing[0]}" if missing else None


def sign(statement: Mapping[str, Any], ambient: Ambient) -> bytes:
    """The statement, signed by the identity of this job: a bundle's bytes.

    Raises:
        InvalidInput: ``no-identity-token`` where no OIDC token is at hand; ``bad-trust-config``.
        InfrastructureFailure: ``sigstore-failed``, ``extra-missing``.
    """
    token = find_token()
    with _answers():
        from sigstore.dsse import Statement
        from sigstore.sign import SigningContext

        context = SigningContext.from_trust_config(_config(ambient))
        with context.signer(token) as signer:
            return canonical_json(json.loads(signer.sign_dsse(Statement(canonical_json(dict(statement)))).to_json()))


def find_token() -> Any:
    """The identity token of this job: what ``SIGSTORE_ID_TOKEN`` holds, else the one that the runner gives.

    Raises:
        InvalidInput: ``no-identity-token``.
        InfrastructureFailure: ``extra-missing``.
    """
    _require_extra()
    from sigstore.oidc import IdentityError, IdentityToken, detect_credential

    try:
        raw = os.environ.get("SIGSTORE_ID_TOKEN") or detect_credential()
        if raw:
            return IdentityToken(raw)
        problem = "nothing here gives one"
    except (IdentityError, OSError) as error:
        problem = " ".join(str(error).split())[:300]
    raise InvalidInput(
        "no-identity-token",
        f"This job has no OIDC token to sign with: {problem}",
        "Run it in a workflow with `permissions: {id-token: write}`, or set SIGSTORE_ID_TOKEN.",
        problem=problem,
    )


def job_commit(token: Any) -> str | None:
    """The commit that a job of Actions was started for, as its token says; None where it does not say."""
    part = str(token).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims.get("sha") if isinstance(claims.get("sha"), str) else None


class _Nobody:
    """Sigstore asks for a policy of identities; ours is held against the certificate afterwards, claim by claim."""

    def verify(self, cert: x509.Certificate) -> None:
        pass


@lru_cache(maxsize=8)
def _verifier(root: bytes) -> Verifier:
    _require_extra()
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier
    from sigstore_models.trustroot import v1

    problem = check_root(root)
    if problem is None:
        try:
            return Verifier(trusted_root=TrustedRoot(v1.TrustedRoot.from_json(root)))
        except (Error, ValueError, TypeError) as error:
            problem = " ".join(str(error).split())[:200]
    raise InvalidInput(
        "invalid-trusted-root",
        f"A file under .github/governance/trust is no trusted root of Sigstore: {problem}.",
        "Pin the trusted_root.json of the instance, as it gives it out.",
        problem=problem,
    )


def _require_extra() -> None:
    try:
        import sigstore.verify  # noqa: F401
    except ImportError:
        raise InfrastructureFailure(
            "extra-missing",
            "Keyless signatures need sigstore.",
            "Run: pip install 'modelsmith[sign]'",
        ) from None


def _config(ambient: Ambient) -> ClientTrustConfig:
    from sigstore.models import ClientTrustConfig

    if ambient.config is None:
        return ClientTrustConfig.production()
    try:
        return ClientTrustConfig.from_json(ambient.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            "bad-trust-config",
            f"{ambient.config} is no client trust config of a Sigstore instance ({type(error).__name__}).",
            "Name the file that the instance's operators give out.",
            path=str(ambient.config),
        ) from None


@contextmanager
def _answers() -> Iterator[None]:
    """Turn refusals and silence of Sigstore's services into our errors."""
    try:
        yield
    except ModelsmithError:
        raise
    except Exception as error:  # any of six libraries' own types
        raise InfrastructureFailure(
            "sigstore-failed",
            f"Sigstore did not sign: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            "Try again. If it stays so, look at the instance's status.",
        ) from error


def _does_not_hold(error: Exception) -> NoReturn:
    raise IntegrityFailure(
        "bad-signature",
        f"The keyless signature does not hold by the pinned trusted root: {' '.join(str(error).split())[:300]}",
        "Restore both files as they were signed; a root that has changed is pinned anew by a pull request.",
    ) from None
