"""Which commit is verified, whether it is what is checked out, and whether others see the same main.

git reads a plain name in more than one place, and a forge says what a clone checks out: so a name counts only where
nothing else has it, and what is verified is compared with what lies in the work tree.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from modelsmith.forges.mirror import FETCH
from modelsmith.repository.commits import Commit
from modelsmith.repository.eval_tree import edited_paths
from modelsmith.repository.git import Git, reads_as_id
from modelsmith.repository.refs import local_refs, remote_refs
from modelsmith.repository.tree import WorkTree, unknown_revision
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.steps import step

MAIN = "refs/heads/main"
MAIN_NAME = "main"
KNOWN = ("refs/modelsmith/main", "refs/remotes/origin/main")
"""Where a clone keeps the main that it last fetched: with the toolkit, and with plain git."""

TipRelation = Literal["same", "older", "newer"]
"""What somebody else's main is beside the one that was verified."""


class CheckedOut(NamedTuple):
    """The commit that the work tree is made from, and its name."""

    commit: str | None
    """None when nothing is checked out yet."""
    name: str
    """Branch, or ``a detached HEAD``."""
    edited: int
    """Paths of it that are gone or hold something else here."""


def named_commit(git: Git, name: str) -> tuple[str, str]:
    """Full name and commit of a branch, tag or commit id.

    Raises:
        InvalidInput: ``no-main``, ``no-commit`` or ``bad-revision`` when there is none.
        IntegrityFailure: ``ambiguous-name`` when several things have the name, ``linked-branch`` when the branch is
            only a link to another one.
    """
    places = _places(name)
    refs = {ref: oid for ref, oid in local_refs(git, *places).items() if ref in places}
    if len(refs) > 1:
        raise IntegrityFailure(
            "ambiguous-name",
            f"This clone has several things named {name}: {', '.join(sorted(refs))}; git does not always mean the same",
            "Say which by its full name (`--revision refs/heads/...`), or remove the others. A forge that holds a tag "
            "named like its main is not to be trusted.",
            refs=sorted(refs),
        )
    ref = MAIN if name == MAIN_NAME else next(iter(refs), name)
    if ref in refs and (link := git.symbolic_ref(ref)):
        raise IntegrityFailure(
            "linked-branch",
            f"{ref} is only a link to {link}",
            f"Verify that one by its own name: --revision {link}.",
            ref=ref,
            link=link,
        )
    commit = git.rev(ref)
    if commit is None and ref in refs:
        raise IntegrityFailure(
            "damaged-object",
            f"{ref} is at {refs[ref][:12]}, which is no commit of this clone: it is missing, or not what its id says",
            "Clone the forge again over a connection (`git clone --no-local`); if that fails, do not trust it.",
            ref=ref,
            object=refs[ref],
        )
    if commit is None:
        raise _no_main(git) if ref == MAIN and git.rev("HEAD") else unknown_revision(git, name)
    return ref if ref in refs else commit, commit


def _places(name: str) -> tuple[str, ...]:
    """Refs that git may take a name for; none for one that reads as a commit's id, whatever else is named so."""
    if reads_as_id(name):
        return ()
    if name.startswith("refs/"):
        return (name,)
    return tuple(f"{place}{name}" for place in ("refs/heads/", "refs/tags/", "refs/remotes/", "refs/"))


def checked_out(git: Git) -> CheckedOut:
    """The commit that the clone's work tree is made from."""
    link = git.symbolic_ref("HEAD")
    commit = git.rev("HEAD")
    edited = edited_paths(git, WorkTree(git.path), commit) if commit else []
    return CheckedOut(commit, link.removeprefix("refs/heads/") if link else "a detached HEAD", len(edited))


def require_checked_out(tip: str, checkout: CheckedOut) -> None:
    """Refuse to speak for a work tree that is made from another commit.

    Raises:
        IntegrityFailure: ``not-checked-out``.
    """
    if checkout.commit == tip:
        return
    named = step("verify", {}, revision="main")
    raise IntegrityFailure(
        "not-checked-out",
        f"What is checked out here ({checkout.name}, {(checkout.commit or 'nothing')[:12]}) is not main ({tip[:12]}), "
        "so nothing that is said of main holds for these files",
        "Check main out (`git switch main`), or say by name what you mean: `{next}`.",
        checked_out=checkout.commit,
        tip=tip,
    ).then(named)


def compare(git: Git, log: Sequence[Commit], other: str, where: str) -> TipRelation:
    """How another main relates to the verified one.

    Args:
        git: The clone.
        log: The verified main along its first parents, oldest first.
        other: Commit of the other main; its objects are in the clone.
        where: Who says so, for the error.

    Raises:
        IntegrityFailure: ``forked-main`` when neither contains the other.
    """
    tip = log[-1].id
    if other == tip:
        return "same"
    if any(commit.id == other for commit in log):
        return "older"
    if any(commit.id == tip for commit in git.first_parent_log(other)):
        return "newer"
    raise IntegrityFailure(
        "forked-main",
        f"{where} has another main: neither {other[:12]} there nor {tip[:12]} here contains the other",
        "One of the two left out or rewrote something. Find out which with a third clone; trust neither until then.",
        tip=tip,
        other=other,
    )


def tip_of(git: Git, source: str) -> str:
    """The commit of main in another repository, its objects brought into this clone; no ref moves.

    An object that git finds damaged stays out: it would make this clone look damaged ever after.

    Raises:
        InvalidInput: ``bad-source`` when it has no branch main, or git would take it for an option.
        InfrastructureFailure: ``unreachable``, ``git-failed`` when it is not a repository, cannot be reached, or holds
            damaged objects.
    """
    if not source or source.startswith("-"):
        words = f"{source!r} is no repository"
        raise InvalidInput(
            "bad-source", words, "Name one by its path (`./-1` for such a folder) or URL.", source=source
        )
    place = str(Path(source).resolve()) if source and Path(source).exists() else source
    try:
        remote = remote_refs(git, place, MAIN)
    except InfrastructureFailure as error:
        mend = f"See whether `git ls-remote {shlex.quote(source)}` reaches it from here, or name another repository."
        raise InfrastructureFailure(error.code, error.message, mend, **error.details) from None
    if MAIN not in remote:
        raise InvalidInput(
            "bad-source", f"{source!r} has no branch main", "Name a repository that has one.", source=source
        )
    git.run("-c", "fetch.fsckObjects=true", *FETCH, "--", place, MAIN)
    return remote[MAIN]


def given_tip(git: Git, commit: str) -> str:
    """A commit of main that the verifier knows from elsewhere.

    Raises:
        InvalidInput: ``bad-tip`` unless it is a full commit id.
        IntegrityFailure: ``unknown-tip`` when this clone does not hold it.
    """
    if len(commit) not in (40, 64) or not set(commit) <= set("0123456789abcdef"):
        raise InvalidInput(
            "bad-tip",
            f"{commit!r} is no full commit id",
            "Give the whole `tip` of `modelsmith verify --json`.",
            commit=commit,
        )
    if git.rev(commit) is None:
        raise IntegrityFailure(
            "unknown-tip",
            f"This clone does not hold {commit[:12]}, which somebody has seen on main",
            "Fetch, and try again. If it is still missing, this is an older main or another one: do not trust it.",
            commit=commit,
        )
    return commit


def _no_main(git: Git) -> InvalidInput:
    checkout = checked_out(git)
    return InvalidInput(
        "no-main",
        f"This clone has no branch main; what is checked out is {checkout.name}, and nobody has verified it",
        "Make one from what you fetched (`git switch --create main origin/main`), or say by name what you mean: "
        "`modelsmith verify --revision origin/main`.",
        here=checkout.name,
    )
