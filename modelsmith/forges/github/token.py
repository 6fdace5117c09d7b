"""The token that lets this process in at GitHub. It comes from the environment, and goes into headers only."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

from modelsmith.forges.github.place import Place
from modelsmith.schema.errors import InvalidInput

VARIABLES = ("MODELSMITH_GITHUB_TOKEN", "GITHUB_TOKEN")
PERMISSIONS = "Contents and Pull requests: read and write"
"""What a fine-grained token needs in the repository (``Metadata: read`` comes with any); with *Commit statuses*, the
gate is shown at the commit, too."""


class Token:
    """A secret that no message, log or traceback shows."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Token(...)"

    @property
    def of_app(self) -> bool:
        """Whether it is a GitHub App's: an installation's, as a workflow's ``GITHUB_TOKEN`` is; by its beginning."""
        return self._secret.startswith("ghs_")

    def reveal(self) -> str:
        """The token itself, for a header."""
        return self._secret

    def for_git(self, place: Place) -> dict[str, str]:
        """The environment in which git is let in: the header is part of no argument and of no file.

        Documented by git under ``GIT_CONFIG_COUNT`` and ``http.extraHeader``; GitHub takes a token as the password of
        ``x-access-token``. Redirections are not followed: the header goes nowhere else. An empty value takes back
        headers that the clone's configuration sets for the same place, as a workflow's checkout does: two are refused.
        """
        basic = base64.b64encode(f"x-access-token:{self.reveal()}".encode()).decode()
        header = f"http.{place.web}/.extraHeader"
        settings = (
            (header, ""),
            (header, f"Authorization: Basic {basic}"),
            ("http.followRedirects", "false"),
            ("credential.helper", ""),
        )
        numbered = {f"GIT_CONFIG_KEY_{at}": name for at, (name, _) in enumerate(settings)}
        numbered |= {f"GIT_CONFIG_VALUE_{at}": text for at, (_, text) in enumerate(settings)}
        return {"GIT_CONFIG_COUNT": str(len(settings)), **numbered}


def find_token(environment: Mapping[str, str] = os.environ) -> Token:
    """The token of this environment.

    Raises:
        InvalidInput: ``no-token``; ``empty-variable``; ``bad-token`` for one that is not a single word.
    """
    for name in VARIABLES:
        secret = environment.get(name)
        if secret is None:
            continue
        if not secret:
            raise InvalidInput(
                "empty-variable", f"{name} is set, and empty", "Give it a token, or unset it.", name=name
            )
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise InvalidInput(
                "bad-token", f"{name} holds no token: it has blanks or odd letters", "Copy it anew.", name=name
            )
        return Token(secret)
    raise InvalidInput(
        "no-token",
        "The forge is at GitHub, and no token is given",
        f"Make a fine-grained token for the repository with {PERMISSIONS}; then set {VARIABLES[0]} to it in the "
        "environment of the command.",
        variables=list(VARIABLES),
    )
