"""Who wrote a proposal: proven by signed commits, or only claimed by names in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelsmith.governance.people import listed_keys
from modelsmith.repository.budgets import read_commits
from modelsmith.repository.git import Git
from modelsmith.repository.git_process import over_limits
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import Limits, People
from modelsmith.signing import ssh

MOST_BROKEN = 16
"""Signatures of a proposal's commits that may fail; each costs a process, and an honest one has none."""
GIT_NAMESPACE = "git"
"""Namespace in which ``git commit -S`` signs with SSH keys."""

_SIGNATURE = re.compile(rb"(?m)^gpgsig(?:-sha256)? (.*\n(?: .*\n)*)")
_AUTHOR = re.compile(rb"(?m)^author ([^<\n]*<[^>\n]*>)")
_ROLE = re.compile(rb"(?m)^(?:author|committer) ([^<\n]*)<([^>\n]*)>")
"""Name and address as git tells them apart: at the first bracket of each kind. Each line is walked through once."""


@dataclass(frozen=True)
class Authorship:
    """Authors of a proposal, by its commits."""

    authors: frozenset[str]
    """Ids whose listed key signed one of them; a key that has ended or is revoked still says who wrote it."""
    claims: frozenset[str]
    """Names and mail addresses of authors and committers, which anyone can write."""


@dataclass(frozen=True)
class AuthoredCommit:
    """One commit of a proposal, for who must decide about it."""

    id: str
    signer: str | None
    """Whose listed key signed it; None when nobody's did."""
    author: str
    """Whom it names as its author; proves nothing."""
    subject: str


class Commits:
    """Commits between two points of history; each is handed out once, to the first who takes it."""

    def __init__(self, git: Git, since: str, tip: str) -> None:
        lines = (git.lasting("rev-list", "--parents", ids=(tip, f"^{since}")) or b"").decode().splitlines()
        self._parents = {commit: parents for commit, *parents in (line.split() for line in lines)}
        self._git = git

    def take(self, tip: str, limits: Limits) -> list[bytes]:
        """Raw commits that ``tip`` contains and nobody has taken yet.

        Raises:
            GateNotCleared: ``over-limits``.
        """
        return read_commits(self._git, self.pass_over(tip), limits)

    def pass_over(self, tip: str) -> list[str]:
        """Ids of the commits that `take` would read: nobody takes them any more.

        What a merge itself adds to main is nobody's proposal. Only its header is ever read, so nothing that it says
        can keep a main from being verified.
        """
        passed: list[str] = []
        waiting = [tip]
        while waiting:
            commit = waiting.pop()
            parents = self._parents.pop(commit, None)
            if parents is not None:
                passed.append(commit)
                waiting += parents
        return passed


def authorship(commits: Iterable[bytes], people: People) -> Authorship:
    """Authors of these raw commits, by the keys that people.yaml lists.

    A key that has proven itself once is not asked again, so an honest proposal costs one look for each author. The
    answer hangs on which commits there are and never on their order, which two readers of one history may differ in.

    Raises:
        GateNotCleared: ``over-limits`` for more than `MOST_BROKEN` signatures that their keys did not make.
    """
    keys = [ssh.AllowedKey(*key) for key in listed_keys(people)]
    listed = {entry.key for entry in keys}
    authors: set[str] = set()
    proven: set[str | None] = set()
    broken = 0
    claims: set[str] = set()
    for commit in sorted(commits):
        claims |= {text.decode("utf-8", "replace").strip() for role in _ROLE.findall(_header(commit)) for text in role}
        key = ssh.signing_key(_signed(commit, _header(commit))[1])
        if key not in listed or key in proven:
            continue
        signer = _signer(commit, keys)
        if signer:
            authors.add(signer)
            proven.add(key)
            continue
        broken += 1
        if broken > MOST_BROKEN:
            raise over_limits(
                f"More than {MOST_BROKEN} commits carry signatures that their keys did not make",
                "Make the commits again; nothing else signs them.",
            )
    return Authorship(frozenset(authors), frozenset(claims - {""}))


def authored_commits(git: Git, since: str, tip: str, people: People, most: int) -> tuple[AuthoredCommit, ...]:
    """The newest commits that ``tip`` adds to ``since``, ``most`` of them at most."""
    ids = git.text("rev-list", f"--max-count={most}", f"{since}..{tip}").split()
    raw = git.read_commits(ids)
    keys = [ssh.AllowedKey(*key) for key in listed_keys(people)]
    return tuple(
        AuthoredCommit(commit_id, _signer(raw[commit_id], keys), *_author_and_subject(raw[commit_id]))
        for commit_id in ids
    )


def _author_and_subject(commit: bytes) -> tuple[str, str]:
    """Name and address of the author, and the first line of the message."""
    named = _AUTHOR.search(_header(commit))
    subject = commit.partition(b"\n\n")[2].partition(b"\n")[0]
    return named[1].decode("utf-8", "replace") if named else "", subject.decode("utf-8", "replace")


def _header(commit: bytes) -> bytes:
    return commit.partition(b"\n\n")[0] + b"\n"


def _signer(commit: bytes, keys: Sequence[ssh.AllowedKey]) -> str | None:
    """Whose listed key signed the raw commit."""
    payload, signature = _signed(commit, _header(commit))
    if ssh.signing_key(signature) not in {entry.key for entry in keys}:
        return None
    try:
        return ssh.verify(payload, signature, GIT_NAMESPACE, keys).actor
    except IntegrityFailure:
        return None


def _signed(commit: bytes, header: bytes) -> tuple[bytes, str]:
    """What git signed and the signature: the commit without its signature's header, whose lines begin with a space."""
    signatures = _SIGNATURE.findall(header)
    if len(signatures) != 1:
        return commit, ""
    payload = _SIGNATURE.sub(b"", header) + commit[len(header) :]
    return payload, signatures[0].decode("ascii", "replace").replace("\n ", "\n")
