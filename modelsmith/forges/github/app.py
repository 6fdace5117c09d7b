"""A GitHub App lets this process in: its private key gets tokens of an hour, for one repository's installation.

By GitHub's "Authenticating as a GitHub App installation".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from modelsmith.forges.github.failures import failure
from modelsmith.forges.github.place import Place
from modelsmith.forges.github.token import VARIABLES, Token, find_token
from modelsmith.schema.errors import InvalidInput

T = TypeVar("T")

APP_ID = "MODELSMITH_GITHUB_APP_ID"
APP_KEY = "MODELSMITH_GITHUB_APP_KEY"
"""The private key itself, as PEM text."""
APP_KEY_FILE = "MODELSMITH_GITHUB_APP_KEY_FILE"
"""Where it lies, outside of the work tree."""
RENEW_BEFORE = timedelta(minutes=5)
"""How long before its end a token is replaced: longer than any request or push takes."""
_LARGEST_KEY = 1 << 16


class AppToken(Token):
    """A token that is asked for when it is needed, and again before it ends."""

    def __init__(self, app: str, key: str, place: Place) -> None:
        super().__init__("")
        self._app, self._key, self._place = app, key, place
        self._ends = datetime.fromtimestamp(0, UTC)

    @override
    def reveal(self) -> str:
        if self._ends - RENEW_BEFORE < datetime.now(UTC):
            self._secret, self._ends = self._renewed()
        return self._secret

    def _renewed(self) -> tuple[str, datetime]:
        import github

        def ask() -> tuple[str, datetime]:
            auth = github.Auth.AppAuth(self._app, self._key)
            as_app = github.GithubIntegration(auth=auth, base_url=self._place.api, retry=None, user_agent="modelsmith")
            installation = as_app.get_repo_installation(self._place.owner, self._place.name)
            token = as_app.get_access_token(installation.id)
            return token.token, token.expires_at

        return self._refusals_in_words(ask)

    def _refusals_in_words(self, ask: Callable[[], T]) -> T:
        from github.GithubException import GithubException

        try:
            return ask()
        except GithubException as error:
            status, data, headers = error.status, error.data, error.headers or {}
        except OSError:
            raise failure(0, {}, "", "give the app a token", self._place) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("jwt", "cryptography", "builtins"):
                raise
            raise bad_key() from None
        message = str(data.get("message", "")) if isinstance(data, dict) else ""
        if status == 401:
            raise InvalidInput(
                "app-refused",
                f"GitHub does not take the app's key: {message or status}",
                f"Compare {APP_ID} with the app's page, make a new private key there, and set this machine's clock.",
                app=self._app,
            )
        if status == 404:
            raise InvalidInput(
                "app-not-installed",
                f"The app is not installed for {self._place.full_name}",
                "Install it there, from the app's page at GitHub.",
                repository=self._place.full_name,
            )
        raise failure(
            status, {k.lower(): str(v) for k, v in headers.items()}, message, "give the app a token", self._place
        )


def find_access(place: Place, work_tree: Path, environment: Mapping[str, str] = os.environ) -> Token:
    """What lets this process in: a token of the environment, else a GitHub App's, else the token of a workflow.

    Args:
        place: The repository.
        work_tree: Root of the clone; no key is read from inside, where any commit may put one.
        environment: Where it is said.

    Raises:
        InvalidInput: as `find_token`; ``bad-app``, ``bad-app-key``, ``key-in-clone``.
    """
    app = environment.get(APP_ID)
    if app is None or VARIABLES[0] in environment:
        return find_token(environment)
    if not app.isascii() or not app.replace(".", "").isalnum():
        raise InvalidInput("bad-app", f"{APP_ID} holds no app's id", "Copy it from the app's page at GitHub.")
    key = environment.get(APP_KEY) or _read_key(environment.get(APP_KEY_FILE), work_tree)
    if "PRIVATE KEY-----" not in key:
        raise bad_key()
    return AppToken(app, key, place)


def _read_key(named: str | None, work_tree: Path) -> str:
    if not named:
        raise InvalidInput(
            "bad-app-key",
            f"{APP_ID} is set, and no private key",
            f"Set {APP_KEY_FILE} to the file that GitHub gave for the app, or {APP_KEY} to its text.",
        )
    path = Path(named).expanduser()
    for place in (Path(os.path.abspath(path)), path.resolve()):
        if place.is_relative_to(work_tree) or place.is_relative_to(work_tree.resolve()):
            raise InvalidInput(
                "key-in-clone",
                f"{APP_KEY_FILE} names a file in the work tree, where a commit could put it, and `git add` take it",
                "Move it out of every clone.",
                path=str(path),
            )
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY).decode("ascii", "replace")
    except OSError as error:
        raise InvalidInput(
            "bad-app-key", f"The app's key cannot be read: {error.strerror}", f"Mend {APP_KEY_FILE}.", path=str(path)
        ) from None


def bad_key() -> InvalidInput:
    """Error: the given text is not a private key; nothing of it is shown."""
    return InvalidInput(
        "bad-app-key",
        "The app's private key cannot be used: it is no whole RSA key in PEM form",
        "Give the .pem file as GitHub gave it, unencrypted.",
    )
