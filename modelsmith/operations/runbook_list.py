"""``modelsmith runbook list``."""

from __future__ import annotations

from modelsmith.operations.contract import Request, Result
from modelsmith.operations.runbooks import ParameterView, main_of, parameter_views, read_runbook, runbook_names
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InvalidInput


class RunbookListRequest(Request):
    """The runbooks that main has, each with its parameters and with who approves a change of it."""


class RunbookView(Frozen):
    """One runbook, as it is listed."""

    runbook: str
    title: str
    about: str
    parameters: tuple[ParameterView, ...]
    steps: int
    owners: tuple[str, ...]


class BrokenRunbook(Frozen):
    """One that cannot run."""

    runbook: str
    message: str


class RunbookListResult(Result):
    """Runbooks of main, by name."""

    runbooks: tuple[RunbookView, ...]
    broken: tuple[BrokenRunbook, ...]


def run(workspace: Workspace, request: RunbookListRequest) -> RunbookListResult:
    """Read them from the forge's main; one that cannot run hides no other."""
    tree = main_of(workspace)
    views: list[RunbookView] = []
    broken: list[BrokenRunbook] = []
    for name in runbook_names(tree):
        try:
            governed = read_runbook(tree, name)
        except InvalidInput as error:
            broken.append(BrokenRunbook(runbook=name, message=error.message))
            continue
        views.append(
            RunbookView(
                runbook=name,
                title=governed.runbook.title,
                about=governed.runbook.about,
                parameters=parameter_views(governed.runbook),
                steps=len(governed.runbook.steps),
                owners=governed.owners,
            )
        )
    return RunbookListResult(runbooks=tuple(views), broken=tuple(broken))
