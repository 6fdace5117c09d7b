"""What is taken out of GitHub's answers, and nothing more. It is data of others: none of it proves an approval."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelsmith.schema.base import GitHash, Moment

_STRANGERS = ("NONE", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Login(_Answer):
    """An account of GitHub, by its name."""

    login: Annotated[str, Field(max_length=100)]


class AccountAnswer(Login):
    """An account with its number and kind."""

    id: int
    type: Annotated[str, Field(max_length=40)]


class Named(_Answer):
    """A repository's full name."""

    full_name: Annotated[str, Field(max_length=300)]


class End(_Answer):
    """The head or base of a pull request."""

    ref: Annotated[str, Field(max_length=1000)]
    sha: GitHash
    repo: Named | None = None
    """None when the fork it came from is gone."""


class LabelAnswer(_Answer):
    """A label of a pull request."""

    name: str


class Face(_Answer):
    """A pull request as GitHub has it."""

    number: Annotated[int, Field(ge=1, lt=10**9)]
    body: str | None = None
    state: Literal["open", "closed"]
    draft: bool = False
    created_at: Moment | None = None
    merged_at: Moment | None = None
    user: Login | None = None
    head: End
    base: End
    labels: tuple[LabelAnswer, ...] = ()


class RepositoryAnswer(_Answer):
    """A repository as GitHub has it."""

    id: int
    full_name: str
    archived: bool
    default_branch: str
    private: bool = True
    allow_merge_commit: bool | None = None
    """None, as the two below, when the token may not see how pull requests are merged."""
    allow_squash_merge: bool | None = None
    allow_rebase_merge: bool | None = None


class ReviewAnswer(_Answer):
    """A review that somebody gave in GitHub's pages."""

    id: int
    state: str
    user: AccountAnswer | None = None
    """None when the account is gone."""
    commit_id: GitHash | None = None
    submitted_at: str | None = None


class Dismissed(_Answer):
    """The review that an event dismissed."""

    review_id: int
    state: str
    """The review's former state, in small letters: ``changes_requested``."""


class EventAnswer(_Answer):
    """Something that happened to a pull request, by "Issue event types"."""

    event: str
    created_at: str
    actor: AccountAnswer | None = None
    dismissed_review: Dismissed | None = None


class RunOutput(_Answer):
    """Title and text that a check run shows."""

    title: str | None = None
    summary: str | None = None


class RunAnswer(_Answer):
    """A check run at a commit."""

    name: str
    conclusion: str | None = None
    output: RunOutput


class StatusAnswer(_Answer):
    """A status at a commit, the last one of its name."""

    context: str
    state: str
    description: str | None = None


class CommentAnswer(_Answer):
    """A comment on a pull request."""

    id: int
    body: str = ""
    user: AccountAnswer | None = None
    author_association: str = ""

    @property
    def is_strangers(self) -> bool:
        """Whether its author is a person who has nothing to do with the repository, or an account that is gone."""
        return self.author_association in _STRANGERS and (self.user is None or self.user.type != "Bot")


class Rule(_Answer):
    """One rule of a branch."""

    type: str
    parameters: dict[str, Any] = {}
    ruleset_id: int | None = None


class Bypass(_Answer):
    """Somebody to whom a ruleset does not apply."""

    actor_type: str
    actor_id: int | None = None
    bypass_mode: str = "always"


class Ruleset(_Answer):
    """A named set of rules."""

    id: int
    name: str
    source_type: str = "Repository"
    source: str
    target: str = "branch"
    enforcement: str
    bypass_actors: tuple[Bypass, ...] | None = None
    """None when the token may not see them."""
    current_user_can_bypass: str | None = None
    conditions: dict[str, Any] | None = None
    rules: tuple[Rule, ...] = ()


class Enabled(_Answer):
    """A switch of classic branch protection."""

    enabled: bool = False


class RequiredCheck(_Answer):
    """A check that must pass, and the app that must have said so; -1 or None: anybody may."""

    context: str
    app_id: int | None = None


class ClassicChecks(_Answer):
    """Required checks of classic branch protection."""

    checks: tuple[RequiredCheck, ...] = ()


class ClassicReviews(_Answer):
    """Reviews that classic branch protection requires."""

    dismiss_stale_reviews: bool = False
    require_code_owner_reviews: bool = False
    required_approving_review_count: int = 0
    require_last_push_approval: bool = False


class Protection(_Answer):
    """Classic protection of a branch."""

    required_status_checks: ClassicChecks | None = None
    required_pull_request_reviews: ClassicReviews | None = None
    enforce_admins: Enabled = Enabled()
    required_linear_history: Enabled = Enabled()
    required_signatures: Enabled = Enabled()
    allow_force_pushes: Enabled = Enabled()
    allow_deletions: Enabled = Enabled()


class WorkflowPermissions(_Answer):
    """Rights of a workflow's own token where the workflow does not name them."""

    default_workflow_permissions: str
    can_approve_pull_request_reviews: bool


class OwnersError(_Answer):
    """A line of CODEOWNERS that GitHub does not take."""

    line: int
    kind: str
    source: str = ""


class OwnersErrors(_Answer):
    """All mistakes that GitHub finds in a CODEOWNERS file."""

    errors: tuple[OwnersError, ...]


class Numbered(_Answer):
    """An account, or an app, by its number."""

    id: int
