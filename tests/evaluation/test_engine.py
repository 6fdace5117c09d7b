"""Run as a script, this file is the process that the tests kill: ``python test_engine.py ITERATE TAG DELAY``."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parrot import TOTAL, Parrot, governed, judged, scenario

from modelsmith.evaluation.engine import run_eval, run_request
from modelsmith.evaluation.judges.port import JudgeVerdict
from modelsmith.evaluation.prompts import conversation, plan
from modelsmith.evaluation.quick import representative
from modelsmith.evaluation.results import RunFolder, observation_key
from modelsmith.evaluation.summary import cost, run_id
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.cluster import Prices
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Observation


def request(subject: GovernedSet, sections=SECTIONS, quick=False, weights="weights"):
    return run_request(
        subject,
        Parrot.facts,
        cluster="rtb-pricing",
        model="base",
        weights=digest(weights),
        sections=sections,
        quick=quick,
    )


def evaluate(iterate: Path, tag="t1", substrate=None, subject=None, sections=SECTIONS, quick=False, **options):
    subject = subject or governed()
    with RunFolder(iterate, "rtb-pricing", tag).opened(request(subject, sections, quick)) as run:
        executed = run_eval(subject, substrate or Parrot(), run, **options)
        return list(run.observations(executed.keys))


def facts(observations: Sequence[Observation]) -> list[object]:
    return [(observation_key(observation), observation.row, observation.completion) for observation in observations]


class TestARun:
    def test_every_wording_of_every_section_is_asked_once_and_scored(self, tmp_path):
        parrot, reported = Parrot(), []
        observations = evaluate(
            tmp_path, substrate=parrot, progress=lambda count, total: reported.append((count, total))
        )
        assert len(observations) == len(parrot.asked) == TOTAL
        assert reported[0] == (0, TOTAL)
        assert reported[-1] == (TOTAL, TOTAL)
        assert {(observation.section, observation.wording) for observation in observations} == {
            ("core", 0),
            ("robustness", 1),
            ("robustness", 2),
            ("micro", 0),
            *(("held_out", n) for n in range(3)),
        }
        assert {observation.row.points["format"] for observation in observations} == {True, False}
        assert all(
            observation.reasons.keys() == {p for p, ok in observation.row.points.items() if not ok}
            for observation in observations
        )

    def test_a_second_call_asks_nothing_and_gives_the_same(self, tmp_path):
        first, again = evaluate(tmp_path), Parrot()
        assert evaluate(tmp_path, substrate=again) == first
        assert again.asked == []

    def test_sections_can_be_asked_alone(self, tmp_path):
        assert {observation.section for observation in evaluate(tmp_path, sections=("robustness",))} == {"robustness"}
        assert len(evaluate(tmp_path, tag="t2", sections=("held_out",))) == 24

    def test_every_repeat_has_its_own_seed(self, tmp_path):
        subject = governed()
        sampling = Sampling(max_new_tokens=4, temperature=0.7, repeats=3, seed=10)
        subject = replace(subject, evalset=subject.evalset.model_copy(update={"sampling": sampling}))
        parrot = Parrot()
        observations = evaluate(tmp_path, substrate=parrot, subject=subject, sections=("core",))
        assert [setting.seed for setting in parrot.settings] == [10, 11, 12]
        assert {setting.repeats for setting in parrot.settings} == {1}
        assert len(observations) == 24
        assert any(
            len({observation.completion for observation in observations if observation.id == f"core-{n}"}) > 1
            for n in range(8)
        )

    def test_no_scenarios_is_invalid_input(self, tmp_path):
        with pytest.raises(InvalidInput) as caught:
            evaluate(tmp_path, subject=governed(micro=()), sections=("micro",))
        assert caught.value.code == "nothing-to-ask"

    def test_a_wrong_reference_is_found_before_a_token_is_paid_for(self, tmp_path):
        parrot = Parrot()
        broken = governed(held_out=(scenario("held-0", 0, reference={"course": "x"}),))
        with pytest.raises(InvalidInput) as caught:
            evaluate(tmp_path, substrate=parrot, subject=broken)
        assert (caught.value.code, caught.value.details["scenario"]) == ("bad-reference-path", "held-0")
        assert parrot.asked == []

    def test_a_judged_point_stops_the_run_before_it_begins(self, tmp_path):
        with pytest.raises(InfrastructureFailure) as caught:
            evaluate(tmp_path, subject=judged())
        assert caught.value.code == "judge-unavailable"


class TestContext:
    def test_passages_stand_before_the_first_message_in_every_wording(self):
        case = scenario(
            "s", 0, context=[{"source": "log", "text": "p95 {source} 300 ms"}, {"source": "runbook", "text": "Wait."}]
        )
        for wording, text in enumerate(["Case s: what is wrong?", "s, told otherwise", "s, told a third time"]):
            (message,) = conversation(case, wording)
            assert message.content == f"Context (log):\np95 {{source}} 300 ms\n\nContext (runbook):\nWait.\n\n{text}"

    def test_before_an_assistant_message_they_are_a_message_of_their_own(self):
        turns = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Hi."}]
        case = scenario("s", 0, messages=turns, context=[{"source": "log", "text": "x"}])
        assert [m.content for m in conversation(case, 0)] == ["Context (log):\nx", "Hello.", "Hi."]


class TestErrors:
    failing = frozenset({"core/core-3/0/0", "held_out/held-2/1/0"})

    def test_a_failed_completion_is_an_error_and_never_a_zero(self, tmp_path):
        with pytest.raises(InfrastructureFailure) as caught:
            evaluate(tmp_path, substrate=Parrot(fail=self.failing))
        assert caught.value.code == "eval-incomplete"
        assert caught.value.details["failed"] == 2
        first = caught.value.details["first"][0]["error"]
        assert first["code"] == "endpoint-down"
        assert f"The first one: {first['message']}" in caught.value.message
        observations = RunFolder(tmp_path, "rtb-pricing", "t1").observations()
        assert {observation_key(observation) for observation in observations if observation.row is None} == self.failing

    def test_what_no_repetition_mends_names_its_scenario_and_its_own_mend(self, tmp_path):
        class Short(Parrot):
            def complete(self, prompts, system, sampling):
                for completion in super().complete(prompts, system, sampling):
                    too_long = InvalidInput("prompt-too-long", "It has 900 tokens of 512.", "Shorten it.", limit=512)
                    stuck = completion.key.startswith("core/core-4/")
                    yield replace(completion, text="", finish="error", error=too_long) if stuck else completion

        with pytest.raises(InvalidInput) as caught:
            evaluate(tmp_path, substrate=Short(fail=self.failing))
        assert (caught.value.code, caught.value.mend) == ("prompt-too-long", "Shorten it.")
        assert caught.value.message == "core/core-4: It has 900 tokens of 512."
        assert caught.value.details["scenarios"] == ["core/core-4"]
        assert caught.value.details["cause"] == {"limit": 512}

    def test_a_rerun_asks_only_for_what_failed(self, tmp_path):
        with pytest.raises(InfrastructureFailure):
            evaluate(tmp_path, substrate=Parrot(fail=self.failing))
        again = Parrot()
        observations = evaluate(tmp_path, substrate=again)
        assert set(again.asked) == self.failing
        assert facts(observations) == facts(evaluate(tmp_path / "other"))

    def test_a_substrate_that_forgets_prompts_leaves_the_run_incomplete(self, tmp_path):
        class Forgetful(Parrot):
            def complete(self, prompts, system, sampling):
                return super().complete(prompts[:-3], system, sampling)

        with pytest.raises(InfrastructureFailure) as caught:
            evaluate(tmp_path, substrate=Forgetful())
        assert caught.value.details["missing"] == 3

    def test_a_substrate_that_answers_twice_is_refused_and_the_rest_kept(self, tmp_path):
        class Stutterer(Parrot):
            def complete(self, prompts, system, sampling):
                for completion in super().complete(prompts, system, sampling):
                    yield completion
                    yield completion

        with pytest.raises(InfrastructureFailure) as caught:
            evaluate(tmp_path, substrate=Stutterer())
        assert caught.value.code == "substrate-confused"
        assert len(RunFolder(tmp_path, "rtb-pricing", "t1").answered()) == 1

    def test_interrupted_by_hand_the_folder_resumes(self, tmp_path):
        first = Parrot(stop_after=17)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tmp_path, substrate=first)
        second = Parrot()
        observations = evaluate(tmp_path, substrate=second)
        assert len(second.asked) == TOTAL - 17
        assert not set(first.asked) & set(second.asked)
        assert facts(observations) == facts(evaluate(tmp_path / "other"))


class Remote(Parrot):
    """Parrot behind a server that says under which name it answers."""

    facts = Parrot.facts.model_copy(update={"weights": "unknown", "device": "remote"})

    def __init__(self, name: str | None, stop_after: int | None = None) -> None:
        super().__init__(stop_after=stop_after)
        self.name = name

    def complete(self, prompts, system, sampling):
        for completion in super().complete(prompts, system, sampling):
            yield replace(completion, served=self.name)


class RemoteJudge:
    """Passes everything, from behind a server that says under which name it answers."""

    identity = digest("judge")
    lasting = False

    def __init__(self, name: str) -> None:
        self.name = name

    def decide(self, questions):
        return (JudgeVerdict(question.key, True, "r", served=self.name) for question in questions)

    def close(self) -> None:
        pass


class TestServedNames:
    def evaluate(self, folder: Path, substrate: Remote) -> int:
        subject = governed()
        spec = request(subject).model_copy(update={"engine": Remote.facts})
        with RunFolder(folder, "rtb-pricing", "t1").opened(spec) as run:
            return len(run_eval(subject, substrate, run).keys)

    def test_a_resumed_run_is_never_made_of_two_models_answers(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            self.evaluate(tmp_path, Remote("gpt-x-0815", stop_after=5))
        for _ in range(2):
            with pytest.raises(InfrastructureFailure) as caught:
                self.evaluate(tmp_path, Remote("gpt-x-1199"))
            assert (caught.value.code, "--tag" in caught.value.mend) == ("endpoint-model-changed", True)
        run = RunFolder(tmp_path, "rtb-pricing", "t1")
        assert len(run.answered()) == 5
        assert "gpt" not in (run.path / "served.json").read_text()
        assert self.evaluate(tmp_path, Remote("gpt-x-0815")) == TOTAL

    def test_nor_of_two_judges_verdicts(self, tmp_path):
        with pytest.raises(InfrastructureFailure, match="1 of"):
            evaluate(tmp_path, subject=judged(), substrate=Parrot(fail={"core/core-3/0/0"}), judge=RemoteJudge("a"))
        with pytest.raises(InfrastructureFailure, match="judge's endpoint answers with another model") as caught:
            evaluate(tmp_path, subject=judged(), judge=RemoteJudge("b"))
        assert caught.value.code == "endpoint-model-changed"
        assert len(evaluate(tmp_path, subject=judged(), judge=RemoteJudge("a"))) == TOTAL

    def test_a_server_that_names_no_model_is_believed(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            self.evaluate(tmp_path, Remote(None, stop_after=5))
        assert self.evaluate(tmp_path, Remote("\ud800")) == TOTAL


def _start(iterate: Path, tag: str, delay: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, str(iterate), tag, str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


class TestCrashes:
    def test_killed_again_and_again_nothing_is_lost_or_doubled(self, tmp_path):
        path = tmp_path / "rtb-pricing" / "runs" / "t1" / "observations.jsonl"
        content = b""
        for _ in range(2):
            worker = _start(tmp_path, "t1", 0.05)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (not path.exists() or path.stat().st_size <= len(content)):
                time.sleep(0.01)
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            now = path.read_bytes()
            assert now.startswith(content)
            assert len(now) > len(content)
            content = now
        parrot = Parrot()
        observations = evaluate(tmp_path, substrate=parrot)
        assert len(parrot.asked) == TOTAL - content.count(b"\n")
        assert path.read_bytes().count(b"\n") == TOTAL
        assert facts(observations) == facts(evaluate(tmp_path / "other"))

    def test_two_processes_cannot_write_one_run(self, tmp_path):
        worker = _start(tmp_path, "t1", 30)
        try:
            assert worker.stdout.readline() == b"open\n"
            with pytest.raises(InfrastructureFailure) as caught:
                evaluate(tmp_path)
            assert caught.value.code == "busy"
            assert len(evaluate(tmp_path, tag="t2")) == TOTAL
        finally:
            worker.kill()
            worker.wait()
        assert len(evaluate(tmp_path)) == TOTAL

    def test_a_full_disk_is_an_infrastructure_failure_and_loses_nothing(self, tmp_path):
        path = tmp_path / "rtb-pricing" / "runs" / "t1" / "observations.jsonl"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12000, before[1]))
        try:
            with pytest.raises(InfrastructureFailure) as caught:
                evaluate(tmp_path, substrate=Parrot(delay=0.06))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.code == "write-failed"
        content = path.read_bytes()
        assert content.endswith(b"\n")
        parrot = Parrot()
        assert facts(evaluate(tmp_path, substrate=parrot)) == facts(evaluate(tmp_path / "other"))
        assert len(parrot.asked) == TOTAL - content.count(b"\n") < TOTAL


class TestIdentityAndCost:
    def test_the_run_id_does_not_depend_on_times_or_order(self, tmp_path):
        first, other = evaluate(tmp_path / "a"), evaluate(tmp_path / "b", substrate=Parrot(delay=0.001))
        question, engine, weights = governed().question(), Parrot.facts, digest("w")
        assert run_id(question, weights, None, engine, first) == run_id(question, weights, None, engine, other[::-1])
        assert run_id(question, digest("x"), None, engine, first) != run_id(question, weights, None, engine, first)

    def test_another_completion_is_another_run(self, tmp_path):
        observations = evaluate(tmp_path)
        changed = [
            observations[0].model_copy(update={"completion": observations[0].completion + " "}),
            *observations[1:],
        ]
        question, engine = governed().question(), Parrot.facts
        assert run_id(question, digest("w"), None, engine, observations) != run_id(
            question, digest("w"), None, engine, changed
        )

    def test_cost_counts_the_time_of_generation_once(self, tmp_path):
        started = time.monotonic()
        observations = evaluate(tmp_path, substrate=Parrot(delay=0.005))
        elapsed = time.monotonic() - started
        cost_facts = cost(observations, Prices(currency="EUR", compute_per_hour=3600.0))
        assert (cost_facts.p50_seconds, cost_facts.p95_seconds) == (0.25, 0.25)
        assert (cost_facts.prompt_tokens, cost_facts.completion_tokens) == (10 * TOTAL, 5 * TOTAL)
        assert 0.005 <= cost_facts.cost_per_decision <= elapsed / TOTAL
        assert cost_facts.tokens_per_second == pytest.approx(5 / cost_facts.cost_per_decision)
        assert cost_facts.currency == "EUR"

    def test_cost_of_nothing_is_invalid_input(self):
        with pytest.raises(InvalidInput):
            cost([], Prices())


class TestQuick:
    def test_quick_asks_a_spread_part_with_critical_cases_first(self, tmp_path):
        observations = evaluate(tmp_path, quick=True)
        ids = {observation.id for observation in observations if observation.section == "core"}
        assert len(ids) == 3
        assert "core-2" in ids
        assert ids == {observation.id for observation in observations if observation.section == "robustness"}
        assert {observation.row.capability for observation in observations if observation.section == "held_out"} == {
            "cap-0",
            "cap-1",
            "cap-2",
        }

    @given(st.integers(1, 40), st.integers(1, 45), st.randoms(use_true_random=False))
    def test_the_choice_is_fair_and_does_not_depend_on_order(self, count, limit, random):
        whole = [scenario(f"s-{n:02d}", n) for n in range(count)]
        selected = representative(whole, limit)
        assert selected == representative(random.sample(whole, count), limit)
        assert len({case.id for case in selected}) == len(selected) == min(count, limit)
        sizes = [sum(case.capability == f"cap-{n}" for case in selected) for n in range(min(3, count))]
        assert max(sizes) - min(sizes) <= 1

    def test_a_larger_choice_contains_the_smaller(self):
        whole = governed().core
        assert {case.id for case in representative(whole, 4)} < {case.id for case in representative(whole, 6)}

    def test_the_plan_of_a_quick_run_is_part_of_the_whole(self):
        part, whole = (plan(governed(), SECTIONS, quick) for quick in (True, False))
        assert {sample.key for sample in part} < {sample.key for sample in whole}


class TestTheFolder:
    @pytest.fixture
    def lines(self, tmp_path) -> Path:
        evaluate(tmp_path)
        return tmp_path / "rtb-pricing" / "runs" / "t1" / "observations.jsonl"

    def test_a_torn_last_line_is_ignored_on_resume(self, tmp_path, lines):
        whole = lines.read_bytes()
        lines.write_bytes(whole[:-25])
        parrot = Parrot()
        assert len(evaluate(tmp_path, substrate=parrot)) == TOTAL
        assert len(parrot.asked) == 1
        assert lines.read_bytes().count(b"\n") == TOTAL

    def test_torn_anywhere_only_the_last_line_is_asked_again(self, tmp_path, lines):
        whole = lines.read_bytes()
        for cut in range(len(whole) - 600, len(whole), 97):
            lines.write_bytes(whole[:cut])
            assert len(evaluate(tmp_path)) == TOTAL

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda line: b"{}",
            lambda line: line.replace(b'"wording":', b'"wording": '),
            lambda line: line[: len(line) // 2],
            lambda line: b"\x00" * len(line),
            lambda line: line.replace(b'"prompt_tokens":', b'"prompt_tokens":1' + b"0" * 30),
            lambda line: line.replace(b'"stop"', b'"halt"'),
            lambda line: b"",
        ],
    )
    def test_a_spoilt_earlier_line_is_an_integrity_failure(self, tmp_path, lines, spoil):
        first, *rest = lines.read_bytes().split(b"\n")
        lines.write_bytes(b"\n".join([spoil(first), *rest]))
        with pytest.raises(IntegrityFailure) as caught:
            evaluate(tmp_path)
        assert (caught.value.code, caught.value.details["line"]) == ("observations-damaged", 1)

    def test_a_second_and_different_answer_is_an_integrity_failure(self, tmp_path, lines):
        first = json.loads(lines.read_bytes().split(b"\n")[0])
        lines.write_bytes(lines.read_bytes() + canonical_json(first | {"completion": "other"}) + b"\n")
        with pytest.raises(IntegrityFailure, match="for the second time"):
            evaluate(tmp_path)

    def test_the_same_line_twice_counts_once(self, tmp_path, lines):
        first = lines.read_bytes().split(b"\n")[0] + b"\n"
        lines.write_bytes(lines.read_bytes() + first)
        assert len(evaluate(tmp_path)) == TOTAL

    def test_answers_to_other_questions_are_an_integrity_failure(self, tmp_path, lines):
        first = json.loads(lines.read_bytes().split(b"\n")[0])
        lines.write_bytes(lines.read_bytes() + canonical_json(first | {"wording": 9}) + b"\n")
        with pytest.raises(IntegrityFailure) as caught:
            evaluate(tmp_path)
        assert caught.value.code == "foreign-observations"

    def test_a_tag_answers_one_request_for_good(self, tmp_path, lines):
        with pytest.raises(InvalidInput) as caught:
            evaluate(tmp_path, sections=("core",))
        assert (caught.value.code, caught.value.details["differing"]) == ("tag-taken", ["held_out", "sections"])
        assert len(evaluate(tmp_path)) == TOTAL

    @pytest.mark.parametrize("tag", ["../x", "a/b", "", "A", "a..b", ".hidden", "x" * 65, "a\n"])
    def test_a_tag_never_leads_out_of_the_runs_folder(self, tmp_path, tag):
        with pytest.raises(InvalidInput) as caught:
            RunFolder(tmp_path, "rtb-pricing", tag)
        assert caught.value.code == "bad-tag"

    def test_a_folder_that_is_not_open_cannot_be_written(self, tmp_path):
        with pytest.raises(InfrastructureFailure) as caught:
            RunFolder(tmp_path, "rtb-pricing", "t1").append([])
        assert caught.value.code == "run-not-open"

    def test_a_damaged_request_or_result_is_an_integrity_failure(self, tmp_path, lines):
        folder = RunFolder(tmp_path, "rtb-pricing", "t1")
        assert folder.result() is None
        (folder.path / "result.json").write_text('{"run_id": 1}')
        with pytest.raises(IntegrityFailure):
            folder.result()
        (folder.path / "request.json").write_text("")
        with pytest.raises(IntegrityFailure):
            evaluate(tmp_path)

    def test_observations_hold_only_canonical_lines(self, lines):
        for line in lines.read_bytes().splitlines():
            assert canonical_json(json.loads(line)) == line


def _work(iterate: str, tag: str, delay: str) -> None:
    subject = governed()
    with RunFolder(Path(iterate), "rtb-pricing", tag).opened(request(subject)) as run:
        print("open", flush=True)
        run_eval(subject, Parrot(float(delay)), run)


if __name__ == "__main__":
    _work(*sys.argv[1:])
