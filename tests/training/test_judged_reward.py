"""GRPO by a rubric of which a judge decides a point: a real judge, a tiny policy, and what becomes of faults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from substrates.stub_server import Reply, Seen, StubServer, chat, refusal
from tiny_judge import REPLIES, write_tiny_judge
from training.judged_inputs import ROWS, RUBRIC, SETTINGS, prompts
from trainings import Thread

from modelsmith.evaluation.judges.model import ModelJudge, judge_identity
from modelsmith.evaluation.judges.port import JudgeQuestion
from modelsmith.evaluation.judges.prompt import question_text
from modelsmith.evaluation.reward import Earned, Sampled, practice, reward_digest
from modelsmith.evaluation.scoring import point_weights, row_score, score_completion
from modelsmith.schema.canonical import content_digest, file_digest, sha256
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.scenario import Criterion
from modelsmith.schema.source import BaseModelSource, Endpoint, JudgeModel
from modelsmith.schema.training import Grpo, Tripwires
from modelsmith.substrates.base_models import listing_digest
from modelsmith.substrates.endpoint.facts import endpoint_facts, unknown_weights
from modelsmith.substrates.local import TransformersSubstrate
from modelsmith.substrates.local_facts import local_facts
from modelsmith.training import supervisor
from modelsmith.training.checkpoints import is_intact
from modelsmith.training.job import Heartbeat, Inputs, RewardJudge, TrainJob
from modelsmith.training.judged import Reward
from modelsmith.training.judging import all_steps, first_step
from modelsmith.training.measures import Measures, too_unclear, without_verdicts
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import TrainOutcome


class World(NamedTuple):
    """A policy, prompts, and a judge of them."""

    policy: Path
    rows: Path
    judge: RewardJudge
    weights: Path | None

    def train(self, folder: Path, calls: int = 100, recorded_beats: list[Heartbeat] | None = None) -> TrainOutcome:
        job = TrainJob(
            base=listing_digest(self.policy), parent=None, rows=file_digest(self.rows), system="Be kind.",
            training=SETTINGS.model_copy(update={"judge_calls": calls}), rubric=RUBRIC, judge=self.judge,
        )  # fmt: skip
        beats = [] if recorded_beats is None else recorded_beats
        executor = Thread()(self.policy, *([self.weights] if self.weights else []))
        return supervisor.train(folder, job, Inputs(self.rows), executor, beats.append)

    def refused(self, folder: Path, calls: int = 100) -> ModelsmithError:
        with pytest.raises(ModelsmithError) as caught:
            self.train(folder, calls)
        return caught.value


def local(folder: Path, policy: Path, replies: tuple[str, str] = REPLIES) -> World:
    write_rows(folder / "rows.jsonl", prompts())
    texts = ["".join(chr(33 + (i * j * 7) % 90) for j in range(1, 1 + i % 6)) for i in range(32)]
    questions = [
        question_text(JudgeQuestion("q", RUBRIC.points[1], practice(Sampled(text, False, {}, prompt.messages)), text))
        for text, prompt in zip(texts, prompts() * 3, strict=False)
    ]
    digest = write_tiny_judge(folder / "judge", questions, replies)
    source = BaseModelSource(name="judge", uri=f"file://{folder / 'judge'}", digest=digest, license="MIT")
    model = JudgeModel(name="small", base_model=source, max_new_tokens=16)
    identity = judge_identity(local_facts(source.chat), model, digest)
    return World(policy, folder / "rows.jsonl", RewardJudge(model=model, identity=identity), folder / "judge")


@pytest.fixture(scope="module")
def world(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return local(tmp_path_factory.mktemp("world"), tiny_model)


class Trained(NamedTuple):
    outcome: TrainOutcome
    beats: list[Heartbeat]
    scored: list[tuple[Sampled, Earned]]


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """An undisturbed training, and what it gave for each answer."""
    scored: list[tuple[Sampled, Earned]] = []
    before = Reward.of

    def of(self: Reward, sampled: Sequence[Sampled]) -> list[Earned | None]:
        scores = before(self, sampled)
        scored.extend((sample, score) for sample, score in zip(sampled, scores, strict=True) if score)
        return scores

    beats: list[Heartbeat] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reward, "of", of)
        outcome = world.train(tmp_path_factory.mktemp("whole") / "job", recorded_beats=beats)
    return Trained(outcome, beats, scored)


def test_a_judged_reward_is_the_score_that_an_eval_gives(world: World, trained: Trained) -> None:
    """Every answer of the training is scored again as an eval does, by the same judge loaded anew."""
    assert world.weights
    judge = ModelJudge(TransformersSubstrate(world.weights, None), world.judge.model, listing_digest(world.weights))
    assert len(trained.scored) == all_steps(SETTINGS, ROWS)
    due = []
    for sample, _ in trained.scored:
        words = (Criterion.model_validate({"point": "letter", "pass": "Yes.", "fail": "No."}),)
        case = practice(sample).model_copy(update={"id": "case", "criteria": words})
        (verdict,) = judge.decide([JudgeQuestion("k", RUBRIC.points[1], case, sample.text)])
        points, _ = score_completion(RUBRIC, case, sample.text, {"kind": verdict}, cut_off=sample.cut_off)
        due.append(row_score(points, point_weights(RUBRIC)))
    assert [earned.score for _, earned in trained.scored] == due
    assert {0.0, 0.75} <= set(due), "the judge passes some and fails others"


def test_the_trainer_records_judge_and_rubric_and_tells_each_call(world: World, trained: Trained) -> None:
    assert trained.outcome.judge == world.judge.identity
    assert trained.outcome.reward == reward_digest(content_digest(RUBRIC), judge=world.judge.identity)
    calls = [beat.judge_calls or 0 for beat in trained.beats]
    assert calls == sorted(calls)
    assert 0 < calls[-1] <= all_steps(SETTINGS, ROWS)


def last_step(job: Path) -> int:
    steps = [int(path.name.rpartition("-")[2]) for path in (job / "checkpoints").iterdir() if is_intact(path)]
    return max(steps, default=0)


def test_a_spent_budget_ends_at_a_checkpoint_and_a_larger_one_goes_on(
    world: World, trained: Trained, tmp_path: Path
) -> None:
    """The cache is spoilt in between: what was asked is asked again, and the adapter is the same."""
    least = first_step(SETTINGS, ROWS)
    assert world.refused(tmp_path / "job", least - 1).code == "judge-calls-few"
    ended = world.refused(tmp_path / "job", least + 4)
    assert (ended.code, int(ended.exit)) == ("training-judge-spent", 2)
    assert f"of {least + 4} calls" in ended.message
    reached = last_step(tmp_path / "job")
    assert 0 < reached < SETTINGS.steps
    assert world.refused(tmp_path / "job", least + 4).code == "training-judge-spent"
    assert last_step(tmp_path / "job") == reached
    (tmp_path / "job" / "judge" / "answers.db").write_bytes(b"no database")
    beats: list[Heartbeat] = []
    assert world.train(tmp_path / "job", 1000, beats).adapter
    assert [beat.step for beat in beats] == list(range(reached + 1, SETTINGS.steps + 1))
    assert listing_digest(tmp_path / "job" / "adapter") == listing_digest(trained.outcome.adapter)


def test_an_account_that_cannot_be_read_is_not_begun_anew(world: World, tmp_path: Path) -> None:
    (tmp_path / "job" / "judge").mkdir(parents=True)
    (tmp_path / "job" / "judge" / "account.json").write_text("{")
    ended = world.refused(tmp_path / "job")
    assert ended.code == "training-judge-failed"
    assert "How often it was asked is lost" in ended.message


def test_a_judge_that_answers_much_nonsense_ends_the_training(tiny_model: Path, tmp_path: Path) -> None:
    babbling = local(tmp_path, tiny_model, (REPLIES[0], "I like it."))
    ended = babbling.refused(tmp_path / "job")
    assert (ended.code, int(ended.exit)) == ("training-judge-unclear", 2)
    assert "not exactly one JSON object" in ended.message


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as running:
        yield running


def judged_afar(world: World, server: StubServer) -> World:
    """The same model and rows, their rewards decided by a judge behind a server, which is asked one by one."""
    endpoint = Endpoint(url=server.url, model="stub", max_attempts=1, max_connections=1)
    model = JudgeModel(name="far", endpoint=endpoint)
    judge = RewardJudge(
        model=model, identity=judge_identity(endpoint_facts(endpoint), model, unknown_weights(endpoint))
    )
    return world._replace(judge=judge, weights=None)


def test_a_judge_that_is_away_for_a_while_costs_no_step_and_no_zero(
    world: World, server: StubServer, tmp_path: Path
) -> None:
    """It goes away in the midst of a step. What it said before is asked again of nobody."""
    far = judged_afar(world, server)
    answered: list[str] = []

    def charged() -> int:
        return int(json.loads((tmp_path / "job" / "judge" / "account.json").read_text())["calls"])

    def verdicts(request: Seen, most: float = float("inf")) -> Reply:
        if len(answered) >= most:
            return refusal(503)
        answered.append(request.text)
        return chat(REPLIES[int(sha256(request.text.encode())[-1], 16) % 2])

    server.script = verdicts
    calm = far.train(tmp_path / "calm")
    questions, answered[:] = list(answered), []
    server.script = lambda request: verdicts(request, first_step(SETTINGS, ROWS) + 3)
    ended = far.refused(tmp_path / "job")
    assert (ended.code, int(ended.exit)) == ("training-judge-failed", 6)
    assert last_step(tmp_path / "job") > 0
    before = charged()
    for tried in (1, 2):
        server.script = lambda request: refusal(503)
        assert far.refused(tmp_path / "job").code == "training-judge-failed"
        assert charged() == before + tried, "one question each time, not a batch of them"
    server.script = verdicts
    assert listing_digest(far.train(tmp_path / "job").adapter) == listing_digest(calm.adapter)
    assert sorted(answered) == sorted(questions)


def test_an_answer_without_a_verdict_takes_no_part_and_is_counted(
    world: World, server: StubServer, tmp_path: Path
) -> None:
    """Two answers of the first step, on which a server says nonsense however often it is asked."""
    recorded: list[str] = []

    def verdict(request: Seen) -> Reply:
        recorded.append(request.text)
        mute = list(dict.fromkeys(recorded)).index(request.text) in (5, 6)
        return chat("I like it." if mute else REPLIES[int(sha256(request.text.encode())[-1], 16) % 2])

    server.script = verdict
    beats: list[Heartbeat] = []
    far = judged_afar(world, server)
    assert far.train(tmp_path / "job", 200, beats).adapter
    assert [beat.measures.unclear for beat in beats if beat.measures] == [2 / 8, 0, 0, 0]
    counts = [recorded.count(text) for text in dict.fromkeys(recorded)]
    assert counts == [3 if place in (5, 6) else 1 for place in range(len(counts))]


@pytest.mark.parametrize(("code", "change"), [
    ("judged-reward", {"judge_calls": None}),
    ("judge-is-trained", {}),
])  # fmt: skip
def test_a_judge_without_a_budget_or_that_is_trained_is_refused(
    world: World, tmp_path: Path, code: str, change: dict[str, Any]
) -> None:
    job = TrainJob(
        base=listing_digest(world.policy) if change else world.judge.model.base_model.digest,  # type: ignore[union-attr]
        parent=None, rows=file_digest(world.rows), system="", training=SETTINGS.model_copy(update=change),
        rubric=RUBRIC, judge=world.judge,
    )  # fmt: skip
    with pytest.raises(ModelsmithError) as refused:
        supervisor.train(tmp_path / "job", job, Inputs(world.rows), Thread()(world.policy), lambda beat: None)
    assert refused.value.code == code


@given(st.lists(st.lists(st.none() | st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=6))
def test_who_has_no_verdict_moves_no_advantage(groups: list[list[float | None]]) -> None:
    scores = [score for group in groups for score in group]
    decided = [score for score in scores if score is not None]
    if not decided:
        return
    filled = without_verdicts(scores, 4)
    for start, group in zip(range(0, len(scores), 4), groups, strict=True):
        clear = [score for score in group if score is not None]
        mean = sum(clear) / len(clear) if clear else sum(decided) / len(decided)
        assert sum(filled[start : start + 4]) / 4 == pytest.approx(mean), "the mean that the others are held against"
        for score, due in zip(filled[start : start + 4], group, strict=True):
            assert score == (pytest.approx(mean) if due is None else due)


def test_too_many_answers_without_a_verdict_end_the_training_with_a_share() -> None:
    def steps(*shares: float) -> dict[int, Measures]:
        usual = {"reward": 0.5, "length": 4.0, "cut_off": 0.0, "entropy": 1.0, "equal_groups": 0.0}
        return {number: Measures(**usual, unclear=share) for number, share in enumerate(shares, start=1)}

    wires = Tripwires()
    assert too_unclear(steps(0.5, 0.5, 0.5), wires) is None, "three steps say little"
    assert too_unclear(steps(0.4, 0.0, 0.0, 0.0), wires) is None
    assert too_unclear(steps(0.1, 0.1, 0.1, 0.2), wires) == "On 12% of the answers of 4 steps; the limit is 10%."
    assert too_unclear(steps(0.5, 0.0, 0.0, 0.0, 0.1), wires) is None
    assert too_unclear(steps(0.5, 0.5, 0.5, 0.5), Tripwires(most_unclear=0.5)) is None
    assert "most_unclear" not in Grpo(method="grpo").model_dump(mode="json")["tripwires"]
