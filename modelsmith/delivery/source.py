"""The name under which a repository's events go out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from modelsmith.repository.git import Git
from modelsmith.repository.workspace import Workspace


def source_of(workspace: Workspace) -> str:
    """The repository by the id of its first commit: the same in every clone, and without a path, a host or a name.

    Raises:
        InfrastructureFailure: ``git-failed`` in a repository without a commit.
    """
    return f"urn:modelsmith:repository:{_first(workspace.root)}"


@lru_cache(maxsize=64)
def _first(root: Path) -> str:
    return Git(root).text("rev-list", "--max-parents=0", "--first-parent", "HEAD")
