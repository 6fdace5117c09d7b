"""``modelsmith promote``: a specialist's next state, by pull request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.governance.states import SpecialistHistory, folder_of
from modelsmith.loop.overrides import ask_override
from modelsmith.loop.promotions import promote_next
from modelsmith.loop.rollback import retire
from modelsmith.loop.shadow import shadow_files
from modelsmith.loop.window import validation_files
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pull_view import view
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness, open_harness
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Event
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import Exit, InvalidInput
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.steps import step


class PromoteRequest(Request):
    """Prepares the record of the specialist's next event and opens the pull request.

    Where the gate is the harness's and its checks pass, it is merged. On a person's gate it is left open and the
    command ends with 4.

    Without SPECIALIST, the newest that the cluster has trained; an export is promoted by its name. Without --to, the
    next state that a person can be asked for. --to deprecated retires the named specialist for good: its artifact and
    evidence stay, it serves nothing and nothing is trained from it. Exports that were made from it stay as they are.

    --override REASON asks for something else: that an eval which came out INCONCLUSIVE counts all the same. Only where
    too few data is all that was wrong, and only where policy names a role that may (`override` of eval-accepted); a
    person of that role then approves the pull request. Nobody overrides a FAIL.

    Where the rollback contract names a rule, production-validated needs live evidence: it is asked for in the clone of
    the front door that counted, once the window is over. It ends with 3 while the window cannot tell, or is lost.

    On a cluster that is on hold after a rollback no deployment is proposed; the command ends with 4.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/."), ARGUMENT]
    specialist: Annotated[str | None, Field(description="Specialist id."), ARGUMENT] = None
    to: Annotated[
        Literal["customer-deployed", "production-validated", "deprecated"] | None,
        Field(description="State to ask for."),
    ] = None
    override: Annotated[
        Annotated[PlainLine, Field(min_length=1, max_length=500)] | None,
        Field(description="Why an INCONCLUSIVE eval is to count, if a person lets it."),
    ] = None


class PromoteResult(Result):
    """The step that was requested, and its pull request."""

    cluster: str
    model: str
    specialist: str
    iteration: int
    event: str
    composite: float | None
    eval_tag: str | None
    artifact: str
    directory: str
    pull: int
    status: str
    waiting_for: tuple[str, ...]

    @override
    def exit_code(self) -> Exit:
        return Exit.WAITING_FOR_PERSON if self.status == "open" else Exit.DONE


def run(workspace: Workspace, request: PromoteRequest) -> PromoteResult:
    """Promote a specialist by one step."""
    workspace.require_clean()
    harness = open_harness(workspace)
    latest = MainReader(harness)
    main = latest.read()
    histories = main.histories.of_cluster(request.cluster)
    cluster = load_cluster(main.tree, request.cluster)
    if request.specialist:
        history = main.histories.find(request.specialist)
    elif request.to == "deprecated":
        raise InvalidInput("name-it", "Which specialist retires is not said", "Name the SPECIALIST.")
    elif histories:
        history = max(
            (specialist_history for specialist_history in histories if not specialist_history.is_export),
            key=lambda item: item.records[-1].iteration,
        )
    else:
        first = step("iterate", {"cluster": request.cluster})
        raise InvalidInput(
            "no-specialist",
            f"{request.cluster} has no specialist yet",
            "Run `{next}`.",
            cluster=request.cluster,
        ).then(first)
    event, pull = _ask(harness, latest, cluster, history, main, request)
    last = history.records[-1]
    return PromoteResult(
        cluster=request.cluster,
        model=cluster.base_model.name,
        specialist=history.specialist,
        iteration=last.iteration,
        event=event,
        composite=last.composite,
        eval_tag=last.eval_tag,
        artifact=history.artifact,
        directory=folder_of(request.cluster, history.specialist, last.sequence + 1, event),
        pull=pull.number,
        status=pull.status,
        waiting_for=view(latest.read(), pull).waiting_for,
    )


def _ask(
    harness: Harness,
    latest: MainReader,
    cluster: Cluster,
    history: SpecialistHistory,
    main: GovernedState,
    request: PromoteRequest,
) -> tuple[Event, PullRequest]:
    if request.override is not None:
        if request.to is not None:
            raise InvalidInput("name-it", "An override asks for no other state", "Leave --to or --override out.")
        return "eval-accepted", ask_override(harness, latest, cluster, history, request.override)
    if request.to == "deprecated":
        return "deprecated", retire(harness, main, cluster, history)

    def evidence(event: Event) -> Mapping[str, bytes]:
        if event == "customer-deployed":
            return shadow_files(harness, main, history)
        return validation_files(harness, main, history) if event == "production-validated" else {}

    return promote_next(harness, cluster, history, main, request.to, evidence)
