"""``modelsmith runbook run``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue
from typing_extensions import override

from modelsmith.operations.contract import Request, Result
from modelsmith.operations.runbook_play import Played, play
from modelsmith.operations.runbook_show import ParameterTexts, RunbookName
from modelsmith.operations.runbook_view import PlannedStep, planned
from modelsmith.operations.runbooks import GovernedRunbook, bind, main_of, read_runbook, require_runnable
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import Exit
from modelsmith.schema.runbook_run import StepRecord, StepState
from modelsmith.schema.steps import Step, step

_CLUSTER = "cluster="
"""What the parameter begins with that says which cluster a runbook is about."""


class RunbookRunRequest(Request):
    """Calls each step of a runbook in turn, as this session may, and keeps what came of it.

    Before the first step everything is checked: the parameters, each argument, and that the session's role may call
    every step. --dry-run ends there and shows what would be called. A runbook counts as main has it; what lies in the
    work tree is not read.

    It ends with 4 where a person is asked, with a step's own exit code where it comes to something that the runbook
    does not go on with. The same command goes on where it stopped, after a kill too: what is done is not done again,
    and the step that it stopped at is called again. When a run is over, the same command begins another.
    """

    name: RunbookName
    param: ParameterTexts = ()
    dry_run: Annotated[bool, Field(description="Show what would be called, with which arguments; call nothing.")] = (
        False
    )
    anew: Annotated[bool, Field(description="Leave a run that is not over behind, and begin another.")] = False

    @override
    def calls(self, workspace: Workspace) -> frozenset[str]:
        runbook = read_runbook(main_of(workspace), self.name).runbook
        bind(runbook, self.param)
        return frozenset(planned.call for planned in runbook.steps)

    @override
    def queue(self) -> str:
        return next((text.removeprefix(_CLUSTER) for text in self.param if text.startswith(_CLUSTER)), "")


class PlayedStep(Frozen):
    """A step that was called, or passed over."""

    step: str
    call: str
    arguments: dict[str, JsonValue]
    state: StepState
    exit: int | None
    result: str | None
    """Digest of what ``--json`` would have printed."""
    before: bool
    """Whether it was over before this command."""


class RunbookRunResult(Result):
    """The run of a runbook as it stands after the call."""

    runbook: str
    digest: str
    """Digest of the runbook's bytes."""
    main: str
    role: str | None
    run: str | None
    """Id of the run; None of a dry run."""
    state: Literal["planned", "done", "waiting", "failed"]
    exit: int
    plan: tuple[PlannedStep, ...]
    """What would be called: every step of a dry run, else those that are still to come."""
    steps: tuple[PlayedStep, ...]
    waiting_for: tuple[str, ...]
    asks: str
    """The action that the person is asked for."""
    next: Step | None

    @override
    def exit_code(self) -> Exit:
        return Exit(self.exit)


def run(workspace: Workspace, request: RunbookRunRequest) -> RunbookRunResult:
    """Check it all, then call step by step."""
    governed = read_runbook(main_of(workspace), request.name)
    parameters = bind(governed.runbook, request.param)
    plan = planned(governed, parameters)
    if request.dry_run:
        require_runnable(governed.runbook, parameters, workspace.role)
        return _result(workspace, governed, plan, None)
    return _result(workspace, governed, plan, play(workspace, governed, parameters, request.anew))


def _result(
    workspace: Workspace, governed: GovernedRunbook, plan: tuple[PlannedStep, ...], played: Played | None
) -> RunbookRunResult:
    records = played.records if played else ()
    last = records[-1] if records else None
    at = governed.runbook.steps[len(records) - 1] if records else None
    over = sum(record.is_over for record in records)
    waits = last is not None and last.state == "waiting"
    state: Literal["planned", "done", "waiting", "failed"] = "done"
    code = Exit.DONE
    if played is None:
        state = "planned"
    elif waits:
        state, code = "waiting", Exit.WAITING_FOR_PERSON
    elif last is not None and not last.is_over:
        assert at is not None
        state = "failed"
        code = Exit.GATE_NOT_CLEARED if last.exit is None or last.exit in at.exits else Exit(last.exit)
    return RunbookRunResult(
        runbook=governed.runbook.runbook,
        digest=governed.digest,
        main=governed.tree.commit,
        role=workspace.role,
        run=played.run.id if played else None,
        state=state,
        exit=int(code),
        plan=plan[over:],
        steps=tuple(_played(record, number < (played.known if played else 0)) for number, record in enumerate(records)),
        waiting_for=played.waiting_for if played else (),
        asks=at.person.asks if waits and at and at.person else "",
        next=step("runbook show", {"name": governed.runbook.runbook}) if state == "failed" else None,
    )


def _played(record: StepRecord, before: bool) -> PlayedStep:
    return PlayedStep(
        step=record.step,
        call=record.call,
        arguments=record.arguments,
        state=record.state,
        exit=record.exit,
        result=None if record.result is None else digest(record.result),
        before=before,
    )
