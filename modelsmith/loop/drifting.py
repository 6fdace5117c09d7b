"""What follows when a validated specialist drifts, by the contract that was approved with its deployment.

Nothing here takes traffic back: a rollback is proposed to its owner, or an iteration is started. It happens once for
each week that drifts, tried again until it is done. What is about to happen is noted before it does, and what was done
after it, under the git directory; so whoever is killed in between, or finds the disk full, finds again what it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelsmith.fleet.jobs import Jobs
from modelsmith.governance.drift import Drifted
from modelsmith.governance.states import SpecialistHistory
from modelsmith.live.watching import Validated
from modelsmith.loop.promotions import refuse_on_hold
from modelsmith.loop.rollback import roll_back, standing_reason
from modelsmith.loop.window import live_folder
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Harness, open_harness
from modelsmith.promotion.serving import traffic
from modelsmith.promotion.syncing import sync
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import sha256
from modelsmith.signing.files import write_atomically

_ITERATE = "iterate"


def answer_drift(workspace: Workspace, validated: Validated, week: int, drifts: Sequence[Drifted]) -> str | None:
    """Do what the contract says of a week in which a specialist drifts; what was done, or None where nothing is due.

    Raises:
        ModelsmithError: the forge is down, keys are missing, a check or an owner refused, the cluster is on hold,
            another door of this clone is at it: nothing is marked as done.
        OSError: there is no room to note it; nothing more is begun.
    """
    mark = _mark(workspace, validated, week)
    if validated.terms.on_drift == "tell" or mark.exists():
        return None
    with workspace.lock(f"drift-{validated.cluster}"):
        if mark.exists():
            return None
        harness = open_harness(workspace)
        main = read_governed_state(workspace.git, sync(harness))
        history = main.histories.find(validated.specialist)
        if (
            traffic(main, validated.cluster).incumbent.record != validated.record
            or history.state != "production-validated"
        ):
            outcome = f"{validated.specialist} no longer serves as it was validated, so nothing follows"
        elif validated.terms.on_drift == "roll-back":
            outcome = _propose_rollback(harness, main, history, drifts)
        else:
            refuse_on_hold(main, validated.cluster)
            outcome = _iterate(workspace, validated, mark.with_suffix(".begun"))
        _mark_done(mark, outcome)
        return outcome


def _propose_rollback(
    harness: Harness, main: GovernedState, history: SpecialistHistory, drifts: Sequence[Drifted]
) -> str:
    """Propose a rollback, unless one is open: that one keeps the figures of its own moment."""
    figures = "; ".join(
        f"{metric.metric} is {metric.observed:.4f}, validated at {metric.baseline:.4f}" for metric in drifts
    )
    reason = standing_reason(harness, history) or f"It left what it was validated at: {figures}"
    pull = roll_back(harness, main, load_cluster(main.tree, history.cluster), history, reason, None)
    return f"its rollback is proposed, pull request {pull.number}; who owns it decides"


def _iterate(workspace: Workspace, validated: Validated, mark: Path) -> str:
    """Start an iteration, or find the one that was started for this: the first after the job that was newest then."""
    jobs = Jobs.of(workspace)
    if mark.exists():
        before = mark.read_text()
        for job in jobs.newest():
            if job.submitted.id == before:
                break
            if (job.submitted.operation, job.submitted.cluster) == (_ITERATE, validated.cluster):
                return f"an iteration was started, job {job.submitted.id}"
    else:
        newest = jobs.newest(1)
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(mark, (newest[0].submitted.id if newest else "").encode())
    job = jobs.submit(workspace, _ITERATE, {"cluster": validated.cluster}, validated.cluster).job
    return f"an iteration is started, job {job.submitted.id}"


def _mark_done(mark: Path, outcome: str) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, outcome.encode())


def _mark(workspace: Workspace, validated: Validated, week: int) -> Path:
    name = sha256(validated.counted_as(week).encode()).removeprefix("sha256:")
    return live_folder(workspace) / "drift" / name
