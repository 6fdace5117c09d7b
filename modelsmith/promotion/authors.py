"""Who wrote a proposal: proven by signed commits, or only claimed by names in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from modelsmith.governance.people import listed_keys
from modelsmith.repository.git import Git
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import People
from modelsmith.signing import ssh

GIT_NAMESPACE = "git"
"""Namespace in which ``git commit -S`` signs with SSH keys."""

_SIGNATURE = re.compile(rb"(?m)^gpgsig(?:-sha256)? (.*\n(?: .*\n)*)")
_ROLE = re.compile(rb"(?m)^(?:author|committer) (.*) <(.*)> ")


@dataclass(frozen=True)
class Authorship:
    """What the commits of a proposal say about who wrote it."""

    authors: frozenset[str]
    """Ids whose listed key signed one of them; a key that has ended or is revoked still says who wrote it."""
    claims: frozenset[str]
    """Names and mail addresses of authors and committers, which anyone can write."""


class Commits:
    """Commits between two points of history, read in bulk; each is handed out once, to the first who takes it."""

    def __init__(self, git: Git, since: str, tip: str) -> None:
        lines = git.text("rev-list", "--parents", f"{since}..{tip}").splitlines()
        self._parents = {commit: parents for commit, *parents in (line.split() for line in lines)}
        self._raw = git.read_commits(list(self._parents))

    def take(self, tip: str) -> list[bytes]:
        """Raw commits that ``tip`` contains and nobody has taken yet."""
        taken: list[bytes] = []
        waiting = [tip]
        while waiting:
            commit = waiting.pop()
            parents = self._parents.pop(commit, None)
            if parents is not None:
                taken.append(self._raw.pop(commit))
                waiting += parents
        return taken


def authorship(commits: Iterable[bytes], people: People) -> Authorship:
    """Who wrote these raw commits, by the keys that people.yaml lists."""
    keys = [ssh.AllowedKey(*key) for key in listed_keys(people)]
    listed = {entry.key for entry in keys}
    authors: set[str] = set()
    claims: set[str] = set()
    for commit in commits:
        header = commit.partition(b"\n\n")[0] + b"\n"
        claims |= {text.decode("utf-8", "replace") for role in _ROLE.findall(header) for text in role}
        payload, signature = _signed(commit, header)
        if ssh.signing_key(signature) in listed:
            try:
                authors.add(ssh.verify(payload, signature, GIT_NAMESPACE, keys).actor)
            except IntegrityFailure:
                continue
    return Authorship(frozenset(authors), frozenset(claims - {""}))


def _signed(commit: bytes, header: bytes) -> tuple[bytes, str]:
    """What git signed and the signature: the commit without its signature's header, whose lines begin with a space."""
    found = _SIGNATURE.findall(header)
    if len(found) != 1:
        return commit, ""
    payload = _SIGNATURE.sub(b"", header) + commit[len(header) :]
    return payload, found[0].decode("ascii", "replace").replace("\n ", "\n")
