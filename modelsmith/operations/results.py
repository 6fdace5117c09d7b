"""``modelsmith results``: one eval run, by tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from modelsmith.evaluation.critical import CriticalFailure, critical_failures
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.evals import read_observations
from modelsmith.operations.contract import Request, Result
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.run import Observation, RunResult


class ResultsRequest(Request):
    """Prints what an eval run found, from the ledger, with every critical scenario that fails and how.

    With --failures, each failed core, robustness or micro case with the model's answer; held-out cases never show.
    """

    tag: Annotated[str, Field(description="Tag of the run; a wrong one lists the known.")]
    failures: Annotated[bool, Field(description="Failed cases too, with the model's answers.")] = False


class Failure(Frozen):
    """One failed answer of a run."""

    section: str
    id: str
    wording: int
    answer: str
    reasons: dict[str, str]
    """Rubric point and why it failed."""
    finish: Literal["stop", "length", "error"] = "stop"
    """``length``: the answer reached ``max_new_tokens`` before the model ended it."""


class ResultsResult(Result):
    """A run with its failed answers."""

    run: RunResult
    failures: tuple[Failure, ...]
    critical: tuple[CriticalFailure, ...]
    """Every critical scenario that does not pass."""


def run(workspace: Workspace, request: ResultsRequest) -> ResultsResult:
    """Read a run's results."""
    result = find_run(workspace, request.tag)
    failures: list[Failure] = []
    critical: list[Observation] = []
    for o in read_observations(workspace, result):
        if request.failures and o.section != "held_out" and o.reasons:
            failures.append(_failure(o))
        if o.row is not None and o.row.critical:
            critical.append(o)
    return ResultsResult(run=result, failures=tuple(failures), critical=_critical(result, critical))


def _failure(observation: Observation) -> Failure:
    return Failure(
        section=observation.section,
        id=observation.id,
        wording=observation.wording,
        answer=observation.completion,
        reasons=observation.reasons,
        finish=observation.finish,
    )


def _critical(run: RunResult, observations: Sequence[Observation]) -> tuple[CriticalFailure, ...]:
    """Why each fails, too; a reason speaks of the model's words, so those about held-out scenarios stay unsaid."""
    reasons: dict[tuple[str, str], dict[str, str]] = {}
    for observation in observations:
        if observation.section != "held_out":
            reasons[observation.section, observation.id] = observation.reasons | reasons.get(
                (observation.section, observation.id), {}
            )
    return tuple(
        failure.model_copy(update={"reasons": reasons.get((failure.section, failure.id), {})})
        for failure in critical_failures([observation.row for observation in observations if observation.row], run.rule)
    )


def find_run(workspace: Workspace, tag: str) -> RunResult:
    """The run of that tag.

    Raises:
        InvalidInput: ``unknown-tag``.
    """
    return ledger_of(workspace).result(tag)
