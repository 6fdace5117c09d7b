"""``modelsmith compare``: two eval runs on the same question."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.evaluation.compare import compare
from modelsmith.loop.evals import read_observations
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.results import find_run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.comparison import Comparison
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.run import RunResult, VerdictRow


class CompareRequest(Request):
    """Shows which scenarios flipped between two runs, by rubric point, with intervals and the paired difference."""

    first: Annotated[str, Field(description="Tag of the earlier run."), ARGUMENT]
    second: Annotated[str, Field(description="Tag of the later run."), ARGUMENT]


class CompareResult(Result):
    """The comparison; ``first`` is what ``second`` is measured against."""

    first: str
    second: str
    comparison: Comparison


def run(workspace: Workspace, request: CompareRequest) -> CompareResult:
    """Compare two runs, scenario by scenario."""
    first, second = find_run(workspace, request.first), find_run(workspace, request.second)
    if first.question != second.question:
        raise InvalidInput(
            "other-question",
            f"{first.tag} and {second.tag} answered different questions",
            "Compare runs of the same eval set version, rubric and sampling; run `modelsmith eval` again.",
            tag=first.tag,
        )
    rows = [_rows(workspace, result) for result in (first, second)]
    comparison = compare(rows[0], rows[1], second.rule)
    return CompareResult(first=first.tag, second=second.tag, comparison=comparison)


def _rows(workspace: Workspace, result: RunResult) -> list[VerdictRow]:
    return [o.row for o in read_observations(workspace, result) if o.row]
