"""``modelsmith diagnose``: an eval's failures, grouped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.loop.diagnose import diagnose_run
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.results import find_run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.diagnosis import FailureCluster


class DiagnoseRequest(Request):
    """Groups the failures of a run by capability and cause, most severe first, and says what to train on next.

    The cause is an answer that cannot be read, else the weightiest rubric point that is missed. The eight most severe
    groups are shown and the rest is counted; --json has all. Held-out scenarios take no part.
    """

    tag: Annotated[str, Field(description="Tag of the run.")]


class DiagnoseResult(Result):
    """Failure clusters of a run, most severe first."""

    tag: str
    failure_clusters: tuple[FailureCluster, ...]


def run(workspace: Workspace, request: DiagnoseRequest) -> DiagnoseResult:
    """Group a run's failures into clusters by root cause."""
    result = find_run(workspace, request.tag)
    return DiagnoseResult(tag=result.tag, failure_clusters=diagnose_run(workspace, result))
