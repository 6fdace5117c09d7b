"""``modelsmith results``: one eval run, by tag."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.loop.evals import ledger_of, read_observations
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.run import RunResult


class ResultsRequest(Request):
    """Prints what an eval run found, from the ledger.

    With --failures, each failed core, robustness or micro case with the model's answer; held-out cases never show.
    """

    tag: Annotated[str, Field(description="Tag of the run; a wrong one lists the known.")]
    failures: Annotated[bool, Field(description="Failed cases too, with the model's answers.")] = False


class Failure(Frozen):
    """One failed answer."""

    section: str
    id: str
    wording: int
    answer: str
    reasons: dict[str, str]
    """Rubric point and why it failed."""
    finish: Literal["stop", "length", "error"] = "stop"
    """``length``: the answer reached ``max_new_tokens`` before the model ended it."""


class ResultsResult(Result):
    """The run."""

    run: RunResult
    failures: tuple[Failure, ...]


def run(workspace: Workspace, request: ResultsRequest) -> ResultsResult:
    """Read it."""
    result = find_run(workspace, request.tag)
    failures: tuple[Failure, ...] = ()
    if request.failures:
        failures = tuple(
            Failure(
                section=o.section, id=o.id, wording=o.wording, answer=o.completion, reasons=o.reasons, finish=o.finish
            )
            for o in read_observations(workspace, result)
            if o.section != "held_out" and o.reasons
        )
    return ResultsResult(run=result, failures=failures)


def find_run(workspace: Workspace, tag: str) -> RunResult:
    """The run of that tag.

    Raises:
        InvalidInput: ``unknown-tag``.
    """
    return ledger_of(workspace).result(tag)
