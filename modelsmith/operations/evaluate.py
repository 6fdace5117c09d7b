"""``modelsmith eval``: the governed eval set against a cluster's model."""

from __future__ import annotations

import contextlib
import re
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.evaluation.tally import SECTIONS
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.changed import evaluate_change, run_tag
from modelsmith.loop.engines import Target, engine_of
from modelsmith.loop.evals import BASE, EvalSpec, evaluate, target_of
from modelsmith.loop.prior_verdicts import set_at
from modelsmith.operations.contract import Cli, Request, Result
from modelsmith.points.check import READING
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.repository.eval_tree import UNCOMMITTED, eval_tree
from modelsmith.repository.kept_sets import load_kept_eval_set
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Section
from modelsmith.schema.canonical import content_digest, digest
from modelsmith.schema.change import SetChange
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import Exit, InfrastructureFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.progress import Progress
from modelsmith.schema.run import EngineFacts, Headline, RunResult


class EvalRequest(Request):
    """Asks the model every governed question, scores the answers against the rubric and prints the verdict.

    Interrupted, the same command goes on where it stopped. Answers that these weights already gave to an unchanged
    question are adopted, not generated again. Ends with 0 on PASS, with 3 on FAIL or INCONCLUSIVE; a part of the set
    (--quick, --type) is never enough for PASS.

    For CI: --changed-since REV asks the scenarios that changed, takes the verdicts on the others from the evidence on
    main or from an earlier run, and judges the whole set. It ends with 0 too when the model has no known verdicts and
    there is thus nothing to hold against the change; a message says so.
    """

    cluster: Annotated[str, Field(description="Cluster, a folder name under clusters/.")]
    quick: Annotated[bool, Field(description="A small representative part only.")] = False
    type: Annotated[
        Literal["core", "held_out", "robustness", "micro", "all"], Field(description="Part of the eval set.")
    ] = "all"
    tag: Annotated[str | None, Field(description="Name of the run; made from cluster and model when not given.")] = None
    domain: Annotated[
        str | None, Field(description="Domain of the cluster's eval set; refused where it is another.")
    ] = None
    model: Annotated[
        str,
        Field(description="`base`, a specialist id, a baseline's name, or the artifact id of what `train` has made."),
    ] = BASE
    workers: Annotated[
        int | None, Field(ge=1, le=1024, description="CPU threads of the engine; all cores when not given.")
    ] = None
    against: Annotated[
        str | None, Field(description="Tag of a run to count regressions against."), Cli(option="--against")
    ] = None
    changed_since: Annotated[
        str | None, Field(description="Ask only what changed since this revision; the rest keeps its known verdicts.")
    ] = None


class EvalResult(Result):
    """The run, and for a change what the whole set comes to."""

    run: RunResult | None
    """None when `changed_since` found nothing to ask."""
    change: SetChange | None = None
    """Changes of the eval set since the revision."""
    whole: Headline | None = None
    """Headline of the whole set after a change, where the verdicts on what did not change are known."""
    sentence: str = ""
    """Sentence that says which answers the verdict rests on after a change."""

    @override
    def exit_code(self) -> Exit:
        if self.change is None:
            verdict = self.run.headline.verdict if self.run else "PASS"
        else:
            verdict = self.whole.verdict if self.whole else "PASS"
        return Exit.DONE if verdict == "PASS" else Exit.GATE_NOT_CLEARED


def run(workspace: Workspace, request: EvalRequest) -> EvalResult:
    """Evaluate the governed files as they are on disk."""
    cluster = load_cluster(workspace.files, request.cluster)
    if request.domain not in (None, cluster.eval_set.partition("/")[0]):
        raise InvalidInput(
            "other-domain",
            f"{request.cluster} is evaluated on {cluster.eval_set}, which is of another domain",
            "Name that domain, or none.",
            eval_set=cluster.eval_set,
        )
    governed = load_kept_eval_set(workspace.files, cluster.eval_set, workspace.private / "cache" / "sets")
    name, artifact = request.model, None
    if re.fullmatch(r"sha256:[0-9a-f]{64}", name):
        name, artifact = f"trained-{name[7:15]}", name
    elif name not in {BASE, *(baseline.name for baseline in cluster.baselines)}:
        artifact = read_governed_state(workspace.git, "HEAD").histories.find(name).artifact
    sections: tuple[Section, ...] = SECTIONS if request.type == "all" else (request.type,)
    target = target_of(workspace, cluster, name, artifact)
    tag = _given_tag(request) or _tag(request, governed, _engine(cluster, target), name)
    spec = EvalSpec(cluster, governed, _tree(workspace, governed), tag, sections, request.quick)
    if request.changed_since is not None:
        return _changed(workspace, request, request.changed_since, spec, target)
    incumbent = _incumbent(workspace, request.against, spec) if request.against else None
    return EvalResult(run=evaluate(workspace, spec, target, incumbent, request.workers))


def _incumbent(workspace: Workspace, tag: str, spec: EvalSpec) -> RunResult:
    result = ledger_of(workspace).result(tag, spec.cluster.cluster)
    if result.question != spec.governed.question():
        raise InvalidInput(
            "other-question",
            f"The run {tag} answered another question: scored texts, rubric, prompt or sampling have changed since",
            "Evaluate that model on today's set first, and name that run.",
            tag=tag,
        )
    return result


def _changed(workspace: Workspace, request: EvalRequest, since: str, spec: EvalSpec, target: Target) -> EvalResult:
    if request.quick or request.type != "all" or request.against:
        raise InvalidInput(
            "usage",
            "--changed-since chooses itself what is asked and against whom.",
            "Leave out --quick, --type and --against.",
        )
    old = set_at(workspace, since, request.cluster)
    main = read_governed_state(workspace.git, "HEAD")
    evaluated = evaluate_change(workspace, main, old, spec, target, request.workers)
    return EvalResult(run=evaluated.run, change=evaluated.change, whole=evaluated.headline, sentence=evaluated.sentence)


def _given_tag(request: EvalRequest) -> str | None:
    if request.tag and re.match(rf"{re.escape(request.cluster)}-iter-\d", request.tag):
        raise InvalidInput(
            "tag-reserved",
            f"Tags that begin like {request.tag} belong to the loop's own runs",
            "Choose another --tag, or leave it out.",
            tag=request.tag,
        )
    return request.tag


def _engine(cluster: Cluster, target: Target) -> EngineFacts | None:
    """The engine of today; None on a machine without it, where a change that asks nothing can still be judged."""
    with contextlib.suppress(InfrastructureFailure):
        return engine_of(cluster, target)
    return None


def _tag(request: EvalRequest, governed: GovernedSet, engine: EngineFacts | None, model: str) -> str:
    """A tag of its own for every question, engine and way of reading answers: none of them meets an old folder."""
    part = "quick" if request.quick else request.type
    question = governed.question()
    by = digest([content_digest(engine), READING])[7:13] if engine else ""
    suffix = f"{question.core[7:13]}{question.held_out[7:13]}{by}"
    return run_tag(f"{request.cluster}-{model}-{part}-{suffix}")


def _tree(workspace: Workspace, governed: GovernedSet) -> str:
    tree, differing = eval_tree(workspace.git, workspace.files, governed.folder)
    if differing:
        names = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
        workspace.notify(
            Progress("eval", f"asks files that are not committed, and marks the run {UNCOMMITTED}: {names}")
        )
    return tree
