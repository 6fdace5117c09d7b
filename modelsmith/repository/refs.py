"""Refs by their full names.

git looks a name up in several places, and lists by tails: a branch ``refs/heads/refs/heads/main`` would be a second
main. Here a ref has one name, and only a line feed ends a line.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelsmith.repository.git import Git
from modelsmith.repository.ref_files import is_named, stored_refs


def local_refs(git: Git, *names: str) -> dict[str, str]:
    """Full name to object of those refs; a name that ends in a slash stands for all below it.

    They are read from git's files where those are plain to read, else git is asked.
    """
    place = git.plain_place()
    refs = stored_refs(place, names) if place else None
    if refs is not None:
        return refs
    return _exactly(git.run("for-each-ref", "--format=%(objectname) %(refname)", *names), " ", names)


def remote_refs(git: Git, place: str, *names: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Full name to object of those refs in another repository, by its path or URL.

    Raises:
        InfrastructureFailure: as `Git.run`, when it is not a repository or cannot be reached.
    """
    patterns = [f"{name}*" if name.endswith("/") else name for name in names]
    return _exactly(git.run("ls-remote", "--refs", "--", place, *patterns, env=env), "\t", names)


def _exactly(listed: bytes, separator: str, names: tuple[str, ...]) -> dict[str, str]:
    lines = [line.partition(separator) for line in listed.decode("utf-8", "surrogateescape").split("\n")]
    return {ref: commit for commit, _, ref in lines if is_named(ref, names)}
