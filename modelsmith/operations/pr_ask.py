"""``modelsmith pr ask``: ask for an approval, which is all that whoever is not an approver can do about it."""

from __future__ import annotations

from typing_extensions import override

from modelsmith.operations.contract import PullNumber, Request, Result
from modelsmith.operations.pull_view import view
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit
from modelsmith.schema.steps import Step, step


class PrAskRequest(Request):
    """Tells the forge's readers how the pull request stands, and says who must approve it; nothing is approved.

    Ends with 4 while a person is waited for.
    """

    number: PullNumber


class PrAskResult(Result):
    """Owners who are asked to decide."""

    number: int
    title: str
    status: str
    gate: str
    waiting_for: tuple[str, ...]
    decides: str
    """The same in words."""
    theirs: Step | None
    """What one of them runs, with a key of their own; None where nobody is waited for."""

    @override
    def exit_code(self) -> Exit:
        return Exit.WAITING_FOR_PERSON if self.gate == "waiting" else Exit.DONE


def run(workspace: Workspace, request: PrAskRequest) -> PrAskResult:
    """Ask owners to decide about a pull request."""
    forge = open_forge(workspace)
    main = read_governed_state(workspace.git, forge.fetch_into(workspace.git))
    pull = forge.get(request.number)
    pull_view = view(main, pull)
    if pull_view.gate == "waiting":
        announce(forge, main, pull)
    return PrAskResult(
        number=pull_view.number,
        title=pull_view.title,
        status=pull_view.status,
        gate=pull_view.gate,
        waiting_for=pull_view.waiting_for,
        decides=pull_view.decides,
        theirs=step("approve", {"number": pull_view.number}, key="KEY") if pull_view.gate == "waiting" else None,
    )
