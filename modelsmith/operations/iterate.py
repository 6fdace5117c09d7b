"""``modelsmith iterate``: the whole loop, up to the next person."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.governance.hold import hold_clearers
from modelsmith.governance.routing import hold_of
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.iterate import Loop, last_number
from modelsmith.loop.iteration import Ended, Iteration, Judged, ToTrain, Untrained, Waiting, WithCandidate
from modelsmith.loop.phases import candidate_tag, reference_tag
from modelsmith.loop.running import noting
from modelsmith.loop.schedule import DURATION, WINDOW, parse, wait
from modelsmith.loop.standing import Blocked, RunState, standing
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pull_view import view
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.load import require_name
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.diagnosis import Recommendation
from modelsmith.schema.errors import Exit, InfrastructureFailure
from modelsmith.schema.progress import Progress
from modelsmith.schema.run import RunResult
from modelsmith.schema.steps import Step, step


class IterateRequest(Request):
    """Evaluates the model that serves, trains on its failures, and promotes a candidate that clears the gate.

    It goes through every gate of the harness. The next gate is a person's: the pull request is left open and the
    command ends with 4.

    Ends with 3 when no candidate cleared the gate. Killed or interrupted at any point, the same command goes on from
    there and counts nothing twice.

    An iteration keeps to main's files as they were when it began. When a phase failed and its mend is merged, the same
    command begins a new iteration with main's files as they are; runs and ledger stay.

    With --every or --between it goes on turn after turn, unattended, until a person's gate, a failure, a stop that the
    cluster's `loop` registers (target held, plateau, hours), or nothing left to learn.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/."), ARGUMENT]
    max_iterations: Annotated[
        int | None,
        Field(ge=1, le=1000, description="Passes before giving up; the cluster's loop.max_iterations when not given."),
    ] = None
    restart: Annotated[
        bool, Field(description="Leave the unfinished iteration behind, close its pull requests, and begin a new one.")
    ] = False

    review_rows: Annotated[
        bool, Field(description="Stop before training, so that a person can read the rows; run it again to go on.")
    ] = False

    every: Annotated[str | None, Field(pattern=DURATION, description="Begin a turn this often: 30m, 6h, 1d.")] = None
    between: Annotated[
        str | None,
        Field(pattern=WINDOW, description="Begin turns between these local times only: 22:00-06:00."),
    ] = None


class IterateResult(Result):
    """The iteration as it stands after the call."""

    cluster: str
    iteration: int
    phase: str
    state: RunState
    blocked_by: Blocked | None
    """The reason of a blocked state; None of another."""
    outcome: str | None
    reason: str
    recommended: Recommendation | None
    """The recommended change, where a plateau ended the loop."""
    specialist: str | None
    artifact: str | None
    reference: RunResult | None
    candidate: RunResult | None
    pull: int | None
    """Pull request that waits."""
    waiting_for: tuple[str, ...]
    """Owners one of whom must approve it, or clear the hold of the cluster when no pull request waits."""
    next: dict[str, Step]
    """The next steps, by label."""

    @override
    def exit_code(self) -> Exit:
        if self.phase in ("waiting", "train"):
            return Exit.WAITING_FOR_PERSON
        return Exit.DONE if self.outcome == "PASS" else Exit.GATE_NOT_CLEARED


def run(workspace: Workspace, request: IterateRequest) -> IterateResult:
    """Iterate a cluster up to the next person."""
    require_name(workspace.files, request.cluster)
    workspace = noting(workspace, request.cluster)
    harness = open_harness(workspace)
    latest = MainReader(harness)
    iteration = _turns(Loop(harness, request.cluster, latest), request)
    waiting: tuple[str, ...] = ()
    steps: dict[str, Step] = {}
    pull = iteration.pull if isinstance(iteration, Waiting) else None
    candidate = iteration if isinstance(iteration, WithCandidate) else None
    recommended = iteration.recommended if isinstance(iteration, Ended) else None
    if pull is not None:
        waiting = view(latest.read(), harness.forge.get(pull)).waiting_for
        steps = {
            "look": step("pr show", {"number": pull}),
            "approve": step("approve", {"number": pull}, key="KEY"),
            "merge": step("pr merge", {"number": pull}),
            "prove": step("verify", {}),
        }
    elif isinstance(iteration, Waiting):
        waiting = hold_clearers(latest.read().policy)
        steps = {"clear": step("rollback", {"cluster": iteration.cluster}, clear_hold=True)}
    elif isinstance(iteration, ToTrain):
        steps = {
            "read": step("review-synthetic", {"cluster": iteration.cluster}),
            "go on": step("iterate", {"cluster": iteration.cluster}),
        }
    elif recommended:
        steps = {"then": recommended.next}
    main = latest.read()
    history = main.histories.by_specialist.get(candidate.specialist) if candidate else None
    on_hold = hold_of(iteration.cluster, main.histories.of_cluster(iteration.cluster)) is not None
    stands = standing(iteration, history.state if history else None, running=False, on_hold=on_hold)
    return IterateResult(
        cluster=iteration.cluster,
        iteration=iteration.number,
        phase=iteration.phase,
        state=stands.state,
        blocked_by=stands.blocked_by,
        outcome=iteration.outcome if isinstance(iteration, Judged | Untrained) else None,
        reason=iteration.reason,
        recommended=recommended,
        specialist=candidate.specialist if candidate else None,
        artifact=candidate.artifact if candidate else None,
        reference=_run(workspace, iteration, reference_tag(iteration)),
        candidate=_run(workspace, iteration, candidate_tag(iteration)),
        pull=pull,
        waiting_for=waiting,
        next=steps,
    )


def _turns(loop: Loop, request: IterateRequest) -> Iteration:
    """One turn, or turn after turn by the schedule.

    What fails for want of a machine, a disk or a network is tried again at the next turn, where there is one by the
    clock; anything else ends it.
    """
    schedule = parse(request.every, request.between)
    if schedule is None:
        return loop.run(request.max_iterations, request.restart, request.review_rows)
    workspace, last_start, first = loop.harness.workspace, None, True
    before = last_number(workspace, request.cluster)
    turns_left = request.max_iterations
    with workspace.lock(f"schedule-{request.cluster}"):
        while True:
            wait(schedule, last_start, workspace.notify)
            last_start = datetime.now()
            try:
                iteration = loop.run(turns_left, request.restart and first, request.review_rows)
            except InfrastructureFailure as error:
                if schedule.every is None or loop.overdue:
                    raise
                workspace.notify(Progress("iterate", f"{error.code}: {error.message}; the next turn tries again"))
                continue
            finally:
                first = False
            if not isinstance(iteration, Ended) or iteration.outcome == "INCONCLUSIVE":
                return iteration
            if request.max_iterations:
                turns_left = request.max_iterations - max(1, iteration.number - before)
                if turns_left < 1:
                    return iteration
            if stop := loop.stop():
                return iteration.stopped(stop.sentence, stop.recommended)
            workspace.notify(Progress("iterate", f"iteration {iteration.number}: {iteration.reason}"))


def _run(workspace: Workspace, iteration: Iteration, tag: str) -> RunResult | None:
    runs = ledger_of(workspace).runs(tag, iteration.cluster)
    return runs[-1] if runs else None
