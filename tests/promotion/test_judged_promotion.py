"""A promotion of a judged set: the registered judge decided, and it was measured on every label as people wrote it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from judged import JUDGE_YAML, TONE_YAML
from trained import trained

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evidence.bundle import Governing, Run, build, evidence_bytes
from modelsmith.promotion.checks import promotion_checks
from modelsmith.promotion.records import candidate_tag, next_record
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.promotion.since import since
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, EarlierRun
from modelsmith.schema.governed_set import label_digest
from modelsmith.schema.run import Cost, EngineFacts, LabelVerdict, RunResult, VerdictRow, judged_by
from modelsmith.signing.dsse import seal, statement

SET = "evals/adtech/rtb-root-cause"
LABELS = "".join(
    f"- {{scenario: timeout-core-01, point: tone, answer: Answer number {n}., verdict: {verdict}}}\n"
    for n, verdict in enumerate(["pass", "fail"] * 4)
)
ENGINE = EngineFacts(substrate="transformers", version="transformers 5.23.0", dtype="float32", device="cpu")
COST = Cost(
    p50_seconds=0.1, p95_seconds=0.2, prompt_tokens=1, completion_tokens=1, tokens_per_second=1.0,
    cost_per_decision=0.0, currency="USD",
)  # fmt: skip


@pytest.fixture(scope="module")
def judged(repository):
    """The repository whose set has a judged point, a judge and eight labels; with a candidate."""

    def text(name):
        return repository.main.tree.read(f"{SET}/{name}").decode()

    changed = repository.commit(
        {
            f"{SET}/rubrics/root-cause.yaml": (text("rubrics/root-cause.yaml") + TONE_YAML).encode(),
            f"{SET}/evalset.yaml": (text("evalset.yaml") + JUDGE_YAML).encode(),
            f"{SET}/labels/judge.yaml": LABELS.encode(),
        }
    )
    return changed


def judge_of(governed, name="small", identity="judge", **flips):
    """What a judge that agrees with people on every label but those flipped was measured at."""
    verdicts = [
        LabelVerdict(
            label=label_digest(label), point=label.point, person=label.verdict == "pass", judge=label.verdict == "pass"
        )
        for label in governed.labels
    ]
    return agreement(name, digest(identity), verdicts, 0.95, flips.get("needed", 0.6))


def run_of(repository, model, weights, judge) -> Run:
    governed = load_eval_set(repository.main.tree, "adtech/rtb-root-cause")
    rule = effective_rule(governed, load_cluster(repository.main.tree, "rtb-pricing"))
    rows = tuple(
        VerdictRow(
            section=section, scenario=scenario, id=name, capability=capability, critical=critical, wording=wording,
            repeat=repeat, points={p.id: model != "base" for p in governed.rubric.points},
        )
        for (section, scenario, wording, repeat), (name, capability, critical) in expected_rows(governed).items()
    )  # fmt: skip
    result = RunResult(
        run_id=digest([model, "run"]), tag=model, cluster="rtb-pricing", model=model, weights=weights,
        question=governed.question(), rubric=governed.rubric_digest, eval_set="adtech/rtb-root-cause",
        eval_set_version=governed.evalset.version, eval_tree="b" * 40, engine=ENGINE, rule=rule,
        headline=headline(rows, None, rule, judge), incumbent=None, cost=COST,
        sections=("core", "robustness", "micro", "held_out"), quick=False, attempts=1, scenarios=1, executed=0,
        started_at=datetime(2026, 4, 18, tzinfo=UTC), duration_seconds=1.0, judge=judge,
    )  # fmt: skip
    return Run(result, rows)


def evidence_for(repository, judge, base_judge=None):
    governed = load_eval_set(repository.main.tree, "adtech/rtb-root-cause")
    cluster = load_cluster(repository.main.tree, "rtb-pricing")
    facts = repository.draft()
    training = trained(repository.main.tree)
    tree = repository.main.tree.folder_id(governed.folder)
    candidate = run_of(repository, facts.specialist, facts.artifact, judge)
    base = run_of(repository, "base", cluster.base_model.digest, base_judge or judge)
    stood = since(repository.main, cluster, "base")
    return training, build(
        Governing(governed, cluster, tree, stood),
        facts.specialist,
        candidate,
        base,
        [],
        training,
        0.5,
        {"torch": "2.13.0"},
    )


def checks(repository, judge, lie=None):
    """The checks of an acceptance on that evidence, which ``lie`` may change, by name."""
    training, evidence = evidence_for(repository, judge)
    evidence = lie(evidence) if lie else evidence
    changed = repository.after("candidate", evidence={"training.json": canonical_json(training)})
    data = evidence_bytes(evidence)
    files = {
        EVIDENCE_FILE: data,
        EVIDENCE_SIGNATURE: seal(statement(EVIDENCE_FILE, data, EVIDENCE_TYPE, {}), repository.key),
    }
    facts = changed.draft(
        eval_run=evidence.candidate.run_id,
        eval_tag=candidate_tag("rtb-pricing", 1),
        composite=evidence.candidate.headline.composite.value,
    )
    record = next_record(changed.main, "eval-accepted", facts, files)
    proposed, change = changed.proposed(changed.files_of(record, files))
    return {check.name: check for check in promotion_checks(changed.main, proposed, change)}


def governed_of(repository):
    return load_eval_set(repository.main.tree, "adtech/rtb-root-cause")


def test_a_promotion_on_the_registered_judge_passes(judged):
    results = checks(judged, judge_of(governed_of(judged)))
    for name in ("evidence", "question", "verdict"):
        assert results[name].passed, results[name].sentence


def test_what_stood_before_is_what_main_says_and_no_other(judged, repository):
    """The judge came after the cluster did, and evidence that forgets the rule before it is refused."""
    _, evidence = evidence_for(judged, judge_of(governed_of(judged)))
    assert (evidence.since.rule.min_kappa, evidence.rule.min_kappa) == (None, 0.6)
    assert evidence.since == evidence_for(repository, None)[1].since
    forgot = checks(
        judged,
        judge_of(governed_of(judged)),
        lambda evidence_told: evidence_told.model_copy(
            update={"since": evidence_told.since.model_copy(update={"rule": evidence_told.rule})}
        ),
    )
    assert "since is not what main asked" in forgot["question"].sentence


def test_no_earlier_eval_is_told_of_a_candidate_that_main_does_not_have(judged):
    def invented(evidence_told):
        judged_then = judged_by(evidence_told.rule, evidence_told.candidate.headline)
        run = EarlierRun(
            model="iter-007-00000000",
            run_id=evidence_told.candidate.run_id,
            question=evidence_told.question,
            judged=judged_then,
        )
        return evidence_told.model_copy(update={"earlier": (run,)})

    assert "iter-007-00000000" in checks(judged, judge_of(governed_of(judged)), invented)["question"].sentence


def test_verdicts_of_another_judge_are_refused(judged):
    results = checks(judged, judge_of(governed_of(judged), name="friend"))
    assert not results["question"].passed
    assert "not decided by the registered judge" in results["question"].sentence


def test_judged_points_without_a_judge_are_refused(judged):
    assert "registered judge" in checks(judged, None)["question"].sentence


@pytest.mark.parametrize("kept", [slice(0, 7), slice(0, 0)])
def test_labels_that_were_left_out_are_noticed(judged, kept):
    whole = judge_of(governed_of(judged))
    fewer = agreement(whole.judge, whole.identity, whole.verdicts[kept], 0.95, 0.6)
    assert "other labels" in checks(judged, fewer)["question"].sentence


def test_a_label_that_people_wrote_otherwise_is_noticed(judged):
    whole = judge_of(governed_of(judged))
    first, *rest = whole.verdicts
    turned = first.model_copy(update={"person": not first.person, "judge": not first.person})
    results = checks(judged, agreement(whole.judge, whole.identity, [turned, *rest], 0.95, 0.6))
    assert results["evidence"].passed, "it recomputes"
    assert "other labels" in results["question"].sentence


def test_a_judge_where_the_set_has_none_is_refused(judged, repository):
    stranger = judge_of(governed_of(judged), needed=None)
    assert "the eval set has none" in checks(repository, stranger)["question"].sentence


def test_runs_that_two_judges_decided_make_no_evidence(judged):
    governed = governed_of(judged)
    with pytest.raises(InvalidInput) as refused:
        evidence_for(judged, judge_of(governed), judge_of(governed, identity="another"))
    assert refused.value.details["fields"] == ["judge"]
