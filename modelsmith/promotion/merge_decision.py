"""The gate's decision about one pull request, from git and the forge's record of reviews alone."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from modelsmith.governance.gate import CheckResult, GateDecision, decide
from modelsmith.governance.keys import CLOCK_TOLERANCE, opener_doubt
from modelsmith.governance.names import find_twin
from modelsmith.governance.observed import observed_in
from modelsmith.governance.shape import ABSENT, AGENT_CONTRACT
from modelsmith.promotion.attestation import find_objectors, of_pull, with_attested
from modelsmith.promotion.authors import Authorship, Commits, authorship
from modelsmith.promotion.checks import Named, is_promotion, named_actors, promotion_checks
from modelsmith.promotion.freshness import require_readable
from modelsmith.promotion.governed_state import GovernedState, governed_state_after
from modelsmith.promotion.observation_checks import observation_checks
from modelsmith.promotion.openings import opening_doubt
from modelsmith.promotion.passing import check_earlier_commits
from modelsmith.promotion.rollbacks import contract_for
from modelsmith.repository.agent_contract import contract_problem
from modelsmith.repository.bounded import Recent
from modelsmith.repository.budgets import read_commits, require_within, size_problem
from modelsmith.repository.document import Problem
from modelsmith.repository.git import Git
from modelsmith.repository.invocation import Place, place_of
from modelsmith.repository.listing import EXECUTABLE, REGULAR
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.secrets import first_secret, name_problems, secret_problems
from modelsmith.repository.tree import Revision
from modelsmith.repository.validate import validate
from modelsmith.schema.catalog import CODEOWNERS, POLICY
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.governance import Limits
from modelsmith.schema.pull import Change, Elsewhere, PullEvent, PullRequest, Review, odd_words

_sound = Recent[tuple[Place | None, str]](10_000)
"""Repository and tree whose governed files this process has found sound: who opens or merges judges one tree twice."""


@dataclass(frozen=True)
class MergeDecision:
    """A decision and what it was taken about."""

    decision: GateDecision
    change: Change
    tree: str
    """Tree that main would have after the merge."""
    main: GovernedState
    """The governed state that it was judged by."""


def decide_merge(main: GovernedState, pull: PullRequest, now: datetime) -> MergeDecision:
    """Decide about merging the pull request, now, into this main.

    Raises:
        GateNotCleared: ``conflict`` when it does not merge cleanly, ``over-limits`` when it is too large to be looked
            at.
        IntegrityFailure: ``from-the-future`` when main holds a merge that is dated after now.
    """
    git, main_commit, limits = main.tree.git, main.tree.commit, main.policy.limits
    require_within(git, main_commit, pull.head, limits)
    tree = git.merge_tree(main_commit, pull.head)
    ids = Commits(git, main_commit, pull.head).pass_over(pull.head)
    commits = read_commits(git, ids, limits)
    signed = main.signed
    if signed.latest > now + 2 * CLOCK_TOLERANCE:
        raise _from_the_future(signed.latest)
    signed_reviews, lost = _given_on(main.line, pull.reviews)
    change = git.change(main_commit, tree)
    attested, unheeded = of_pull(main, pull, change.digest())
    reviews = with_attested(signed_reviews, attested)
    doubt = opening_doubt(pull, change.digest(), main.line, signed.pulls, now)
    with nullcontext(git) if isinstance(git, ObjectReader) else ObjectReader(git.path) as reader:
        decided = decide_tree(
            reader,
            main,
            tree,
            reviews=reviews,
            requester=pull.requester,
            preparer=pull.preparer,
            authorship=authorship(commits, main.people),
            latest_signed=max(now, pull.opened_at, signed.latest),
            now=now,
            elsewhere=pull.elsewhere,
            objectors=find_objectors(main.people, pull, signed_reviews, change.digest()),
            opener=(
                *_opener(pull, main),
                *_repository(pull, main),
                _opening(pull, doubt),
                _secrets_said(pull, commits),
                check_earlier_commits(git, main_commit, ids, change, limits, merging=True),
            ),
        )
    return replace(
        decided,
        decision=replace(
            decided.decision, notes=(*decided.decision.notes, *lost, *unheeded, *_forge_comments(pull, attested))
        ),
    )


def _forge_comments(pull: PullRequest, attested: Sequence[Review]) -> tuple[str, ...]:
    """What was said at the forge and nobody has attested or signed: readers should not take it for a verdict."""
    reviewed = {(review.source.login.lower(), review.verdict) for review in attested if review.source}
    verbs = {"approve": "approved", "reject": "asked for changes"}
    means = {
        "approve": f"that opens no gate unless they sign: `modelsmith approve {pull.number} --key KEY`",
        "reject": "of an owner of what changes, that closes the gate until they approve",
    }
    return tuple(
        f"{review.login} {verbs[review.verdict]} at the forge"
        + ("" if review.head == pull.head else f", of another commit ({(review.head or 'none')[:12]})")
        + f"; {means[review.verdict]}."
        for review in pull.heard or ()
        if (review.login.lower(), review.verdict) not in reviewed
    )


def _given_on(line: Set[str], reviews: Sequence[Review]) -> tuple[tuple[Review, ...], tuple[str, ...]]:
    """Reviews without the approvals that were given on another main than this one, and a note about each of these."""
    lost = [r for r in reviews if r.verdict == "approve" and r.base is not None and r.base not in line]
    reviews_left = tuple(review for review in reviews if review not in lost)
    return reviews_left, tuple(
        f"The approval of {r.actor} does not count: it was given on a main that is no more." for r in lost
    )


def _from_the_future(moment: datetime) -> IntegrityFailure:
    return IntegrityFailure(
        "from-the-future",
        f"Main holds a merge that is dated {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC, which has not come yet",
        "Set this machine's clock. If it is right, main does not verify: restore it from a clone that does.",
    )


def decide_tree(
    git: Git,
    main: GovernedState,
    tree: str,
    *,
    reviews: Sequence[Review],
    requester: str,
    preparer: str,
    authorship: Authorship,
    latest_signed: datetime,
    now: datetime | None = None,
    elsewhere: Sequence[Elsewhere] = (),
    objectors: Set[str] = frozenset(),
    opener: Sequence[CheckResult] = (),
) -> MergeDecision:
    """The decision of `decide_merge` about a tree, from its parts.

    Replaying history calls this with what the receipts say and without ``now``: the past has no present.

    Args:
        git: Where the trees are.
        main: What governs.
        tree: Tree that main would have after the merge.
        reviews: Authentic verdicts, oldest first.
        requester: Who asked for the change.
        preparer: Who opened the pull request.
        authorship: What the proposal's commits prove and claim.
        latest_signed: A time that the merge is not before: the latest that history holds a signature of, with the
            approvals of this merge, or the present.
        now: The present, where the merge is made.
        elsewhere: What the forge holds against the same in other pull requests; nothing of it outlives the merge.
        objectors: Who asked for changes at the forge without a signature; nothing of it outlives the merge either.
        opener: Checks of the proposal itself: of its commits, and at the merge of who opened it and what was said.
    """
    change = git.change(main.tree.commit, tree)
    checks = _size(git, change, main.policy.limits)
    too_large = bool(checks)
    if not too_large:
        checks = checks_for(git, main, tree, change, now, latest_signed)
    named = Named((), ()) if too_large else named_actors(Revision(git, tree), change)
    passed = is_promotion(change) and not observed_in(change) and all(check.passed for check in checks)
    decision = decide(
        policy=main.policy,
        people=main.people,
        codeowners=main.codeowners,
        change=change,
        reviews=reviews,
        requester=requester,
        preparer=preparer,
        authors=[*authorship.authors, *named.requesters, *named.preparers],
        claims=authorship.claims,
        checks=(*opener, *checks),
        now=latest_signed,
        contract=contract_for(main, Revision(git, tree), change, now, latest_signed) if passed else None,
        recorders=named.preparers,
        elsewhere=elsewhere,
        objectors=objectors,
    )
    return MergeDecision(decision, change, tree, main)


def _repository(pull: PullRequest, main: GovernedState) -> tuple[CheckResult, ...]:
    """What was opened and approved under another identity of the repository speaks of another repository."""
    if pull.opening is None:
        return ()
    opened_for, now = PullEvent.model_validate_json(pull.opening.statement).repository, main.policy.repository
    if opened_for == now:
        return ()
    sentence = f"it was opened for {opened_for}, and main is {now} now; close it and have the change proposed again"
    return (CheckResult("repository", False, sentence),)


def _size(git: Git, change: Change, limits: Limits) -> tuple[CheckResult, ...]:
    """What is too large is not read to find more: the failed check alone; nothing for what may be read."""
    count = len(change.paths)
    words = f"{count} paths change" if count > limits.changed_paths else size_problem(git, change, limits)
    sentence = f"{words}; split the proposal, or leave out what need not be in git"
    return (CheckResult("size", False, sentence),) if words else ()


def _opener(pull: PullRequest, main: GovernedState) -> tuple[CheckResult, ...]:
    """Whoever opens a pull request may not approve it, so who it was must be certain; and what they wrote is seen."""
    odd = odd_words(pull.title, pull.branch, pull.body)
    words = (CheckResult("words", False, f"{odd} Have the change proposed again in plain text."),) if odd else ()
    if pull.key is None:
        return words
    doubt = opener_doubt(pull, main.people)
    sentence = f"opened by {pull.preparer}" if doubt is None else f"{doubt}; have the change proposed again"
    return (CheckResult("opener", doubt is None, sentence), *words)


def _secrets_said(pull: PullRequest, commits: Sequence[bytes]) -> CheckResult:
    """Words that come onto main with the merge: title, description, branch, reasons of verdicts, whole commits."""
    words = [("the title", pull.title), ("the description", pull.body), ("the branch's name", pull.branch)]
    last = {review.actor: review for review in pull.reviews}
    words += [(f"the reason of {actor}'s verdict", review.reason) for actor, review in sorted(last.items())]
    raw = (commit.decode("utf-8", "replace") for commit in commits)
    words.append(("a commit (its message, or the names in it)", "\n\n".join(raw)))
    for source, text in words:
        secret = first_secret(text)
        if secret:
            sentence = f"{source} holds what looks like a secret (rule {secret.rule}); say it anew without that"
            return CheckResult("secrets-said", False, sentence)
    return CheckResult("secrets-said", True, "nothing that was said looks like a secret")


def _opening(pull: PullRequest, doubt: str | None) -> CheckResult:
    """What was opened is what would be merged, on this main and once, and its opener wants that."""
    if pull.draft:
        return CheckResult("opening", False, "the forge shows it as a draft; mark it there as ready for review")
    sentence = "what would be merged is the change that was opened, on this main"
    again = f"{doubt}; rebase {pull.branch} on main and propose it again"
    return CheckResult("opening", doubt is None, sentence if doubt is None else again)


def checks_for(
    git: Git, main: GovernedState, tree: str, change: Change, now: datetime | None, latest_signed: datetime
) -> tuple[CheckResult, ...]:
    """Checks of a promotion, or of an observation; for every other change, that the governed files still validate."""
    proposed = Revision(git, tree)
    names = _names(proposed, change)
    if observed_in(change):
        results = (*observation_checks(main, proposed, change, now is not None), names)
        return results if now is None else (*results, _readable(main, tree))
    if is_promotion(change):
        results = (*promotion_checks(main, proposed, change, now, latest_signed), names)
        return results if now is None else (*results, _readable(main, tree))
    problems = _problems(git, tree)
    sentence = "every governed file validates"
    if problems:
        first = problems[0]
        place = f"{first.file}:{first.line}" if first.line else first.file
        field = f"{first.field}: " if first.field else ""
        sentence = f"{place}: {field}{first.message} ({len(problems)} problems in all). {first.mend}"
    checks = [
        CheckResult("valid-files", not problems, sentence),
        _rendered(change),
        _settings_kept(main, change),
        names,
    ]
    if not problems:
        checks.append(_readable(main, tree))
    return tuple(checks) if now is None else (*checks, _secrets(proposed, change), _contract(proposed, change))


def _problems(git: Git, tree: str) -> tuple[Problem, ...]:
    """What is wrong with the governed files of a tree. What its id names never changes: if sound, it is read once."""
    this = place_of(git.path), tree
    if this in _sound:
        return ()
    problems = validate(Revision(git, tree)).problems
    if not problems:
        _sound.add(this)
    return problems


def _settings_kept(main: GovernedState, change: Change) -> CheckResult:
    """Whether no record loses its cluster's settings: replay reads records with them, even when nothing serves."""
    removed = {path.path for path in change.paths if path.new_mode == ABSENT}
    clusters = {history.cluster for history in main.histories.by_specialist.values()}
    missing = sorted(name for name in clusters if f"clusters/{name}/cluster.yaml" in removed)
    sentence = f"main holds records of {', '.join(missing)}, which nobody could read without its cluster.yaml; leave it"
    return CheckResult("settings-kept", not missing, sentence if missing else "no record loses its cluster's settings")


def _readable(main: GovernedState, tree: str) -> CheckResult:
    """A main that could not be read afterwards would end every command, for everybody and for good.

    A replay reads the main after each promotion anyway, so it is not asked there a second time.
    """
    try:
        require_readable(governed_state_after(main, tree))
    except ModelsmithError as error:
        return CheckResult("readable-main", False, f"main could not be read afterwards: {error.message}")
    return CheckResult("readable-main", True, "main can be read afterwards")


def _secrets(proposed: Revision, change: Change) -> CheckResult:
    """Only at the merge: a later toolkit may know more secrets by their form, and history stays as it was judged."""
    names = [path.path for path in change.paths if path.old_mode == ABSENT]
    files = [path.path for path in change.paths if path.new_mode in (REGULAR, EXECUTABLE)]
    problems = [*name_problems(names), *secret_problems(proposed, files)]
    if not problems:
        return CheckResult("secrets", True, "no changed file holds what looks like a secret")
    first = problems[0]
    place = f"{first.file}:{first.line}" if first.line else first.file
    sentence = f"{place}: {first.message} ({len(problems)} in all). {first.mend}"
    return CheckResult("secrets", False, sentence)


def _contract(proposed: Revision, change: Change) -> CheckResult:
    """Only at the merge, and where it or what it is rendered from changes: a later toolkit may render it otherwise."""
    sources = (AGENT_CONTRACT, POLICY, CODEOWNERS)
    touched = any(path.path in sources or path.path.startswith("clusters/") for path in change.paths)
    problem = contract_problem(proposed) if touched else None
    if problem is None:
        return CheckResult("agent-contract", True, "no contract of agents is out of date")
    return CheckResult(
        "agent-contract", False, f"{problem.file}:{problem.line or 1}: {problem.message}. {problem.mend}"
    )


def _names(proposed: Revision, change: Change) -> CheckResult:
    """On disks that fold case or Unicode form, two such paths would be one file."""
    added = [path.path for path in change.paths if path.old_mode == ABSENT]
    twin = find_twin(proposed.names, added)
    if twin is None:
        return CheckResult("names", True, "no new name differs from another only by case or Unicode form")
    return CheckResult("names", False, f"{twin[0]!a} and {twin[1]!a} differ only by case or Unicode form")


def _rendered(change: Change) -> CheckResult:
    """Routing follows from promotion records, so nothing but a promotion may touch it."""
    touched = [p.path for p in change.paths if p.path.startswith("clusters/") and p.path.endswith("/routing.yaml")]
    sentence = f"{', '.join(touched)} is rendered from promotion records" if touched else "no rendered file is touched"
    return CheckResult("rendered-files", not touched, sentence)
