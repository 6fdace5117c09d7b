"""The toolkit's own repository as a remote of a team's: fetched by GitPython, merged by our own plumbing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelsmith.governance.staying import is_teams
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.invocation import without_passwords
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput
from modelsmith.schema.progress import Progress

REMOTE = "upstream"
TIP = "refs/remotes/upstream/main"
TRAILER = "Upstream: "
"""Line of a commit's message with the commit of upstream that it brought in."""
_STEERING = ("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY")
"""Variables by which GitPython, and the git that it starts, would fetch into another place than this clone."""
_NOBODY = Ident("modelsmith", "modelsmith@modelsmith.invalid", datetime.fromtimestamp(1, UTC))


def fetch_upstream(workspace: Workspace) -> str:
    """Fetch upstream's main, with progress; its commit.

    Raises:
        InvalidInput: ``no-upstream``, ``git-steered``.
        InfrastructureFailure: ``unreachable``, ``extra-missing``.
    """
    steered = [name for name in _STEERING if name in os.environ]
    if steered:
        raise InvalidInput(
            "git-steered",
            f"{' and '.join(steered)} would have git fetch into another place than this clone",
            f"Run again without: env {' '.join(f'-u {name}' for name in steered)} modelsmith upstream ...",
        )
    try:
        import git
    except ImportError:
        raise InfrastructureFailure(
            "extra-missing", "Remotes are worked with by GitPython.", "Run: pip install 'modelsmith[github]'"
        ) from None

    class FetchProgress(git.RemoteProgress):
        def update(self, op_code: int, cur_count: Any, max_count: Any = None, message: str = "") -> None:
            count, total = (int(float(count or 0)) for count in (cur_count, max_count))
            workspace.notify(Progress("fetch", f"upstream: {message or 'objects'}", count, total))

    workspace.git.run("rev-parse", "--git-dir")  # of a clone that git cannot read, in our own words
    repo = git.Repo(workspace.root)
    if REMOTE not in [remote.name for remote in repo.remotes]:
        raise InvalidInput(
            "no-upstream",
            "This clone does not say where the toolkit's own repository is",
            "Run: git remote add upstream URL, with the repository that yours was forked or mirrored from.",
        )
    settings = {"core.hooksPath": "/dev/null", "core.fsmonitor": "false", "submodule.recurse": "false"}
    numbered = {f"GIT_CONFIG_KEY_{at}": name for at, name in enumerate(settings)}
    numbered |= {f"GIT_CONFIG_VALUE_{at}": value for at, value in enumerate(settings.values())}
    with repo.git.custom_environment(
        GIT_CONFIG_COUNT=str(len(settings)), GIT_TERMINAL_PROMPT="0", GIT_NO_LAZY_FETCH="1", **numbered
    ):
        try:
            repo.remote(REMOTE).fetch(
                f"+refs/heads/main:{TIP}", progress=FetchProgress(), tags=False, no_write_fetch_head=True
            )
        except (git.GitCommandError, ValueError) as error:
            words = without_passwords(str(getattr(error, "stderr", error)))
            raise InfrastructureFailure(
                "unreachable",
                f"upstream cannot be fetched: {' '.join(words.split())[:300]}",
                "See where `git remote get-url upstream` points, and whether `git ls-remote upstream` reaches it.",
            ) from None
        finally:
            repo.close()
    tip = workspace.git.rev(TIP)
    if tip is None:
        raise InfrastructureFailure("unreachable", "upstream has no branch main", "Name another repository.")
    return tip


def local_main(git: Git) -> str:
    """Commit of this clone's main. Raises InvalidInput (``no-main``)."""
    main = git.rev("refs/heads/main")
    if main is None:
        raise InvalidInput("no-main", "This clone has no branch main", "Fetch it from the forge.")
    return main


def last_pulled(git: Git, main: str, tip: str) -> str:
    """The latest commit of upstream whose changes main holds: by history, or by the commits that pulls made.

    A commit's message is anybody's words, which no reviewer need see. So one that names a commit of upstream is taken
    for a pull only when its tree is the one that a pull of it gives, on the main before it.

    Raises:
        InvalidInput: ``no-common-history``.
        GateNotCleared: as `Git.merge_base`.
    """
    return _last_pulled(git, main, tip, {})


def pulled_tree(git: Git, main: str, base: str, tip: str) -> str:
    """Tree of main with what changed in upstream from ``base`` to ``tip``, a team's own paths left as they are.

    Raises:
        GateNotCleared: ``conflict`` with its paths.
    """
    bases, theirs = (with_teams_files(git, commit, main) for commit in (base, tip))
    return merge_trees(git, bases, git.text("rev-parse", f"{main}^{{tree}}"), theirs)


def _last_pulled(git: Git, main: str, tip: str, answers: dict[str, bool]) -> str:
    """The latest commit of upstream that main took in; ``answers`` remembers whether a commit is a pull."""
    by_history = git.merge_base(main, tip)
    if by_history is None:
        raise InvalidInput(
            "no-common-history",
            "This repository and upstream share no commit, so it cannot be said what changed there since",
            "Begin from a fork or mirror of upstream: see docs/github.md.",
        )
    oldest = _age(git, by_history)
    named = [
        (_age(git, candidate), commit, candidate)
        for commit, candidate in _named(git, main)
        if git.is_ancestor(candidate, tip)
    ]
    for age, commit, candidate in sorted(named, reverse=True):
        if age > oldest and commit not in answers:
            answers[commit] = _is_pull(git, commit, candidate, answers)
        if age > oldest and answers[commit]:
            return candidate
    return by_history


def _named(git: Git, main: str) -> Iterator[tuple[str, str]]:
    """Commits of main that say that they are pulls, and the one commit that each names; the latest hundred."""
    output = git.text("log", "-z", "--format=%H%n%B", f"--grep=^{TRAILER}[0-9a-f]", "--max-count=100", main)
    for entry in output.split("\0"):
        commit, _, words = entry.partition("\n")
        commits: list[str] = re.findall(rf"^{TRAILER}([0-9a-f]{{40,64}})$", words, re.M)
        if len(commits) == 1 and git.rev(commits[0]):
            yield commit, commits[0]


def _is_pull(git: Git, commit: str, tip: str, answers: dict[str, bool]) -> bool:
    tree, *parents = git.text("log", "-1", "--format=%T %P", commit).split()
    if len(parents) != 1:
        return False
    try:
        return tree == pulled_tree(git, parents[0], _last_pulled(git, parents[0], tip, answers), tip)
    except (GateNotCleared, InvalidInput):
        return False


def _age(git: Git, commit: str) -> int:
    return int(git.text("rev-list", "--count", commit))


def with_teams_files(git: Git, commit: str, main: str) -> str:
    """Tree of a commit, where a team's own paths are as on its main."""
    theirs = git.list_tree(commit)
    ours = {path: entry for path, entry in git.list_tree(main).items() if is_teams(path)}
    lines = [f"0 {oid}\t{path}" for path, (_, oid) in theirs.items() if is_teams(path) and path not in ours]
    lines += [f"{mode} {oid}\t{path}" for path, (mode, oid) in ours.items()]
    with TemporaryDirectory(prefix="modelsmith-") as scratch:
        env = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        git.run("read-tree", commit, env=env)
        git.run("update-index", "-z", "--index-info", input="".join(f"{x}\0" for x in lines).encode(), env=env)
        return git.text("write-tree", env=env)


def merge_trees(git: Git, base: str, ours: str, theirs: str) -> str:
    """Tree of a three-way merge of trees.

    Raises:
        GateNotCleared: ``conflict`` with its paths.
    """
    start = git.commit_tree(base, [], "base\n", _NOBODY)
    sides = (
        git.commit_tree(tree, [start], f"{name}\n", _NOBODY) for name, tree in (("ours", ours), ("theirs", theirs))
    )
    return git.merge_tree(*sides)


def mentions(git: Git, commit: str, words: Iterable[str]) -> set[str]:
    """Those of the words that stand somewhere in a commit's files."""
    return {word for word in words if _stands_in(git, commit, word)}


def _stands_in(git: Git, commit: str, word: str) -> bool:
    try:
        git.run("grep", "-q", "-i", "-F", "-w", "-e", word, commit, "--")
    except InfrastructureFailure as error:
        if error.details.get("status") != 1:
            raise
        return False
    return True
