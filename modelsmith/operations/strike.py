"""``modelsmith strike``: take rows out of an iteration before it trains on them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from modelsmith.loop.iterate import last_number
from modelsmith.loop.striking import strike
from modelsmith.operations.contract import ARGUMENT, ClusterName, Request, Result
from modelsmith.repository.load import require_name
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.plaintext import PlainLine
from modelsmith.training.rows import rows_digest


class StrikeRequest(Request):
    """Takes rows out of the latest iteration, which must not have begun to train; what is left is trained on.

    The rows' names are noted with the reason, and stay out if the rows are made again.
    """

    cluster: Annotated[ClusterName, ARGUMENT]
    rows: Annotated[
        tuple[str, ...], Field(min_length=1, max_length=10_000, description="Rows, by their names."), ARGUMENT
    ]
    reason: Annotated[PlainLine, Field(min_length=1, max_length=500, description="Why, on one line.")]


class StrikeResult(Result):
    """How many rows were struck, and the batch that is left."""

    cluster: str
    iteration: int
    struck: int
    rows: int
    """Rows that are left."""
    rows_digest: str


def run(workspace: Workspace, request: StrikeRequest) -> StrikeResult:
    """Strike rows out of a batch."""
    require_name(workspace.files, request.cluster)
    with workspace.lock(f"iterate-{request.cluster}"):
        number = last_number(workspace, request.cluster)
        folder = workspace.cluster_folder(request.cluster) / "iterations" / f"{number:03d}"
        remaining = strike(folder, request.rows, request.reason, datetime.now(UTC))
    return StrikeResult(
        cluster=request.cluster,
        iteration=number,
        struck=len(set(request.rows)),
        rows=len(remaining),
        rows_digest=rows_digest(remaining),
    )
