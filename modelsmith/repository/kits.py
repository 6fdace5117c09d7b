"""Kits: the files from which a promotion repository is made. Each brings a field of its own, or none yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import modelsmith
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

GOVERNING = (".github/CODEOWNERS", ".github/governance/policy.yaml", ".github/governance/people.yaml")
SHARED = (*GOVERNING, ".github/governance/trust/README.md", "clusters/defaults.yaml", "promotions", "runbooks")
"""What every kit brings; a kit of one's own may hold its own instead."""

AT_GITHUB = (
    ".github/ISSUE_TEMPLATE",
    ".github/actions",
    ".github/pull_request_template.md",
    ".github/workflows/modelsmith-checks.yml",
    ".github/workflows/modelsmith-eval.yml",
    ".github/workflows/modelsmith-nightly.yml",
    ".github/workflows/modelsmith-receipts.yml",
    ".github/workflows/modelsmith-reviewed.yml",
    ".github/workflows/modelsmith-reviews.yml",
)
"""What a repository at GitHub begins with besides: the workflows that judge there, and what they use."""
ACTION = ".github/actions/modelsmith/action.yml"
REVIEWS = ".github/workflows/modelsmith-reviews.yml"
_HERE = {ACTION: (b"    default: .\n", "    default: {}\n"), REVIEWS: (b"TOOLKIT: .\n", "TOOLKIT: {}\n")}
"""Where these files say that the toolkit lies in the repository itself, and how they name a package."""

_MADE = re.compile(r"clusters/[^/]+/(routing\.yaml|\.local/.*)")
"""What a kit's own past made, which no other repository begins with."""


@dataclass(frozen=True)
class Kit:
    """One starting point among the toolkit's own files."""

    name: str
    paths: tuple[str, ...] = ()
    """Files and folders besides the shared ones."""
    roles: tuple[tuple[str, str], ...] = ()
    """Roles of the shared files that are called otherwise here."""


KITS = {
    "adtech": Kit("adtech", ("evals/adtech", "clusters/rtb-pricing")),
    "fintech": Kit(
        "fintech",
        ("evals/fintech", "clusters/payment-fraud"),
        roles=(
            ("domain-lead", "head-of-fraud"),
            ("head-of-trading", "model-risk"),
            ("oncall-sre", "fraud-operations"),
        ),
    ),
    "empty": Kit("empty", roles=(("head-of-trading", "release-owner"), ("oncall-sre", "on-call"))),
}

STARTS = f"{', '.join(KITS)} (no field yet), or a folder of your own"
"""Names of what a repository can start from, in words."""


def kit_files(name: str, base: Path) -> dict[str, bytes]:
    """Path and content of every file of a kit, sorted by path.

    ``name`` is one of the toolkit's kits, or a folder of one's own with ``evals/`` or ``clusters/`` as in a
    promotion repository. Of such a folder nothing is taken that its past made: no people, no keys, no promotions.

    Raises:
        InvalidInput: ``unknown-kit``; ``not-a-file`` for a link in a folder of one's own.
    """
    if kit := KITS.get(name):
        files = dict(_below(_source(), (*SHARED, *kit.paths)))
        return renamed(files, dict(kit.roles))
    folder = base / name
    own = WorkTree(folder)
    if not any((folder / top).is_dir() for top in ("evals", "clusters")):
        raise InvalidInput(
            "unknown-kit",
            f"There is no kit '{name}', and no folder of that name that holds evals/ or clusters/",
            f"Choose {STARTS}.",
            kit=name,
            kits=sorted(KITS),
        )
    paths = [path for top in ("evals", "clusters") for path in own.paths(top) if not _MADE.fullmatch(path)]
    paths += [path for path in GOVERNING if own.exists(path)]
    files = dict(_below(_source(), SHARED)) | {path: own.read(path) for path in paths}
    return dict(sorted(files.items()))


def files_at_github(toolkit: str) -> dict[str, bytes]:
    """Path and content of what a repository at GitHub begins with besides its kit.

    Args:
        toolkit: Package and version that the workflows install, since the repository does not hold the toolkit itself.

    Raises:
        InfrastructureFailure: ``kit-missing``.
    """
    files = dict(_below(_source(), AT_GITHUB))
    for path, (text, named) in _HERE.items():
        assert files[path].count(text) == 1
        files[path] = files[path].replace(text, named.format(toolkit).encode())
    return files


def domains(files: Mapping[str, bytes]) -> list[str]:
    """The fields that a kit has eval sets of, or cases that wait."""
    return sorted({path.split("/")[1] for path in files if path.startswith("evals/") and path.count("/") > 1})


def eval_sets(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The eval sets of a kit, as DOMAIN/SET."""
    split_paths = (path.split("/") for path in files if path.startswith("evals/") and path.endswith("/evalset.yaml"))
    return tuple(sorted(f"{parts[1]}/{parts[2]}" for parts in split_paths if len(parts) == 4))


def renamed(files: Mapping[str, bytes], roles: Mapping[str, str]) -> dict[str, bytes]:
    """The files with these roles called otherwise: as keys, owners, gates and code owners, one a line as kits do."""
    if not roles:
        return dict(files)
    names = "|".join(map(re.escape, roles))
    role = re.compile(rf"(?m)(^owner: |\bgate: |^  (?=[^ \n]+: )|(?<=[ \t])@)({names})(?=[\s,}}:]|$)")
    return {
        path: role.sub(lambda match: match[1] + roles[match[2]], data.decode()).encode() if _names_roles(path) else data
        for path, data in files.items()
    }


def _names_roles(path: str) -> bool:
    return path in GOVERNING or path.endswith(("/evalset.yaml", "/cluster.yaml")) or "/rubrics/" in path


def _below(source: Path, entries: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    files_by_name: dict[str, Path] = {}
    for entry in entries:
        path = source / entry
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        if not files:
            raise InfrastructureFailure(
                "kit-missing", f"The kit's {entry} is not installed", "Reinstall modelsmith.", entry=entry
            )
        files_by_name |= {p.relative_to(source).as_posix(): p for p in files}
    for name in sorted(files_by_name):
        yield name, files_by_name[name].read_bytes()


def _source() -> Path:
    """Folder that holds the kits' files: inside the wheel, or the repository around an editable install."""
    package = Path(modelsmith.__file__).parent
    packaged = package / "_governed"
    return packaged if packaged.is_dir() else package.parent
