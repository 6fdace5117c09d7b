"""Roles from an identity provider: a JSON Web Token that it issued says who calls (OpenID Connect, RFC 9068, RFC 8725).

Which provider is believed stands in ``oidc.json`` under ``MODELSMITH_HOME``, beside the hashes of tokens: no commit
reaches it, and no token says by which key or algorithm it is to be checked beyond choosing among what is allowed.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import jwt
from mcp.server.auth.provider import AccessToken
from pydantic import Field, StringConstraints, ValidationError, field_validator

from modelsmith.mcp.jwks import Keys
from modelsmith.operations.table import EVERYONE, Role
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plain_file import read_own

FILE = "oidc.json"
LEEWAY = 60
"""Seconds by which the provider's clock and ours may differ."""
LONGEST = 16_384
"""Characters of a token, at most."""
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a private key. ``none`` and those by a shared secret (HS256) are no choice."""
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_TYPES = ("jwt", "at+jwt")
"""What a header may call an access token (RFC 9068, 2.1); many providers say ``JWT``, and some nothing."""
_OF_OTHERS = ("cnf", "at_hash", "c_hash", "events")
"""Claims that an access token for whoever bears it has not: a key that its holder must prove to have (RFC 7800, which
nobody asks for here), the hashes of an ID token (OpenID Connect Core, 3.1.3.6), events as a logout (RFC 8417)."""

log = logging.getLogger(__name__)


class Provider(Frozen):
    """``oidc.json``: who is believed, and what a claim of theirs means here."""

    issuer: _Name
    """Its address, exactly as it writes ``iss``."""
    audience: _Name
    """What ``aud`` must hold: the name under which the provider knows this server."""
    role_claim: tuple[_Name, ...]
    """Claim that says the role; several names lead inward, as ``["realm_access", "roles"]`` does."""
    roles: Annotated[dict[_Name, Role], Field(min_length=1)] = {role: role for role in EVERYONE}
    """Value of the claim -> role. Whoever has none of them, or values of two roles, is refused."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "PS256", "ES256", "EdDSA")

    @field_validator("role_claim", mode="before")
    @classmethod
    def _one_name(cls, given: object) -> object:
        return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given

    @field_validator("issuer")
    @classmethod
    def _is_safe(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(parts.hostname or "")):
            raise ValueError("it begins with https://")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("it has no user, no query and no fragment")
        return issuer

    @classmethod
    def read(cls, home: Path) -> Provider | None:
        """The provider that this machine believes; None where there is none.

        Raises:
            InvalidInput: ``bad-oidc`` for a file that is wrong, ``others-may-write``.
        """
        try:
            return cls.model_validate_json(read_own(home / FILE))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise _bad(f"{where}: {first['msg'].removeprefix('Value error, ')}", "See docs/mcp-http.md.") from None


def _bad(problem: str, mend: str) -> InvalidInput:
    return InvalidInput("bad-oidc", f"{FILE} in MODELSMITH_HOME: {problem}", mend, file=FILE)


def is_this_machine(host: str) -> bool:
    """Whether the host is this machine itself, so that nothing travels."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def role_of(claims: Mapping[str, Any], provider: Provider) -> Role | None:
    """The one role that the claims give; None where they give none, or more than one."""
    value: Any = claims
    for name in provider.role_claim:
        value = value.get(name) if isinstance(value, Mapping) else None
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    roles = {provider.roles[group] for group in values if isinstance(group, str) and group in provider.roles}
    return roles.pop() if len(roles) == 1 else None


def _is_access(kind: object) -> bool:
    """Whether a header's ``typ`` is that of an access token: with the same key a provider signs others, too."""
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES


class Issued:
    """Says whose token it is, of those that the provider issued."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._keys = Keys(provider.issuer)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Who calls; None for every token that is not wholly in order. The log says why, and holds no token."""
        try:
            claims = await self._claims(token)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            log.warning("a token of the identity provider was refused: %s", type(error).__name__)
            return None
        role = role_of(claims, self._provider)
        if role is None:
            log.warning("a token of the identity provider was refused: it gives no role, or several")
            return None
        return AccessToken(
            token=claims["sub"],
            client_id=str(claims.get("client_id") or claims.get("azp") or claims["sub"]),
            subject=claims["sub"],
            scopes=["*"],
            expires_at=int(claims["exp"]) + LEEWAY,
            claims={"role": role, "iss": self._provider.issuer},
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST:
            raise jwt.DecodeError("too long")
        header = jwt.get_unverified_header(token)
        if not _is_access(header.get("typ", "JWT")):
            raise jwt.InvalidTokenError("of another kind")
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in self._provider.algorithms or not isinstance(name, str):
            raise jwt.InvalidAlgorithmError("not allowed, or no key is named")
        key = await self._keys.find(name, algorithm)
        if key is None:
            raise jwt.InvalidKeyError("the provider has no such key")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._provider.audience,
            issuer=self._provider.issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
        if any(name in claims for name in _OF_OTHERS) or claims.get("typ", "Bearer") != "Bearer":
            raise jwt.InvalidTokenError("of another kind")
        return claims
