"""``modelsmith attest-reviews``: what a workflow of main runs, so that a review in GitHub's pages counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from modelsmith.forges.github.forge import GitHubForge
from modelsmith.operations.contract import Request, Result
from modelsmith.promotion.attestation import FORGE, Attested, attestation, newest, read_attestation
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import ambient, open_forge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import ReviewsAttestation
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.steps import step
from modelsmith.signing.dsse import seal
from modelsmith.signing.keyless import find_token, job_commit


class AttestReviewsRequest(Request):
    """Reads the reviews of open pull requests at GitHub and signs what it read by the identity of this job.

    It runs in a workflow of main, which policy names under attested_forges, and takes nothing from a proposal but its
    number. Without a number: every open pull request whose reviews changed, or were read long ago.
    """

    pr: Annotated[
        int | None,
        Field(ge=1, le=999_999_999, description="This pull request alone, whether or not something changed."),
    ] = None


class AttestedPull(Frozen):
    """One pull request whose reviews were read."""

    number: int
    signed: bool
    reviews: int
    """Reviews that GitHub has of it; comments are none."""
    because: str
    """Why it was signed, or not."""


class AttestReviewsResult(Result):
    """Reviews that were read and signed."""

    repository: str
    """The repository's name at GitHub."""
    commit: str
    """Commit of main whose workflow this was."""
    pulls: tuple[AttestedPull, ...]


def run(workspace: Workspace, request: AttestReviewsRequest) -> AttestReviewsResult:
    """Sign what reviews in GitHub's pages say."""
    forge = open_forge(workspace)
    if not isinstance(forge, GitHubForge):
        raise InvalidInput(
            "no-reviews",
            "This forge has no reviews but those that people sign",
            "Nothing is to attest: people run `{next}`.",
        ).then(step("approve", {"number": 1}, key="KEY"))
    git = workspace.git
    main = read_governed_state(git, forge.fetch_into(git))
    if not any(believed.forge == FORGE for believed in main.policy.attested_forges):
        raise InvalidInput(
            "nobody-believed",
            "Main's policy believes no workflow about reviews at GitHub",
            "Have its owners name this one under attested_forges: see docs/reviews.md.",
        )
    commit = job_commit(find_token())
    if commit is None or commit not in main.line:
        raise InvalidInput(
            "job-of-another-main",
            f"This job runs for {commit or 'no commit'}, which is none of main's",
            "Run it on main; nobody would believe it otherwise.",
            commit=commit,
        )
    pulls = forge.list("open") if request.pr is None else (forge.get(request.pr),)
    attested = tuple(_attest(forge, main, pull, commit, request.pr is not None) for pull in pulls)
    hosted = forge.hosted()
    return AttestReviewsResult(repository=hosted[0], commit=commit, pulls=attested)


def _attest(forge: GitHubForge, main: GovernedState, pull: PullRequest, commit: str, always: bool) -> AttestedPull:
    if pull.status != "open" or pull.moved:
        why = "its branch moved on since it was opened" if pull.moved else f"it is {pull.status}"
        return AttestedPull(number=pull.number, signed=False, reviews=0, because=why)
    git, base = main.tree.git, main.tree.commit
    hosted, hosted_id = forge.hosted()
    reviews = forge.reviews(pull.number)
    statement = ReviewsAttestation(
        repository=main.policy.repository,
        forge=FORGE,
        hosted=hosted,
        hosted_id=hosted_id,
        pull=pull.number,
        head=pull.head,
        base=commit,
        change=git.change(base, git.merge_tree(base, pull.head)).digest(),
        reviews=reviews,
        read_at=datetime.now(UTC).replace(microsecond=0),
    )
    before = newest(main, pull)[0]
    because = "it was asked for" if always else _reason(statement, before)
    if because is None:
        return AttestedPull(number=pull.number, signed=False, reviews=len(reviews), because="nothing changed")
    bundle = seal(attestation(statement), ambient())
    read_attestation(bundle, main, main.line)
    forge.attest(statement, bundle)
    return AttestedPull(number=pull.number, signed=True, reviews=len(reviews), because=because)


def _reason(statement: ReviewsAttestation, before: Attested | None) -> str | None:
    """Why it is to be attested once more: each attestation stays in the pull request's log for good."""
    if before is None:
        return "nobody had attested its reviews" if statement.reviews else None
    if (before.attestation.reviews, before.attestation.change) != (statement.reviews, statement.change):
        return "its reviews changed"
    stale = statement.read_at - before.attestation.read_at > timedelta(hours=before.hours) / 2
    return "it was read long ago" if stale and statement.reviews else None
