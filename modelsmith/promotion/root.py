"""The governance root: what a verifier pins from outside."""

from __future__ import annotations

from modelsmith.repository.tree import Tree
from modelsmith.schema.canonical import digest, sha256

GOVERNANCE = ".github/governance"
CODEOWNERS = ".github/CODEOWNERS"


def governance_fingerprint(tree: Tree) -> str:
    """Digest of policy, people, trust roots and CODEOWNERS: equal fingerprints mean equal rules and equal keys."""
    paths = [CODEOWNERS, *tree.paths(GOVERNANCE)]
    return digest(sorted([path, sha256(tree.read(path))] for path in paths))
