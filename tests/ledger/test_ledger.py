from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import modelsmith
from modelsmith.ledger.ledger import Attempts, Ledger
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.evalset import CompositeWeights, DecisionRule, Question, Thresholds
from modelsmith.schema.run import (
    Cost,
    EngineFacts,
    Estimate,
    GateRule,
    Headline,
    PointWeight,
    Regression,
    RunRequest,
    RunResult,
)

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(modelsmith.__file__).parents[1])}
QUESTION = Question(core=digest("core"), held_out=digest("held-out"))
OTHER_QUESTION = Question(core=digest("core"), held_out=digest("held-out, changed"))
WEIGHTS = digest("weights")
CPU = EngineFacts(substrate="transformers", version="5", dtype="float32", device="cpu")
GPU = EngineFacts(substrate="transformers", version="5", dtype="bfloat16", device="cuda")
ALL = ("core", "robustness", "micro", "held_out")
START = datetime(2026, 1, 1, tzinfo=UTC)


def result(tag="t1", run="a", minute=0, **changes) -> RunResult:
    half = Estimate(value=0.5, low=0.4, high=0.6, n=60)
    lost = changes.pop("lost", ())
    return RunResult(
        **{
            "run_id": digest(run),
            "tag": tag,
            "cluster": "rtb-pricing",
            "model": "base",
            "weights": WEIGHTS,
            "question": QUESTION,
            "rubric": digest("rubric"),
            "eval_set": "adtech/rtb-root-cause",
            "eval_set_version": "1.0.0",
            "eval_tree": "0" * 40,
            "engine": CPU,
            "rule": GateRule(
                points=(PointWeight(id="cause", weight=1, required=True),),
                composite=CompositeWeights(core=1, robustness=1, micro=1),
                thresholds=Thresholds(composite=0.5, held_out=0.5),
                decision=DecisionRule(),
            ),
            "headline": Headline(
                composite=half,
                held_out=half,
                sections=(),
                per_rubric=(),
                per_capability=(),
                regressions=tuple(
                    Regression(section="core", id=one, scenario=digest(one), capability="c", critical=False)
                    for one in lost
                ),
                compared=len(lost),
                difference=None,
                checks=(),
                verdict="FAIL",
            ),
            "incumbent": digest("incumbent"),
            "cost": Cost(
                p50_seconds=1,
                p95_seconds=1,
                prompt_tokens=1,
                completion_tokens=1,
                tokens_per_second=1,
                cost_per_decision=0,
                currency="USD",
            ),
            "sections": ALL,
            "quick": False,
            "attempts": 1,
            "scenarios": 60,
            "executed": 60,
            "started_at": START + timedelta(minutes=minute),
            "duration_seconds": 1.0,
        }
        | changes
    )


def write_folder(iterate: Path, one: RunResult, finished=True, held_out: str | None = None) -> Path:
    folder = iterate / one.cluster / "runs" / one.tag
    folder.mkdir(parents=True)
    request = RunRequest(
        cluster=one.cluster,
        model=one.model,
        weights=one.weights,
        question=one.question,
        rubric=one.rubric,
        generation=digest("generation"),
        engine=one.engine,
        sections=one.sections,
        quick=one.quick,
        held_out=held_out,
    )
    (folder / "request.json").write_bytes(canonical_json(request))
    if finished:
        (folder / "result.json").write_bytes(canonical_json(one))
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / ".iterate" / "ledger.db")


class TestRuns:
    def test_a_run_is_found_by_its_tag_exactly_as_recorded(self, ledger):
        assert ledger.record_run(result())
        assert ledger.result("t1") == result()
        assert ledger.runs(tag="t1") == ledger.runs(cluster="rtb-pricing") == ledger.runs() == [result()]
        assert ledger.runs(cluster="other") == []

    def test_recording_again_counts_nothing_twice(self, ledger):
        assert ledger.record_run(result(lost=("core-01",)))
        assert not ledger.record_run(result(lost=("core-01",)))
        assert len(ledger.runs()) == 1
        assert [event.name for event in ledger.events()] == ["eval.complete", "eval.regression"]
        assert ledger.attempts(QUESTION, WEIGHTS) == Attempts(1, 1)

    def test_a_known_run_is_brought_up_to_date_and_keeps_its_place(self, ledger):
        ledger.record_run(result(run="a", minute=0))
        ledger.record_run(result(run="b", minute=5, tag="t2"))
        ledger.record_run(result(run="a", minute=60, incumbent=None))
        assert [one.incumbent is None for one in ledger.runs()] == [True, False]

    def test_an_unknown_tag_names_those_that_are_known(self, ledger):
        ledger.record_run(result("t1"))
        with pytest.raises(InvalidInput) as caught:
            ledger.result("t9")
        assert (caught.value.code, caught.value.details["known"]) == ("unknown-tag", ["t1"])

    def test_a_tag_of_two_clusters_needs_the_cluster(self, ledger):
        ledger.record_run(result())
        ledger.record_run(result(cluster="other"))
        with pytest.raises(InvalidInput) as caught:
            ledger.result("t1")
        assert caught.value.code == "ambiguous-tag"
        assert ledger.result("t1", "other").cluster == "other"

    def test_events_carry_what_subscribers_are_promised(self, ledger):
        ledger.record_run(result(lost=("core-01", "core-02")))
        complete, regression = ledger.events()
        assert complete.payload["composite"] == 0.5
        assert complete.payload["regressions"] == ["core-01", "core-02"]
        assert regression.payload["failing_scenarios"] == ["core-01", "core-02"]
        assert regression.payload["prior_pass"] == digest("incumbent")
        assert complete.payload["run_id"] == regression.payload["run_id"] == digest("a")


class TestAttempts:
    def test_every_attempt_is_counted_whether_it_ended_or_not(self, ledger):
        assert ledger.begin_attempt(QUESTION, WEIGHTS, "t1") == 1
        assert ledger.begin_attempt(QUESTION, WEIGHTS, "t2") == 2
        assert ledger.begin_attempt(QUESTION, WEIGHTS, "t1") == 2
        ledger.record_run(result("t2", "better", minute=9))
        ledger.record_run(result("t1", "worse", minute=3))
        assert ledger.attempts(QUESTION, WEIGHTS) == Attempts(begun=2, complete=2)

    def test_other_questions_and_weights_are_counted_apart(self, ledger):
        ledger.begin_attempt(QUESTION, WEIGHTS, "t1")
        ledger.record_run(result())
        assert ledger.attempts(OTHER_QUESTION, WEIGHTS) == Attempts(0, 0)
        assert ledger.attempts(QUESTION, digest("other weights")) == Attempts(0, 0)

    @pytest.mark.parametrize("part", [{"quick": True}, {"sections": ("core", "robustness", "micro")}])
    def test_a_partial_run_is_never_complete(self, ledger, part):
        ledger.record_run(result(**part))
        assert ledger.attempts(QUESTION, WEIGHTS).complete == 0

    def test_a_run_made_again_after_its_folder_was_removed_counts_besides_the_first(self, ledger):
        ledger.record_run(result("t1", "first", minute=1))
        ledger.record_run(result("t1", "second try", minute=2))
        assert ledger.attempts(QUESTION, WEIGHTS) == Attempts(2, 2)


class TestEvents:
    def test_an_event_is_recorded_once_for_its_key(self, ledger):
        assert ledger.append_event("promotion.advanced", "p/1", {"to_state": "eval-accepted"})
        assert not ledger.append_event("promotion.advanced", "p/1", {"to_state": "deprecated"})
        assert [event.payload for event in ledger.events()] == [{"to_state": "eval-accepted"}]

    def test_a_cursor_gives_what_is_new(self, ledger):
        for number in range(5):
            ledger.append_event("training.complete", f"k{number}", {"n": number})
        seen = ledger.events()
        ledger.append_event("rollback.triggered", "k9", {})
        assert [event.name for event in ledger.events(seen[-1].sequence)] == ["rollback.triggered"]
        assert ledger.events(since=seen[-1].sequence + 1) == []

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.lists(st.sampled_from("abcdef"), max_size=12))
    def test_any_repetition_of_commands_leaves_one_event_for_each_key(self, tmp_path_factory, keys):
        ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
        added = [ledger.append_event("training.complete", key, {}) for key in keys]
        assert sum(added) == len(set(keys))
        assert [event.key for event in ledger.events()] == list(dict.fromkeys(keys))


def _append_many(path: Path, worker: int, shared: int, own: int) -> None:
    ledger = Ledger(path)
    for number in range(shared):
        ledger.append_event("training.complete", f"shared-{number}", {"worker": worker})
    for number in range(own):
        ledger.append_event("training.complete", f"own-{worker}-{number}", {})


class TestManyAtOnce:
    def test_processes_write_at_the_same_time_without_losing_or_doubling(self, ledger):
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_append_many, args=(ledger.path, n, 15, 15)) for n in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert len(ledger.events()) == 15 + 3 * 15

    def test_threads_share_one_ledger(self, ledger):
        threads = [threading.Thread(target=_append_many, args=(ledger.path, n, 5, 10)) for n in range(4)]
        threads += [
            threading.Thread(target=lambda n=n: ledger.append_event("training.complete", f"x{n}", {})) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger.events()) == 5 + 4 * 10 + 4

    def test_a_process_killed_while_writing_leaves_every_event_that_it_reported(self, tmp_path):
        path = tmp_path / "ledger.db"
        script = (
            "import sys; from pathlib import Path; from modelsmith.ledger.ledger import Ledger\n"
            "ledger = Ledger(Path(sys.argv[1]))\n"
            "for number in range(100000):\n"
            "    ledger.append_event('training.complete', f'k{number}', {'text': 'x' * 2000})\n"
            "    print(number, flush=True)\n"
        )
        worker = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        reported = [int(worker.stdout.readline()) for _ in range(20)]
        os.kill(worker.pid, signal.SIGKILL)
        reported += [int(line) for line in worker.stdout.read().splitlines() if line.strip()]
        worker.wait()
        kept = {event.key for event in Ledger(path).events()}
        assert {f"k{number}" for number in reported} <= kept
        assert not Ledger(path).append_event("training.complete", "k0", {})


class TestBurn:
    """How often a held-out set has been consulted."""

    def test_each_model_and_each_question_looks_once(self, ledger):
        held_out = digest("held-out scenarios")
        assert ledger.consult(held_out, QUESTION, WEIGHTS) == 1
        assert ledger.consult(held_out, QUESTION, WEIGHTS) == 1
        assert ledger.consult(held_out, QUESTION, digest("other weights")) == 2
        assert ledger.consult(held_out, OTHER_QUESTION, WEIGHTS) == 3
        assert ledger.consult(digest("fresh scenarios"), QUESTION, WEIGHTS) == 1
        assert ledger.consultations(held_out) == 3

    def test_a_lost_ledger_counts_the_looks_again_from_the_run_folders(self, ledger):
        iterate = ledger.path.parent
        for tag in ("t1", "t2"):
            write_folder(iterate, result(tag), held_out=digest("held-out scenarios"))
        write_folder(iterate, result("t3"), held_out=None)
        assert ledger.consultations(digest("held-out scenarios")) == 1

    def test_a_rebuild_keeps_the_looks_of_runs_whose_folders_are_gone(self, ledger):
        ledger.consult(digest("held-out scenarios"), QUESTION, WEIGHTS)
        ledger.rebuild(ledger.path.parent)
        assert ledger.consultations(digest("held-out scenarios")) == 1


class TestRebuild:
    def test_a_deleted_ledger_comes_back_from_the_run_folders_by_itself(self, ledger):
        iterate = ledger.path.parent
        runs = [result("t1", "a", 1), result("t2", "b", 2, lost=("core-05",)), result("t3", "c", 3, cluster="other")]
        for one in runs:
            write_folder(iterate, one)
            ledger.begin_attempt(one.question, one.weights, one.tag)
            ledger.record_run(one)
        write_folder(iterate, result("t4"), finished=False)
        ledger.begin_attempt(QUESTION, WEIGHTS, "t4")
        before = (
            ledger.runs(),
            ledger.attempts(QUESTION, WEIGHTS),
            ledger.events(),
        )
        for file in iterate.glob("ledger.db*"):
            file.unlink()
        again = Ledger(ledger.path)
        after = (
            again.runs(),
            again.attempts(QUESTION, WEIGHTS),
            again.events(),
        )
        assert after == before
        assert after[1] == Attempts(begun=4, complete=3)

    def test_a_rebuild_keeps_what_only_the_ledger_knew(self, ledger):
        ledger.append_event("promotion.pending_approval", "p1", {"candidate": "iter-001-aaaaaaaa"})
        ledger.begin_attempt(QUESTION, WEIGHTS, "gone")
        ledger.record_run(result("gone", "removed run", 1))
        write_folder(ledger.path.parent, result("t1", "a", 5))
        assert ledger.rebuild(ledger.path.parent) == (1, ())
        assert [event.name for event in ledger.events()][:1] == ["promotion.pending_approval"]
        assert ledger.attempts(QUESTION, WEIGHTS) == Attempts(2, 2)
        state = (ledger.runs(), ledger.events())
        assert ledger.rebuild(ledger.path.parent) == (0, ())
        assert (ledger.runs(), ledger.events()) == state

    @pytest.mark.parametrize("damage", [b"this is no database" * 50, b"SQLite format 3\x00" + b"\xff" * 4096])
    def test_a_damaged_ledger_says_so_and_can_be_rebuilt(self, ledger, damage):
        write_folder(ledger.path.parent, result())
        ledger.path.write_bytes(damage)
        with pytest.raises(InfrastructureFailure) as caught:
            ledger.runs()
        assert caught.value.code == "ledger-damaged"
        assert ledger.rebuild(ledger.path.parent).runs == 1
        assert ledger.result("t1") == result()

    def test_a_damaged_run_folder_is_named_and_passed_over(self, ledger):
        write_folder(ledger.path.parent, result("good"))
        (write_folder(ledger.path.parent, result("bad")) / "result.json").write_text("{}")
        assert ledger.rebuild(ledger.path.parent) == (1, ("rtb-pricing/bad",))

    def test_a_full_disk_is_an_infrastructure_failure_and_loses_nothing(self, tmp_path):
        path = tmp_path / "ledger.db"
        Ledger(path).append_event("training.complete", "first", {})
        script = (
            "import resource, sys; from pathlib import Path; from modelsmith.ledger.ledger import Ledger\n"
            "from modelsmith.schema.errors import InfrastructureFailure\n"
            "ledger = Ledger(Path(sys.argv[1])); ledger.events()\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n"
            "try: ledger.append_event('training.complete', 'big', {'text': 'x' * 200000})\n"
            "except InfrastructureFailure as error: print(error.code)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, env=ENVIRONMENT
        )
        assert done.stdout.strip() == "ledger-unwritable"
        assert [event.key for event in Ledger(path).events()] == ["first"]

    def test_a_busy_ledger_is_told_as_busy(self, ledger, monkeypatch):
        ledger.events()
        monkeypatch.setattr(ledger._lock, "timeout", 0.1)
        holder = Ledger(ledger.path)
        started = time.monotonic()
        with holder._locked(), pytest.raises(InfrastructureFailure) as caught:
            ledger.append_event("training.complete", "k", {})
        assert caught.value.code == "busy"
        assert time.monotonic() - started < 5
