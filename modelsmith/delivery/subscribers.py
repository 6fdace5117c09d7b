"""Who is sent webhooks: addresses and secrets, in one file of the clone's private folder that only its owner reads."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_validator

from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.signing.files import write_atomically

Form = Literal["cloudevents", "slack", "teams"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
MOST = 100


class Subscriber(Frozen):
    """One receiver. Whoever reads its address or a secret can speak for us, so neither is in any message of ours."""

    name: Name
    url: Annotated[str, StringConstraints(max_length=2048), Field(repr=False)]
    secrets: Annotated[tuple[str, ...], Field(min_length=1, max_length=2, repr=False)]
    """Newest first; each signs. Two while a rotation is under way."""
    events: tuple[str, ...]
    """Names of events that it is sent; none for all."""
    form: Form
    added_at: AwareDatetime

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("https", "http") and parts.hostname and url.isascii() and url.isprintable()
        if not well_formed or " " in url or parts.username is not None or parts.fragment:
            raise ValueError("no plain address")
        _ = parts.port
        return url

    @property
    def host(self) -> str:
        """The host of its address: the part that people are shown."""
        return urlsplit(self.url).hostname or ""


class _SubscribersFile(Frozen):
    subscribers: tuple[Subscriber, ...] = ()


def new_secret() -> str:
    """256 random bits, as Standard Webhooks writes a secret."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}"


def webhooks_folder(workspace: Workspace) -> Path:
    """Where subscribers, their cursors and what could not be delivered are kept; only this user may look into it.

    Raises:
        IntegrityFailure: ``webhooks-in-work-tree`` where a commit could write there.
    """
    folder = workspace.private / "webhooks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    resolved, root = folder.resolve(), workspace.root.resolve()
    if resolved.is_relative_to(root) and ".git" not in resolved.relative_to(root).parts:
        raise IntegrityFailure(
            "webhooks-in-work-tree",
            "The folder of webhooks lies in the work tree, where a commit could put subscribers",
            "Remove the link that leads there, or move the git directory out of the work tree.",
        )
    folder.chmod(0o700)
    return folder


class Subscribers:
    """The subscribers of one clone."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "subscribers.json"

    def all(self) -> tuple[Subscriber, ...]:
        """Every subscriber, by name.

        Raises:
            IntegrityFailure: ``webhooks-exposed`` where others may read the file; ``webhooks-damaged``.
        """
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return ()
        except OSError:
            raise _damaged() from None
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
                raise IntegrityFailure(
                    "webhooks-exposed",
                    "The file of subscribers can be read or written by others, or is not yours",
                    "Run chmod 600 on subscribers.json in .git/modelsmith/webhooks, then rotate every secret.",
                )
            try:
                return _SubscribersFile.model_validate_json(file.read()).subscribers
            except ValidationError:
                raise _damaged() from None

    def find(self, name: str) -> Subscriber:
        """The subscriber of that name.

        Raises:
            InvalidInput: ``unknown-subscriber``.
        """
        subscriber = next((subscriber for subscriber in self.all() if subscriber.name == name), None)
        if subscriber is None:
            raise InvalidInput(
                "unknown-subscriber", f"There is no subscriber {name[:40]!a}", "`modelsmith webhooks list` lists them."
            )
        return subscriber

    def change(self, change: Callable[[tuple[Subscriber, ...]], tuple[Subscriber, ...]]) -> None:
        """Replace the subscribers by what ``change`` makes of them, while nobody else does."""
        with FileLock(self._path.with_suffix(".lock"), timeout=10, mode=0o600):
            content = _SubscribersFile(
                subscribers=tuple(sorted(change(self.all()), key=lambda subscriber: subscriber.name))
            )
            write_atomically(self._path, content.model_dump_json(indent=2).encode(), 0o600)


def _damaged() -> IntegrityFailure:
    return IntegrityFailure(
        "webhooks-damaged",
        "The file of subscribers cannot be read",
        "Remove subscribers.json in .git/modelsmith/webhooks, and add the subscribers again.",
    )
