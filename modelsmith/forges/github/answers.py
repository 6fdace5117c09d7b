"""What is taken out of GitHub's answers, and nothing more. It is data of others: none of it proves an approval."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelsmith.schema.base import GitHash


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Login(_Answer):
    """An account."""

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


class Face(_Answer):
    """A pull request as GitHub has it."""

    number: Annotated[int, Field(ge=1, lt=10**9)]
    body: str | None = None
    state: Literal["open", "closed"]
    user: Login | None = None
    head: End
    base: End


class RepositoryAnswer(_Answer):
    """A repository as GitHub has it."""

    id: int
    full_name: str
    archived: bool
    default_branch: str


class ReviewAnswer(_Answer):
    """A review that somebody gave in GitHub's pages."""

    id: int
    state: str
    user: AccountAnswer | None = None
    """None when the account is gone."""
    commit_id: GitHash | None = None
    submitted_at: str | None = None


class RunOutput(_Answer):
    """What a check run shows."""

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
