"""``modelsmith pr open``: propose a branch's commits, a scenario or rubric change for example."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.forges.port import ForgeIdentity, Proposal
from modelsmith.governance.keys import key_holder
from modelsmith.operations.change_page import change_page
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.secrets import refuse_secret
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plaintext import PlainLine, PlainText
from modelsmith.signing.ssh import public_key


class PrOpenRequest(Request):
    """Opens a pull request for BRANCH against main, signed with KEY.

    An identical open one is adopted, with the words that it has.
    """

    branch: Annotated[PlainLine, Field(description="Local branch with the proposed commits."), ARGUMENT]
    title: Annotated[PlainLine, Field(min_length=1, description="One line: what changes.")]
    key: Annotated[Path, Field(description="Your private SSH key, listed in people.yaml.")]
    body: Annotated[PlainText, Field(description="Why, in plain text.")] = ""


class PrOpenResult(Result):
    """The pull request and its gate."""

    pull: PullView
    kept: tuple[str, ...] = ()
    """``title``, ``body``: which of your words differ from those with which it was opened before. Those are signed, and
    stay."""


def run(workspace: Workspace, request: PrOpenRequest) -> PrOpenResult:
    """Open a pull request of a branch."""
    refuse_secret("The title", request.title)
    refuse_secret("The body", request.body)
    refuse_secret("The branch's name", request.branch)
    git = workspace.git
    head = git.rev(f"refs/heads/{request.branch}")
    if head is None:
        raise InvalidInput(
            "unknown-branch",
            f"There is no local branch '{request.branch}'",
            "Name one of `git branch`.",
            branch=request.branch,
        )
    key = request.key
    main = read_governed_state(git, open_forge(workspace).fetch_into(git))
    actor = key_holder(main.people, public_key(key), datetime.now(UTC))
    forge = open_forge(workspace, ForgeIdentity(actor, key))
    proposal = Proposal(
        branch=request.branch, title=request.title, body=request.body, head=head, base=main.tree.commit, requester=actor
    )
    pull = forge.open(proposal)
    announce(forge, main, pull, lambda: change_page(workspace, pull))
    unchanged = (name for name in ("title", "body") if getattr(pull, name).strip() != getattr(request, name).strip())
    return PrOpenResult(pull=view(main, pull), kept=tuple(unchanged))
