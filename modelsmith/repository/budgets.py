"""What a proposal may cost whoever looks at it, asked of sizes alone: before it is merged, read or checked.

Gate, hook and ``verify`` ask the same questions of the same limits, those of main, and read with the same reader. So
nothing gets in that cannot be read for ever after, and nothing that is too large is read to find that out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from modelsmith.governance.shape import ABSENT, path_problem, shortened
from modelsmith.repository.document import Problem
from modelsmith.repository.git import Git
from modelsmith.repository.git_process import over_limits
from modelsmith.repository.listing import SUBMODULE
from modelsmith.repository.load import load_policy
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision, WorkTree
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.governance import Limits
from modelsmith.schema.pull import Change, ChangedPath

MERGE_BYTES = 1 << 18
"""Of a merge commit, and of the commit of its receipts: a title, and a line for each approval."""

MOST_RECEIPTS = 200
"""Files of one merge's receipts: two for the merge, two for its opening, and two for each approval."""
RECEIPTS_BYTES = 1 << 20
"""Bytes of all receipts together, at most."""


def require_within(git: Git, base: str, head: str, limits: Limits) -> None:
    """Refuse a proposal that is too large to be merged and looked at.

    Raises:
        GateNotCleared: ``over-limits``.
        IntegrityFailure: ``damaged-object`` for objects that ``verify`` would not read.
    """
    commits = git.count_commits(base, head, limits.commits + 1)
    if commits > limits.commits:
        raise _too_many_commits(limits)
    common = git.merge_base(base, head)
    if common is None:
        return
    with ObjectReader(git.path) as reader:
        change = reader.change(common, head)
        words = size_problem(reader, change, limits)
    if words:
        raise over_limits(f"The proposal is too large: {words}", "Split it, or leave out what need not be in git.")
    for changed in change.paths:
        if changed.new_mode != ABSENT and (words := path_problem(changed.path, limits)):
            raise over_limits(f"{shortened(changed.path)!r} {words}", "Shorten it.")


def require_openable(git: Git, base: str, head: str, limits: Limits) -> None:
    """`require_within`, and that what its earlier commits bring can be looked at, which the gate asks as a check.

    Raises:
        GateNotCleared: ``over-limits``.
        IntegrityFailure: ``damaged-object`` for objects that ``verify`` would not read.
    """
    require_within(git, base, head, limits)
    git.added_files(git.text("rev-list", f"{base}..{head}").split())


def size_problem(git: Git, change: Change, limits: Limits) -> str:
    """Why a change is too large to be read; empty when it is not. Reads no content."""
    added = {p.new_blob: p.path for p in change.paths if p.new_mode not in (ABSENT, SUBMODULE)}
    sizes = git.sizes(added)
    for blob, size in sizes.items():
        if size > limits.file_bytes:
            return f"{added[blob]!a} has {size} bytes; the policy allows {limits.file_bytes}"
    total = sum(sizes[p.new_blob] for p in change.paths if p.new_blob in sizes)
    return (
        f"its files have {total} bytes; the policy allows {limits.change_bytes}" if total > limits.change_bytes else ""
    )


def work_tree_problems(git: Git, files: WorkTree, paths: Iterable[str]) -> list[Problem]:
    """What the gate would refuse for its size or path, by main's limits; what main holds already is not asked again."""
    main = git.rev("refs/heads/main")
    state = Revision(git, main) if main else None
    limits = _limits_of(state)
    return [
        Problem(path, None, "", *refusal)
        for path in paths
        if (refusal := _too_large(files, path, limits)) and not _same(state, files, path)
    ]


def _limits_of(main: Revision | None) -> Limits:
    try:
        return load_policy(main).limits if main else Limits()
    except InvalidInput:
        return Limits()


def _too_large(files: WorkTree, path: str, limits: Limits) -> tuple[str, str] | None:
    words = path_problem(path, limits)
    if words:
        return f"the path {words}", "Shorten it; the limits are main's, under `limits` in its policy."
    size = (files.root / path).lstat().st_size
    if size > limits.file_bytes:
        words = f"the file has {size} bytes; main's policy allows {limits.file_bytes} (limits.file_bytes)"
        return words, "Split it, or leave out what need not be in git; or have the limit raised first."
    return None


def _same(main: Revision | None, files: WorkTree, path: str) -> bool:
    return main is not None and main.exists(path) and main.read(path) == files.read(path)


def read_commits(git: Git, commits: Sequence[str], limits: Limits) -> list[bytes]:
    """Raw commits of one proposal.

    Raises:
        GateNotCleared: ``over-limits`` when there are too many, or they are too large.
    """
    if len(commits) > limits.commits:
        raise _too_many_commits(limits)
    size = sum(git.sizes(commits).values())
    if size > limits.commits_bytes:
        raise over_limits(
            f"The proposal's commits have {size} bytes; the policy allows {limits.commits_bytes}",
            "Propose the same change in one commit.",
        )
    return list(git.read_commits(commits).values())


def require_small_merge(git: Git, commits: Collection[str]) -> None:
    """Refuse a merge whose own commits say more than any merge has to say.

    ``verify`` reads their headers only, whatever their size; but everybody fetches and keeps them.

    Raises:
        GateNotCleared: ``over-limits``.
    """
    for commit, size in git.sizes(commits).items():
        if size > MERGE_BYTES:
            raise over_limits(
                f"Commit {commit[:12]} of the merge has {size} bytes; {MERGE_BYTES} are allowed",
                "Merge with `modelsmith pr merge`.",
            )


def require_small_receipts(git: Git, added: Collection[ChangedPath]) -> None:
    """Refuse files after a merge that are more, or larger, than receipts ever are; asked before any of them is read.

    Raises:
        GateNotCleared: ``over-limits``.
    """
    size = sum(git.blob_sizes([path.new_blob for path in added]).values()) if len(added) <= MOST_RECEIPTS else 0
    if len(added) > MOST_RECEIPTS or size > RECEIPTS_BYTES:
        raise over_limits(
            f"{len(added)} files with {size} bytes follow the merge; receipts are {MOST_RECEIPTS} files with "
            f"{RECEIPTS_BYTES} bytes at most",
            "Merge with `modelsmith pr merge`.",
        )


def _too_many_commits(limits: Limits) -> ModelsmithError:
    return over_limits(
        f"The proposal has more than {limits.commits} commits, which is what the policy allows",
        "Propose the same change in fewer (`git merge --squash`).",
    )
