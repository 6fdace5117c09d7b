"""``modelsmith observe``: the eval of a sealed artifact, repeated by a second observer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.loop.observe import observe
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.harness import open_harness
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit
from modelsmith.schema.observed import Agreement


class ObserveRequest(Request):
    """Repeats the eval that SPECIALIST was accepted on, signs what came of it, and proposes that to main.

    Run it in a clone of its own, on another machine, as an identity that people.yaml lists as an observer. The
    specialist and the model that it was compared with answer everything anew; nothing that the clone answered before is
    taken over. Interrupted, the same command goes on where it stopped.

    Ends with 0 when the verdicts agree with the evidence, with 3 when they do not: both come onto main. With 4 the
    observation waits for a person's approval, in a repository whose CODEOWNERS asks for one.
    """

    specialist: Annotated[str, Field(description="Specialist id."), ARGUMENT]
    artifact: Annotated[
        Path | None, Field(description="Folder with a copy of the sealed artifact, if the store has none.")
    ] = None
    workers: Annotated[
        int | None, Field(ge=1, le=1024, description="CPU threads of the engine; all cores when not given.")
    ] = None


class ObserveResult(Result):
    """What was observed."""

    specialist: str
    agreement: Agreement
    pull: int | None
    """None when main had this observer's agreement already."""
    status: str

    @override
    def exit_code(self) -> Exit:
        if not self.agreement.agrees:
            return Exit.GATE_NOT_CLEARED
        return Exit.WAITING_FOR_PERSON if self.status == "open" else Exit.DONE


def run(workspace: Workspace, request: ObserveRequest) -> ObserveResult:
    """Observe."""
    folder = place(request.artifact, workspace.root) if request.artifact else None
    found = observe(open_harness(workspace), request.specialist, folder, request.workers)
    return ObserveResult(
        specialist=request.specialist,
        agreement=found.agreement,
        pull=found.pull.number if found.pull else None,
        status=found.pull.status if found.pull else "merged",
    )
