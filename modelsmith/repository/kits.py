"""Kits: named selections of this repository's own governed folders, from which a promotion repository is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import modelsmith
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

SHARED = (".github/CODEOWNERS", ".github/governance", "clusters/defaults.yaml", "promotions")
"""What every kit brings."""


@dataclass(frozen=True)
class Kit:
    """One domain's starting point."""

    name: str
    summary: str
    paths: tuple[str, ...]
    """Files and folders besides the shared ones."""


KITS = {
    "adtech": Kit(
        "adtech",
        "Root-cause diagnosis of real-time-bidding incidents (cluster rtb-pricing).",
        ("evals/adtech", "clusters/rtb-pricing"),
    )
}


def find_kit(name: str) -> Kit:
    """The kit of that name.

    Raises:
        InvalidInput: ``unknown-kit``.
    """
    if name not in KITS:
        raise InvalidInput("unknown-kit", f"There is no kit '{name}'", f"Choose one of: {', '.join(KITS)}.")
    return KITS[name]


def kit_files(kit: Kit) -> Iterator[tuple[str, bytes]]:
    """Relative path and content of every file of the kit, sorted by path."""
    source = _source()
    found: dict[str, Path] = {}
    for entry in (*SHARED, *kit.paths):
        path = source / entry
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        if not files:
            raise InfrastructureFailure("kit-missing", f"The kit's {entry} is not installed", "Reinstall modelsmith.")
        found |= {p.relative_to(source).as_posix(): p for p in files}
    for name in sorted(found):
        yield name, found[name].read_bytes()


def _source() -> Path:
    """Folder that holds the kits' files: inside the wheel, or the repository around an editable install."""
    package = Path(modelsmith.__file__).parent
    packaged = package / "_governed"
    return packaged if packaged.is_dir() else package.parent
