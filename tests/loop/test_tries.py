"""Which of several trainings goes on: the best held in, of those from which an adapter came."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import RUBRIC as JUDGED

from modelsmith.diagnosis.pairs import Drawn
from modelsmith.loop import tries
from modelsmith.loop.recipe import StageRun
from modelsmith.loop.setting_apart import HELD_IN_FILE, require_choosable
from modelsmith.loop.tries import train_tries
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Loop
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Sft
from modelsmith.schema.training_row import Prompt
from modelsmith.schema.tries import APART, SeedTries, SeedTry, best_of, seed_of
from modelsmith.training.rows import write_rows

GOVERNED = load_eval_set(WorkTree(Path(__file__).parents[2]), "adtech/rtb-root-cause")
RIGHT = '{"cause": "timeout", "action": "cut_latency"}'
PROMPTS = tuple(
    Prompt(
        messages=(Message(role="user", content=f"Note {n}"),), answer=RIGHT, generator="g", template="t",
        points=("cause",), expected={"cause": "timeout", "action": "cut_latency"}, rubric=GOVERNED.rubric_digest,
    )
    for n in range(4)
)  # fmt: skip


@given(st.lists(st.none() | st.floats(0, 1), min_size=2, max_size=6))
def test_the_highest_score_is_chosen_and_the_first_of_equal_ones(scores):
    each = tuple(
        SeedTry(seed=n, held_in=None, artifact=None, ended="tripped")
        if score is None
        else SeedTry(seed=n, held_in=score, artifact=digest(n))
        for n, score in enumerate(scores)
    )
    best = best_of(SeedTries(asked=4, asked_digest=digest("asked"), each=each))
    numbers = [score for score in scores if score is not None]
    assert best == (scores.index(max(numbers)) + 1 if numbers else None)


@given(st.integers(0, 2**32 - 1), st.sets(st.tuples(st.integers(1, APART), st.integers(1, 16)), min_size=2, max_size=9))
def test_no_two_tries_of_any_iterations_share_a_seed(registered, tried):
    seeds = [seed_of(registered, iteration, number) for iteration, number in tried]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seed_of(registered, 1) == registered


def test_a_try_says_what_came_of_it_and_nothing_else():
    for odd in (
        {"held_in": 0.5},
        {"artifact": digest("a")},
        {"held_in": 0.5, "artifact": digest("a"), "ended": "tripped"},
        {},
    ):
        with pytest.raises(ValueError, match="either a score and an artifact"):
            SeedTry.model_validate({"seed": 1, "held_in": None, "artifact": None} | odd)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An iteration of three seeds, whose trainings and answers the test makes up."""
    messages: list[str] = []
    write_rows(tmp_path / HELD_IN_FILE, PROMPTS)
    write_rows(tmp_path / "rows.jsonl", PROMPTS)
    come: dict[int, Any] = {}

    def run_stages(recipe: Any, folder: Path, stages: Any, parent: Any, rows: Any = None, name: str = "") -> Any:
        outcome_due = come[stages[0].seed]
        if isinstance(outcome_due, InvalidInput):
            raise outcome_due
        outcome = None if outcome_due is None else SimpleNamespace(adapter=folder, seconds=1.0, adopted=False)
        return (StageRun(stages[0], None, PROMPTS if outcome else (), outcome),)

    def draw(_: Any, __: Any, target: Any, prompts: Any, *___: Any) -> list[list[Drawn]]:
        right = come[int(target.artifact.removeprefix("seed "))]
        return [[Drawn(RIGHT if n < right else "no", False)] if right >= 0 else [] for n in range(len(prompts))]

    monkeypatch.setattr(tries, "run_stages", run_stages)
    monkeypatch.setattr(tries, "draw", draw)
    monkeypatch.setattr(tries, "parent_of", lambda *_: "base")
    monkeypatch.setattr(tries, "seal_adapter", lambda adapter, *_: f"seed {SEED_OF[adapter.name]}")
    monkeypatch.setattr(tries, "SeedTry", SeedTry.model_construct)
    monkeypatch.setattr(tries, "SeedTries", SeedTries.model_construct)
    context = SimpleNamespace(
        workspace=SimpleNamespace(notify=lambda progress: messages.append(progress.message)),
        cluster=SimpleNamespace(loop=Loop(seeds=3), base_model=SimpleNamespace(digest=digest("base"))),
        governed=GOVERNED, meaning=None, policy=None, target=lambda _: None, folder=lambda _: tmp_path,
        stages=lambda _: (Sft(rows=16),),
    )  # fmt: skip

    def train(*of: Any) -> Any:
        come.update(zip(SEEDS, of, strict=True))
        return train_tries(context, SimpleNamespace(number=1))  # type: ignore[arg-type]

    return SimpleNamespace(train=train, said=messages, context=context)


SEEDS = (17, 17 + APART, 17 + 2 * APART)
SEED_OF = {f"try-{n}": seed for n, seed in enumerate(SEEDS, start=1)}
TRIPPED = InvalidInput("training-tripped", "A tripwire ended it.", "Look at the curve.")


def test_a_try_that_ends_early_is_not_chosen_and_the_others_go_on(world):
    trained = world.train(TRIPPED, 1, 3)
    assert [(attempt.held_in is None, attempt.ended) for attempt in trained.tries.each] == [
        (True, "tripped"),
        (False, None),
        (False, None),
    ]
    assert trained.tries.each[2].held_in == 0.75
    assert trained.folder.name == "try-3"
    assert trained.chosen == "the best of 3 tries is number 3, held in 0.750"
    assert "try 1 of 3, seed 17: ended: tripped" in world.said[0]
    trained = world.train(2, None, 1)
    assert (trained.folder.name, trained.tries.each[1].ended) == ("try-1", "no-pairs")


def test_where_no_try_is_left_it_ends_as_one_training_would(world):
    with pytest.raises(InvalidInput) as ended:
        world.train(None, TRIPPED, TRIPPED)
    assert ended.value.code == "training-tripped"
    trained = world.train(None, None, None)
    assert (trained.tries, trained.chosen, trained.stages[0].outcome) == (None, "", None)
    with pytest.raises(InvalidInput) as other:
        world.train(1, InvalidInput("training-nan-loss", "It diverged.", "Lower it."), 1)
    assert other.value.code == "training-nan-loss", "a fault of the settings is no matter of luck"


def test_a_prompt_without_an_answer_is_no_zero(world):
    with pytest.raises(InvalidInput) as ended:
        world.train(1, -1, 1)
    assert ended.value.code == "held-in-unanswered"


def test_what_a_judge_decides_counts_in_the_score_of_a_try(world, monkeypatch):
    """Half of the answers pass its point; without a verdict there is no score."""
    point = JUDGED.points[0].model_copy(update={"id": "tone", "weight": 6.0})
    rubric = GOVERNED.rubric.model_copy(update={"points": (*GOVERNED.rubric.points, point)})
    monkeypatch.setattr(world.context, "governed", replace(GOVERNED, rubric=rubric))
    verdicts = [{"tone": True}, {"tone": False}] * 2
    monkeypatch.setattr(tries, "rows_judge", lambda *_: nullcontext(lambda sampled: verdicts))
    monkeypatch.setattr(tries, "judge_of", lambda _: digest("judge"))
    trained = world.train(4, 0, 2)
    assert [attempt.held_in for attempt in trained.tries.each] == [0.75, 0.25, 0.5]
    assert trained.tries.judge == digest("judge")
    verdicts[0] = {}
    with pytest.raises(ModelsmithError) as ended:
        world.train(4, 0, 2)
    assert ended.value.code == "points-differ"


def test_several_seeds_that_nothing_could_tell_apart_are_refused():
    judged = replace(GOVERNED, rubric=JUDGED)
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
    for governed, rows, calls, code in (
        (GOVERNED, 4, None, None),
        (GOVERNED, 3, None, "seeds-few-rows"),
        (judged, 480, None, "seeds-judged"),
        (judged, 480, 63, "judge-calls-few"),
        (judged, 480, 64, None),
    ):
        changed_cluster = cluster.model_copy(update={"loop": Loop(seeds=3, judge_calls=calls)})
        try:
            require_choosable(governed, changed_cluster, rows)
            refusal = None
        except InvalidInput as error:
            refusal = error.code
        assert refusal == code, (rows, calls)
