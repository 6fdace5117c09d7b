"""How the command line starts the server for agents, and lets a person issue tokens for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelsmith.cli.output import say
from modelsmith.cli.page import Page
from modelsmith.operations.table import Role, known_role
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import home
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

ROLE = "MODELSMITH_ROLE"


def serve_agents(asked: Role | None) -> None:
    """Serve one client on standard input and output, with the role asked for, else the session's own, else reviewer.

    Raises:
        InvalidInput: ``outside-role`` where the session that starts it has another role itself; ``no-such-role``.
        InfrastructureFailure: ``extra-missing``.
    """
    own = os.environ.get(ROLE)
    role = asked or known_role(own) or "reviewer"
    if own is not None and own != role:
        raise InvalidInput(
            "outside-role",
            f"This session has the role {own!a}, and asks for a server of the role {role}",
            "Ask for its own role; a person starts a server of another.",
            own=own,
            role=role,
        )
    with _the_extra():
        from modelsmith.mcp.calls import Session
        from modelsmith.mcp.server import serve_stdio
    serve_stdio(Session(place(Path.cwd(), Path("/")), role))


def serve_over_http(
    role: Role | None, host: str, port: int, names: tuple[str, ...], certificate: Path | None, key: Path | None
) -> None:
    """Serve whoever has a token, until interrupted.

    Raises:
        InvalidInput: ``usage``; ``tls-needed``; ``bad-oidc``; ``outside-role`` in a session with a role.
        InfrastructureFailure: ``extra-missing``.
    """
    refuse_agents("start a server that other roles reach")
    if role:
        raise InvalidInput("usage", "With --http the role comes with the token", "Leave --role out.", role=role)
    if bool(certificate) != bool(key):
        raise InvalidInput("usage", "A certificate and its key go together", "Give --tls-cert and --tls-key.")
    with _the_extra():
        from modelsmith.mcp.http import PATH, Listening, make_app, serve
        from modelsmith.mcp.oidc import Provider
        from modelsmith.repository.tokens import Tokens
    listening = Listening(host, port, names, certificate, key)
    app = make_app(place(Path.cwd(), Path("/")), Tokens(home()), listening, Provider.read(home()))
    say(f"{listening.scheme}://{host}:{port}{PATH}", error=True)
    serve(app, listening)


def issue(role: Role, scopes: tuple[str, ...], days: int) -> None:
    """Issue a token and show it."""
    refuse_agents("issue a token")
    from modelsmith.repository.tokens import Tokens

    made, secret = Tokens(home()).issue(role, scopes, days)
    Page().rows(
        [
            ("id", made.id),
            ("role", f"{made.role}: {', '.join(made.scopes)}"),
            ("until", made.expires_at.isoformat(timespec="minutes")),
            ("token", f"{secret}   (shown this once)"),
        ]
    )


def list_all() -> None:
    """Show what is kept of each token."""
    from modelsmith.repository.tokens import Tokens

    page = Page()
    for one in Tokens(home()).all():
        until = "expired" if one.expired else f"until {one.expires_at.isoformat(timespec='minutes')}"
        page.line(f"{one.id}  {one.role}  {', '.join(one.scopes)}  {until}")


def revoke(token: str) -> None:
    """Revoke a token."""
    refuse_agents("revoke a token")
    from modelsmith.repository.tokens import Tokens

    found = Tokens(home()).revoke(token)
    say(f"revoked {found.id}, of the role {found.role}")


def refuse_agents(what: str) -> None:
    """Refuse a session with a role what is a person's.

    Raises:
        InvalidInput: ``outside-role``.
    """
    own = os.environ.get(ROLE)
    if own is not None:
        raise InvalidInput(
            "outside-role",
            f"A session with a role ({own!a}) does not {what}",
            "A person does, in a session where MODELSMITH_ROLE is not set.",
            role=own,
        )


@contextmanager
def _the_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InfrastructureFailure(
            "extra-missing", "The server for agents needs the mcp extra.", "Run: pip install 'modelsmith[mcp]'"
        ) from error
