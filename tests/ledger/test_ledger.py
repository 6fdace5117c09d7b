from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
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
from modelsmith.schema.events import Event, PendingApproval, TrainingComplete
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
                    Regression(section="core", id=scenario, scenario=digest(scenario), capability="c", critical=False)
                    for scenario in lost
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


def write_folder(iterate: Path, run_result: RunResult, finished=True, held_out: str | None = None) -> Path:
    folder = iterate / run_result.cluster / "runs" / run_result.tag
    folder.mkdir(parents=True)
    request = RunRequest(
        cluster=run_result.cluster,
        model=run_result.model,
        weights=run_result.weights,
        question=run_result.question,
        rubric=run_result.rubric,
        generation=digest("generation"),
        engine=run_result.engine,
        sections=run_result.sections,
        quick=run_result.quick,
        held_out=held_out,
    )
    (folder / "request.json").write_bytes(canonical_json(request))
    if finished:
        (folder / "result.json").write_bytes(canonical_json(run_result))
    return folder


def trained(number: int) -> TrainingComplete:
    artifact = digest(f"artifact {number}")
    return TrainingComplete(
        cluster="rtb-pricing", run_id=digest("run"), artefact_uri=f"store:{artifact}", adapter_sha=digest(number)
    )


def events_of(ledger: Ledger) -> list[Event]:
    return [event.event for event in ledger.events()]


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
        assert [event.name for event in events_of(ledger)] == ["eval.complete", "eval.regression"]
        assert ledger.attempts(QUESTION, WEIGHTS) == Attempts(1, 1)

    def test_a_known_run_is_brought_up_to_date_and_keeps_its_place(self, ledger):
        ledger.record_run(result(run="a", minute=0))
        ledger.record_run(result(run="b", minute=5, tag="t2"))
        ledger.record_run(result(run="a", minute=60, incumbent=None))
        assert [run.incumbent is None for run in ledger.runs()] == [True, False]

    def test_an_unknown_tag_names_those_that_are_known(self, ledger):
        ledger.record_run(result("t1"))
        with pytest.raises(InvalidInput) as caught:
            ledger.result("t9")
        assert (caught.value.code, caught.value.details["known"]) == ("unknown-tag", ["t1"])
        for number in range(30):
            ledger.record_run(result(f"u{number:02d}", run=f"run {number}"))
        with pytest.raises(InvalidInput) as caught:
            ledger.result("t9")
        assert caught.value.mend.endswith("u29, and 11 others."), "a list that is cut says so"

    def test_a_tag_of_two_clusters_needs_the_cluster(self, ledger):
        ledger.record_run(result())
        ledger.record_run(result(cluster="other"))
        with pytest.raises(InvalidInput) as caught:
            ledger.result("t1")
        assert caught.value.code == "ambiguous-tag"
        assert ledger.result("t1", "other").cluster == "other"

    def test_events_carry_what_subscribers_are_promised(self, ledger):
        ledger.record_run(result(lost=("core-01", "core-02")))
        complete, regression = events_of(ledger)
        assert (complete.composite, complete.regressions) == (0.5, ("core-01", "core-02"))
        assert (regression.failing_scenarios, regression.prior_pass) == (("core-01", "core-02"), digest("incumbent"))
        assert complete.run_id == regression.run_id == digest("a")


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

    def test_a_run_made_again_after_its_folder_was_removed_counts_besides(self, ledger):
        ledger.record_run(result("t1", "first", minute=1))
        ledger.record_run(result("t1", "second try", minute=2))
        assert ledger.attempts(QUESTION, WEIGHTS) == Attempts(2, 2)


class TestEvents:
    def test_what_happened_is_noted_once_whatever_a_later_look_says_of_it(self, ledger):
        first = PendingApproval(
            cluster="c", candidate="iter-001-0a0a0a0a", pull=4, approver_chain=("@a", "@b"), evidence_bundle=None
        )
        assert ledger.append(first) == 1
        assert ledger.append(first.model_copy(update={"approver_chain": ("@b",)})) == 0
        assert events_of(ledger) == [first]

    def test_a_cursor_gives_what_is_new(self, ledger):
        ledger.append(*(trained(number) for number in range(5)))
        events = ledger.events()
        ledger.append(trained(9))
        assert [event.event for event in ledger.events(events[-1].cursor)] == [trained(9)]
        assert [event.event for event in ledger.events(events[2].cursor)] == [trained(3), trained(4), trained(9)]
        assert ledger.events(ledger.events()[-1].cursor) == []

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.lists(st.integers(0, 5), max_size=12))
    def test_any_repetition_of_commands_leaves_one_event_for_each_happening(self, tmp_path_factory, numbers):
        ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
        added = sum(ledger.append(trained(number)) for number in numbers)
        assert added == len(set(numbers))
        assert events_of(ledger) == [trained(number) for number in dict.fromkeys(numbers)]


class TestCursors:
    """A cursor stands for all that was heard up to it, so no ledger takes one of another story."""

    def test_a_rebuild_keeps_every_number_and_every_cursor(self, ledger):
        ledger.append(trained(1))
        write_folder(ledger.path.parent, result("t2", "b", 0))
        ledger.record_run(result("t1", "a", 5))
        ledger.append(trained(2))
        before = ledger.events()
        assert ledger.rebuild(ledger.path.parent).runs == 1
        after = ledger.events()
        assert after[:-1] == before
        assert [event.event.tag for event in ledger.events(before[-1].cursor)] == ["t2"]
        assert ledger.append(trained(1), trained(2)) == 0

    def test_a_lost_ledger_refuses_old_cursors_and_tells_the_same_by_same_ids(self, ledger):
        for number, tag in enumerate(("t1", "t2")):
            ledger.append(trained(number))
            write_folder(ledger.path.parent, result(tag, tag, number))
            ledger.record_run(result(tag, tag, number))
        before = ledger.events()
        for file in ledger.path.parent.glob("ledger.db*"):
            file.unlink()
        again = Ledger(ledger.path)
        for number, event in enumerate(before, start=1):
            assert event.cursor.startswith(f"{number}-")
            with pytest.raises(InvalidInput) as caught:
                again.events(event.cursor)
            assert caught.value.code == "unknown-cursor"
        assert [event.id for event in again.events()] == [
            event.id for event in before if event.event.name == "eval.complete"
        ]

    def test_a_cursor_that_a_restored_older_copy_does_not_hold_is_refused(self, ledger):
        ledger.append(trained(1))
        shared = ledger.events()[-1].cursor
        backup = ledger.path.read_bytes()
        ledger.append(trained(2))
        lost = ledger.events()[-1].cursor
        for file in ledger.path.parent.glob("ledger.db-*"):
            file.unlink()
        ledger.path.write_bytes(backup)
        ledger.append(trained(3))
        assert [event.event for event in ledger.events(shared)] == [trained(3)]
        with pytest.raises(InvalidInput):
            ledger.events(lost)

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), max_size=8))
    def test_two_ledgers_share_a_cursor_only_where_they_tell_the_same(self, tmp_path_factory, left, right):
        stories = []
        for numbers in (left, right):
            first = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
            for number in numbers:
                first.append(trained(number))
            stories.append(first.events())
        mine, theirs = stories
        for number, event in enumerate(mine, start=1):
            same = [each.id for each in mine[:number]] == [each.id for each in theirs[:number]]
            assert (event.cursor in {each.cursor for each in theirs}) == same

    @pytest.mark.parametrize("cursor", ["", "0", "1", "1-", "-1-0000000000000000", "1-0000000000000000", "9" * 30])
    def test_what_is_no_cursor_of_this_ledger_is_refused(self, ledger, cursor):
        ledger.append(trained(1))
        with pytest.raises(InvalidInput) as caught:
            ledger.events(cursor)
        assert caught.value.code == "unknown-cursor"

    def test_a_ledger_of_the_first_version_tells_its_runs_as_events(self, ledger):
        ledger.record_run(result("gone", "a", lost=("core-01",)))
        ids = [event.id for event in ledger.events()]
        with closing(sqlite3.connect(ledger.path)) as database:
            database.executescript(
                "DROP TABLE happened; PRAGMA user_version = 0;"
                "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,"
                " key TEXT NOT NULL UNIQUE, payload TEXT NOT NULL, at TEXT NOT NULL);"
                "INSERT INTO events VALUES (7, 'training.complete', 'k', '{\"steps\": 4}', '2026-01-01T00:00:00+00:00')"
            )
        again = Ledger(ledger.path)
        assert [event.id for event in again.events()] == ids
        assert again.result("gone").tag == "gone"


def _append_many(path: Path, worker: int, shared: int, own: int) -> None:
    ledger = Ledger(path)
    for number in range(shared):
        ledger.append(trained(number))
    for number in range(own):
        ledger.append(trained(1000 * (worker + 1) + number))


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
        threads += [threading.Thread(target=lambda n=n: ledger.append(trained(9000 + n))) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger.events()) == 5 + 4 * 10 + 4

    def test_a_process_killed_while_writing_leaves_every_event_it_reported(self, tmp_path):
        path = tmp_path / "ledger.db"
        script = (
            "import sys; from pathlib import Path; from modelsmith.ledger.ledger import Ledger\n"
            "from modelsmith.schema.events import EvalComplete\n"
            "ledger = Ledger(Path(sys.argv[1])); run = 'sha256:' + '0' * 64; lost = ('core-01',) * 300\n"
            "for number in range(100000):\n"
            "    tag = f't{number}'\n"
            "    ledger.append(EvalComplete(cluster='c', tag=tag, run_id=run, composite=0.5, regressions=lost))\n"
            "    print(number, flush=True)\n"
        )
        worker = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        reported = [int(worker.stdout.readline()) for _ in range(20)]
        os.kill(worker.pid, signal.SIGKILL)
        reported += [int(line) for line in worker.stdout.read().splitlines() if line.strip()]
        worker.wait()
        events = events_of(Ledger(path))
        assert {f"t{number}" for number in reported} <= {event.tag for event in events}
        assert Ledger(path).append(*events) == 0


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
        for run in runs:
            write_folder(iterate, run)
            ledger.begin_attempt(run.question, run.weights, run.tag)
            ledger.record_run(run)
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
        ledger.append(trained(1))
        ledger.begin_attempt(QUESTION, WEIGHTS, "gone")
        ledger.record_run(result("gone", "removed run", 1))
        write_folder(ledger.path.parent, result("t1", "a", 5))
        assert ledger.rebuild(ledger.path.parent) == (1, ())
        assert events_of(ledger)[0] == trained(1)
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
        Ledger(path).append(trained(1))
        script = (
            "import resource, sys; from pathlib import Path; from modelsmith.ledger.ledger import Ledger\n"
            "from modelsmith.schema.errors import InfrastructureFailure\n"
            "from modelsmith.schema.events import EvalComplete\n"
            "run = 'sha256:' + '0' * 64; lost = ('core-01',) * 20000\n"
            "big = EvalComplete(cluster='c', tag='t', run_id=run, composite=0.5, regressions=lost)\n"
            "ledger = Ledger(Path(sys.argv[1])); ledger.events()\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n"
            "try: ledger.append(big)\n"
            "except InfrastructureFailure as error: print(error.code)\n"
        )
        process = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, env=ENVIRONMENT
        )
        assert process.stdout.strip() == "ledger-unwritable"
        assert events_of(Ledger(path)) == [trained(1)]

    def test_a_busy_ledger_is_told_as_busy(self, ledger, monkeypatch):
        ledger.events()
        monkeypatch.setattr(ledger._lock, "timeout", 0.1)
        holder = Ledger(ledger.path)
        with holder._locked(), pytest.raises(InfrastructureFailure) as caught:
            ledger.append(trained(1))
        assert caught.value.code == "busy"
