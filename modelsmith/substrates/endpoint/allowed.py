"""Which servers may be asked, and which keys they may be sent: said on this machine, never by a governed file.

A governed file names a URL and an environment variable, and whoever writes a proposal can write both. So the prompts
and the key leave only for a server that this clone or machine allows, and over an encrypted connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.source import Endpoint

ENVIRONMENT = "MODELSMITH_ENDPOINTS"
"""Environment variable with further entries, one a line or separated by commas, for machines without a setting."""
SETTING = "endpoint"
"""``git config --add modelsmith.endpoint "https://host KEY_ENV"``, once for each server and key."""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_PORTS = {"http": 80, "https": 443}


def entries(settings: Sequence[str], environment: Mapping[str, str]) -> frozenset[tuple[str, str | None]]:
    """Allowed endpoints: (origin, name of the variable that holds its key or None).

    Raises:
        InvalidInput: ``bad-endpoint-setting``.
    """
    lines = [*settings, *re.split(r"[,\n]", environment.get(ENVIRONMENT, ""))]
    allowed: set[tuple[str, str | None]] = set()
    for words in filter(None, (line.split() for line in lines)):
        where = origin(words[0])
        if where is None or len(words) > 2:
            raise InvalidInput(
                "bad-endpoint-setting",
                f"{' '.join(words)[:200]!a} allows no endpoint",
                f"Write `https://host` or `https://host KEY_ENV` into git's modelsmith.{SETTING} or {ENVIRONMENT}.",
            )
        allowed |= {(where, None), (where, words[1] if len(words) == 2 else None)}
    return frozenset(allowed)


def require_allowed(endpoint: Endpoint, allowed: frozenset[tuple[str, str | None]]) -> None:
    """Refuse a server that nobody on this machine has allowed, or a key that it was not allowed to get.

    A server on this machine's own loopback may be asked without leave and without encryption; a key it gets only with
    leave.

    Raises:
        InvalidInput: ``endpoint-not-allowed``, ``endpoint-not-encrypted``.
    """
    where = origin(endpoint.url)
    if where is None:
        raise InvalidInput(
            "endpoint-not-allowed",
            "The endpoint's URL names no plain host",
            "Write it as https://host/v1.",
            field="url",
        )
    local = is_loopback(urlsplit(where).hostname or "")
    if not local and not where.startswith("https://"):
        raise InvalidInput(
            "endpoint-not-encrypted",
            f"The endpoint {where} would be asked over an unencrypted connection",
            "Write https:// in the governed file; http:// is for this machine's own loopback only.",
            where=where,
        )
    if (where, endpoint.key_env) in allowed or (local and endpoint.key_env is None):
        return
    entry = f"{where} {endpoint.key_env}" if endpoint.key_env else where
    permission = f"be sent the key in {endpoint.key_env}" if endpoint.key_env else "be asked"
    raise InvalidInput(
        "endpoint-not-allowed",
        f"A governed file names the endpoint {where}, and nobody has allowed on this machine that it may {permission}",
        f'If you trust it: git config --local --add modelsmith.{SETTING} "{entry}" (or put that into {ENVIRONMENT}).',
        endpoint=where,
        variable=endpoint.key_env,
    )


def origin(url: str) -> str | None:
    """Scheme, host and port of a URL in one spelling; None when it has no plain host or user and password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or "@" in parts.netloc or "\\" in url:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, however DNS answers: ``localhost`` or an address of its loopback network."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
