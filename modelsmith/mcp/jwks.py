"""The keys of an identity provider: fetched, kept, and fetched again now and then, whatever a token asks for."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, NamedTuple

import anyio
import httpx2
import jwt

TIMEOUT = 5.0
"""Seconds that all of a fetch may take."""
LARGEST = 262_144
"""Bytes of an answer, at most."""
FRESH = 600.0
"""Seconds after which keys are fetched again."""
STALE = 3600.0
"""Seconds for which keys are believed where the provider cannot be reached."""
AGAIN = 30.0
"""Seconds between two fetches, at least: a token with an unknown key cannot make us ask more often."""
_KINDS = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}
"""Kind of key -> beginnings of the algorithms that it signs by; a shared secret (``oct``) signs nothing here."""
SMALLEST_RSA = 2048
"""Bits (RFC 7518, 3.3)."""

log = logging.getLogger(__name__)


class _Key(NamedTuple):
    families: tuple[str, ...]
    """Beginnings of the algorithms that keys of its kind sign by."""
    algorithm: str | None
    """The only one that it is for, where the provider says so."""
    key: Any

    def signs(self, algorithm: str) -> bool:
        return algorithm.startswith(self.families) and self.algorithm in (None, algorithm)


class Keys:
    """Public keys by name. A name (``kid``) only looks up what was fetched; it is neither a path nor an address."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: dict[str, _Key] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = anyio.Lock()

    async def find(self, name: str, algorithm: str) -> Any:
        """The key of that name, where it is one for the algorithm; else None."""
        if name not in self._keys or time.monotonic() - self._fetched > FRESH:
            async with self._lock:
                if time.monotonic() - self._tried > AGAIN:
                    self._tried = time.monotonic()
                    await self._refresh()
        key = self._keys.get(name) if time.monotonic() - self._fetched < STALE else None
        return key.key if key and key.signs(algorithm) else None

    async def _refresh(self) -> None:
        try:
            with anyio.fail_after(TIMEOUT):
                async with httpx2.AsyncClient(follow_redirects=False, timeout=TIMEOUT) as client:
                    about = await _get(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                    if about.get("issuer") != self._issuer:
                        raise ValueError("it calls itself otherwise")
                    address = str(about.get("jwks_uri"))
                    if self._issuer.startswith("https://") and not address.startswith("https://"):
                        raise ValueError("its keys are not at https")
                    listed = (await _get(client, address)).get("keys")
                    if not isinstance(listed, list):
                        raise ValueError("it lists no keys")
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TimeoutError, RecursionError) as error:
            log.warning("the keys of the identity provider cannot be fetched: %s", type(error).__name__)
            return
        self._keys = dict(usable for key in listed if (usable := _usable(key)))
        self._fetched = time.monotonic()


async def _get(client: httpx2.AsyncClient, address: str) -> dict[str, Any]:
    async with client.stream("GET", address) as answer:
        if answer.status_code != 200:
            raise ValueError(f"it answered {answer.status_code}")
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > LARGEST:
                raise ValueError("its answer is too large")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("its answer is no object")
    return document


def _usable(jwk: object) -> tuple[str, _Key] | None:
    """A public key for signatures, and its name; None for every other."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    kind, name, algorithm = jwk.get("kty"), jwk.get("kid"), jwk.get("alg")
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    try:
        key = jwt.PyJWK.from_dict({part: value for part, value in jwk.items() if part != "d"}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if not isinstance(name, str) or (kind == "RSA" and key.key_size < SMALLEST_RSA):
        return None
    return name, _Key(_KINDS[kind], algorithm, key)
