"""``modelsmith upstream contribute``: a branch's change as one commit on upstream's main, and nothing else of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from modelsmith.governance.names import holders
from modelsmith.governance.shape import ABSENT
from modelsmith.governance.staying import internal_host, why_it_stays
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.listing import EXECUTABLE, REGULAR
from modelsmith.repository.secrets import first_secret, name_problems, secret_problems
from modelsmith.repository.tree import Revision
from modelsmith.repository.upstream import fetch_upstream, local_main, mentions, merge_trees
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plaintext import PlainLine, PlainText
from modelsmith.schema.pull import Change

_AUTHOR = re.compile(r"([^<>]{1,100}) <([^<>\s]{3,100})>")
SHORTEST = 4
"""Letters of a private name below which it is not looked for: it would stand in any text."""


class UpstreamContributeRequest(Request):
    """Puts what BRANCH changes against main on top of upstream's main, as one commit on branch contribute/BRANCH.

    No commit, name or file of this repository goes with it but the change itself. It is refused when that holds a
    team's own path, weights, a dataset, what looks like a secret, an internal host, or a name of this team. Nothing is
    pushed: read it, then push it to where pull requests for upstream come from.
    """

    branch: Annotated[PlainLine, Field(description="Local branch with the change, made on main."), ARGUMENT]
    title: Annotated[PlainLine, Field(min_length=1, description="One line that everybody may read.")]
    author: Annotated[
        PlainLine, Field(pattern=_AUTHOR.pattern, description="Who contributes, in public: 'NAME <MAIL>'.")
    ]
    body: Annotated[PlainText, Field(description="Why, in words that everybody may read.")] = ""


class UpstreamContributeResult(Result):
    """The change that may leave, as one commit on a branch."""

    branch: str
    commit: str
    """Its only parent is upstream's main."""
    paths: tuple[str, ...]


def run(workspace: Workspace, request: UpstreamContributeRequest) -> UpstreamContributeResult:
    """Build and search it; no branch is made of what is refused.

    Raises:
        InvalidInput: ``stays-here``, naming each place and why, and never the thing itself; ``unknown-branch``,
            ``empty-change``, ``branch-exists``.
        GateNotCleared: ``conflict`` where upstream changed the same.
    """
    git, tip = workspace.git, fetch_upstream(workspace)
    main, head = local_main(git), git.rev(f"refs/heads/{request.branch}")
    if head is None:
        raise InvalidInput("unknown-branch", f"There is no local branch '{request.branch}'",
                           "Name one of `git branch`.", branch=request.branch)  # fmt: skip
    base = git.merge_base(main, head)
    if base is None or not git.change(base, head).paths:
        raise InvalidInput("empty-change", f"'{request.branch}' changes nothing on main", "Commit a change first.")
    trees = [git.text("rev-parse", f"{commit}^{{tree}}") for commit in (base, tip, head)]
    _refuse(list(_staying(git, tip, git.change(base, head))))
    tree = merge_trees(git, *trees)
    match = _AUTHOR.fullmatch(request.author)
    assert match
    author = Ident(match[1].strip(), match[2], datetime.now(UTC))
    commit = git.commit_tree(tree, [tip], f"{request.title}\n\n{request.body}".strip() + "\n", author)
    change = git.change(tip, commit)
    words = {"the title": request.title, "the body": request.body, "the branch's name": request.branch}
    private = _private_words(workspace, git, tip, read_governed_state(git, main))
    _refuse([*_staying(git, tip, change), *_leaks(git, tip, commit, change, words, private)])
    branch = f"contribute/{request.branch}"
    existing = git.rev(f"refs/heads/{branch}")
    if existing and git.text("rev-parse", f"{existing}^{{tree}}", f"{existing}^1").split() != [tree, tip]:
        raise InvalidInput("branch-exists", f"There is a branch {branch} with something else",
                           f"Remove it: git branch -D {branch}", branch=branch)  # fmt: skip
    if existing is None:
        git.update_ref(f"refs/heads/{branch}", commit, None)
    return UpstreamContributeResult(
        branch=branch, commit=existing or commit, paths=tuple(path.path for path in change.paths)
    )


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InvalidInput(
            "stays-here",
            f"This is not for upstream: {'; '.join(problems[:10])}"
            + (f"; {len(problems) - 10} more" * (len(problems) > 10)),
            "Take it out of the branch; what a team's own paths are is in docs/github.md.",
            found=problems,
        )


def _staying(git: Git, tip: str, change: Change) -> Iterator[str]:
    """Paths that a contribution may not hold, whatever is in them."""
    listing = git.listing(tip)
    for path in change.paths:
        if why := why_it_stays(path.path, listing.entry(path.path) is not None):
            yield f"{path.path!a} is {why}"
        elif path.new_mode not in (REGULAR, EXECUTABLE, ABSENT):
            yield f"{path.path!a} is a link or another repository"


def _leaks(
    git: Git, tip: str, commit: str, change: Change, words: dict[str, str], private: re.Pattern[str]
) -> Iterator[str]:
    after, before = Revision(git, commit), Revision(git, tip)
    files = [path.path for path in change.paths if path.new_mode in (REGULAR, EXECUTABLE)]
    names = [path.path for path in change.paths if not before.exists(path.path)]
    for problem in (*name_problems(names), *secret_problems(after, files)):
        yield f"{problem.file!a}{f', line {problem.line}' if problem.line else ''}: {problem.message}"
    for label, text in words.items():
        yield from _text_problems(label, text, private)
    for path in files:
        data, old = after.read(path), before.read(path) if before.exists(path) else b""
        try:
            lines = data.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            yield f"{path!a} is no text, so nobody can look into it"
            continue
        old_lines = set(old.decode("utf-8", "replace").split("\n"))
        for number, line in enumerate(lines, start=1):
            if line not in old_lines:
                yield from _text_problems(f"{path!a}, line {number}", line, private)
        if path in names:
            yield from _text_problems(f"the name of {path!a}", path, private)


def _text_problems(where: str, text: str, private: re.Pattern[str]) -> Iterator[str]:
    if first_secret(text):
        yield f"{where} holds what looks like a secret"
    if internal_host(text):
        yield f"{where} names a host or address of a private network"
    if private.search(text):
        yield f"{where} holds a name of this team"


def _private_words(workspace: Workspace, git: Git, tip: str, main: GovernedState) -> re.Pattern[str]:
    """Names that main's governed files and this clone's forge give to things and people, and upstream does not know.

    Programs write ``rtb-pricing`` as ``rtb_pricing`` or ``RtbPricing``, and within longer names.
    """
    words = {main.policy.repository}
    for holder in holders(main.people):
        words |= {holder.id, *holder.logins.values()}
    words |= {person.name for person in main.people.people}
    words |= {path.split("/")[1] for top in ("clusters", "evals") for path in main.tree.paths(top)}
    words |= set(main.histories.by_specialist)
    forge = workspace.setting("forge") or ""
    words |= set(re.findall(r"[A-Za-z0-9][A-Za-z0-9.-]+", forge.removeprefix("github:")))
    public = {"https", "http", "github.com", "forge.git", "modelsmith"}
    words = {word for word in words if len(word) >= SHORTEST and word.lower() not in public}
    names = [re.sub(r"\\?[-_ ]", "[-_ ]?", re.escape(name)) for name in sorted(words - mentions(git, tip, words))]
    return re.compile(rf"(?i)(?<![a-z0-9])(?:{'|'.join(names)})(?![a-z0-9])" if names else r"(?!)")
