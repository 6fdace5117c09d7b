"""What this clone has verified before, so that the next run looks only at what is new.

``modelsmith/verified.json`` under the git directory is this clone's own memory: no commit can put one there. It is not
signed: it is as trustworthy as the disk it lies on, like the toolkit that reads it, and whoever can edit it can edit
both. It vouches for history only; artifacts are looked at in every run. A fresh clone has none,
and ``verify --full`` uses none.
"""

from __future__ import annotations

from pathlib import Path

from modelsmith.schema.base import Digest, Frozen, GitHash
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

MEMORY_FILE = "verified.json"


class Verified(Frozen):
    """A tip of main up to which every step held."""

    toolkit: str
    """Version that judged it; another one judges everything again."""
    root: Digest
    """Fingerprint of the governance root that it was judged from."""
    start: GitHash
    """Commit of that root."""
    tip: GitHash
    changes: int
    """Steps of main from the root to the tip."""
    promotions: int
    """How many of them were promotions."""
    approvals: int
    """Signatures by people among their receipts."""

    @classmethod
    def nothing(cls, toolkit: str, root: str, start: str) -> Verified:
        """The result before any replay: nothing but the root itself."""
        return cls(toolkit=toolkit, root=root, start=start, tip=start, changes=0, promotions=0, approvals=0)

    def continues(self, other: Verified) -> bool:
        """Whether both were judged from the same root by the same toolkit."""
        return (self.toolkit, self.root, self.start) == (other.toolkit, other.root, other.start)


def recall(folder: Path) -> Verified | None:
    """What the memory in a folder says; None when there is none, or one that was torn or is not readable."""
    try:
        return Verified.model_validate_json(read_plain(folder / MEMORY_FILE))
    except (OSError, ValueError):
        return None


def remember(folder: Path, verified: Verified) -> None:
    """Replace the memory in a folder, whole or not at all.

    Raises:
        OSError: what the file system said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / MEMORY_FILE, canonical_json(verified))
