"""Where a repository at GitHub is, from a clone's setting. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from modelsmith.schema.errors import InvalidInput

SCHEME = "github:"
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))/([A-Za-z0-9._-]{1,100})")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Place(NamedTuple):
    """One repository at GitHub."""

    owner: str
    name: str
    web: str
    """Base of its pages and of git, without a slash at the end."""
    api: str
    """Base of its REST answers, without a slash at the end."""

    @property
    def full_name(self) -> str:
        """The repository as ``OWNER/REPO``."""
        return f"{self.owner}/{self.name}"

    @property
    def url(self) -> str:
        """Where git reaches it; no secret is part of it."""
        return f"{self.web}/{self.full_name}.git"


def is_github(forge: str) -> bool:
    """Whether a clone's setting names a repository at GitHub."""
    return forge.startswith(SCHEME)


def parse_place(forge: str) -> Place:
    """The repository that ``github:OWNER/REPO`` or ``github:https://HOST/OWNER/REPO`` (GitHub Enterprise Server) names.

    The second form's REST answers come from ``https://HOST/api/v3``, as GitHub documents for Enterprise Server. Plain
    http is for this machine alone: the token would travel for everybody to read.

    Raises:
        InvalidInput: ``bad-forge``.
    """
    place = forge.removeprefix(SCHEME)
    web, api, path = "https://github.com", "https://api.github.com", place
    if "://" in place:
        url = urlsplit(place)
        safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK)
        if not safe or not url.hostname or "@" in url.netloc or url.query or url.fragment:
            raise _bad(forge)
        web = f"{url.scheme}://{url.netloc}"
        path = url.path.strip("/")
        if url.hostname not in ("github.com", "www.github.com"):
            api = f"{web}/api/v3"
        else:
            web = "https://github.com"
    match = _NAME.fullmatch(path.removesuffix(".git"))
    if match is None or match[2] in (".", ".."):
        raise _bad(forge)
    return Place(match[1], match[2], web, api)


def _bad(forge: str) -> InvalidInput:
    return InvalidInput(
        "bad-forge",
        f"{re.sub(r'//[^/@]*@', '//', forge)!r} names no repository at GitHub",
        "Write github:OWNER/REPO, or github:https://HOST/OWNER/REPO for GitHub Enterprise Server; a token is given as "
        "MODELSMITH_GITHUB_TOKEN, never here.",
    )
