"""A run of a runbook: one call after another, each kept before the next begins, so that a kill costs no step twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import JsonValue

from modelsmith.operations.runbook_check import loaded
from modelsmith.operations.runbook_records import Runs
from modelsmith.operations.runbooks import (
    GovernedRunbook,
    Outcome,
    arguments_of,
    holds,
    owners_of,
    request_of,
    require_runnable,
    value_of,
)
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError, WaitingForPerson
from modelsmith.schema.progress import Progress
from modelsmith.schema.runbook import Owners, RunbookStep
from modelsmith.schema.runbook_run import RunOf, StepRecord, StepState


class Played(NamedTuple):
    """A run of a runbook as it stands after a call."""

    run: RunOf
    records: tuple[StepRecord, ...]
    known: int
    """How many of them were over before this command."""
    waiting_for: tuple[str, ...]
    """Who is asked, where it has stopped for a person."""


def play(
    workspace: Workspace, governed: GovernedRunbook, parameters: Mapping[str, JsonValue], anew: bool = False
) -> Played:
    """Run it to its end, to a stop, or to the step that fails; a run that is not over goes on where it stopped.

    Args:
        workspace: The clone, with the role of the session.
        governed: The runbook, as main has it.
        parameters: A value for each of its parameters.
        anew: Leave a run that is not over behind, and begin another.

    Raises:
        InvalidInput: as `require_runnable`.
        IntegrityFailure: ``bad-run-record``.
        InfrastructureFailure: ``busy`` where another process runs it with the same parameters.
        ModelsmithError: what the step's operation raised; it is noted, and the step is called again by the next run.
    """
    steps = governed.runbook.steps
    require_runnable(governed.runbook, parameters, workspace.role)
    runs = Runs(workspace)
    first = RunOf(runbook=governed.runbook.runbook, digest=governed.digest, parameters=dict(parameters), number=1)
    with workspace.lock(f"runbook-{first.id.removeprefix('sha256:')[:16]}"):
        run = runs.latest(first.runbook, governed.digest, parameters)
        records = runs.records(run)
        if records and (anew or records[-1].state == "failed" or sum(entry.is_over for entry in records) == len(steps)):
            run = run.model_copy(update={"number": run.number + 1})
            records = []
        records = [record for record in records if record.is_over]
        completed = len(records)
        outcomes: dict[str, Outcome] = {}
        for step, record in zip(steps, records, strict=False):
            if not _is_of(record, step, parameters, outcomes):
                raise IntegrityFailure(
                    "bad-run-record",
                    f"Step {step.id} of the run is not the runbook's",
                    "Begin another run with --anew.",
                    step=step.id,
                )
            _learn(outcomes, record)
        for number in range(completed, len(steps)):
            workspace.notify(Progress("runbook", f"{steps[number].id}: {steps[number].call}", number, len(steps)))
            previous = records[-1].digest if records else run.id
            record = _Caller(workspace, governed, parameters, outcomes, run.id, previous).call(runs, run, number)
            records.append(record)
            if not record.is_over:
                break
            _learn(outcomes, record)
        last = records[-1]
        waits = last.state == "waiting"
        people = _deciders(governed, steps[len(records) - 1], parameters, outcomes, last) if waits else ()
        return Played(run, tuple(records), completed, people)


def _is_of(
    record: StepRecord, step: RunbookStep, parameters: Mapping[str, JsonValue], outcomes: Mapping[str, Outcome]
) -> bool:
    """Whether a record is what the step comes to, by what was known before it."""
    passed_over = not all(holds(condition, parameters, outcomes) for condition in step.when)
    arguments = {} if passed_over else arguments_of(step, parameters, outcomes)
    state = (record.step, record.call, record.arguments, record.state == "skipped")
    return state == (step.id, step.call, arguments, passed_over)


def _learn(outcomes: dict[str, Outcome], record: StepRecord) -> None:
    if record.result is not None:
        outcomes[record.step] = {"exit": record.exit, "result": record.result}


class _Caller(NamedTuple):
    """Calls the operation of one step, and keeps its record."""

    workspace: Workspace
    found: GovernedRunbook
    parameters: Mapping[str, JsonValue]
    outcomes: Mapping[str, Outcome]
    run: str
    previous: str

    def call(self, runs: Runs, run: RunOf, number: int) -> StepRecord:
        """Call it and keep what came of it."""
        step = self.found.runbook.steps[number]
        began = datetime.now(UTC)
        if not all(holds(condition, self.parameters, self.outcomes) for condition in step.when):
            return self._kept(runs, run, number, began, {}, "skipped")
        arguments = arguments_of(step, self.parameters, self.outcomes)
        try:
            request = request_of(step, arguments)
            result = loaded(step.call).run(self.workspace, request)
        except ModelsmithError as error:
            waits = isinstance(error, WaitingForPerson) and step.person is not None
            state: StepState = "waiting" if waits else "refused"
            record = self._kept(runs, run, number, began, arguments, state, int(error.exit), error.code)
            if waits:
                return record
            raise
        code, answer = int(result.exit_code()), result.model_dump(mode="json", by_alias=True)
        outcomes: dict[str, Outcome] = {**self.outcomes, step.id: {"exit": code, "result": answer}}
        goes_on = code in step.exits and all(holds(condition, self.parameters, outcomes) for condition in step.expect)
        state = "done" if goes_on else "waiting" if step.person else "failed"
        return self._kept(runs, run, number, began, arguments, state, code, None, answer)

    def _kept(
        self,
        runs: Runs,
        run: RunOf,
        number: int,
        began: datetime,
        arguments: dict[str, JsonValue],
        state: StepState,
        exit: int | None = None,
        error: str | None = None,
        result: dict[str, JsonValue] | None = None,
    ) -> StepRecord:
        step = self.found.runbook.steps[number]
        record = StepRecord(
            run=self.run,
            previous=self.previous,
            step=step.id,
            call=step.call,
            arguments=arguments,
            state=state,
            exit=exit,
            error=error,
            result=result,
            actor=self.workspace.setting("identity"),
            role=self.workspace.role,
            main=self.found.tree.commit,
            began=began,
            ended=datetime.now(UTC),
        )
        runs.keep(run, number, record)
        return record


def _deciders(
    governed: GovernedRunbook,
    step: RunbookStep,
    parameters: Mapping[str, JsonValue],
    outcomes: dict[str, Outcome],
    record: StepRecord,
) -> tuple[str, ...]:
    """People who are asked where a run stops at a step."""
    assert step.person is not None
    whom = step.person.who
    if isinstance(whom, Owners):
        return owners_of(governed.tree, whom.owners_of)
    _learn(outcomes, record)
    named = value_of(whom, parameters, outcomes)
    return tuple(map(str, named)) if isinstance(named, list) else () if named is None else (str(named),)
