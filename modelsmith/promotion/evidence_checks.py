"""Evidence against main: what main or the verdict rows determine is recomputed, and only the rest is taken on trust.

Which figure is which is listed in ``docs/evidence-fields.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsmith.evaluation.summary import priced
from modelsmith.evidence.bundle import coverage, recompute
from modelsmith.governance.audiences import audience, for_reviewers
from modelsmith.governance.routing import BASE, render_routing
from modelsmith.promotion.bases import export_of, same_engine, training_of, wrong_bases
from modelsmith.promotion.firewall_checks import refuse_firewall
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.overrides import check_override, read_override
from modelsmith.promotion.proposed import Promotion, refuse, require_seal
from modelsmith.promotion.records import candidate_tag, export_tag
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.promotion.since import candidates_since, since
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence, RunEvidence
from modelsmith.schema.governed_set import GovernedSet, label_digest
from modelsmith.schema.promotion import ExportFacts, TrainingFacts
from modelsmith.schema.run import EngineFacts, JudgeAgreement
from modelsmith.schema.source import Endpoint
from modelsmith.substrates.endpoint.facts import endpoint_facts, unknown_weights


def check_evidence(promotion: Promotion) -> str:
    """Signed, about this artifact and this run, and every headline number recomputes from the verdicts."""
    evidence, record, audiences = promotion.evidence, promotion.record, promotion.main.policy.audiences
    predicate = {"cluster": record.cluster, "specialist": record.specialist, "run": evidence.candidate.run_id}
    require_seal(promotion, EVIDENCE_SIGNATURE, EVIDENCE_FILE, EVIDENCE_TYPE, predicate)
    refuse_kept_back(promotion.main, EVIDENCE_FILE, evidence)
    refuse(evidence.artifact != record.artifact, "the evidence is about another artifact")
    refuse(evidence.specialist != record.specialist, "the evidence is about another specialist")
    refuse(evidence.candidate.model != record.specialist, "the evidence names another candidate")
    refuse(evidence.candidate.weights != record.artifact, "the eval ran other weights than the artifact")
    refuse(evidence.candidate.run_id != record.eval_run, "the record names another eval run")
    history = promotion.main.histories.find(record.specialist)
    if history.is_export:
        tag = export_tag(record.cluster, record.specialist, evidence.question, evidence.engine)
    else:
        tag = candidate_tag(record.cluster, record.iteration)
    refuse(record.eval_tag != tag, f"the record's eval_tag is not {tag}")
    refuse(evidence.candidate.headline.composite.value != record.composite, "the record states another composite")
    facts, export = training_of(promotion.main, history), export_of(promotion.main, history)
    refuse(facts is None, "main does not say how the candidate was trained")
    assert facts
    refuse(evidence.training != for_reviewers(facts, audiences), "the lineage differs from the candidate's")
    due = for_reviewers(export, audiences) if export else None
    refuse(evidence.export != due, "what the candidate was made from differs from its record")
    recompute(evidence)
    return f"signed; {len(evidence.candidate.rows)} verdicts recompute to the stated figures"


def check_question(promotion: Promotion) -> str:
    """Asked is what main governs today: every scenario, every wording, the registered rule, the rubric trained on."""
    evidence, main = promotion.evidence, promotion.main
    cluster = load_cluster(main.tree, promotion.record.cluster)
    governed = load_eval_set(main.tree, cluster.eval_set)
    refuse(evidence.question != governed.question(), "the eval answered an older or other question than main's")
    named = (evidence.cluster, evidence.eval_set, evidence.eval_set_version)
    refuse(
        named != (cluster.cluster, cluster.eval_set, governed.evalset.version),
        "the evidence names another cluster, eval set or version than main's",
    )
    refuse(evidence.eval_tree != main.tree.folder_id(governed.folder), "eval_tree is not the eval set's tree on main")
    histories = main.histories.of_cluster(cluster.cluster)
    routing = render_routing(cluster.cluster, histories, cluster.deployment.traffic_share)
    serving = {(model.specialist, model.artifact or cluster.base_model.digest) for model in routing.serving}
    refuse(
        (evidence.incumbent.model, evidence.incumbent.weights) not in serving,
        f"regressions are counted against {evidence.incumbent.model}, which does not serve",
    )
    refuse(evidence.rubric != governed.rubric_digest, "the eval used another rubric than main's")
    refuse(evidence.training.reward != evidence.rubric, "training and eval used different rubrics")
    refuse(evidence.rule != effective_rule(governed, cluster), "the gate's rule is not the registered one")
    refuse(evidence.since != since(main, cluster, evidence.incumbent.model), "since is not what main asked back then")
    candidates = {history.specialist for history in candidates_since(main, cluster.cluster, evidence.incumbent.model)}
    odd = sorted({earlier.model for earlier in evidence.earlier} - candidates - {evidence.specialist})
    refuse(bool(odd), f"earlier names {', '.join(odd)}, which main does not have as a candidate since the incumbent")
    _refuse_judge(evidence.judge, governed)
    wrong_base = wrong_bases(main, evidence, cluster)
    refuse(wrong_base is not None, wrong_base or "")
    expected = expected_rows(governed)
    for run in (evidence.candidate, evidence.incumbent):
        by_key = {(row.section, row.scenario, row.wording, row.repeat): row for row in run.rows}
        refuse(
            len(by_key) != len(run.rows) or by_key.keys() != expected.keys(), f"{run.model} was not asked everything"
        )
        wrong = [key for key, row in by_key.items() if (row.id, row.capability, row.critical) != expected[key]]
        refuse(bool(wrong), "a verdict is labelled with another scenario's name")
    refuse(evidence.coverage != coverage(governed), "the coverage is not that of main's eval set")
    limit, nearest = governed.evalset.separation.training_to_scored, evidence.nearest
    refuse(nearest.held_out_to_core != governed.held_out_to_core, "nearest.held_out_to_core is not main's")
    refuse(nearest.training_to_scored > limit, "a training row is nearer to a scored text than the eval set allows")
    refuse_firewall(evidence, main, governed)
    return (
        f"{evidence.eval_set} {evidence.eval_set_version}: {len(expected)} answers of each model, the registered rule"
    )


def check_models(promotion: Promotion) -> str:
    """The models beside the candidate are those that main names, each on the engine and at the prices that it names."""
    evidence, main = promotion.evidence, promotion.main
    cluster = load_cluster(main.tree, promotion.record.cluster)
    _refuse_engine(evidence.engine, cluster)
    refuse(evidence.candidate.engine is not None, "the candidate's engine is told twice")
    refuse(not same_engine(main, evidence), f"{evidence.incumbent.model} answered on another engine than the candidate")
    baselines = [(run.model, run.weights) for run in evidence.baselines]
    due = [(name, weights) for name, weights, _ in _baselines(evidence, cluster)]
    refuse(baselines != due, f"the baselines are not {', '.join(name for name, _ in due) or 'none'}, as main has them")
    endpoints = [endpoint for *_, endpoint in _baselines(evidence, cluster)]
    for run, endpoint in zip(evidence.baselines, endpoints, strict=True):
        if endpoint is None:
            _refuse_engine(run.engine or evidence.engine, cluster)
        else:
            refuse(run.engine != endpoint_facts(endpoint), f"{run.model} answered elsewhere than main's cluster says")
    withheld = audience(RunEvidence, "cost", promotion.main.policy.audiences) == "operator"
    for run, endpoint in zip(_runs(evidence), [None, None, *endpoints], strict=True):
        refuse(run.cost is None and not withheld, f"the evidence does not say what {run.model} costs")
        _refuse_cost(run, cluster, endpoint)
    return f"compared with {evidence.incumbent.model}{''.join(f', {name}' for name, _ in due)}, at main's prices"


def check_outcome(promotion: Promotion) -> str:
    """The registered rule says PASS; or INCONCLUSIVE, and a person is asked to let that count."""
    headline = promotion.evidence.candidate.headline
    override = read_override(promotion.files)
    if override:
        return check_override(promotion, override)
    failed = "; ".join(check.sentence for check in headline.checks if check.outcome != "PASS")
    if headline.verdict != "PASS":
        raise IntegrityFailure(
            "check-failed",
            f"the verdict is {headline.verdict}: {failed}",
            "Prepare the promotion again.",
            verdict=headline.verdict,
        )
    return f"PASS: composite {headline.composite.value:.3f}, held-out {headline.held_out.value:.3f}"


def refuse_kept_back(main: GovernedState, name: str, facts: Evidence | TrainingFacts | ExportFacts) -> None:
    """Refuse fields that main's policy keeps for operators."""
    kept_back = for_reviewers(facts, main.policy.audiences) != facts
    refuse(kept_back, f"{name} shows what policy keeps for operators")


def _refuse_judge(judge: JudgeAgreement | None, governed: GovernedSet) -> None:
    """The judge is the registered one, and it spoke about every label as people wrote it, once."""
    registered = governed.evalset.judge
    if registered is None:
        refuse(judge is not None, "the evidence names a judge, and the eval set has none")
        return
    refuse(
        judge is None or judge.judge != registered.name, "the judged points were not decided by the registered judge"
    )
    people = sorted((label_digest(label), label.point, label.verdict == "pass") for label in governed.labels)
    judged_labels = (
        sorted((verdict.label, verdict.point, verdict.person) for verdict in judge.verdicts) if judge else []
    )
    refuse(judged_labels != people, "the judge was measured against other labels than the registered ones")


def _runs(evidence: Evidence) -> Sequence[RunEvidence]:
    return evidence.candidate, evidence.incumbent, *evidence.baselines


def _baselines(evidence: Evidence, cluster: Cluster) -> Iterator[tuple[str, str, Endpoint | None]]:
    """Name, weights and server of each model that is measured beside candidate and incumbent."""
    if evidence.incumbent.model != BASE:
        yield BASE, cluster.base_model.digest, None
    for baseline in cluster.baselines:
        yield baseline.name, unknown_weights(baseline.endpoint), baseline.endpoint


def _refuse_engine(engine: EngineFacts, cluster: Cluster) -> None:
    """Pinned weights run in the engine that the cluster names; which libraries those were, the machine says."""
    refuse(engine.substrate != cluster.engine, f"the eval ran on {engine.substrate}, not on main's {cluster.engine}")
    pinned = engine.weights == "pinned" and engine.device != "remote" and engine.dtype != "unknown"
    refuse(
        not pinned or " " not in engine.version or bool(engine.omitted),
        "the engine's facts are not those of pinned weights",
    )


def _refuse_cost(run: RunEvidence, cluster: Cluster, endpoint: Endpoint | None) -> None:
    if run.cost is None:
        return
    cost = run.cost
    due = priced(cost, len(run.rows), cluster.prices, endpoint.prices if endpoint else None)
    refuse(cost != due, f"the cost of {run.model} does not follow from its time and tokens at main's prices")
    first, last = cost.first_token_p50_seconds, cost.first_token_p95_seconds
    ordered = cost.p50_seconds <= cost.p95_seconds and (first or 0.0) <= (last or 0.0)
    refuse(not ordered or (first is None) != (last is None), f"the latencies of {run.model} contradict each other")
