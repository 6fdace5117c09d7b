"""Where a candidate comes from, against main: trained as main says, for what main asks, or made from what main has."""

from __future__ import annotations

from modelsmith.governance.audiences import audience
from modelsmith.governance.routing import BASE
from modelsmith.promotion.bases import training_of, wrong_parent
from modelsmith.promotion.evidence_checks import refuse_kept_back
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.proposed import Promotion, refuse
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.canonical import content_digest, parse_canonical
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.promotion import (
    EXPORT_FILE,
    TRAINING_FILE,
    ExportFacts,
    PromotionRecord,
    StageFacts,
    TrainingFacts,
    all_rows_digest,
)
from modelsmith.schema.training import Sft, training_digest
from modelsmith.schema.training_row import PairSource
from modelsmith.schema.tries import best_of, seed_of
from modelsmith.training.judging import held_apart


def check_training(promotion: Promotion) -> str:
    """Base, parent, settings, generators and rubric are main's; the rows themselves stay on the machine."""
    facts = parse_canonical(TRAINING_FILE, promotion.file(TRAINING_FILE), TrainingFacts)
    main, record = promotion.main, promotion.record
    refuse_kept_back(main, TRAINING_FILE, facts)
    for field in ("final_loss", "toolkit"):
        withheld = audience(TrainingFacts, field, main.policy.audiences) == "operator"
        refuse(getattr(facts, field) is None and not withheld, f"{TRAINING_FILE} leaves {field} out")
    _refuse_parent(main, record.cluster, facts.parent)
    otherwise = wrong_parent(main, facts)
    refuse(otherwise is not None, otherwise or "")
    cluster = load_cluster(main.tree, record.cluster)
    source = cluster.base_model
    refuse(
        (facts.base_model, facts.base_digest) != (source.name, source.digest),
        "trained from another base model than the cluster's",
    )
    governed = load_eval_set(main.tree, cluster.eval_set)
    refuse(facts.reward != governed.rubric_digest, "rows were checked with another rubric than the eval's")
    _refuse_settings(cluster, facts, record.iteration, _try_of_candidate(cluster, facts, record))
    digests = {generator.id: content_digest(generator) for generator in governed.generators}
    strange = sorted(name for name, digest in facts.generators.items() if digests.get(name) != digest)
    refuse(bool(strange), f"rows come from generators that main does not have: {', '.join(strange)}")
    refuse(not facts.generators, "no generator is named that made the rows")
    _refuse_sources(cluster, governed, facts)
    _refuse_curves(facts)
    trained = sum(not stage.skipped for stage in facts.stages) or 1
    refuse(
        len(facts.devices) not in (0, trained), "says of other stages on how many devices they ran than were trained"
    )
    methods = ", ".join(stage.method for stage in facts.stages if not stage.skipped) or facts.method
    best = f", the best of {len(facts.tries.each)} seeds held in" if facts.tries else ""
    return f"{facts.rows} rows, {methods}{best}, rubric equals the eval's"


def _try_of_candidate(cluster: Cluster, facts: TrainingFacts, record: PromotionRecord) -> int:
    """Number of the try that the candidate is: of as many as main's cluster file says, the best held in.

    Seeds follow from that file and the iteration, so none is left to choose. What each try scored is the word of the
    machine that trained it.
    """
    count, first = cluster.loop.seeds, cluster.stages[0].seed
    if count == 1:
        refuse(facts.tries is not None, "several tries are named, and the cluster says one")
        return 1
    tries = facts.tries
    refuse(tries is None, f"no tries are named, and the cluster says {count} seeds")
    assert tries
    refuse(len(tries.each) != count, f"{len(tries.each)} tries are named, and the cluster says {count} seeds")
    due = [seed_of(first, record.iteration, number) for number in range(1, count + 1)]
    refuse([seed_try.seed for seed_try in tries.each] != due, "tried other seeds than the cluster's")
    most = held_apart(cluster.stages[0].rows)
    refuse(tries.asked > most, f"chosen by {tries.asked} prompts set aside, and {most} can be")
    dpo = any(stage.method == "dpo" for stage in cluster.stages)
    grpo = any(stage.method == "grpo" for stage in cluster.stages)
    ended = {seed_try.ended for seed_try in tries.each}
    refuse("no-pairs" in ended and not dpo, "a try ended for want of pairs, and no stage learns of any")
    refuse("tripped" in ended and not grpo, "a try was ended by a tripwire, and no stage has one")
    best = best_of(tries)
    refuse(best is None, "no try came to an adapter")
    assert best
    artifact = tries.each[best - 1].artifact
    refuse(artifact != record.artifact, f"try {best} scored highest held in, and the candidate is another one")
    return best


def _refuse_settings(cluster: Cluster, facts: TrainingFacts, iteration: int, tried: int) -> None:
    """Each stage ran as main's cluster file says, or had no pairs; what is said of all follows from them.

    ``tried`` is the number of the try. Where main lets a plateau add the next stage, the first ones may be all: when
    there was one is the harness's word.
    """
    other = "trained by other settings than the cluster's, as main has them"
    due, several = cluster.stages, len(cluster.stages) > 1
    refuse(facts.hyperparameters != training_digest(cluster.training), other)
    fewest = 1 if cluster.stage_by_stage else len(due)
    as_many = fewest <= len(facts.stages) <= len(due) if several else not facts.stages
    refuse(not as_many, "names other stages than the cluster has")
    stated = facts.stages or (
        StageFacts(
            method=facts.method,
            settings=content_digest(due[0], {"seed"}),
            seed=facts.seed,
            parent=None,
            rows=facts.rows,
            rows_digest=facts.rows_digest,
            steps=facts.steps,
        ),
    )
    for number, (stage, expected) in enumerate(zip(stated, due[: len(stated)], strict=True), start=1):
        name = f"stage {number}: " if several else ""
        reported = (stage.method, stage.settings, stage.seed)
        refuse(
            reported != (expected.method, content_digest(expected, {"seed"}), seed_of(expected.seed, iteration, tried)),
            name + other,
        )
        empty = (stage.rows, stage.rows_digest, stage.steps) == (0, None, 0)
        refuse(
            stage.skipped is not None and not (expected.method == "dpo" and empty), f"{name}skipped without a reason"
        )
        complete = stage.steps == expected.steps and stage.rows > 0 and stage.rows_digest is not None
        refuse(stage.skipped is None and not complete, name + other)
        refuse(
            stage.rows > expected.rows,
            f"{name}trained on {stage.rows} rows, and the cluster says {expected.rows} at most",
        )
    pairs = enumerate(zip(stated, due[: len(stated)], strict=True), start=1)
    small = tuple(number for number, (stage, expected) in pairs if expected.load_in_4bit and not stage.skipped)
    refuse(facts.loaded_in_4bit != small, "the base model was held in 4 bits in other stages than the cluster says")
    trained = [stage for stage in stated if not stage.skipped]
    refuse(not trained, "no stage was trained")
    sums = (sum(stage.rows for stage in stated), sum(stage.steps for stage in stated))
    said_of_all = (facts.rows, facts.steps, facts.rows_digest, facts.method, facts.seed)
    follows = (*sums, all_rows_digest(stated), trained[-1].method, stated[0].seed)
    refuse(said_of_all != follows, "what is said of all stages does not follow from each")


def _refuse_curves(facts: TrainingFacts) -> None:
    """The curves are of the stages that were trained, each within its steps, and a reward's where it has one."""
    stated = facts.stages or (None,)
    trained = [number for number, stage in enumerate(stated, start=1) if stage is None or not stage.skipped]
    named = [curve.stage for curve in facts.curves]
    refuse(bool(named) and named != trained, "its curves are of other stages than were trained")
    for curve in facts.curves:
        stage = stated[curve.stage - 1]
        method, steps = (stage.method, stage.steps) if stage else (facts.method, facts.steps)
        refuse(curve.last_step > steps, f"its curve of stage {curve.stage} goes on after the last step")
        rewarded = any(line.measure != "loss" for line in curve.lines)
        refuse(
            rewarded and method != "grpo", f"its curve of stage {curve.stage} tells of a reward, and {method} has none"
        )


def _refuse_sources(cluster: Cluster, governed: GovernedSet, facts: TrainingFacts) -> None:
    """Rows that no generator wrote come from where main's cluster file lets them come, and are no more than it says."""
    most: dict[PairSource, int] = {}
    named: set[str] = set()
    for stage in cluster.stages:
        if isinstance(stage, Sft) and stage.sources:
            for source, share in stage.sources.shares.items():
                most[source] = most.get(source, 0) + int(share * stage.rows)
            named |= set(stage.sources.datasets.names if stage.sources.datasets else ())
    over = sorted(source for source, rows in facts.sources.items() if rows > most.get(source, 0))
    refuse(bool(over), f"more rows than main's cluster lets come from: {', '.join(over)}")
    digests = {dataset.id: content_digest(dataset) for dataset in governed.datasets if dataset.id in named}
    strange = sorted(name for name, digest in facts.datasets.items() if digests.get(name) != digest)
    refuse(bool(strange), f"rows come from data sets that main does not have or name: {', '.join(strange)}")
    refuse(bool(facts.datasets) != ("dataset" in facts.sources), "rows of data sets, and no data set, or the reverse")


def check_export(promotion: Promotion) -> str:
    """An export is made from an adapter of the same cluster that main has accepted and not retired.

    Whether the weights are what that adapter gives is nowhere to be seen here: they are evaluated as they are.
    """
    facts = parse_canonical(EXPORT_FILE, promotion.file(EXPORT_FILE), ExportFacts)
    main, record = promotion.main, promotion.record
    refuse_kept_back(main, EXPORT_FILE, facts)
    withheld = audience(ExportFacts, "toolkit", main.policy.audiences) == "operator"
    refuse(facts.toolkit is None and not withheld, f"{EXPORT_FILE} leaves toolkit out")
    _refuse_parent(main, record.cluster, facts.parent, "made")
    parent = main.histories.find(facts.parent)
    refuse(parent.is_export, f"made from {facts.parent}, which is an export itself")
    accepted = any(past.event == "eval-accepted" for past in parent.records)
    refuse(not accepted, f"made from {facts.parent}, which no eval has accepted")
    refuse(facts.export.parent != parent.artifact, f"made from another artifact than that of {facts.parent}")
    beneath, named = training_of(main, parent), (facts.export.base_model, facts.export.base_digest)
    same = beneath is not None and named == (beneath.base_model, beneath.base_digest)
    refuse(not same, f"names another base model than {facts.parent} has")
    refuse(record.iteration != parent.records[0].iteration, f"counts as another iteration than {facts.parent}")
    return facts.description


def _refuse_parent(main: GovernedState, cluster: str, name: str, how: str = "trained") -> None:
    """Training goes on from the base model, or from a specialist of the cluster that is not retired."""
    parent = main.histories.by_specialist.get(name)
    refuse(name != BASE and (parent is None or parent.cluster != cluster), f"{cluster} has no specialist {name}")
    refuse(parent is not None and parent.state == "deprecated", f"{how} from {name}, which is deprecated")
