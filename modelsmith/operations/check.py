"""``modelsmith check``: the gate's decision as seven answers, before anyone merges."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.forges.github.app import find_access
from modelsmith.forges.github.place import parse_place
from modelsmith.forges.github.workflow import EventProposal, fetch_commit, is_commit_id, place_of_workflow, proposal_of
from modelsmith.forges.port import Forge
from modelsmith.governance.named_checks import QUESTIONS, Name, State, unsigned
from modelsmith.operations.contract import Request, Result
from modelsmith.promotion.checking import Checked, check_made, check_pull
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import Exit, GateNotCleared, InvalidInput, WaitingForPerson


class CheckRequest(Request):
    """Asks the gate about a pull request, and gives its decision as seven answers; nothing is merged.

    Ends with 0 when all of them let it through, with 4 when only a person is waited for, with 3 otherwise. Nothing of
    the proposal is checked out or run.

    In a workflow of GitHub's, --event takes the pull request from the event, or the commits that a merge queue made.
    """

    pr: Annotated[int | None, Field(ge=1, le=999_999_999, description="Number of the pull request.")] = None
    range: Annotated[
        str | None, Field(description="BASE..MADE: commits that a merge queue made of one pull request.")
    ] = None
    event: Annotated[bool, Field(description="What the event that started this workflow is about.")] = False
    report: Annotated[
        bool, Field(description="Show the answers at the forge too: as checks of the commit, for its readers.")
    ] = False


class NamedCheckView(Frozen):
    """One of the seven answers."""

    name: Name
    question: str
    state: State
    """``action_required`` waits for a person; ``neutral`` does not apply, and lets the merge through."""
    title: str
    """The answer in one sentence."""
    lines: tuple[str, ...]
    """The reasons of the check's state, a line each."""


class CheckedResult(Result):
    """The answers, and what they are about."""

    number: int
    title: str
    commit: str
    """Commit that was judged: the proposal's head, or what a merge queue made."""
    main: str
    """Commit of main that it was judged against."""
    gate: Literal["open", "waiting", "closed"]
    checks: tuple[NamedCheckView, ...]

    @override
    def exit_code(self) -> Exit:
        codes = {"open": Exit.DONE, "waiting": Exit.WAITING_FOR_PERSON, "closed": Exit.GATE_NOT_CLEARED}
        return codes[self.gate]


def run(workspace: Workspace, request: CheckRequest) -> CheckedResult:
    """Judge it, and show the answers where that is asked."""
    asked_for = _proposal(request)
    forge = open_forge(workspace)
    main = read_governed_state(workspace.git, forge.fetch_into(workspace.git))
    now = datetime.now(UTC)
    if asked_for.made is not None:
        commit, number, title, checked = _queue_answers(workspace, forge, main, asked_for.made, now)
    else:
        assert asked_for.number is not None
        commit, number, title, checked = _proposed(forge, main, asked_for.number, now)
    if request.report:
        forge.report(commit, checked.checks)
    views = tuple(
        NamedCheckView(
            name=check.name, question=QUESTIONS[check.name], state=check.state, title=check.title, lines=check.lines
        )
        for check in checked.checks
    )
    return CheckedResult(
        number=number, title=title, commit=commit, main=main.tree.commit, gate=checked.gate, checks=views
    )


def _proposal(request: CheckRequest) -> EventProposal:
    if sum((request.pr is not None, request.range is not None, request.event)) != 1:
        raise InvalidInput("usage", "Say what to check, in one way.", "Give --pr N, --range BASE..MADE, or --event.")
    if request.event:
        return proposal_of(os.environ)
    if request.range is None:
        return EventProposal(request.pr, None)
    base, _, tip = request.range.partition("..")
    if not base or not tip or tip.startswith("."):
        raise InvalidInput("usage", f"--range {request.range}: expected BASE..MADE", "Name two commits.")
    return EventProposal(None, (base, tip))


def _proposed(forge: Forge, main: GovernedState, number: int, now: datetime) -> tuple[str, int, str, Checked]:
    """The answers about a pull request. One that nobody has signed for waits for its opener."""
    try:
        pull = forge.get(number)
    except WaitingForPerson as error:
        head = error.details.get("head")
        if not isinstance(head, str):
            raise
        return head, number, "", Checked(None, unsigned(f"{error.message}. {error.mend}"))
    if pull.status != "open":
        raise InvalidInput(
            "not-open",
            f"Pull request {number} is {pull.status}.",
            "`modelsmith verify` judges what is on main.",
            number=number,
        )
    return pull.moved or pull.head, number, pull.title, check_pull(main, pull, now)


def _queue_answers(
    workspace: Workspace, forge: Forge, main: GovernedState, commits: tuple[str, str], now: datetime
) -> tuple[str, int, str, Checked]:
    """The answers about commits of a merge queue: which pull request they are of, git says, and no name of a branch.

    It is the one whose head was merged. Others may lie beneath it, or have been opened with the same commit.
    """
    git = workspace.git
    base, tip = (_commit(workspace, name) for name in commits)
    pulls = [
        pull for pull in forge.list("open") if git.is_ancestor(pull.head, tip) and not git.is_ancestor(pull.head, base)
    ]
    parents = git.text("rev-list", "--parents", "-n1", tip).split()[1:]
    merged = [pull for pull in pulls if parents == [base, pull.head]] or (pulls if len(pulls) == 1 else [])
    judged = [(pull, check_made(main, pull, base, tip, now)) for pull in merged]
    if not judged:
        numbers = ", ".join(str(pull.number) for pull in pulls) or "none"
        raise GateNotCleared(
            "not-one-proposal",
            f"{base[:12]}..{tip[:12]} holds the commits of {len(pulls)} open pull requests ({numbers}), and one is due",
            "Let the merge queue merge one pull request at a time, as a merge commit.",
            pulls=[pull.number for pull in pulls],
        )
    pull, checked = next((pair for pair in judged if pair[1].gate == "open"), judged[0])
    return tip, pull.number, pull.title, checked


def _commit(workspace: Workspace, name: str) -> str:
    """The commit, brought from GitHub where the clone does not have it.

    Raises:
        InvalidInput: ``bad-revision``.
    """
    commit = workspace.git.rev(name)
    place = place_of_workflow(os.environ)
    if commit is None and place and is_commit_id(name):
        where = parse_place(place)
        fetch_commit(where, find_access(where, workspace.root), workspace.git, name)
        commit = workspace.git.rev(name)
    if commit is None:
        raise InvalidInput("bad-revision", f"This clone has no commit {name}", "Fetch it first.", revision=name)
    return commit
