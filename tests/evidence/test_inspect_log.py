"""A run written as an inspect_ai log and read back by inspect_ai itself says what the run says."""

from __future__ import annotations

import json
import math
import random
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from invented_sets import governed, scenario

from modelsmith.evaluation.engine import run_request
from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.scoring import point_weights, score_completion
from modelsmith.evaluation.statistics import Part, student_t_quantile, weighted_means
from modelsmith.evaluation.summary import run_id
from modelsmith.evaluation.tally import SECTIONS, composite_weights, section_tallies, tally
from modelsmith.evidence.inspect_log import CLUSTER, PASSED, TOTAL, inspect_log, sample_scores
from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations.export_inspect import ExportInspectRequest, run
from modelsmith.operations.init import InitRequest
from modelsmith.operations.init import run as init
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.evalset import Thresholds
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Cost, EngineFacts, GateRule, Observation, RunResult, VerdictRow

ENGINE = EngineFacts(substrate="local", version="1", dtype="float32", device="cpu")
SECRET = "a lorry of forged invoices"


@pytest.fixture(scope="module")
def invented() -> GovernedSet:
    """Two repeats; every core scenario has two variants."""
    core = [
        scenario(f"case-{n}", "floors" if n % 2 else "pacing", "high", variants=(f"case {n} again", f"once more {n}"))
        for n in range(7)
    ]
    held_out = [
        scenario(f"held-{n}", text=f"{SECRET} number {n}", variants=(f"{SECRET} retold {n}",)) for n in range(5)
    ]
    invented_set = governed(core, held_out, [scenario(f"micro-{n}") for n in range(6)])
    sampling = invented_set.evalset.sampling.model_copy(update={"repeats": 2})
    return replace(invented_set, evalset=invented_set.evalset.model_copy(update={"sampling": sampling}))


def answered(eval_set: GovernedSet, failing=()) -> list[Observation]:
    """About every third answer wrong; ``failing`` are the keys of answers that ended in an error."""
    observations = []
    for number, sample in enumerate(plan(eval_set, SECTIONS, quick=False)):
        text = (
            json.dumps(sample.scenario.reference)
            if random.Random(sample.key).random() < 0.65
            else f'{{"cause": "{SECRET}"}}'
        )
        points, reasons = score_completion(eval_set.rubric, sample.scenario, text)
        failed = sample.key in failing
        row = VerdictRow(
            section=sample.section, scenario=eval_set.digests[sample.scenario.id], id=sample.scenario.id,
            capability=sample.scenario.capability, critical=sample.scenario.critical, wording=sample.wording,
            repeat=sample.repeat, points=points,
        )  # fmt: skip
        observations.append(
            Observation(
                row=None if failed else row, section=sample.section, id=sample.scenario.id, wording=sample.wording,
                repeat=sample.repeat, completion="" if failed else text, finish="error" if failed else "stop",
                reasons={} if failed else reasons, prompt_tokens=20 + number, completion_tokens=5, seconds=0.25,
                error={"code": "judge-unavailable", "message": f"the judge of {SECRET} is away"} if failed else None,
            )
        )  # fmt: skip
    return observations


def finished(eval_set: GovernedSet, observations: list[Observation], rule: GateRule | None = None) -> RunResult:
    rule = rule or GateRule(
        points=point_weights(eval_set.rubric),
        composite=eval_set.evalset.composite,
        thresholds=Thresholds(composite=0.5, held_out=0.5),
        decision=eval_set.evalset.decision,
    )
    weights = digest("weights")
    rows = [observation.row for observation in observations if observation.row]
    return RunResult(
        run_id=run_id(eval_set.question(), weights, None, ENGINE, observations), tag="rtb-pricing-base",
        cluster="rtb-pricing",
        model="base", weights=weights, question=eval_set.question(), rubric=eval_set.rubric_digest,
        eval_set=eval_set.folder.removeprefix("evals/"), eval_set_version=eval_set.evalset.version, eval_tree="0" * 40,
        engine=ENGINE, rule=rule, headline=headline(rows, None, rule), incumbent=None,
        cost=Cost(p50_seconds=0.1, p95_seconds=0.2, prompt_tokens=1, completion_tokens=1, tokens_per_second=1.0,
                  cost_per_decision=0.0, currency="EUR"),
        sections=SECTIONS, quick=False, attempts=1, scenarios=len(eval_set.digests), executed=len(rows),
        started_at=datetime(2026, 1, 1, tzinfo=UTC), duration_seconds=60.0,
    )  # fmt: skip


def row_of(sample) -> VerdictRow:
    """The verdict row, from nothing but what inspect read."""
    facts = sample.metadata
    return VerdictRow(
        section=facts["section"], scenario=facts["digest"], id=facts[CLUSTER], capability=facts["capability"],
        critical=facts["critical"], wording=facts["wording"], repeat=facts["repeat"],
        points={name: score.value == "C" for name, score in sample.scores.items() if name not in (TOTAL, PASSED)},
    )  # fmt: skip


@pytest.fixture(params=["eval", "json"])
def read_log(request, tmp_path, monkeypatch):
    """Writes a log and reads it back with inspect's own functions, without a network."""
    from inspect_ai.log import read_eval_log, write_eval_log

    def refuse(self, address):
        raise AssertionError(f"a connection to {address}")

    def through(log):
        monkeypatch.setattr(socket.socket, "connect", refuse)
        path = tmp_path / f"run.{request.param}"
        write_eval_log(log, path)
        return read_eval_log(path)

    return through


def test_every_verdict_survives_the_round_trip(invented, read_log):
    observations = answered(invented)
    log = read_log(inspect_log(finished(invented, observations), invented, observations))
    key = lambda row: (row.section, row.id, row.wording, row.repeat)  # noqa: E731
    rows = sorted((row_of(sample) for sample in log.samples), key=key)
    assert rows == sorted((observation.row for observation in observations), key=key)
    assert {(s.epoch, s.metadata["repeat"]) for s in log.samples} == {(1, 0), (2, 1)}
    assert len({(sample.id, sample.epoch) for sample in log.samples}) == len(observations)


def test_conversation_answer_usage_and_reason_are_what_the_run_holds(invented, read_log):
    observations = answered(invented)
    log = read_log(inspect_log(finished(invented, observations), invented, observations))
    by_key = {(o.section, o.id, o.wording, o.repeat): o for o in observations}
    for sample in log.samples:
        facts = sample.metadata
        if facts["section"] == "held_out":
            continue
        observation = by_key[facts["section"], facts[CLUSTER], facts["wording"], facts["repeat"]]
        case = next(s for s in (*invented.core, *invented.micro) if s.id == observation.id)
        assert [(m.role, m.text) for m in sample.input] == [
            ("system", "Answer."),
            ("user", case.wordings()[observation.wording][-1].content),
        ]
        assert sample.output.completion == sample.messages[-1].text == observation.completion
        assert json.loads(sample.target) == case.reference
        assert sample.output.usage.input_tokens == observation.prompt_tokens
        assert sample.scores["cause"].explanation == observation.reasons.get("cause")
    assert log.stats.model_usage["modelsmith/base"].input_tokens == sum(o.prompt_tokens for o in observations)


def test_inspects_own_mean_and_clustered_error_over_the_log_are_ours(invented, read_log):
    from inspect_ai.scorer import accuracy, mean, stderr

    observations = answered(invented)
    result = finished(invented, observations)
    log = read_log(inspect_log(result, invented, observations))
    tallies = tally([observation.row for observation in observations], result.rule)
    means = {}
    for section in result.headline.sections:
        inside = [sample for sample in log.samples if sample.metadata["section"] == section.section]
        scores = list(sample_scores(inside, TOTAL))
        means[section.section] = mean()(scores)
        assert means[section.section] == pytest.approx(section.score.value, abs=1e-9)
        values = {t.id: math.fsum(t.scores) / len(t.scores) for t in section_tallies(tallies, section.section)}
        bounds = weighted_means([Part(1.0, "", values)], 0.6)
        assert 0 < bounds.low < bounds.high < 1, "not cut to 0 and 1"
        ours = (bounds.high - bounds.low) / 2 / student_t_quantile(0.8, len(values) - 1)
        assert stderr(cluster=CLUSTER)(scores) == pytest.approx(ours, abs=1e-9)
        logged = next(score for score in log.results.scores if score.name == f"Score in {section.section}")
        assert logged.metrics["mean"].value == pytest.approx(section.score.value, abs=1e-9)
        assert logged.metrics["stderr"].value == pytest.approx(ours, abs=1e-9)
    names = [score.name for score in log.results.scores]
    assert len(set(names)) == len(names)
    weights = composite_weights(result.rule)
    whole = sum(weight * means[section] for section, weight in weights.items()) / sum(weights.values())
    assert whole == pytest.approx(result.headline.composite.value, abs=1e-9)
    for rate in result.headline.per_rubric:
        share = accuracy()(list(sample_scores(log.samples, rate.point)))
        assert share == pytest.approx(rate.passed / rate.total, abs=1e-9)


def test_where_wordings_differ_inspect_weighs_answers_and_we_scenarios():
    from inspect_ai.scorer import mean

    core = [scenario("one", variants=("once",)), scenario("many", variants=[f"again {n}" for n in range(4)])]
    uneven = governed(core)
    rows = [row for row in answered(uneven) if row.section == "robustness"]
    scores = {"one": [1.0], "many": [0.0] * 4}
    entries_found = [
        row.model_copy(update={"row": row.row.model_copy(update={"points": {"cause": scores[row.id][0] == 1.0}})})
        for row in rows
    ]
    result = finished(uneven, entries_found)
    log = inspect_log(result, uneven, entries_found)
    assert result.headline.sections[0].score.value == 0.5
    assert mean()(list(sample_scores(log.samples, TOTAL))) == pytest.approx(0.2)


def test_no_word_of_a_held_out_case_is_in_the_log(invented, read_log):
    keys = [sample.key for sample in plan(invented, SECTIONS, quick=False) if sample.section == "held_out"][:2]
    observations = answered(invented, failing=keys)
    log = read_log(inspect_log(finished(invented, observations), invented, observations))
    samples = [sample for sample in log.samples if sample.metadata["section"] == "held_out"]
    assert len(samples) == 20
    for sample in samples:
        assert SECRET not in sample.model_dump_json()
        assert (sample.messages, sample.output.choices, sample.target) == ([], [], "")
        assert not any(score.explanation for score in (sample.scores or {}).values())
    assert SECRET in log.model_dump_json(), "core answers quote it, so the search would find it"


def test_an_error_is_an_error_of_the_sample_and_never_a_zero(invented, read_log):
    observations = answered(invented, failing=("core/case-1/0/0",))
    log = read_log(inspect_log(finished(invented, observations), invented, observations))
    (failed,) = [sample for sample in log.samples if sample.error]
    assert (failed.id, failed.epoch, failed.scores) == ("core/case-1/0", 1, None)
    assert failed.error.message.startswith("judge-unavailable: ")
    assert log.results.total_samples - log.results.completed_samples == 1


def test_the_same_run_gives_the_same_log(invented):
    observations = answered(invented)
    result = finished(invented, observations)
    first, second = (inspect_log(result, invented, order) for order in (observations, observations[::-1]))
    assert first.model_dump_json() == second.model_dump_json()


def test_another_version_of_the_set_is_refused(invented):
    observations = answered(invented)
    result = finished(invented, observations)
    other = replace(invented, core=invented.core[1:])
    with pytest.raises(InvalidInput, match="no longer what run rtb-pricing-base answered"):
        inspect_log(result, other, observations)


def test_without_the_package_the_extra_is_named(invented, monkeypatch):
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(InfrastructureFailure) as failure:
        inspect_log(finished(invented, answered(invented)), invented, answered(invented))
    assert "modelsmith[inspect]" in failure.value.mend


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A fresh promotion repository with one finished run of the starter set, its answers invented."""
    folder = tmp_path_factory.mktemp("export")
    init(Workspace(folder, home=folder / "home"), InitRequest(directory=Path("clone")))
    workspace_made = Workspace(folder / "clone", home=folder / "home")
    eval_set, cluster = (
        load_eval_set(workspace_made.files, "adtech/rtb-root-cause"),
        load_cluster(workspace_made.files, "rtb-pricing"),
    )
    observations = answered(eval_set)
    result = finished(eval_set, observations, effective_rule(eval_set, cluster))
    request = run_request(
        eval_set, ENGINE, cluster="rtb-pricing", model="base", weights=result.weights, sections=SECTIONS, quick=False
    )
    with RunFolder(workspace_made.private, "rtb-pricing", result.tag).opened(request) as opened:
        opened.append(observations)
        opened.write_result(result)
    ledger_of(workspace_made).record_run(result)
    return workspace_made


def test_the_verb_writes_a_log_of_the_starter_set_that_inspect_reads(workspace, tmp_path):
    from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample

    result = run(workspace, ExportInspectRequest(tag="rtb-pricing-base", file=tmp_path / "logs" / "base.eval"))
    samples = plan(load_eval_set(workspace.files, "adtech/rtb-root-cause"), SECTIONS, quick=False)
    assert (result.samples, result.withheld) == (len(samples), sum(sample.section == "held_out" for sample in samples))
    assert result.withheld > 0
    assert [Path(log.name).name for log in list_eval_logs(str(tmp_path / "logs"))] == ["base.eval"]
    header = read_eval_log(result.file, header_only=True)
    assert (header.eval.task, header.eval.model, header.status) == (
        "adtech/rtb-root-cause",
        "modelsmith/base",
        "success",
    )
    sample = read_eval_log_sample(result.file, id="core/timeout-core-01/0", epoch=1)
    assert sample.metadata["capability"] == "auction-timeout"
    whole = read_eval_log(result.file).model_dump_json()
    for case in load_eval_set(workspace.files, "adtech/rtb-root-cause").held_out:
        for wording in case.wordings():
            assert json.dumps(wording[-1].content, ensure_ascii=False)[1:-1] not in whole


def test_another_ending_an_existing_file_and_an_unknown_tag_are_refused(workspace, tmp_path):
    occupied = tmp_path / "taken.json"
    occupied.write_text("{}")
    for file, tag, code in (
        (tmp_path / "log.txt", "rtb-pricing-base", "not-a-log"),
        (occupied, "rtb-pricing-base", "file-exists"),
        (tmp_path / "log.eval", "nobody", "unknown-tag"),
    ):
        with pytest.raises(InvalidInput) as refused:
            run(workspace, ExportInspectRequest(tag=tag, file=file))
        assert refused.value.code == code
    assert occupied.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [occupied]
