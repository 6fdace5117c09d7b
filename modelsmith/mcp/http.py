"""The same server over streamable HTTP, and the stream of events: whose call it is, the bearer token says."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import mcp_types as types
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response

from modelsmith.mcp.bounds import Connection, bound_sessions
from modelsmith.mcp.calls import Session
from modelsmith.mcp.oidc import Issued, Provider
from modelsmith.mcp.server import make_server
from modelsmith.mcp.specialists import Specialists
from modelsmith.mcp.stream import EventStream
from modelsmith.mcp.watching import Watch
from modelsmith.operations.table import EVERYONE
from modelsmith.repository.listening import Listening, address_taken, refuse_plain, tls
from modelsmith.repository.tokens import Tokens
from modelsmith.schema.errors import ModelsmithError

PATH = "/mcp"
EVENTS_PATH = "/events"
LARGEST = 1 << 20
"""Bytes of a request, at most."""

log = logging.getLogger(__name__)


class _Verifier:
    """Says whose token it is, at each request anew: one that was issued here, or by the identity provider."""

    def __init__(self, tokens: Tokens, provider: Provider | None) -> None:
        self._tokens = tokens
        self._issued = Issued(provider) if provider else None

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            stored = self._tokens.of(token)
        except ModelsmithError as error:
            log.error("no token that was issued here is believed: %s: %s", error.code, error.message)
            stored = None
        if stored is None:
            return await self._issued.verify_token(token) if self._issued else None
        return AccessToken(
            token=stored.id,
            client_id=stored.id,
            subject=stored.id,
            scopes=list(stored.scopes),
            claims={"role": stored.role},
        )

    def holds(self, token: AccessToken) -> bool:
        """Whether a token that was believed is still to be: it was not revoked, and its time is not over."""
        if "iss" in (token.claims or {}):
            return token.expires_at is None or token.expires_at > time.time()
        return self.knows(token.token)

    def knows(self, name: str) -> bool:
        """Whether a token of this id was issued here, was not revoked, and its time is not over."""
        try:
            return any(token.id == name and not token.expired for token in self._tokens.all())
        except (ModelsmithError, OSError):  # nobody can say that it holds
            return False

    def session(self, start: Path, token: AccessToken | None) -> Session | None:
        """Session of a token; None where there is none, or it gives no role."""
        claims = (token.claims or {}) if token else {}
        if token is None or claims.get("role") not in EVERYONE:
            return None
        holder = f"{claims.get('iss', '')} {token.token}"
        return Session(start, claims["role"], tuple(token.scopes), holder, partial(self.holds, token))


def make_app(
    start: Path,
    tokens: Tokens,
    listening: Listening,
    provider: Provider | None = None,
    specialists: Specialists | None = None,
) -> Starlette:
    """The application: nothing is answered without a token, and none but its own hosts and origins are heard.

    With a ``provider``, its tokens are believed too, and clients are told where to get one (RFC 9728). With
    ``specialists``, those are tools for every token whose scopes hold them.

    Raises:
        InvalidInput: ``tls-needed``.
    """
    refuse_plain(listening)
    hosts = listening.hosts
    where = AnyHttpUrl(f"{listening.scheme}://{(listening.names or ('localhost',))[0]}:{listening.port}{PATH}")

    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"{listening.scheme}://{host}" for host in hosts],
    )
    verifier, watch = _Verifier(tokens, provider), Watch(start)
    stream, foreign = EventStream(start, watch), TransportSecurityMiddleware(security)

    def calling_session() -> Session:
        session = verifier.session(start, get_access_token())
        if session is None:
            raise MCPError(types.INVALID_REQUEST, "No token", {"code": "no-token"})
        return session

    async def events(request: Request) -> Response:
        secret = request.headers["authorization"][len("Bearer ") :]

        async def still_may() -> Session | None:
            return verifier.session(start, await verifier.verify_token(secret))

        return await foreign.validate_request(request) or await stream.answer(request, still_may)

    server = make_server(calling_session, watch, specialists)
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=LARGEST,
        transport_security=security,
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(provider.issuer) if provider else where,
            resource_server_url=where if provider else None,
            validate_token_resource=False,
        ),
        token_verifier=verifier,
        custom_starlette_routes=[
            Route(EVENTS_PATH, RequireAuthMiddleware(request_response(events), []), methods=["GET"])
        ],
    )
    bound_sessions(server, app, verifier.holds)
    return app


def serve(app: Starlette, listening: Listening, tell: Callable[[str], None]) -> None:
    """Serve what `make_app` made until interrupted; tell its address once it listens.

    Raises:
        InvalidInput: ``bad-certificate``.
        InfrastructureFailure: ``address-taken``.
    """
    tls(listening)
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        opened = socket.create_server((listening.host, listening.port), family=family, backlog=2048)
    except OSError as error:
        raise address_taken(listening, error) from None
    tell(f"{listening.scheme}://{listening.host}:{listening.port}{PATH}")
    config = uvicorn.Config(
        app,
        http=Connection,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
        log_level="warning",
        server_header=False,
    )
    with opened, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[opened])
