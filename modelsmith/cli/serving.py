"""How the command line starts servers, for agents and for applications, and lets a person issue tokens for them.

A server for agents is started anew for each session, so what it does not need is imported where it is needed.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelsmith.operations.table import Role, known_role
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

if TYPE_CHECKING:
    from modelsmith.mcp.specialists import Specialists
    from modelsmith.repository.tokens import Token, Tokens

ROLE = "MODELSMITH_ROLE"


def serve_agents(asked_role: Role | None, clusters: tuple[str, ...], door: str) -> None:
    """Serve one client on standard input and output, with the role asked for, else the session's own, else reviewer.

    With ``clusters``, their specialists are tools; where no role is said then, they are all that there is.

    Raises:
        InvalidInput: ``outside-role`` where the session that starts it has another role itself; ``no-such-role``.
        InfrastructureFailure: ``extra-missing``.
    """
    own = os.environ.get(ROLE)
    role = asked_role or known_role(own) or "reviewer"
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
        from modelsmith.mcp.tools import ASKS
    from modelsmith.repository.paths import place

    specialists = _specialists(clusters, door)
    scopes = (f"{ASKS}*",) if specialists and asked_role is None and own is None else ("*",)
    serve_stdio(Session(place(Path.cwd(), Path("/")), role, scopes), specialists)


def serve_over_http(
    role: Role | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    clusters: tuple[str, ...],
    door: str,
) -> None:
    """Serve whoever has a token, until interrupted; with ``clusters``, their specialists are tools.

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
        from modelsmith.mcp.http import make_app, serve
        from modelsmith.mcp.oidc import Provider
        from modelsmith.repository.listening import Listening
        from modelsmith.repository.tokens import Tokens
    from modelsmith.cli.output import say
    from modelsmith.repository.paths import place
    from modelsmith.repository.workspace import home

    listening = Listening(host, port, names, certificate, key)
    app = make_app(
        place(Path.cwd(), Path("/")), Tokens(home()), listening, Provider.read(home()), _specialists(clusters, door)
    )
    serve(app, listening, partial(say, error=True))


def _specialists(clusters: tuple[str, ...], door: str) -> Specialists | None:
    from modelsmith.mcp.specialists import Specialists

    return Specialists.named(door, clusters) if clusters else None


def serve_door(
    config: Path | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    no_keys: bool,
) -> None:
    """Serve applications until interrupted.

    Raises:
        InvalidInput: ``usage``; ``outside-role`` in a session with a role; as `load_settings` and `serve`.
        InfrastructureFailure: ``extra-missing``; as `serve`.
        IntegrityFailure: main does not verify.
    """
    refuse_agents("serve applications")
    if bool(certificate) != bool(key):
        raise InvalidInput("usage", "A certificate and its key go together", "Give --tls-cert and --tls-key.")
    from modelsmith.cli.output import say
    from modelsmith.repository.listening import Listening
    from modelsmith.repository.paths import place
    from modelsmith.repository.workspace import Workspace

    workspace = Workspace.find(place(Path.cwd(), Path("/")))
    with _the_extra("serve", "The front door"):
        from modelsmith.door.server import serve
        from modelsmith.door.settings import load_settings

    def tell(words: str) -> None:
        say(words, error=True)

    settings = load_settings(workspace, config and place(config, Path.cwd()))
    serve(workspace, settings, Listening(host, port, names, certificate, key), None if no_keys else door_keys(), tell)


def agent_tokens() -> Tokens:
    """Tokens by which agents call the server of tools."""
    from modelsmith.repository.tokens import Tokens
    from modelsmith.repository.workspace import home

    return Tokens(home())


def door_keys() -> Tokens:
    """Keys by which applications ask the front door."""
    from modelsmith.repository.tokens import callers
    from modelsmith.repository.workspace import home

    return callers(home())


def issue(tokens: Tokens, role: str, scopes: tuple[str, ...], days: int, as_json: bool) -> None:
    """Issue a token and show it."""
    from modelsmith.cli.page import Page, write_json

    refuse_agents("issue a token")
    token, secret = tokens.issue(role, scopes, days)
    if as_json:
        write_json({**_without_hash(token), "token": secret})
        return
    Page().rows(
        [
            ("id", token.id),
            ("role", f"{token.role}: {', '.join(token.scopes)}"),
            ("until", token.expires_at.isoformat(timespec="minutes")),
            ("token", f"{secret}   (shown this once)"),
        ]
    )


def issue_to_agent(role: Role, scopes: tuple[str, ...], days: int, as_json: bool) -> None:
    """Issue a token for some of a role's tools and show it.

    Raises:
        InvalidInput: ``usage`` for a scope by which it would have none of them; as `issue`.
    """
    refuse_agents("issue a token")
    from modelsmith.mcp.tools import ASKS, tools_of
    from modelsmith.repository.document import nearest_mend

    names = [tool.name for tool in tools_of(role)]
    for scope in scopes:
        if not scope.startswith(ASKS) and not fnmatch.filter(names, scope):
            raise InvalidInput(
                "usage", f"The role {role} has no tool {scope[:64]!a}", nearest_mend(scope, names), scope=scope
            )
    issue(agent_tokens(), role, scopes, days, as_json)


def issue_to_application(clusters: tuple[str, ...], days: int, as_json: bool) -> None:
    """Issue a key for some clusters, or for all, and show it.

    Raises:
        InvalidInput: ``unknown-cluster`` in a clone none of whose clusters the key would be for; as `issue`.
    """
    from modelsmith.repository.document import nearest_mend

    cluster_names = _clusters_here()
    for pattern in clusters if cluster_names else ():
        if not fnmatch.filter(cluster_names, pattern):
            near = nearest_mend(pattern, cluster_names)
            mend = f"{near} For a cluster that is still to come, run it outside of the clone."
            raise InvalidInput("unknown-cluster", f"There is no cluster {pattern[:64]!a} here", mend, cluster=pattern)
    issue(door_keys(), "caller", clusters, days, as_json)


def _clusters_here() -> tuple[str, ...]:
    """Names of the clusters in the work tree, against slips of the keyboard; none outside of a clone."""
    from modelsmith.repository.load import cluster_names
    from modelsmith.repository.workspace import Workspace

    try:
        return cluster_names(Workspace.find(Path.cwd()).files)
    except InvalidInput:
        return ()


def list_all(tokens: Tokens, as_json: bool) -> None:
    """Show what is kept of each token."""
    from modelsmith.cli.page import Page, write_json

    if as_json:
        write_json({"tokens": [_without_hash(entry) for entry in tokens.all()]})
        return
    page = Page()
    for token in tokens.all():
        until = "expired" if token.expired else f"until {token.expires_at.isoformat(timespec='minutes')}"
        page.line(f"{token.id}  {token.role}  {', '.join(token.scopes)}  {until}")
    if not tokens.all():
        page.line("none issued")


def revoke(tokens: Tokens, token: str, as_json: bool) -> None:
    """Revoke a token."""
    from modelsmith.cli.output import say
    from modelsmith.cli.page import write_json

    refuse_agents("revoke a token")
    revoked = tokens.revoke(token)
    if as_json:
        write_json({"revoked": _without_hash(revoked)})
        return
    say(f"revoked {revoked.id}, of the role {revoked.role}")


def _without_hash(token: Token) -> dict[str, Any]:
    """A token for programs: what is kept of it, without its hash, which nobody needs."""
    return {**token.model_dump(mode="json", exclude={"hash"}), "expired": token.expired}


def refuse_agents(action: str) -> None:
    """Refuse a session with a role what is a person's.

    Raises:
        InvalidInput: ``outside-role``.
    """
    own = os.environ.get(ROLE)
    if own is not None:
        raise InvalidInput(
            "outside-role",
            f"A session with a role ({own!a}) does not {action}",
            "A person does, in a session where MODELSMITH_ROLE is not set.",
            role=own,
        )


@contextmanager
def _the_extra(extra: str = "mcp", part: str = "The server for agents") -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InfrastructureFailure(
            "extra-missing", f"{part} needs the {extra} extra.", f"Run: pip install 'modelsmith[{extra}]'", extra=extra
        ) from error
