"""``modelsmith run-pending``: what a model says to the cases that wait. Nothing scores it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.loop.engines import open_substrate
from modelsmith.loop.evals import BASE, target_of
from modelsmith.operations.capture import pending_cases
from modelsmith.operations.contract import ARGUMENT, ClusterName, Request, Result
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.pending import Pending
from modelsmith.schema.progress import Progress
from modelsmith.substrates.port import Prompt


class RunPendingRequest(Request):
    """Asks a cluster's model the pending cases of its eval set and shows what it answers.

    There is no verdict: nobody has said yet what a right answer is. Nothing is kept, and no score, gate or training
    ever sees it.
    """

    cluster: Annotated[ClusterName, ARGUMENT]
    model: Annotated[str, Field(description="`base`, a specialist id, or a baseline's name.")] = BASE
    most: Annotated[int, Field(ge=1, le=10_000, description="Cases that are asked, most seen first.")] = 20


class AnsweredCase(Frozen):
    """A pending case, and what the model said to it."""

    id: str
    seen: int
    asked: str
    """Its last message."""
    before: str
    """The answer that was given in production."""
    answer: str | None
    """What the model answers; None where it could not be asked."""
    cut_off: bool
    nearest: str | None
    """Its nearest scenario."""
    similarity: float | None


class RunPendingResult(Result):
    """Pending cases with answers, most seen first."""

    cluster: str
    model: str
    pending: int
    """Cases of the set that wait."""
    cases: tuple[AnsweredCase, ...]


def run(workspace: Workspace, request: RunPendingRequest) -> RunPendingResult:
    """Ask a model the pending cases."""
    main = read_governed_state(workspace.git, "HEAD")
    cluster = load_cluster(main.tree, request.cluster)
    governed = load_eval_set(main.tree, cluster.eval_set)
    waiting = [c for c in pending_cases(main, cluster.eval_set.split("/")[0]) if c.set == cluster.eval_set]
    cases = sorted(waiting, key=lambda case: (-case.seen, case.id))[: request.most]
    own = {BASE, *(baseline.name for baseline in cluster.baselines)}
    artifact = None if request.model in own else main.histories.find(request.model).artifact
    answers: dict[str, tuple[str, bool]] = {}
    if cases:
        substrate = open_substrate(workspace, cluster, target_of(workspace, cluster, request.model, artifact), None)
        try:
            prompts = [Prompt(case.id, case.messages) for case in cases]
            for count, completion in enumerate(
                substrate.complete(prompts, governed.evalset.prompt.system, governed.evalset.sampling), start=1
            ):
                if completion.error is None:
                    answers[completion.key] = completion.text, completion.finish == "length"
                workspace.notify(Progress("pending", f"{request.model} answers", count, len(prompts)))
        finally:
            substrate.close()
    return RunPendingResult(
        cluster=request.cluster,
        model=request.model,
        pending=len(waiting),
        cases=tuple(_answered(case, answers.get(case.id)) for case in cases),
    )


def _answered(case: Pending, answer: tuple[str, bool] | None) -> AnsweredCase:
    near = case.nearest[0] if case.nearest else None
    return AnsweredCase(
        id=case.id,
        seen=case.seen,
        asked=case.messages[-1].content,
        before=case.answer,
        answer=answer[0] if answer else None,
        cut_off=bool(answer and answer[1]),
        nearest=near.scenario if near else None,
        similarity=near.similarity if near else None,
    )
