"""``modelsmith runbook show``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.operations.contract import ARGUMENT, Cli, Request, Result
from modelsmith.operations.runbook_view import PlannedStep, planned
from modelsmith.operations.runbooks import ParameterView, bind, main_of, parameter_views, read_runbook
from modelsmith.repository.workspace import Workspace

RunbookName = Annotated[str, Field(max_length=64, description="Runbook, a file name under runbooks/."), ARGUMENT]
ParameterTexts = Annotated[
    tuple[str, ...],
    Field(max_length=20, description="NAME=VALUE of a parameter. Repeat for more."),
    Cli(option="--param"),
]


class RunbookShowRequest(Request):
    """Every step of a runbook as the command that it is, where it stops for a person, and what that person is asked.

    With --param, the values stand in the commands; what an earlier step has to say first stands as <step.field>.
    """

    name: RunbookName
    param: ParameterTexts = ()


class RunbookShowResult(Result):
    """The runbook, as main has it."""

    runbook: str
    title: str
    about: str
    digest: str
    """Digest of the file's bytes."""
    main: str
    """Commit that it was read from."""
    owners: tuple[str, ...]
    """Roles and people who approve a change of it."""
    parameters: tuple[ParameterView, ...]
    steps: tuple[PlannedStep, ...]


def run(workspace: Workspace, request: RunbookShowRequest) -> RunbookShowResult:
    """Read it from the forge's main; nothing is called."""
    governed = read_runbook(main_of(workspace), request.name)
    parameters = bind(governed.runbook, request.param) if request.param else None
    return RunbookShowResult(
        runbook=governed.runbook.runbook,
        title=governed.runbook.title,
        about=governed.runbook.about,
        digest=governed.digest,
        main=governed.tree.commit,
        owners=governed.owners,
        parameters=parameter_views(governed.runbook),
        steps=planned(governed, parameters),
    )
