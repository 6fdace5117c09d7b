"""The gate's decision about one pull request, from git and the forge's record of reviews alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelsmith.governance.gate import CheckResult, GateDecision, decide
from modelsmith.promotion.checks import is_promotion, named_actors, promotion_checks
from modelsmith.promotion.main import Main, read_main
from modelsmith.repository.git import Git
from modelsmith.repository.tree import Revision
from modelsmith.repository.validate import validate
from modelsmith.schema.pull import Change, PullRequest, Review


@dataclass(frozen=True)
class Judgement:
    """A decision and what it was taken about."""

    decision: GateDecision
    change: Change
    tree: str
    """Tree that main would have after the merge."""


def judge(git: Git, pull: PullRequest, main_commit: str) -> Judgement:
    """Decide about merging the pull request into main as it is at ``main_commit``.

    Raises:
        GateNotCleared: ``conflict`` when it does not merge cleanly.
    """
    tree = git.merge_tree(main_commit, pull.head)
    return judge_tree(
        git,
        read_main(git, main_commit),
        tree,
        reviews=pull.reviews,
        requester=pull.requester,
        preparer=pull.preparer,
        authors=commit_authors(git, main_commit, pull.head),
    )


def judge_tree(
    git: Git,
    main: Main,
    tree: str,
    *,
    reviews: Sequence[Review],
    requester: str,
    preparer: str,
    authors: Sequence[str],
) -> Judgement:
    """The same decision from its parts; replaying history calls this with what the receipts say."""
    change = git.change(main.tree.commit, tree)
    decision = decide(
        policy=main.policy,
        people=main.people,
        codeowners=main.codeowners,
        change=change,
        reviews=reviews,
        requester=requester,
        preparer=preparer,
        authors=[*authors, *named_actors(Revision(git, tree), change)],
        checks=checks_for(git, main, tree, change),
    )
    return Judgement(decision, change, tree)


def checks_for(git: Git, main: Main, tree: str, change: Change) -> tuple[CheckResult, ...]:
    """Promotion checks for a promotion; for every other change, that the governed files still validate."""
    proposed = Revision(git, tree)
    if is_promotion(change):
        return promotion_checks(main, proposed, change)
    problems = validate(proposed).problems
    sentence = "every governed file validates"
    if problems:
        first = problems[0]
        place = f"{first.file}:{first.line}" if first.line else first.file
        sentence = f"{place}: {first.message} ({len(problems)} problems in all)"
    return (CheckResult("valid-files", not problems, sentence), _rendered(change))


def _rendered(change: Change) -> CheckResult:
    """Routing follows from promotion records, so nothing but a promotion may touch it."""
    touched = [p.path for p in change.paths if p.path.startswith("clusters/") and p.path.endswith("/routing.yaml")]
    sentence = f"{', '.join(touched)} is rendered from promotion records" if touched else "no rendered file is touched"
    return CheckResult("rendered-files", not touched, sentence)


def commit_authors(git: Git, base: str, head: str) -> list[str]:
    """Names and mail names that the proposal's commits claim. Claims can only take an approval away, never give one."""
    out = git.text("log", "--format=%an%n%cn%n%ae%n%ce", f"{base}..{head}")
    return sorted({name for line in out.splitlines() for name in (line, line.split("@")[0]) if name})
