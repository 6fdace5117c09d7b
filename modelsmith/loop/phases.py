"""The phases of one iteration. Each finds out what is already there, does the rest, and says what comes next."""

from __future__ import annotations

from modelsmith.artifacts.store import Store
from modelsmith.diagnosis.certificate import nearest_of, refuse_overlap
from modelsmith.diagnosis.patterns import aimed, remembered
from modelsmith.evaluation.scoring import judged_points
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.certificates import full_certificate
from modelsmith.loop.changed import run_tag
from modelsmith.loop.context import IterationContext
from modelsmith.loop.diagnose import diagnose
from modelsmith.loop.diagnoses import tried_before, write_diagnosis
from modelsmith.loop.embedding import embedder_of, meaning_of
from modelsmith.loop.evals import BASE, evaluate, target_of
from modelsmith.loop.iteration import (
    BegunIteration,
    Ended,
    Iteration,
    Judged,
    PhaseFields,
    ToAssess,
    ToDiagnose,
    ToDo,
    ToEval,
    ToPromote,
    ToSeal,
    ToTrain,
    Untrained,
    Waiting,
    WithCandidate,
)
from modelsmith.loop.lineage import rows_of, training_facts
from modelsmith.loop.observe import refuse_unobserved
from modelsmith.loop.preparing import prepare
from modelsmith.loop.promotions import (
    Runs,
    note_advances,
    promote_accepted,
    promote_candidate_record,
    promote_exported,
    promote_next,
    refuse_on_hold,
)
from modelsmith.loop.recipe import NO_PAIRS, Recipe, last_trained, seeded, stage_folder
from modelsmith.loop.setting_apart import set_apart
from modelsmith.loop.shadow import require_shadow, shadow_files
from modelsmith.loop.striking import honour, read_strikes
from modelsmith.loop.taught import refuse_taught
from modelsmith.loop.training import parent_of, seal_adapter
from modelsmith.loop.tries import train_tries
from modelsmith.promotion import records
from modelsmith.promotion.bases import training_of
from modelsmith.promotion.observers import required
from modelsmith.repository.load import load_cluster
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.diagnosis import Diagnosis
from modelsmith.schema.errors import WaitingForPerson
from modelsmith.schema.events import TrainingComplete
from modelsmith.schema.figures import format_apart
from modelsmith.schema.progress import Progress
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.run import RunResult
from modelsmith.schema.training import training_digest
from modelsmith.substrates.adapter import WEIGHTS

ARTIFACT_FOLDER = "artifact"


def reference_tag(iteration: BegunIteration) -> str:
    """Tag of the run that a candidate is measured against."""
    return _tag(iteration, iteration.reference)


def base_tag(iteration: BegunIteration) -> str:
    """Tag of the base model's run."""
    return _tag(iteration, BASE)


def baseline_tag(iteration: BegunIteration, name: str) -> str:
    """Tag of a baseline's run."""
    return _tag(iteration, f"baseline-{name}")


def candidate_tag(iteration: BegunIteration) -> str:
    """Tag of the candidate's run."""
    return _export_tag(iteration) or records.candidate_tag(iteration.cluster, iteration.number)


def _tag(iteration: BegunIteration, of: str) -> str:
    if export := _export_tag(iteration):
        return run_tag(f"{export}-{of}")
    return f"{iteration.cluster}-iter-{iteration.number:03d}-{of}"


def _export_tag(iteration: BegunIteration) -> str | None:
    return iteration.export_tag if isinstance(iteration, WithCandidate) else None


def do_phase(context: IterationContext, iteration: ToDo) -> Iteration:
    """Do the phase that comes next; where the iteration stands then.

    Raises:
        ModelsmithError: as the phase.
    """
    match iteration:
        case ToEval():
            return eval_reference(context, iteration)
        case ToDiagnose():
            return diagnose_failures(context, iteration)
        case ToTrain():
            return train_candidate(context, iteration)
        case ToSeal():
            return seal_candidate(context, iteration)
        case ToAssess():
            return assess_candidate(context, iteration)
        case ToPromote():
            return promote_candidate(context, iteration)


def eval_reference(context: IterationContext, iteration: ToEval) -> ToDiagnose:
    """Evaluate what a candidate will be compared with."""
    run = eval_compared(context, iteration)
    reason = f"{iteration.reference}: composite {run.headline.composite.value:.3f}"
    return ToDiagnose(**iteration.known, reason=reason)


def eval_compared(context: IterationContext, iteration: BegunIteration) -> RunResult:
    """Evaluate the model that serves, the base model as the baseline of every report, and the cluster's baselines.

    Returns:
        The run of the model that serves.
    """
    base = evaluate(context.workspace, context.eval_spec(base_tag(iteration)), context.target(BASE), None)
    run = base
    if iteration.reference != BASE:
        run = evaluate(
            context.workspace, context.eval_spec(reference_tag(iteration)), context.target(iteration.reference), None
        )
    for baseline in context.cluster.baselines:
        evaluate(
            context.workspace,
            context.eval_spec(baseline_tag(iteration, baseline.name)),
            context.target(baseline.name),
            None,
        )
    return run


def diagnose_failures(context: IterationContext, iteration: ToDiagnose) -> ToTrain | Untrained:
    """Turn failures into training rows that are no scored text."""
    run = diagnosed_run(context, iteration)
    folder = context.folder(iteration)
    earlier = tried_before(context.workspace, iteration.cluster, iteration.number)
    judged = bool(judged_points(context.governed.rubric))
    embedder = embedder_of(context.workspace, context.policy)
    clusters = remembered(diagnose(context.workspace, context.governed, run, embedder), earlier, judged=judged)
    if not clusters:
        reason = "no failure is left to learn from"
        return Untrained(**iteration.known, outcome=run.headline.verdict, reason=reason)
    recipe = Recipe(context.workspace, context.cluster, context.governed, context.meaning, context.policy)
    struck = read_strikes(folder).rows
    parent = parent_of(context, iteration)
    refuse_taught(context.workspace, context.main(), context.governed, parent, context.meaning)
    model = context.target(parent)
    stages = context.stages(iteration)
    first = seeded(stages[0], iteration.number)
    several = context.cluster.loop.seeds > 1
    apart = set_apart(recipe, folder, first, clusters) if several else frozenset()
    prepared_stages = [
        prepare(
            recipe,
            stage_folder(folder, number),
            seeded(stage, iteration.number),
            clusters,
            model,
            name=f"stage {number}, {stage.method}" if len(stages) > 1 else "",
            struck=struck,
            apart=apart,
        )
        for number, stage in enumerate(stages, start=1)
    ]
    refuse_overlap([row for prepared in prepared_stages for row in prepared.rows], context.governed, context.policy)
    write_diagnosis(
        folder,
        Diagnosis(
            iteration=iteration.number,
            run_id=run.run_id,
            tag=run.tag,
            model=run.model,
            methods=tuple(stage.method for stage in stages),
            recipe=training_digest(stages),
            clusters=clusters,
            rows=aimed(context.governed, clusters, [row for prepared in prepared_stages for row in prepared.rows]),
            dropped=sum(prepared.dropped for prepared in prepared_stages),
            sources=tuple(source for prepared in prepared_stages for source in prepared.sources),
        ),
    )
    failed = sum(cluster.failed_cases for cluster in clusters)
    worst = clusters[0]
    context.workspace.notify(
        Progress(
            "diagnose",
            f"{failed} failed cases in {len(clusters)} clusters; most severe: {worst.capability}: {worst.pattern}",
        )
    )
    return ToTrain(**iteration.known, reason=f"{failed} failed cases in {len(clusters)} clusters")


def train_candidate(context: IterationContext, iteration: ToTrain) -> ToSeal | Untrained:
    """Train the adapter, stage by stage, in a worker process; finished jobs are adopted."""
    honour(context.folder(iteration), context.stages(iteration))
    trained = train_tries(context, iteration)
    if last_trained(trained.stages) is None:
        outcome = diagnosed_run(context, iteration).headline.verdict
        return Untrained(**iteration.known, outcome=outcome, reason=f"not trained: {NO_PAIRS}")
    steps = sum(stage.outcome.steps for stage in trained.stages if stage.outcome)
    of = f" in {len(trained.stages)} of {len(context.cluster.stages)} stages" if iteration.stages else ""
    choice = f"; {trained.chosen}" if trained.chosen else ""
    if choice:
        context.workspace.notify(Progress("train", trained.chosen))
    return ToSeal(**iteration.known, reason=f"trained {steps} steps{of}{choice}")


def seal_candidate(context: IterationContext, iteration: ToSeal) -> ToAssess:
    """Fix the artifact's identity, keep it in the store, and let ledger and main know it."""
    training = train_tries(context, iteration)
    trained_last = last_trained(training.stages)
    assert trained_last, "train_candidate ends an iteration in which nothing was trained"
    folder = context.folder(iteration) / ARTIFACT_FOLDER
    artifact = seal_adapter(trained_last[1].adapter, folder, context.cluster.base_model)
    Store(context.workspace.store(context.cluster.store)).put(folder, artifact)
    diagnosed = diagnosed_run(context, iteration)
    trained = TrainingComplete(
        cluster=iteration.cluster,
        run_id=diagnosed.run_id,
        artefact_uri=f"store:{artifact}",
        adapter_sha=file_digest(folder / WEIGHTS),
    )
    ledger_of(context.workspace).append(trained)
    specialist = f"iter-{iteration.number:03d}-{artifact.removeprefix('sha256:')[:8]}"
    reason = f"candidate {specialist} sealed"
    sealed = ToAssess(**iteration.known, specialist=specialist, artifact=artifact, reason=reason)
    facts = training_facts(context, sealed, training, diagnosed)
    promote_candidate_record(context, sealed, facts)
    note_advances(ledger_of(context.workspace), context.main())
    return sealed


def assess_candidate(context: IterationContext, iteration: ToAssess) -> ToPromote | Ended:
    """Evaluate the candidate against the registered gate."""
    target = target_of(context.workspace, context.cluster, iteration.specialist, iteration.artifact)
    run = evaluate(
        context.workspace, context.eval_spec(candidate_tag(iteration)), target, reference_run(context, iteration)
    )
    headline = run.headline
    sentence = "; ".join(c.sentence for c in headline.checks if c.outcome != "PASS") or (
        f"composite {format_apart(headline.composite.value, run.rule.thresholds.composite)[0]}, "
        f"held-out {format_apart(headline.held_out.value, run.rule.thresholds.held_out)[0]}"
    )
    context.workspace.notify(Progress("assess", f"{headline.verdict}: {sentence}"))
    kind = ToPromote if headline.verdict == "PASS" else Ended
    return kind(**iteration.known, **iteration.candidate, outcome=headline.verdict, reason=sentence)


def promote_candidate(context: IterationContext, iteration: ToPromote) -> Waiting | Ended:
    """Through the harness's gates by pull request, up to the one that a person decides."""
    candidate, main = candidate_run(context, iteration), context.main()
    if all(record.event != "eval-accepted" for record in main.histories.find(iteration.specialist).records):
        accepted = _accepted(context, iteration, candidate)
        if accepted is not None and accepted.status != "merged":
            reason = f"pull request {accepted.number} asks a person to override an INCONCLUSIVE"
            return waiting_of(iteration, accepted.number, reason)
    promote_exported(context, iteration, candidate)
    main = context.main()
    note_advances(ledger_of(context.workspace), main)
    history = main.histories.find(iteration.specialist)
    if history.routed:
        return ended_of(iteration, f"{iteration.specialist} is {history.state}")
    try:
        refuse_on_hold(main, iteration.cluster)
        refuse_unobserved(main, history, required(main, "customer-deployed"))
        require_shadow(context.workspace, main, history)
    except WaitingForPerson as waiting:
        return waiting_of(iteration, None, f"{waiting.message}. {waiting.mend}")
    cluster = load_cluster(main.tree, iteration.cluster)
    _, pull = promote_next(
        context.harness, cluster, history, main, evidence=lambda event: shadow_files(context.harness, main, history)
    )
    if pull.status == "merged":
        return ended_of(iteration, f"pull request {pull.number} is merged")
    return waiting_of(iteration, pull.number, f"pull request {pull.number} waits for a person")


def _accepted(context: IterationContext, iteration: ToPromote, candidate: RunResult) -> PullRequest | None:
    """The pull request of ``eval-accepted``, with the firewall's certificate of all that the candidate was taught."""
    rows = rows_of(context.folder(iteration), [stage.method for stage in context.stages(iteration)])
    main = context.main()
    facts = training_of(main, main.histories.find(iteration.specialist))
    assert facts
    meaning = meaning_of(context.workspace, main.policy)
    firewall = full_certificate(context.workspace, main, context.governed, facts, rows, meaning)
    return promote_accepted(context, iteration, runs_of(context, iteration, candidate), nearest_of(firewall), firewall)


def promoting(iteration: Waiting) -> ToPromote:
    """The iteration, taken up again at its promotion."""
    now = PhaseFields(reason=iteration.reason, error=iteration.error)
    return ToPromote(**iteration.known, **iteration.candidate, **iteration.verdict, **now)


def lesson_of(iteration: Iteration) -> str | None:
    """Tag of the run whose failures the iteration after this one is to answer; None for the reference's."""
    match iteration:
        case Ended(outcome="FAIL"):
            return candidate_tag(iteration)
        case Judged():
            return None
    return iteration.lesson


def waiting_of(iteration: Judged, pull: int | None, reason: str) -> Waiting:
    """The iteration, which waits for a person from here on."""
    return Waiting(**iteration.known, **iteration.candidate, **iteration.verdict, pull=pull, reason=reason)


def ended_of(iteration: Judged, reason: str) -> Ended:
    """The iteration's last phase, with its outcome."""
    return Ended(**iteration.known, **iteration.candidate, **iteration.verdict, reason=reason)


def runs_of(context: IterationContext, iteration: BegunIteration, candidate: RunResult) -> Runs:
    """The candidate's run with those that it is compared with."""
    reference, ledger = reference_run(context, iteration), ledger_of(context.workspace)
    tags = [] if iteration.reference == BASE else [base_tag(iteration)]
    tags += [baseline_tag(iteration, baseline.name) for baseline in context.cluster.baselines]
    baselines = tuple(ledger.result(tag, iteration.cluster) for tag in tags)
    return Runs(candidate, reference, baselines)


def diagnosed_run(context: IterationContext, iteration: BegunIteration) -> RunResult:
    """The run whose failures this iteration answers: of a model over the very base that is trained.

    That is the failed candidate's, where it answered the question that is asked now, else the parent's (see
    `parent_of`).
    """
    ledger = ledger_of(context.workspace)
    if iteration.lesson:
        diagnosed = ledger.result(iteration.lesson, iteration.cluster)
        if diagnosed.base == context.cluster.base_model.digest and diagnosed.question == context.governed.question():
            return diagnosed
    tag = base_tag(iteration) if parent_of(context, iteration) == BASE else reference_tag(iteration)
    return ledger.result(tag, iteration.cluster)


def reference_run(context: IterationContext, iteration: BegunIteration) -> RunResult:
    """The run of the model that the candidate is compared with."""
    return ledger_of(context.workspace).result(reference_tag(iteration), iteration.cluster)


def candidate_run(context: IterationContext, iteration: BegunIteration) -> RunResult:
    """The candidate's run."""
    return ledger_of(context.workspace).result(candidate_tag(iteration), iteration.cluster)
