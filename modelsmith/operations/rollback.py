"""``modelsmith rollback``: traffic back to who served before, and the end of the hold that follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.governance.hold import Hold
from modelsmith.governance.rollback import readiness
from modelsmith.governance.routing import hold_of, latest_deployment, render_routing
from modelsmith.governance.states import SpecialistHistory, folder_of
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.promotions import note_advances
from modelsmith.loop.rollback import clear_hold, roll_back
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pull_view import view
from modelsmith.operations.status import ServingView
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Harness, open_harness
from modelsmith.promotion.histories import RECEIPTS
from modelsmith.promotion.outrun import close_outrun
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.promotion.rollbacks import deployment_of, read_order, recorded_order
from modelsmith.promotion.syncing import sync
from modelsmith.repository.load import load_cluster, load_machine_file
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import find_json_problems, invalid
from modelsmith.schema.base import Event
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import Exit, InvalidInput
from modelsmith.schema.live import LiveWindow
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.promotion import ROLLBACK_FILE, Receipt
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.steps import Step, step

LARGEST_WINDOW = 65_536
"""Bytes of a file with counts, at most; one has a few hundred."""


class RollbackRequest(Request):
    """Undoes the latest deployment of the cluster that still stands, or SPECIALIST's.

    Inside the watch window that was approved with the deployment, and when routing returns to exactly what it was, it
    is merged without a further approval. Otherwise the pull request is left open for the role that decides it, and the
    command ends with 4. Run again, it goes on with the same pull request; with another reason it closes that one, and
    says so. It needs a reason, or --window: a JSON file with what live traffic showed, counted for the specialist and
    for the incumbent at the same time.

    A rollback puts the cluster on hold: nothing is deployed until a person clears it. --clear-hold asks for that.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/."), ARGUMENT]
    specialist: Annotated[str | None, Field(description="Specialist id."), ARGUMENT] = None
    reason: Annotated[PlainLine, Field(max_length=500, description="Why, for the record and for who decides.")] = ""
    window: Annotated[
        Path | None, Field(description="JSON file with counts of the live metric; see docs/files.md, rollback.")
    ] = None
    clear_hold: Annotated[bool, Field(description="Ask a person to end the hold instead.")] = False


class RollbackResult(Result):
    """The rollback or clearance, done or waiting."""

    cluster: str
    event: str
    """``rolled-back`` or ``hold-cleared``."""
    specialist: str
    """Whose deployment is undone, or was."""
    decision: str
    """Sentence that says by what it was decided, or why a person must decide."""
    readiness: str | None
    """Whether who served before is still kept ready; none for the end of a hold."""
    pull: int
    replaces: int | None
    """Pull request that said otherwise, such as for another reason, and that this one has closed."""
    status: str
    waiting_for: tuple[str, ...]
    serving: tuple[ServingView, ...]
    """The shares of traffic now."""
    next: Step

    @override
    def exit_code(self) -> Exit:
        return Exit.WAITING_FOR_PERSON if self.status == "open" else Exit.DONE


def run(workspace: Workspace, request: RollbackRequest) -> RollbackResult:
    """Roll back, or ask to; or ask for the end of a hold."""
    harness = open_harness(workspace)
    main = read_governed_state(workspace.git, sync(harness))
    note_advances(ledger_of(workspace), main)
    cluster = load_cluster(main.tree, request.cluster)
    histories = main.histories.of_cluster(request.cluster)
    hold = hold_of(request.cluster, histories)
    if request.clear_hold:
        if hold is None:
            raise InvalidInput(
                "no-hold",
                f"{request.cluster} is not on hold",
                "See `{next}`.",
                cluster=request.cluster,
            ).then(step("status", {}))
        history, before = main.histories.find(hold.specialist), _open(harness)
        pull = clear_hold(harness, main, cluster, hold, request.reason)
        return _result(harness, cluster, "hold-cleared", history, pull, before)
    history = _target(main, request, hold)
    if hold and history.specialist == hold.specialist:
        _refuse_other_reason(main, history, request.reason)
        return _result(harness, cluster, "rolled-back", history, _merged_rollback(harness, main, history))
    window, before = _read_window(request.window) if request.window else None, _open(harness)
    pull = roll_back(harness, main, cluster, history, request.reason, window)
    return _result(harness, cluster, "rolled-back", history, pull, before)


def _open(harness: Harness) -> dict[str, int]:
    """This harness's open pull requests, by branch."""
    return {pull.branch: pull.number for pull in harness.forge.list("open") if pull.preparer == harness.actor}


def _read_window(path: Path) -> LiveWindow:
    with path.open("rb") as file:
        data = file.read(LARGEST_WINDOW + 1)
    if len(data) > LARGEST_WINDOW:
        raise InvalidInput(
            "invalid-file", f"{path.name} has more than {LARGEST_WINDOW} bytes", "Give the counts only.", path=str(path)
        )
    value, problems = find_json_problems(path.name, data, LiveWindow)
    if value is None:
        raise invalid(problems)
    return value


def _target(main: GovernedState, request: RollbackRequest, hold: Hold | None) -> SpecialistHistory:
    """Whose deployment is meant. On hold that is the one that was rolled back last, so that no rerun undoes another."""
    if request.specialist or hold:
        return main.histories.find(request.specialist or (hold.specialist if hold else ""))
    history = latest_deployment(main.histories.of_cluster(request.cluster))
    if history is None:
        raise InvalidInput(
            "nothing-to-roll-back",
            f"No deployment of {request.cluster} stands",
            "See `{next}`.",
            cluster=request.cluster,
        ).then(step("status", {}))
    return history


def _refuse_other_reason(main: GovernedState, history: SpecialistHistory, reason: str) -> None:
    """A reason that comes later would be lost: the record is written."""
    record = next(record for record in reversed(history.records) if record.event == "rolled-back")
    recorded_reason = recorded_order(main, record).reason
    if reason and reason != recorded_reason:
        by_hand = step("rollback", {"cluster": history.cluster}, clear_hold=True, reason="WHY")
        raise InvalidInput(
            "rolled-back-already",
            f"{history.specialist} is rolled back already; its reason stands: {recorded_reason}",
            "Say the rest when the hold is cleared: `{next}`.",
            reason=recorded_reason,
        ).then(by_hand)


def _merged_rollback(harness: Harness, main: GovernedState, history: SpecialistHistory) -> PullRequest:
    """The merged pull request of the rollback that holds the cluster."""
    return harness.forge.get(_receipt(main, history, "rolled-back")[1].pull)


def _receipt(main: GovernedState, history: SpecialistHistory, event: Event) -> tuple[str, Receipt]:
    """Folder of the specialist's last record of the event, and its receipt."""
    sequence = max(record.sequence for record in history.records if record.event == event)
    folder = folder_of(history.cluster, history.specialist, sequence, event)
    return folder, load_machine_file(main.tree, f"{folder}/{RECEIPTS}/{MERGE_RECEIPT}", Receipt)


def _result(
    harness: Harness,
    cluster: Cluster,
    event: Event,
    history: SpecialistHistory,
    pull: PullRequest,
    before: Mapping[str, int] = MappingProxyType({}),
) -> RollbackResult:
    workspace, name = harness.workspace, cluster.cluster
    main = read_governed_state(workspace.git, sync(harness))
    note_advances(ledger_of(workspace), main)
    close_outrun(harness, main)
    pull_view = view(main, pull)
    if pull.status == "merged":
        tree = main.tree
        folder, receipt = _receipt(main, main.histories.find(history.specialist), event)
        decision = f"approved by {', '.join(sorted(receipt.approvals))}"
        if receipt.gate == "contract":
            decision = "within the contract that was approved with the deployment"
        clear = step("rollback", {"cluster": name}, clear_hold=True)
        then = clear if event == "rolled-back" else step("iterate", {"cluster": name})
    else:
        tree = workspace.revision(pull.head)
        folder = folder_of(name, history.specialist, len(history.records) + 1, event)
        decision = next((check.sentence for check in pull_view.checks if check.name == "contract"), "a person decides")
        then = step("pr show", {"number": pull.number})
    ready = None
    if event == "rolled-back":
        order = read_order({ROLLBACK_FILE: tree.read(f"{folder}/{ROLLBACK_FILE}")})
        deployment = deployment_of(main, history.specialist)
        ready = readiness(deployment.contract, deployment.approved_at, order.decided_at)[1]
    routing = render_routing(name, main.histories.of_cluster(name), cluster.deployment.traffic_share)
    return RollbackResult(
        cluster=name,
        event=event,
        specialist=history.specialist,
        decision=decision,
        readiness=ready,
        pull=pull.number,
        replaces=earlier if (earlier := before.get(pull.branch)) != pull.number else None,
        status=pull.status,
        waiting_for=pull_view.waiting_for,
        serving=tuple(ServingView(specialist=serving.specialist, share=serving.share) for serving in routing.serving),
        next=then,
    )
