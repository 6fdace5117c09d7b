"""How the command line starts the server for agents."""

from __future__ import annotations

import os
from pathlib import Path

from modelsmith.operations.table import Role
from modelsmith.repository.paths import place
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

ROLE = "MODELSMITH_ROLE"


def serve_agents(role: Role) -> None:
    """Serve one client on standard input and output.

    Raises:
        InvalidInput: ``outside-role`` where the session that starts it has another role itself.
        InfrastructureFailure: ``extra-missing``.
    """
    own = os.environ.get(ROLE)
    if own is not None and own != role:
        raise InvalidInput(
            "outside-role",
            f"This session has the role {own!a}, and asks for a server of the role {role}",
            "Ask for its own role; a person starts a server of another.",
            own=own,
            role=role,
        )
    try:
        from modelsmith.mcp.calls import Session
        from modelsmith.mcp.server import serve_stdio
    except ModuleNotFoundError as error:
        raise InfrastructureFailure(
            "extra-missing", "The server for agents needs the mcp extra.", "Run: pip install 'modelsmith[mcp]'"
        ) from error
    serve_stdio(Session(place(Path.cwd(), Path("/")), role))
