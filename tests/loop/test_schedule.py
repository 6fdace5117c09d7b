"""The loop by the clock: when turns begin, what ends them, and in which of six words a run stands."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from modelsmith.loop import schedule
from modelsmith.loop.iteration import Fault, Iteration, Phase, Untrained
from modelsmith.loop.schedule import Schedule, parse
from modelsmith.loop.standing import Blocked, RunState, Standing, standing
from modelsmith.loop.state import Pointer
from modelsmith.loop.stopping import Assessed, recommendation, stop_of, stretch_of
from modelsmith.operations import iterate
from modelsmith.operations.iterate import IterateRequest
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.base import State
from modelsmith.schema.cluster import Cluster, Loop, Plateau, Prices
from modelsmith.schema.diagnosis import Action, Diagnosis, FailureCluster, PatternHistory
from modelsmith.schema.errors import Exit, InfrastructureFailure, InvalidInput
from modelsmith.schema.steps import shell_line
from modelsmith.schema.training import Dpo, Grpo, Lora, Sft, Training, stages_of, training_digest

moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 30))
times = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))


@given(now=moments, begun=st.none() | moments, window=st.none() | st.tuples(times, times), hours=st.integers(1, 72))
def test_a_turn_begins_in_its_window_and_neither_early_nor_a_day_late(now, begun, window, hours):
    if window and window[0] == window[1]:
        window = None
    due = Schedule(timedelta(hours=hours), window).due(now, begun)
    earliest = max(now, begun + timedelta(hours=hours)) if begun else now
    assert earliest <= due < earliest + timedelta(days=1)
    if window:
        first, last = window
        at = due.time()
        assert first <= at < last if first < last else at >= first or at < last


@pytest.mark.parametrize(("set_at", "back"), [(0, 365), (3, 365), (3, -1)])
def test_a_clock_that_is_set_delays_a_turn_by_one_interval_at_most(monkeypatch, set_at, back):
    """Set a year back while the last turn ran or while it waits, or a day forward."""
    reported: list[str] = []
    naps: list[float] = []
    start = datetime(2026, 5, 1, 12)

    class Set(datetime):
        @classmethod
        def now(cls, tz=None):
            passed = timedelta(minutes=10, seconds=sum(naps))
            return start + passed - timedelta(days=back if len(naps) >= set_at else 0)

    monkeypatch.setattr(schedule, "datetime", Set)
    monkeypatch.setattr(schedule.clock, "sleep", naps.append)
    schedule.wait(Schedule(timedelta(hours=1)), start, lambda progress: reported.append(progress.message))
    assert sum(naps) <= 2 * 3600
    assert len(reported) <= 2


def test_durations_and_windows_are_read_or_refused():
    assert parse("90m", "22:00-06:30") == Schedule(timedelta(minutes=90), (time(22), time(6, 30)))
    assert parse(None, None) is None
    with pytest.raises(InvalidInput, match="empty"):
        parse(None, "06:00-06:00")
    for wrong in ({"every": "0h"}, {"every": "6 hours"}, {"between": "24:00-06:00"}, {"between": "22-6"}):
        with pytest.raises(ValidationError):
            IterateRequest(cluster="c", **wrong)


def evals(*composites: float, passed: bool = False) -> list[Assessed]:
    return [Assessed(f"t{n}", value, passed) for n, value in enumerate(composites)]


def test_a_plateau_is_what_the_file_registers_and_says_what_to_do():
    rule = Loop(plateau=Plateau(iterations=2, least_gain=0.05))
    assert stop_of(rule, evals(0.5, 0.52), 0, ()) is None, "nothing before them"
    assert stop_of(rule, evals(0.5, 0.52, 0.56), 0, ()) is None
    stop = stop_of(rule, evals(0.5, 0.52, 0.54), 0, ())
    assert stop
    assert (stop.kind, "recommended" in stop.sentence) == ("plateau", True)
    assert stop_of(Loop(), evals(*[0.5] * 50), 999, ()) is None, "nothing is looked for that is not registered"


def test_who_gains_exactly_what_is_asked_for_is_at_no_plateau():
    """0.29 less 0.28 is not quite 0.01 to a computer."""
    rule = Loop(plateau=Plateau(iterations=1, least_gain=0.01))
    for hundredth in range(100):
        assert stop_of(rule, evals(hundredth / 100, (hundredth + 1) / 100), 0, ()) is None
        assert stop_of(rule, evals(hundredth / 100, hundredth / 100 + 0.0099), 0, ())


def test_a_recommended_stage_fits_into_the_memory_of_the_one_before() -> None:
    stage = Sft(steps=9, lora=Lora(rank=4, alpha=8), load_in_4bit=True, gradient_checkpointing=True)
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing").model_copy(update={"training": stage})
    for action in ("dpo", "grpo"):
        stages = yaml.safe_load(recommendation(cluster, [diagnosed(action)]).change)["training"]
        _, added = TypeAdapter(Training).validate_python(stages)
        assert (added.lora, added.load_in_4bit, added.gradient_checkpointing) == (stage.lora, True, True)
        assert stages[1]["seed"] == stage.seed + 1


@pytest.mark.parametrize(
    ("action", "added"),
    [
        ("grpo", [{"method": "sft", "steps": 9}, {"method": "grpo", "seed": 18}]),
        ("widen", {"method": "sft", "steps": 9, "sources": {"own_samples": {}}}),
    ],
)
def test_what_a_plateau_recommends_is_a_change_that_the_file_takes(action: Action, added: Any) -> None:
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing").model_copy(
        update={"training": Sft(steps=9)}
    )
    advice = recommendation(cluster, [diagnosed(action)])
    assert (advice.action, advice.pattern, advice.file) == (action, "p", "clusters/rtb-pricing/cluster.yaml")
    assert shell_line(advice.next) == "modelsmith iterate rtb-pricing"
    stages = yaml.safe_load(advice.change)["training"]
    assert stages == added
    TypeAdapter(Training).validate_python(stages)


def test_where_a_person_must_look_a_plateau_recommends_no_change() -> None:
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
    advice = recommendation(cluster, [diagnosed("review")])
    assert (advice.file, advice.change, shell_line(advice.next)) == ("", "", "modelsmith diagnose --tag t")
    assert recommendation(cluster, []).action is None


def test_a_plateau_recommends_no_reward_or_source_where_a_judge_decides() -> None:
    """The file would be refused: a judged rubric rewards no answer, and keeps no row of another source."""
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
    rule, flat = Loop(plateau=Plateau(iterations=1)), evals(0.5, 0.5)
    advice = recommendation(cluster, [diagnosed("grpo")], judged=True)
    assert (advice.action, advice.change, shell_line(advice.next)) == ("review", "", "modelsmith diagnose --tag t")
    stop = stop_of(rule, flat, 0, [diagnosed("grpo")], judged=True)
    assert stop
    assert "have the domain lead read rubric and scenarios" in stop.sentence
    assert "grpo" not in stop.sentence
    widened = recommendation(cluster, [diagnosed("widen")], judged=True)
    assert (widened.action, widened.change) == ("widen", "")
    assert "sources" not in str(stop_of(rule, flat, 0, [diagnosed("widen")], judged=True))
    assert recommendation(cluster, [diagnosed("dpo")], judged=True).action == "dpo"


TWO: Training = (Sft(steps=9), Dpo(method="dpo"))


def staged(training: Training = TWO, **rule: Any) -> Cluster:
    """A cluster whose plateau of two candidates takes the next stage."""
    plateau = Plateau(**({"iterations": 2, "least_gain": 0.05, "then": "next-stage"} | rule))
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
    return cluster.model_copy(update={"training": training, "loop": Loop(plateau=plateau)})


def trained_by(*stages: int, training: Training = TWO) -> list[Diagnosis]:
    """Iterations that ran the first so many stages."""
    return [
        Diagnosis.model_construct(
            iteration=number,
            methods=tuple(stage.method for stage in stages_of(training)[:count]),
            tag="t",
            clusters=(),
            recipe=training_digest(stages_of(training)[:count]),
        )
        for number, count in enumerate(stages, 1)
    ]


def candidates(*composites: float) -> list[Assessed]:
    return [Assessed(f"rtb-pricing-iter-{n:03d}-candidate", value, False) for n, value in enumerate(composites, 1)]


@pytest.mark.parametrize(
    ("composites", "ran", "due"),
    [
        ((), (), (1, False)),
        ((0.5, 0.5), (1, 1), (1, False)),
        ((0.5, 0.52, 0.6), (1, 1, 1), (1, False)),
        ((0.5, 0.52, 0.54), (1, 1, 1), (1, True)),
        ((0.5, 0.52, 0.54, 0.5), (1, 1, 1, 2), (2, False)),
        ((0.5, 0.52, 0.54, 0.5, 0.58), (1, 1, 1, 2, 2), (2, True)),
        ((0.5, 0.52, 0.54, 0.5, 0.7), (1, 1, 1, 2, 2), (2, False)),
    ],
)
def test_the_next_stage_is_taken_once_this_one_has_stopped_paying(composites, ran, due):
    """And no sooner than it had as many candidates as the rule looks at."""
    cluster, past, runs = staged(), trained_by(*ran), candidates(*composites)
    stretch = stretch_of(cluster, runs, past)
    assert (stretch.stages, bool(stretch.plateau)) == due
    stops = stop_of(cluster.loop, runs, 0, past, stretch) is not None
    assert stops == (due == (2, True)), "only the last stage's plateau ends the loop"


def test_a_changed_stage_begins_anew_and_one_behind_goes_on():
    past, runs = trained_by(1, 2), candidates(0.5, 0.5)
    longer: Training = (*stages_of(TWO), Grpo(method="grpo"))
    assert stretch_of(staged(longer), runs, past).stages == 2
    assert stretch_of(staged((Sft(steps=8), Dpo(method="dpo"))), runs, past).stages == 1
    assert not staged(Sft()).stage_by_stage
    assert not staged(then="recommend").stage_by_stage


def diagnosed(action: Action) -> Diagnosis:
    history = PatternHistory(first_seen=1, iterations=2, tried=(), persistent=True, action=action)
    stuck = FailureCluster.model_construct(id="p", history=history)
    return Diagnosis.model_construct(tag="t", clusters=(stuck,))


def test_the_loop_stops_at_a_held_target_and_at_its_hours():
    rule = Loop(hold_iterations=2, max_hours=8)
    assert stop_of(rule, [*evals(0.9, passed=True)], 7.9, ()) is None
    assert stop_of(rule, [*evals(0.9, passed=True), *evals(0.4)], 7.9, ()) is None
    target = stop_of(rule, evals(0.8, 0.9, passed=True), 0, ())
    spent = stop_of(rule, evals(0.4), 8.0, ())
    assert [target and target.kind, spent and spent.kind] == ["target-held", "hours"]
    budget, price = Loop(max_cost=2), Prices(currency="EUR", compute_per_hour=0.5)
    assert stop_of(budget, evals(0.4), 3.9, (), prices=price) is None
    assert str(stop_of(budget, evals(0.4), 4.0, (), prices=price)).count("the budget of 2 EUR is spent") == 1
    document = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing").model_dump()
    with pytest.raises(ValidationError, match=r"max_cost needs prices\.compute_per_hour"):
        Cluster.model_validate(document | {"loop": budget.model_dump(), "prices": Prices().model_dump()})


def at(
    phase: Phase, outcome: Any = None, specialist: str | None = None, code: int | None = None, name: str = "x"
) -> Iteration:
    error = Fault(code=name, message="m", mend="n", exit=code) if code else None
    pointer = Pointer(
        cluster="c", number=1, phase=phase, commit="a" * 40, reference="base", specialist=specialist,
        artifact=specialist and "sha256:" + "0" * 64, outcome=outcome, error=error,
    )  # fmt: skip
    return pointer.iteration()


NAME = "iter-001-00000000"


@pytest.mark.parametrize(
    ("iteration", "specialist", "running", "on_hold", "due"),
    [
        (None, None, False, False, ("queued", None)),
        (at("train"), None, True, False, ("active", None)),
        (at("assess", None, NAME), "candidate", True, False, ("assessing", None)),
        (at("assess", None, NAME), "candidate", False, False, ("queued", None)),
        (at("waiting", "PASS", NAME), "artifact-exported", False, False, ("blocked", "governance")),
        (at("done", "PASS", NAME), "customer-deployed", False, False, ("promoted", None)),
        (at("waiting", "PASS", NAME), "customer-deployed", False, False, ("promoted", None)),
        (at("done", "FAIL", NAME), "candidate", False, False, ("blocked", "quality")),
        (at("done", "PASS", NAME), "artifact-exported", False, False, ("blocked", "governance")),
        (at("done", "PASS", NAME), "artifact-exported", False, True, ("rolled back", None)),
        (at("train", code=Exit.INFRASTRUCTURE), None, False, False, ("blocked", "infrastructure")),
        (at("promote", "PASS", NAME, Exit.INVALID), None, False, False, ("blocked", "governance")),
        (at("promote", "PASS", NAME, Exit.GATE_NOT_CLEARED), None, False, False, ("blocked", "quality")),
        (at("train", code=Exit.INVALID, name="training-tripped"), None, False, False, ("blocked", "quality")),
    ],
)
def test_a_run_stands_in_one_of_six_words(iteration, specialist, running, on_hold, due):
    assert standing(iteration, specialist, running=running, on_hold=on_hold) == Standing(*due)


@given(
    phase=st.sampled_from(get_args(Phase)),
    outcome=st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE"]),
    state=st.none() | st.sampled_from(get_args(State)),
    code=st.none() | st.sampled_from([*Exit][1:]),
    running=st.booleans(),
    on_hold=st.booleans(),
)
def test_every_run_has_a_word_and_only_a_blocked_one_a_cause(phase, outcome, state, code, running, on_hold):
    run_standing = standing(at(phase, outcome, NAME, code), state, running=running, on_hold=on_hold)
    assert run_standing.state in get_args(RunState)
    assert (run_standing.state == "blocked") == (run_standing.blocked_by in get_args(Blocked))


class Turns:
    """A loop whose turns are told beforehand."""

    def __init__(self, folder: Path, *turns: Any, stops: int = 99) -> None:
        self.turns, self.stops, self.asked = [*turns], stops, []
        self.said: list[str] = []
        workspace = SimpleNamespace(
            notify=lambda progress: self.said.append(progress.message),
            lock=nullcontext,
            cluster_folder=lambda _: folder,
        )
        self.harness = SimpleNamespace(workspace=workspace)

    def run(self, limit: int | None, restart: bool, review_rows: bool) -> Iteration:
        self.asked.append((limit, restart))
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    overdue = False

    def stop(self) -> Any:
        self.stops -= 1
        return None if self.stops else SimpleNamespace(sentence="plateau: enough", recommended=None)


def numbered(number: int, outcome: str = "FAIL") -> Iteration:
    return replace(at("done", outcome, NAME), number=number, reason="r")


def test_turns_go_on_to_a_person_a_stop_a_budget_or_nothing_left(tmp_path, monkeypatch):
    waited: list[datetime] = []
    monkeypatch.setattr(
        iterate, "wait", lambda turns, last_start, _: waited.append(turns.due(datetime.now(), last_start))
    )

    def ended(loop: Turns, **fields: Any) -> Iteration:
        return iterate._turns(loop, IterateRequest(cluster="c", **({"every": "6h"} | fields)))  # type: ignore[arg-type]

    night = InfrastructureFailure("disk-full", "No space", "Free some.")
    loop = Turns(tmp_path, numbered(1), night, numbered(2), at("waiting", "PASS", NAME))
    assert ended(loop, restart=True).phase == "waiting"
    assert loop.asked == [(None, True), (None, False), (None, False), (None, False)]
    assert any("disk-full" in message for message in loop.said)
    assert waited[1] - waited[0] >= timedelta(hours=6)
    with pytest.raises(InfrastructureFailure):
        ended(Turns(tmp_path, night), every=None, between="22:00-06:00")
    assert ended(Turns(tmp_path, numbered(1), numbered(2), stops=2)).reason == "r; plateau: enough"
    assert ended(Turns(tmp_path, numbered(1), numbered(3)), max_iterations=3).number == 3
    assert ended(Turns(tmp_path, numbered(1, "INCONCLUSIVE"))).number == 1
    assert isinstance(ended(Turns(tmp_path, at("done", "PASS"))), Untrained)
