"""The governance root: the commit from which main is governed, and what a verifier pins of it from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelsmith.promotion.histories import PROMOTIONS, record_paths
from modelsmith.repository.commits import Commit
from modelsmith.repository.listing import SUBMODULE
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import digest, sha256
from modelsmith.schema.catalog import POLICY
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

GOVERNANCE = ".github/governance"
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


def root_fingerprint(git: ObjectReader, commit: str) -> str:
    """Digest of every file of a commit: path, mode and SHA-256 of the content.

    Whoever pins it knows the rules, keys, evals, clusters and toolkit from which every later change was judged. It
    holds no commit id, time or name, so a mirror has the same root.
    """
    return digest(
        [
            [path, mode, sha256(oid.encode()) if mode == SUBMODULE else git.sha256(oid)]
            for path, (mode, oid) in Revision(git, commit).entries()
        ]
    )


def check_pin(pinned: str | None) -> str | None:
    """A fingerprint as somebody gave it. An empty one (a variable never set) is neither a pin nor a yes.

    Raises:
        InvalidInput: ``bad-root``.
    """
    if pinned is None or _FINGERPRINT.fullmatch(pinned):
        return pinned
    raise InvalidInput(
        "bad-root",
        f"{pinned!r} is no fingerprint of a governance root" if pinned else "The pinned governance root is empty",
        "Give the `root` that `modelsmith init` printed: sha256: and 64 digits. Is the variable set that holds it?",
    )


def find_root(git: ObjectReader, log: Sequence[Commit], pinned: str | None) -> tuple[int, str]:
    """Where in the first-parent log governance begins, and the fingerprint of that commit.

    A root has a policy, and no promotion: one that stood there already would have been judged by nobody. The commits
    before the first policy (of a toolkit that was forked) are not part of the governed history.

    Args:
        git: The repository.
        log: Main along its first parents, oldest first.
        pinned: The fingerprint that the verifier trusts; None for the first commit that can be a root.

    Raises:
        IntegrityFailure: ``unknown-root``.
    """
    for index, commit in enumerate(log):
        tree = Revision(git, commit.id)
        if not tree.exists(POLICY):
            continue
        if record_paths(tree.paths(PROMOTIONS)):
            break
        fingerprint = root_fingerprint(git, commit.id)
        if pinned in (None, fingerprint):
            return index, fingerprint
    if pinned is None:
        raise IntegrityFailure(
            "unknown-root",
            "No commit of main has a policy before its first promotion, so nothing governed that promotion",
            "Check that this is a promotion repository with its full history.",
        )
    raise IntegrityFailure(
        "unknown-root",
        "No commit of main before its first promotion has the pinned governance root",
        "Check the fingerprint with whoever gave it to you; if it is right, do not trust this repository.",
        root=pinned,
    )
