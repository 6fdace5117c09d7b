"""The harness's checks of a promotion: each names what is wrong, and a proposal is never trusted to describe itself."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import yaml
from judged import TONE_YAML
from trained import trained

from modelsmith.evaluation.reward import reward_digest
from modelsmith.governance.states import record_folder
from modelsmith.points.check import READING
from modelsmith.promotion.checks import is_promotion, promotion_checks
from modelsmith.promotion.histories import parse_record, read_histories
from modelsmith.promotion.records import next_record
from modelsmith.promotion.reward_checks import check_reward
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.canonical import canonical_json, content_digest, digest
from modelsmith.schema.curve import CurveLine, StageCurve
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.promotion import StageFacts, all_rows_digest
from modelsmith.schema.training import training_digest
from modelsmith.schema.tries import SeedTries, SeedTry
from modelsmith.signing.keys import create_signing_key

DIGEST = "sha256:" + "a" * 64


def training(repository, **other):
    return canonical_json(trained(repository.main.tree, **other))


def candidate(repository, **other):
    evidence = {"training.json": training(repository, **other)}
    record = next_record(repository.main, "candidate", repository.draft(), evidence)
    return record, repository.files_of(record, evidence)


def failures(repository, files):
    proposed, change = repository.proposed(files)
    return {c.name: c.sentence for c in promotion_checks(repository.main, proposed, change) if not c.passed}


def test_a_candidate_as_the_harness_makes_it_passes_every_check(repository):
    record, files = candidate(repository)
    proposed, change = repository.proposed(files)
    assert is_promotion(change)
    results = promotion_checks(repository.main, proposed, change)
    assert [check.name for check in results] == [
        "record",
        "signature",
        "life",
        "files",
        "limits",
        "routing",
        "training",
        "reward",
    ]
    assert all(check.passed for check in results), results
    assert record_folder(record) in results[0].sentence


@pytest.mark.parametrize("name", ["rtb.ai", "sk-customer-returns-01", "answers"])
def test_whatever_main_calls_a_thing_may_stand_in_its_promotions(repository, name):
    """Such an id reads as a host, a token or a field of answers, and is accepted where it is given."""
    old = "evals/adtech/rtb-root-cause/generators/supply-path.yaml"
    text = repository.main.tree.read(old).replace(b"id: supply-path", f"id: {name}".encode(), 1)
    named = repository.commit({old: None, old.replace("supply-path", name): text})
    now = datetime(2026, 6, 1, tzinfo=UTC)
    for world, clean in ((named, True), (repository, False)):
        evidence = {"training.json": training(named)}
        record = next_record(world.main, "candidate", world.draft(), evidence)
        proposed, change = world.proposed(world.files_of(record, evidence))
        checks = {check.name: check for check in promotion_checks(world.main, proposed, change, now)}
        assert checks["leaks"].passed is clean, checks["leaks"]


def test_two_promotions_in_one_change_are_refused(repository):
    _, files = candidate(repository)
    other = {path.replace("01-candidate", "02-eval-accepted"): data for path, data in files.items()}
    assert failures(repository, files | other).keys() == {"record"}


def test_a_record_that_is_not_canonical_or_lies_elsewhere_is_refused(repository):
    record, files = candidate(repository)
    path = f"{record_folder(record)}/record.json"
    assert "canonical" in failures(repository, files | {path: files[path] + b"\n"})["record"]
    moved = {path.replace("rtb-pricing/iter", "other/iter"): data for path, data in files.items()}
    assert "holds the record of" in failures(repository, moved)["record"]
    with pytest.raises(IntegrityFailure) as refused:
        parse_record(path, b"{}")
    assert refused.value.code == "bad-record"


def test_a_record_signed_by_a_key_outside_the_trust_root_is_refused(repository, tmp_path):
    create_signing_key(tmp_path / "mallory.pem")
    record, files = candidate(repository)
    evidence = {"training.json": training(repository)}
    forged = type(repository)(repository.git, tmp_path / "mallory.pem", repository.tip).files_of(record, evidence)
    assert failures(repository, forged).keys() == {"signature"}
    unsigned = {path: data for path, data in files.items() if not path.endswith("record.sigstore.json")}
    assert failures(repository, unsigned).keys() == {"signature", "files"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy", DIGEST),
        ("required_approvers", ["platform"]),
        ("previous_record", DIGEST),
        ("expected_previous", DIGEST),
    ],
)
def test_what_does_not_follow_from_main_is_refused_although_signed(repository, field, value):
    evidence = {"training.json": training(repository)}
    stated = json.loads(canonical_json(next_record(repository.main, "candidate", repository.draft(), evidence)))
    forged = parse_like(repository, stated | {field: value})
    failed = failures(repository, repository.files_of(forged, evidence))
    assert "life" in failed
    assert failed.keys() <= {"life", "routing"}, "the signature and the files are right"


def parse_like(repository, stated):
    record = next_record(repository.main, "candidate", repository.draft(), {})
    return type(record).model_validate_json(json.dumps(stated))


def test_files_that_the_record_does_not_cover_are_refused(repository):
    record, files = candidate(repository)
    folder = record_folder(record)
    assert "other files" in failures(repository, files | {f"{folder}/extra.md": b"x"})["files"]
    changed = failures(repository, files | {f"{folder}/training.json": training(repository, rows=4)})
    assert "evidence" in changed["life"]


def test_a_candidate_without_its_training_facts_is_refused(repository):
    record = next_record(repository.main, "candidate", repository.draft(), {})
    failed = failures(repository, repository.files_of(record))
    assert failed["files"] == "training.json or export.json missing"


def test_a_promotion_touches_nothing_outside_its_folder(repository):
    _, files = candidate(repository)
    assert "evals/note.md" in failures(repository, files | {"evals/note.md": b"x"})["routing"]
    routed = failures(repository, files | {"clusters/rtb-pricing/routing.yaml": b"x"})
    assert routed["routing"] == "candidate does not change routing"


def test_routing_must_be_the_exact_rendering_of_the_records(repository):
    exported = repository.after("candidate", "eval-accepted", "artifact-exported")
    record = next_record(exported.main, "customer-deployed", exported.draft(), {})
    files = exported.files_of(record)
    path = "clusters/rtb-pricing/routing.yaml"
    assert "exact rendering" not in failures(exported, files).get("routing", "")
    assert "not the rendering" in failures(exported, files | {path: files[path].replace(b"0.1", b"1.0")})["routing"]
    assert "missing" in failures(exported, {p: data for p, data in files.items() if p != path})["routing"]


def test_a_candidate_of_another_base_model_or_rubric_is_refused(repository):
    assert "another base model" in failures(repository, candidate(repository, base_digest=DIGEST)[1])["training"]
    assert "another rubric" in failures(repository, candidate(repository, reward=DIGEST)[1])["training"]


def test_a_reward_is_named_where_a_stage_had_one_and_is_the_eval_s(repository):
    """Of a cluster without such a stage a named reward is refused; the rest is in the tests of attacks."""
    assert "no stage trained by one" in failures(repository, candidate(repository, trained_reward=DIGEST)[1])["reward"]
    assert "reward" not in failures(repository, candidate(repository)[1])
    rewarded = failures(repository, candidate(repository, method="grpo")[1])
    assert "another rubric" in rewarded["reward"]
    rubric = load_eval_set(repository.main.tree, "adtech/rtb-root-cause").rubric_digest
    for reading, merged, replayed in ((READING, True, True), (READING - 1, False, True), (READING + 1, False, False)):
        files = candidate(repository, method="grpo", trained_reward=reward_digest(rubric, reading))[1]
        proposed, change = repository.proposed(files)
        for now, fine in ((datetime(2026, 6, 1, tzinfo=UTC), merged), (None, replayed)):
            checks = promotion_checks(repository.main, proposed, change, now)
            assert [check.passed for check in checks if check.name == "reward"] == [fine]


def with_judge(repository):
    """The same with a judged point in main's rubric, and a judge."""
    kit = "evals/adtech/rtb-root-cause"
    rubric = f"{kit}/{load_eval_set(repository.main.tree, 'adtech/rtb-root-cause').evalset.rubric}"
    model = f"{{name: tiny, uri: 'file://j', digest: '{DIGEST}', license: MIT}}"
    judge = f"judge: {{name: small, base_model: {model}}}\n"
    return repository.commit({
        rubric: repository.main.tree.read(rubric) + TONE_YAML.encode(),
        f"{kit}/evalset.yaml": repository.main.tree.read(f"{kit}/evalset.yaml") + judge.encode(),
    })  # fmt: skip


def test_a_judge_that_rewarded_answers_is_named_and_is_the_eval_s(repository):
    judged = with_judge(repository)
    mine, other = digest("judge"), digest("another judge")
    due = reward_digest(load_eval_set(judged.main.tree, "adtech/rtb-root-cause").rubric_digest, judge=mine)
    for world, facts, wrong in (
        (judged, {"trained_reward": due, "trained_judge": mine}, None),
        (judged, {"trained_reward": due}, "none is named that rewarded answers"),
        (judged, {"trained_reward": due, "trained_judge": other}, "another rubric"),
        (repository, {"trained_reward": due, "trained_judge": mine}, "has no use of one"),
    ):
        sentence = failures(world, candidate(world, method="grpo", **facts)[1]).get("reward")
        assert (sentence is None) if wrong is None else (wrong in sentence)
    lineage = trained(judged.main.tree, method="grpo", trained_reward=due, trained_judge=mine)
    for measured, wrong in ((mine, None), (other, "another judge than the eval's")):
        accepted = SimpleNamespace(
            main=judged.main,
            record=SimpleNamespace(event="eval-accepted", cluster="rtb-pricing"),
            evidence=SimpleNamespace(training=lineage, judge=SimpleNamespace(identity=measured)),
        )
        with nullcontext() if wrong is None else pytest.raises(IntegrityFailure, match=wrong):
            assert check_reward(accepted, present=True) == "rewarded by the eval's own rubric and judge"


GRPO_STAGE = {"method": "grpo", "steps": 2, "batch_size": 8, "group_size": 4, "rows": 6, "judge_calls": 99}


def test_each_stage_names_its_reward_and_judges_and_all_are_the_eval_s(repository):
    """A second stage that another judge rewarded was seen by nobody, where only the first one's was written down."""
    document = yaml.safe_load(repository.main.tree.read("clusters/rtb-pricing/cluster.yaml"))
    document["training"] = [dict(GRPO_STAGE), dict(GRPO_STAGE)]
    asks = with_judge(
        repository.commit({"clusters/rtb-pricing/cluster.yaml": yaml.safe_dump(document, sort_keys=False).encode()})
    )
    mine, other = digest("judge"), digest("another judge")
    rubric = load_eval_set(asks.main.tree, "adtech/rtb-root-cause").rubric_digest
    due, strange = reward_digest(rubric, judge=mine), reward_digest(rubric, judge=other)
    right = {"trained_reward": due, "trained_judge": mine}
    foreign = {"trained_reward": strange, "trained_judge": other}
    for first, second, wrong in (
        (right, right, None),
        (right, right | {"rows_judge": mine}, "stage 2: a judge of rows is named"),
        (right, right | {"trained_reward": DIGEST}, "stage 2: answers were rewarded by another rubric"),
        (foreign, right, "trained_reward is another than that of its stages"),
        (right, {"skipped": "no-pairs", "steps": 0, "rows": 0, "rows_digest": None} | right, "stage 2: a reward is"),
    ):
        sentence = failures(asks, candidate(asks, **staged(asks, first, second, **right))[1]).get("reward")
        assert (sentence is None) if wrong is None else (wrong in sentence), (first, second, sentence)
    lineage = trained(asks.main.tree, **staged(asks, right, foreign, **right))
    accepted = SimpleNamespace(
        main=asks.main,
        record=SimpleNamespace(event="eval-accepted", cluster="rtb-pricing"),
        evidence=SimpleNamespace(training=lineage, judge=SimpleNamespace(identity=mine)),
    )
    with pytest.raises(IntegrityFailure, match="stage 2: answers were judged by another judge than the eval's"):
        check_reward(accepted, present=True)
    accepted.evidence.training = trained(asks.main.tree, **staged(asks, **right))
    assert check_reward(accepted, present=False) == "rewarded by the eval's own rubric and judge"
    with pytest.raises(IntegrityFailure, match="stage 1: trained by reward, and does not say by which"):
        check_reward(accepted, present=True)


def test_devices_are_said_of_each_stage_that_was_trained_or_of_none(recipe):
    empty = {"rows": 0, "rows_digest": None, "steps": 0, "skipped": "no-pairs"}
    for second, devices, sound in (({}, (), True), ({}, (2, 1), True), ({}, (2,), False), (empty, (2,), True)):
        _, files = candidate(recipe, **staged(recipe, {}, second, devices=devices))
        assert ("training" not in failures(recipe, files)) == sound, (second, devices)


def test_a_judge_that_let_rows_pass_is_named_and_is_the_eval_s(repository):
    judged = with_judge(repository)
    mine, other = digest("judge"), digest("another judge")
    rows = {"method": "dpo"}
    taught = {"sources": {"teacher": 1}}
    for world, facts, wrong in (
        (judged, rows | {"rows_judge": mine}, None),
        (judged, rows, None),
        (judged, taught | {"rows_judge": mine}, None),
        (judged, taught, "none is named that let rows of other sources pass"),
        (judged, {"rows_judge": mine}, "all rows come from generators"),
        (repository, rows | {"rows_judge": mine}, "has no use of one"),
    ):
        sentence = failures(world, candidate(world, **facts)[1]).get("reward")
        assert (sentence is None) if wrong is None else (wrong in sentence), facts
    lineage = trained(judged.main.tree, **rows, rows_judge=mine)
    for measured, wrong in ((mine, None), (other, "rows were judged by another judge")):
        accepted = SimpleNamespace(
            main=judged.main,
            record=SimpleNamespace(event="eval-accepted", cluster="rtb-pricing"),
            evidence=SimpleNamespace(training=lineage, judge=SimpleNamespace(identity=measured)),
        )
        with nullcontext() if wrong is None else pytest.raises(IntegrityFailure, match=wrong):
            assert check_reward(accepted, present=True) == "no stage trained by reward"


def test_a_judge_that_seeds_were_chosen_by_is_the_eval_s(repository):
    judged = with_judge(repository)
    mine, other = digest("judge"), digest("another judge")

    def tries(judge):
        each = tuple(SeedTry(seed=n, held_in=0.5, artifact=DIGEST) for n in (17, 10_017))
        return SeedTries(asked=3, asked_digest=DIGEST, judge=judge, each=each)

    for world, judge, measured, wrong in (
        (judged, mine, mine, None),
        (judged, mine, other, "chosen by another judge"),
        (judged, None, mine, "none is named that seeds were chosen by"),
        (repository, mine, None, "has no use of one"),
        (repository, None, None, None),
    ):
        accepted = SimpleNamespace(
            main=world.main,
            record=SimpleNamespace(event="eval-accepted", cluster="rtb-pricing"),
            evidence=SimpleNamespace(
                training=trained(world.main.tree, tries=tries(judge)),
                judge=SimpleNamespace(identity=measured) if measured else None,
            ),
        )
        with nullcontext() if wrong is None else pytest.raises(IntegrityFailure, match=wrong):
            assert check_reward(accepted, present=True) == "no stage trained by reward"


def test_nothing_is_trained_from_a_retired_or_unknown_specialist(repository):
    parent = repository.draft(2).specialist
    accepted = repository.after("candidate", "eval-accepted", number=2)
    assert "training" not in failures(accepted, candidate(accepted, parent=parent)[1])
    assert f"has no specialist {parent}" in failures(repository, candidate(repository, parent=parent)[1])["training"]
    retired = accepted.after("deprecated", number=2)
    assert "which is deprecated" in failures(retired, candidate(retired, parent=parent)[1])["training"]


def test_an_oversized_record_folder_is_refused(repository):
    limit = repository.main.policy.limits.evidence_bytes
    evidence = {"training.json": training(repository), "weights.bin": bytes(limit)}
    record = next_record(repository.main, "candidate", repository.draft(), evidence)
    assert (
        failures(repository, repository.files_of(record, evidence))["limits"]
        == "the folder is larger than policy allows"
    )


def test_a_removed_record_breaks_the_chain_and_main_is_not_read(repository):
    exported = repository.after("candidate", "eval-accepted", "artifact-exported")
    history = exported.main.histories.find(exported.draft().specialist)
    without_record, _ = exported.proposed({f"{record_folder(history.records[1])}/record.json": None})
    with pytest.raises(IntegrityFailure) as broken:
        read_histories(without_record, exported.main.policy)
    assert broken.value.code == "skipped-sequence"


def test_an_unknown_specialist_is_answered_with_the_known_ones(repository):
    with_candidate = repository.after("candidate")
    with pytest.raises(InvalidInput) as unknown:
        with_candidate.main.histories.find("iter-009-00000000")
    assert with_candidate.draft().specialist in unknown.value.mend


def test_the_stricter_threshold_of_eval_set_and_cluster_holds(repository):
    cluster = load_cluster(repository.main.tree, "rtb-pricing")
    governed = load_eval_set(repository.main.tree, cluster.eval_set)
    ours = governed.evalset.thresholds
    for composite, held_out in ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0)):
        gate = cluster.gate.model_copy(update={"composite": composite, "held_out": held_out})
        rule = effective_rule(governed, cluster.model_copy(update={"gate": gate}))
        assert rule.thresholds.composite == max(ours.composite, composite)
        assert rule.thresholds.held_out == max(ours.held_out, held_out)


def test_a_complete_run_answers_every_scenario_of_every_section(repository):
    cluster = load_cluster(repository.main.tree, "rtb-pricing")
    governed = load_eval_set(repository.main.tree, cluster.eval_set)
    expected = expected_rows(governed)
    ids = {row[0] for row in expected.values()}
    assert ids == {scenario.id for part in (governed.core, governed.micro, governed.held_out) for scenario in part}
    assert {key[0] for key in expected} == {"core", "robustness", "micro", "held_out"}


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"seed":' + b"1" * 5000 + b"}"])
def test_training_facts_that_cannot_be_read_are_refused_in_words(repository, data):
    evidence = {"training.json": data}
    record = next_record(repository.main, "candidate", repository.draft(), evidence)
    results = failures(repository, repository.files_of(record, evidence))
    assert results.keys() == {"training", "reward"}
    assert "training.json is not of type TrainingFacts" in results["training"]


SFT = {"method": "sft", "rows": 12, "steps": 4}
DPO = {"method": "dpo", "rows": 6, "steps": 3}


def staged(repository, *changes, **other):
    """`training.json` of a cluster with two stages, of which these fields are otherwise."""
    stages = [
        StageFacts(
            method=stage.method, settings=content_digest(stage, {"seed"}), seed=stage.seed, parent=parent,
            rows=stage.rows, rows_digest=DIGEST, steps=stage.steps,
        ).model_copy(update=change)
        for stage, parent, change in zip(
            two_stages(repository).stages, (None, DIGEST), changes or ({}, {}), strict=True
        )
    ]  # fmt: skip
    trained_stages = [stage for stage in stages if not stage.skipped]
    facts = {
        "stages": tuple(stages), "method": trained_stages[-1].method if trained_stages else "sft",
        "seed": stages[0].seed, "rows": sum(stage.rows for stage in stages),
        "steps": sum(stage.steps for stage in stages),
        "rows_digest": all_rows_digest(stages),
        "hyperparameters": training_digest(two_stages(repository).training),
        "curves": tuple(curve(at, stages[at - 1].steps) for at in (1, 2) if not stages[at - 1].skipped),
    }  # fmt: skip
    return facts | other


def curve(stage, steps, measure="loss"):
    """A line of one stage, to its last step."""
    return StageCurve(stage=stage, lines=(CurveLine(measure=measure, points=((1, 0.9), (steps, 0.5))),))


def two_stages(repository):
    return load_cluster(repository.main.tree, "rtb-pricing")


@pytest.fixture(scope="module")
def recipe(repository):
    document = yaml.safe_load(repository.main.tree.read("clusters/rtb-pricing/cluster.yaml"))
    document["training"] = [SFT, DPO]
    return repository.commit({"clusters/rtb-pricing/cluster.yaml": yaml.safe_dump(document, sort_keys=False).encode()})


def test_a_candidate_of_several_stages_passes_also_where_one_had_no_pairs(recipe):
    empty = {"rows": 0, "rows_digest": None, "steps": 0, "skipped": "no-pairs"}
    for changes in ((), ({}, empty)):
        _, files = candidate(recipe, **staged(recipe, *changes))
        assert failures(recipe, files) == {}


def test_a_candidate_says_of_which_stages_the_base_was_held_in_4_bits(repository):
    """Of those that main asks it of, and that were trained."""
    document = yaml.safe_load(repository.main.tree.read("clusters/rtb-pricing/cluster.yaml"))
    document["training"] = [SFT, DPO | {"load_in_4bit": True}]
    asks = repository.commit({"clusters/rtb-pricing/cluster.yaml": yaml.safe_dump(document, sort_keys=False).encode()})
    empty = {"rows": 0, "rows_digest": None, "steps": 0, "skipped": "no-pairs"}
    for second, devices, sound in (({}, (2,), True), ({}, (), False), (empty, (), True), (empty, (2,), False)):
        _, files = candidate(asks, **staged(asks, {}, second, loaded_in_4bit=devices))
        assert ("training" not in failures(asks, files)) == sound, (second, devices)


def test_a_candidate_of_the_first_stages_passes_where_a_plateau_adds_more(recipe):
    facts = staged(recipe)
    (first, _) = facts["stages"]
    early = {"stages": (first,), "method": "sft", "rows": 12, "steps": 4, "rows_digest": DIGEST,
             "curves": (curve(1, 4),)}  # fmt: skip
    _, files = candidate(recipe, **facts | early)
    assert "names other stages" in failures(recipe, files)["training"]
    document = yaml.safe_load(recipe.main.tree.read("clusters/rtb-pricing/cluster.yaml"))
    document["loop"] = {"plateau": {"then": "next-stage"}}
    grown = recipe.commit({"clusters/rtb-pricing/cluster.yaml": yaml.safe_dump(document, sort_keys=False).encode()})
    for training_shown in (early, {}):
        _, files = candidate(grown, **facts | training_shown)
        assert failures(grown, files) == {}
    second = {"stages": facts["stages"][1:], "method": "dpo", "rows": 6, "steps": 3, "seed": facts["stages"][1].seed}
    _, files = candidate(grown, **facts | second | {"curves": (curve(1, 3),), "rows_digest": DIGEST})
    assert "trained by other settings" in failures(grown, files)["training"], "the first ones, in their order"


@pytest.mark.parametrize(
    ("first", "second", "other", "words"),
    [
        ({"skipped": "no-pairs", "rows": 0, "rows_digest": None, "steps": 0}, {}, {}, "stage 1: skipped without"),
        ({}, {"skipped": "no-pairs"}, {}, "stage 2: skipped without"),
        ({}, {"steps": 2}, {}, "stage 2: trained by other settings"),
        ({}, {"settings": DIGEST}, {}, "stage 2: trained by other settings"),
        ({}, {"seed": 18}, {}, "stage 2: trained by other settings"),
        ({}, {"rows": 7}, {}, "stage 2: trained on 7 rows"),
        ({}, {}, {"rows_digest": DIGEST}, "does not follow"),
        ({}, {}, {"loaded_in_4bit": (1,)}, "held in 4 bits in other stages"),
        ({}, {}, {"stages": ()}, "names other stages"),
        ({}, {}, {"method": "sft"}, "does not follow"),
        ({}, {}, {"curves": (curve(1, 4),)}, "curves are of other stages"),
        ({}, {}, {"curves": (curve(2, 3), curve(1, 4))}, "curves are of other stages"),
        ({}, {}, {"curves": (curve(1, 4), curve(2, 4))}, "curve of stage 2 goes on after the last step"),
        ({}, {}, {"curves": (curve(1, 4), curve(2, 3, "reward"))}, "stage 2 tells of a reward, and dpo has none"),
    ],
)
def test_what_a_candidate_says_of_its_stages_is_what_main_asks_for(recipe, first, second, other, words):
    _, files = candidate(recipe, **staged(recipe, first, second, **other))
    assert words in failures(recipe, files)["training"]
