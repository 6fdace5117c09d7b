"""``modelsmith observe``: the eval of a sealed artifact, repeated by a second observer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.loop.observe import Retrain, observe
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.harness import open_harness
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit, InvalidInput
from modelsmith.schema.observed import Agreement


class ObserveRequest(Request):
    """Repeats the eval that SPECIALIST was accepted on, signs what came of it, and proposes that to main.

    Run it in a clone of its own, on another machine, as an identity that people.yaml lists as an observer. The
    specialist and the model that it was compared with answer everything anew; nothing that the clone answered before is
    taken over. With --retrain this machine also trains the adapter again from its rows, and says whether the very same
    artifact comes of it; where another does, that answers everything, too. Interrupted, the same command goes on
    where it stopped.

    Ends with 0 when the verdicts agree with the evidence, with 3 when they do not: both come onto main. With 4 the
    observation waits for a person's approval, in a repository whose CODEOWNERS asks for one.
    """

    specialist: Annotated[str, Field(description="Specialist id."), ARGUMENT]
    artifact: Annotated[
        Path | None, Field(description="Folder with a copy of the sealed artifact, if the store has none.")
    ] = None
    retrain: Annotated[
        bool,
        Field(
            description="Repeat the training, too, from the rows that it names; of several seeds the chosen one alone."
        ),
    ] = False
    rows: Annotated[
        Path | None, Field(description="File with a copy of these rows, if this clone has none; goes with --retrain.")
    ] = None
    workers: Annotated[
        int | None, Field(ge=1, le=1024, description="CPU threads of the engine; all cores when not given.")
    ] = None


class ObserveResult(Result):
    """Result of an observer's eval, and whether it agrees."""

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
    """Repeat the eval of a sealed artifact as an observer."""
    folder = place(request.artifact, workspace.root) if request.artifact else None
    if request.rows and not request.retrain:
        raise InvalidInput("name-it", "Rows are for a training, and none is asked for", "Add --retrain.")
    rows = place(request.rows, workspace.root) if request.rows else None
    again = Retrain(rows) if request.retrain else None
    observed = observe(open_harness(workspace), request.specialist, folder, request.workers, again)
    return ObserveResult(
        specialist=request.specialist,
        agreement=observed.agreement,
        pull=observed.pull.number if observed.pull else None,
        status=observed.pull.status if observed.pull else "merged",
    )
