"""``modelsmith eval-changes``: the governed eval of whatever a change is about, as CI runs it."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.evidence.pull_page import ChangeEvaluated, eval_page
from modelsmith.forges.github.workflow import proposal_of
from modelsmith.governance.routing import BASE
from modelsmith.loop.iteration import Fault
from modelsmith.operations.change_page import changed_clusters
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.diff_rubric import DiffRubricRequest
from modelsmith.operations.diff_rubric import run as diff_rubric
from modelsmith.operations.evaluate import EvalRequest
from modelsmith.operations.evaluate import run as evaluate
from modelsmith.operations.pictures import Page, write_page
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.promotion.serving import serving
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.change import Effect, SetChange
from modelsmith.schema.errors import Exit, InvalidInput, ModelsmithError
from modelsmith.schema.run import Headline


class EvalChangesRequest(Request):
    """Evaluates each cluster whose settings or eval set differ between a revision and what is checked out.

    Asked is whoever serves the cluster at that revision, or the base model where nobody does: as with `eval
    --changed-since`, only what changed, and the whole set is judged. Ends with 0 when every verdict that can be told is
    PASS, with 3 when one is not, and with the code of the error where a model could not be asked; the others are
    evaluated all the same.

    --page writes what a reviewer reads. --comment shows it at the pull request that the event of this workflow is
    about, in one comment that is edited; where the workflow's token may not comment, the page is all there is.
    """

    since: Annotated[str, Field(description="Revision to compare with: main before the change.")] = "HEAD^1"
    page: Page = None
    comment: Annotated[bool, Field(description="Show the page at the pull request of this workflow's event.")] = False
    workers: Annotated[
        int | None, Field(ge=1, le=1024, description="CPU threads of the engine; all cores when not given.")
    ] = None


class ModelEval(Frozen):
    """One model of a cluster on the eval set as it is now."""

    cluster: str
    model: str
    """A specialist's id, or ``base``."""
    executed: int
    """Completions that were asked for."""
    whole: Headline | None
    """Headline of the whole set; None where the verdicts on the rest are not known."""
    sentence: str
    error: Fault | None
    """Why it could not be asked."""


class ClusterChange(Frozen):
    """What differs in a cluster's eval set, and what that does to who was accepted on it. No model is asked."""

    cluster: str
    change: SetChange | None
    """None where it could not be read; ``error`` of the cluster's models says why."""
    effects: tuple[Effect, ...]
    lost_gates: tuple[str, ...]
    """Specialists that would no longer clear their gate."""


class EvalChangesResult(Result):
    """Every cluster that the change is about."""

    since: str
    """The commit that was compared with."""
    evals: tuple[ModelEval, ...]
    changes: tuple[ClusterChange, ...]
    page: str | None
    """Where the page was written."""

    @override
    def exit_code(self) -> Exit:
        faults = [evaluated.error for evaluated in self.evals if evaluated.error]
        if faults:
            return Exit(faults[0].exit)
        verdicts = {evaluated.whole.verdict for evaluated in self.evals if evaluated.whole}
        return Exit.DONE if verdicts <= {"PASS"} else Exit.GATE_NOT_CLEARED


def run(workspace: Workspace, request: EvalChangesRequest) -> EvalChangesResult:
    """Evaluate, and show it where that is asked."""
    number = proposal_of(os.environ).number if request.comment else None
    if request.comment and number is None:
        raise InvalidInput("no-event", "This event is of no pull request", "Leave --comment out.")
    since, head = (workspace.revision(name).commit for name in (request.since, "HEAD"))
    main = read_governed_state(workspace.git, since)
    clusters = tuple(changed_clusters(workspace, since, head))
    changes = tuple(_difference(workspace, name, since) for name in clusters)
    evals = tuple(
        _evaluate(workspace, name, model, since, request.workers)
        for name in clusters
        for model in serving(main, name) or (BASE,)
    )
    text = eval_page(_by_cluster(evals, changes))
    path = write_page(workspace, request.page, text) if request.page else None
    if number is not None:
        open_forge(workspace).tell(number, text)
    return EvalChangesResult(since=since, evals=evals, changes=changes, page=path)


def _evaluate(workspace: Workspace, cluster: str, model: str, since: str, workers: int | None) -> ModelEval:
    request = EvalRequest(cluster=cluster, model=model, changed_since=since, workers=workers)
    try:
        result = evaluate(workspace, request)
    except ModelsmithError as error:
        fault = Fault.of(error)
        sentence = f"It could not be asked: {fault.message}"
        return ModelEval(cluster=cluster, model=model, executed=0, whole=None, sentence=sentence, error=fault)
    executed = result.run.executed if result.run else 0
    return ModelEval(
        cluster=cluster, model=model, executed=executed, whole=result.whole, sentence=result.sentence, error=None
    )


def _difference(workspace: Workspace, cluster: str, since: str) -> ClusterChange:
    try:
        diff = diff_rubric(workspace, DiffRubricRequest(cluster=cluster, since=since))
    except ModelsmithError:
        return ClusterChange(cluster=cluster, change=None, effects=(), lost_gates=())
    return ClusterChange(cluster=cluster, change=diff.change, effects=diff.effects, lost_gates=diff.lost_gates)


def _by_cluster(evals: tuple[ModelEval, ...], changes: tuple[ClusterChange, ...]) -> list[ChangeEvaluated]:
    of = {change.cluster: change for change in changes}
    return [
        ChangeEvaluated(
            evaluated.cluster,
            evaluated.model,
            evaluated.whole,
            evaluated.sentence,
            of[evaluated.cluster].change,
            of[evaluated.cluster].effects,
            of[evaluated.cluster].lost_gates,
        )
        for evaluated in evals
    ]
