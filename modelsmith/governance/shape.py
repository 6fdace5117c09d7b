"""What a change may look like, whoever approves it: append-only promotions, one concern at a time, plain files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modelsmith.governance.names import fold_name, twins
from modelsmith.governance.observed import parse_observed
from modelsmith.governance.reserved import why_reserved, why_unportable
from modelsmith.governance.states import parse_folder
from modelsmith.schema.assigned import is_shown
from modelsmith.schema.catalog import kind_of
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import Limits
from modelsmith.schema.observed import OBSERVATION_FILE
from modelsmith.schema.plaintext import first_odd_space
from modelsmith.schema.promotion import RECORD_FILE
from modelsmith.schema.pull import Change, ChangedPath

Concern = Literal["governance", "governed", "toolkit", "other"]
"""Who governs, what is governed, the code that checks it, and the rest."""

ABSENT = "000000"
REGULAR_MODE = "100644"
EXECUTABLE_MODE = "100755"
SUBMODULE_MODE = "160000"

PROMOTIONS = "promotions"
RECEIPTS = "receipts"
GOVERNANCE_RECEIPTS = ".github/governance/receipts"

_GOVERNANCE = frozenset({".github", "agents.md", "codeowners", ".gitattributes", ".gitmodules"})
AGENT_CONTRACT = "AGENTS.md"
"""Rendered from policy, owners and clusters, so it goes with a change of any; it decides nothing."""
GOVERNED_FOLDERS = frozenset({"evals", "clusters", PROMOTIONS, "runbooks"})
"""Folders at the top of which every file is governed."""
_TOOLKIT = frozenset({"modelsmith", "tests", "benchmarks", "pyproject.toml", "makefile"})
_SPELLED = {"agents.md": "AGENTS.md", "codeowners": "CODEOWNERS", "makefile": "Makefile"}


@dataclass(frozen=True)
class Refusal:
    """Why a pull request cannot be merged, whoever approves it."""

    code: str
    """Stable kebab-case word."""
    sentence: str


def concern(path: str) -> Concern:
    """What a path belongs to, by its first part in any case of letters: ``Evals/`` is ``evals/`` on some disks.

    >>> concern("evals/adtech/rtb-root-cause/evalset.yaml"), concern("docs/operator.md")
    ('governed', 'other')
    """
    top = path.split("/", 1)[0].casefold()
    if top in _GOVERNANCE or path.casefold() == "docs/codeowners":
        return "governance"
    if top in GOVERNED_FOLDERS:
        return "governed"
    return "toolkit" if top in _TOOLKIT else "other"


def path_problem(path: str, limits: Limits) -> str:
    """Why a path is too long or too deep to stand in every clone; empty when it is not."""
    parts = path.split("/")
    if len(path.encode("utf-8", "surrogateescape")) > limits.path_bytes:
        return f"is longer than the {limits.path_bytes} bytes that a path may have"
    if any(len(part.encode("utf-8", "surrogateescape")) > limits.name_bytes for part in parts):
        return f"has a name longer than the {limits.name_bytes} bytes that one may have"
    if len(parts) > limits.path_depth:
        return f"is {len(parts)} levels deep; {limits.path_depth} are allowed"
    return ""


def passing_problem(path: str, mode: str, limits: Limits) -> str:
    """Why a file may not come onto main even where a later commit takes it away again; empty when it may.

    It is asked what each path of a change is asked; and nothing under promotions/ is brought only to go.
    """
    zeros = "0" * 40
    changed = ChangedPath(path=path, old_mode=ABSENT, new_mode=mode, old_blob=zeros, new_blob=zeros)
    if refusal := next(_of_path(changed), None):
        return refusal.sentence.rstrip(".")
    if words := path_problem(path, limits):
        return f"{shortened(path)!r} {words}"
    if fold_name(path.split("/", 1)[0]) == PROMOTIONS:
        return f"{path!r} stands under promotions/, where nothing is brought and taken away again"
    return ""


def shortened(path: str) -> str:
    """A path as a message shows it."""
    return path if len(path) <= 120 else f"{path[:60]}...{path[-57:]}"


def promotion_folder(path: str) -> str | None:
    """Folder of the promotion record that a path lies in, well formed or not; None outside ``promotions/``.

    >>> promotion_folder("promotions/rtb-pricing/iter-001-0a1b2c3d/01-candidate/record.json")
    'promotions/rtb-pricing/iter-001-0a1b2c3d/01-candidate'
    """
    parts = path.split("/")
    return "/".join(parts[:4]) if parts[0] == PROMOTIONS else None


def refusals(change: Change, limits: Limits) -> tuple[Refusal, ...]:
    """Every rule that the change breaks.

    Only what the change itself says is judged: whether a new name differs from an untouched one only by case, or a
    folder holds what it must, is for the checks, which see both trees.
    """
    return tuple(_refusals(change, limits))


def _refusals(change: Change, limits: Limits) -> Iterator[Refusal]:
    paths = change.paths
    if not paths:
        yield Refusal("empty-change", "The proposal changes nothing.")
    if len(paths) > limits.changed_paths:
        yield Refusal("too-many-paths", f"{len(paths)} paths change; the policy allows {limits.changed_paths}.")
    yield from _mixed(paths)
    for path in paths:
        yield from _of_path(path)
        if path.new_mode != ABSENT and (reason := path_problem(path.path, limits)):
            yield Refusal("long-path", f"{shortened(path.path)!r} {reason}.")
    yield from _case_twins(paths)
    yield from _promotion(paths)


def _mixed(paths: tuple[ChangedPath, ...]) -> Iterator[Refusal]:
    concerns = {concern(path.path) for path in paths if path.path != AGENT_CONTRACT}
    for ours in ("governance", "toolkit"):
        if {ours, "governed"} <= concerns:
            yield Refusal(
                "mixed-change", f"A change to {ours} is never mixed with what is governed; propose them apart."
            )


def _of_path(changed: ChangedPath) -> Iterator[Refusal]:
    path = changed.path
    top = path.split("/", 1)[0]
    if top != _SPELLED.get(top.casefold(), top.casefold()) and concern(path) != "other":
        yield Refusal("case-alias", f"{path!r} differs only by case from a folder or file with a meaning.")
    if f"{fold_name(path)}/".startswith(f"{GOVERNANCE_RECEIPTS}/"):
        yield Refusal("receipts-are-not-proposed", f"{path!r}: receipts are written by the merge, not proposed.")
    if changed.new_mode == ABSENT:
        return
    if why := why_reserved(path):
        yield Refusal("reserved-path", f"{path!r} may not be committed: {why}.")
    elif why := why_unportable(path):
        yield Refusal("unportable-name", f"{path!r} cannot stand in every clone: {why}.")
    governs = concern(path) in ("governed", "governance")
    if not all(map(is_shown, path)) or first_odd_space(path) or (governs and not path.isascii()):
        yield Refusal("odd-name", f"{path!r} has control, invisible or non-ASCII characters in its name.")
    if changed.new_mode == SUBMODULE_MODE:
        yield Refusal("submodule", f"{path!r} is a submodule, which brings in files that nobody here approves.")
    if not governs:
        return
    if above := next((above for above in _folders(path) if kind_of(above)), None):
        yield Refusal("folder-in-place", f"{path!r} would make a folder of {above!r}, where a governed file lies.")
    if changed.new_mode == EXECUTABLE_MODE:
        yield Refusal("executable", f"{path!r} is executable; governed files are data.")
    elif changed.new_mode != REGULAR_MODE:
        yield Refusal("not-a-file", f"{path!r} is a link or submodule; governed files are plain files.")


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _case_twins(paths: tuple[ChangedPath, ...]) -> Iterator[Refusal]:
    for first, second in twins(changed.path for changed in paths if changed.new_mode != ABSENT):
        yield Refusal("case-twins", f"{second!r} and {first!r} differ only by case or Unicode form.")


def _promotion(paths: tuple[ChangedPath, ...]) -> Iterator[Refusal]:
    names = defaultdict[str, set[str]](set)
    others = set[str]()
    for changed in paths:
        folder = promotion_folder(changed.path)
        (others if folder is None else names[folder]).add(changed.path)
    if not names:
        return
    for changed in paths:
        if promotion_folder(changed.path) and changed.old_mode != ABSENT:
            yield Refusal("append-only", f"{changed.path!r} stands under promotions/, where nothing changes or goes.")
    if len(names) > 1:
        # To hold every path against every folder, whoever lists pull requests would wait for minutes: what else the
        # change touches is judged when each folder is proposed alone.
        yield Refusal("several-promotions", f"A promotion adds one folder; this change touches {len(names)}.")
        others.clear()
    for folder in sorted(names):
        yield from _in_folder(folder, names[folder] | others)


def _in_folder(folder: str, names: set[str]) -> Iterator[Refusal]:
    """``names``: paths that change, in the folder and outside all folders of promotions."""
    if parse_observed(folder):
        yield from _in_observed(folder, names)
        return
    try:
        cluster = parse_folder(folder).cluster
    except InvalidInput as error:
        yield Refusal(error.code, error.message)
        return
    if f"{folder}/{RECORD_FILE}" not in names:
        yield Refusal("sealed-folder", f"{folder} is not new: its {RECORD_FILE} is not part of the change.")
    for name in sorted(names):
        if f"{fold_name(name)}/".startswith(f"{fold_name(folder)}/{RECEIPTS}/"):
            yield Refusal("receipts-are-not-proposed", f"{name!r}: receipts are written by the merge, not proposed.")
        elif promotion_folder(name) is None and name != f"clusters/{cluster}/routing.yaml":
            yield Refusal("promotion-mixed", f"{name!r} does not belong to the promotion of {cluster}.")


def _in_observed(folder: str, names: set[str]) -> Iterator[Refusal]:
    """An observation brings its folder and touches nothing else."""
    if f"{folder}/{OBSERVATION_FILE}" not in names:
        yield Refusal("sealed-folder", f"{folder} is not new: its {OBSERVATION_FILE} is not part of the change.")
    for name in sorted(names):
        if f"{fold_name(name)}/".startswith(f"{fold_name(folder)}/{RECEIPTS}/"):
            yield Refusal("receipts-are-not-proposed", f"{name!r}: receipts are written by the merge, not proposed.")
        elif promotion_folder(name) is None:
            yield Refusal("promotion-mixed", f"{name!r} does not belong to the observation.")
