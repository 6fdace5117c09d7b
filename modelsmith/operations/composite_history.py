"""``modelsmith composite-history``: how a cluster's composite moved, run by run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated

from pydantic import Field

from modelsmith.evidence.composite_history import CompositeHistory, Promoted, composite_history
from modelsmith.evidence.history_chart import history_chart
from modelsmith.governance.routing import render_routing
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations.contract import ARGUMENT, Cli, ClusterName, Request, Result
from modelsmith.operations.pictures import Svg, write_picture
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.load import load_cluster, load_machine_file
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence


class CompositeHistoryRequest(Request):
    """Every complete run of the cluster in the order of time: composite with interval, held-out, verdict, events.

    Runs come from this clone's ledger and from the evidence on main, so a plain clone shows what was promoted. A
    verdict is by the rule of its day; what a later rule made of the same answers stands beside it. Where the question
    changed, the line breaks and the change is named. The base model is the reference.
    """

    cluster: Annotated[ClusterName, ARGUMENT]
    everything: Annotated[bool, Field(description="Quick and partial runs too."), Cli(option="--all")] = False
    svg: Svg = None


class CompositeHistoryResult(Result):
    """The history, and where its picture is."""

    history: CompositeHistory
    svg: str | None


def run(workspace: Workspace, request: CompositeHistoryRequest) -> CompositeHistoryResult:
    """Read it from main and the ledger."""
    git = workspace.git
    commit = open_forge(workspace).fetch_into(git) if workspace.setting("forge") else git.rev("HEAD") or "HEAD"
    main = read_governed_state(git, commit)
    cluster = load_cluster(main.tree, request.cluster)
    histories = main.histories.of_cluster(request.cluster)
    runs = ledger_of(workspace).runs(cluster=request.cluster)
    history = composite_history(
        render_routing(request.cluster, histories, cluster.deployment.traffic_share),
        histories,
        runs,
        tuple(_promoted(main, histories, {run.run_id for run in runs})),
        request.everything,
    )
    return CompositeHistoryResult(
        history=history, svg=write_picture(workspace, request.svg, history_chart(history)) if request.svg else None
    )


def _promoted(
    main: GovernedState, histories: Sequence[SpecialistHistory], runs: AbstractSet[str]
) -> Iterator[Promoted]:
    """Records with evidence of a run that the ledger does not know."""
    for history in histories:
        for record in history.records:
            if EVIDENCE_FILE in record.evidence and record.eval_run not in runs:
                path = f"{record_folder(record)}/{EVIDENCE_FILE}"
                yield Promoted(record, load_machine_file(main.tree, path, Evidence))
