"""What follows when a validated specialist drifts, by the contract that was approved with its deployment.

Nothing here takes traffic back: a rollback is proposed to its owner, or an iteration is started. It happens once for
each week that drifts, tried again until it is done; a mark under the git directory says that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelsmith.fleet.jobs import Jobs
from modelsmith.governance.drift import Drifted
from modelsmith.live.watching import Validated
from modelsmith.loop.rollback import roll_back
from modelsmith.loop.window import live_folder
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.pulls import sync
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import sha256
from modelsmith.signing.files import write_atomically


def answer_drift(workspace: Workspace, one: Validated, week: int, found: Sequence[Drifted]) -> str | None:
    """Do what the contract says of a week in which a specialist drifts; what was done, or None where nothing is due.

    Raises:
        ModelsmithError: the forge is down, keys are missing, a check or an owner refused: nothing is marked as done.
    """
    mark = _mark(workspace, one, week)
    if one.terms.on_drift == "tell" or mark.exists():
        return None
    done = _propose_rollback(workspace, one, found) if one.terms.on_drift == "roll-back" else _iterate(workspace, one)
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, done.encode())
    return done


def _propose_rollback(workspace: Workspace, one: Validated, found: Sequence[Drifted]) -> str:
    harness = open_harness(workspace)
    main = read_governed_state(workspace.git, sync(harness))
    history = main.histories.find(one.specialist)
    if history.state != "production-validated":
        return f"{one.specialist} is {history.state} since, so nothing is proposed"
    figures = "; ".join(
        f"{metric.metric} is {metric.observed:.4f}, validated at {metric.baseline:.4f}" for metric in found
    )
    cluster = load_cluster(main.tree, one.cluster)
    pull = roll_back(harness, main, cluster, history, f"It left what it was validated at: {figures}", None)
    return f"its rollback is proposed, pull request {pull.number}; who owns it decides"


def _iterate(workspace: Workspace, one: Validated) -> str:
    job = Jobs.of(workspace).submit(workspace, "iterate", {"cluster": one.cluster}, one.cluster).job
    return f"an iteration is started, job {job.asked.id}"


def _mark(workspace: Workspace, one: Validated, week: int) -> Path:
    name = sha256(one.counted_as(week).encode()).removeprefix("sha256:")
    return live_folder(workspace) / "drift" / name
