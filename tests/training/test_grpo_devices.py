"""GRPO on two devices, as two processes on the CPU, beside the same training on one; a judge decides rewards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from substrates.stub_server import Reply, Seen, StubServer, chat, refusal
from tiny_judge import REPLIES
from training.judged_inputs import ROWS, RUBRIC, SETTINGS, prompts
from trainings import Thread
from warm_workers import Warm

from modelsmith.evaluation.judges.model import judge_identity
from modelsmith.fleet.executor import Executor
from modelsmith.schema.canonical import file_digest, sha256
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.source import Endpoint, JudgeModel
from modelsmith.schema.training import Grpo, Lora, Tripwires
from modelsmith.substrates.base_models import listing_digest
from modelsmith.substrates.endpoint.facts import endpoint_facts, unknown_weights
from modelsmith.training import supervisor
from modelsmith.training.checkpoints import is_intact
from modelsmith.training.job import Heartbeat, Inputs, RewardJudge, TrainJob
from modelsmith.training.judging import first_step
from modelsmith.training.recovery import Recovery
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import WORKER, TrainOutcome

STAGE = SETTINGS.model_copy(update={"lora": Lora(rank=4, alpha=8), "learning_rate": 0.005, "judge_calls": 1000})


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as running:
        yield running


class World:
    """A policy, its prompts, and a judge behind a server, which is asked one by one."""

    def __init__(self, policy: Path, folder: Path, server: StubServer) -> None:
        self.policy, self.rows, self.asked = policy, folder / "rows.jsonl", list[str]()
        write_rows(self.rows, prompts())
        endpoint = Endpoint(url=server.url, model="stub", max_attempts=1, max_connections=1)
        model = JudgeModel(name="far", endpoint=endpoint)
        identity = judge_identity(endpoint_facts(endpoint), model, unknown_weights(endpoint))
        self._judge, self._server = RewardJudge(model=model, identity=identity), server
        self.replies_to(1000)

    def replies_to(self, most: int) -> None:
        """So many questions; then it is away."""

        def verdict(request: Seen) -> Reply:
            if len(self.asked) >= most:
                return refusal(503)
            self.asked.append(request.text)
            return chat(REPLIES[int(sha256(request.text.encode())[-1], 16) % 2])

        self._server.script = verdict

    def train(
        self,
        folder: Path,
        stage: Grpo,
        devices: int,
        on_beat: Callable[[Heartbeat], None] = lambda beat: None,
        module: str = WORKER,
    ) -> TrainOutcome:
        job = TrainJob(
            base=listing_digest(self.policy), parent=None, rows=file_digest(self.rows), system="Be kind.",
            training=stage, rubric=RUBRIC, judge=self._judge,
        )  # fmt: skip
        alone: Executor = Thread()(self.policy)
        executor = Warm(module, self.policy, devices=devices) if devices > 1 else alone
        return supervisor.train(folder, job, Inputs(self.rows), executor, on_beat, devices=devices)

    def refused(self, folder: Path, stage: Grpo) -> ModelsmithError:
        with pytest.raises(ModelsmithError) as caught:
            self.train(folder, stage, 2)
        return caught.value


@pytest.fixture
def world(tiny_model: Path, tmp_path: Path, server: StubServer) -> World:
    return World(tiny_model, tmp_path, server)


def checkpoints(job: Path) -> list[int]:
    """Steps whose checkpoint is whole."""
    return sorted(int(path.name.rpartition("-")[2]) for path in (job / "checkpoints").iterdir() if is_intact(path))


def figures(beat: Heartbeat) -> dict[str, Any]:
    assert beat.measures
    return {name: value for name, value in beat.measures.model_dump().items() if value is not None}


def test_two_devices_learn_by_reward_what_one_learns(world: World, tmp_path: Path) -> None:
    """Also where their judge goes away in the midst of a step: what it said before is asked again of nobody."""
    alone, beats = list[Heartbeat](), list[Heartbeat]()
    single = world.train(tmp_path / "one", STAGE, 1, alone.append)
    asked_alone, world.asked = world.asked, []
    world.replies_to(first_step(STAGE, ROWS) + 3)
    with pytest.raises(ModelsmithError) as caught:
        world.train(tmp_path / "two", STAGE, 2, beats.append)
    assert caught.value.code == "training-judge-failed"
    assert checkpoints(tmp_path / "two") == [beats[-1].step], "of the step before, by both"
    world.replies_to(1000)
    two = world.train(tmp_path / "two", STAGE, 2, beats.append)
    assert (two.devices, two.judge, two.reward) == (2, single.judge, single.reward)
    assert sorted(world.asked) == sorted(asked_alone), "the same answers, each judged once"
    assert [beat.step for beat in beats] == [beat.step for beat in alone] == [1, 2, 3, 4]
    same(two, single, beats, alone)


def test_where_memory_of_one_of_two_devices_runs_out_both_go_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each learns from half of its group at once; a group is still drawn and rewarded on one device, and once."""
    alone, beats = list[Heartbeat](), list[Heartbeat]()
    stage = STAGE.model_copy(update={"steps": 3, "watch_every": 1, "checkpoint_every": 1})
    calm = world.train(tmp_path / "calm", stage, 1, alone.append)
    asked_alone, world.asked = world.asked, []
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("DISTURBED", "oom")
    outcome = world.train(tmp_path / "job", stage, 2, beats.append, "disturbed_worker")
    assert outcome.recoveries == (Recovery(failure="oom", action="smaller-batch", step=1, rows_at_once=4),)
    assert outcome.devices == 2
    assert sorted(world.asked) == sorted(asked_alone)
    same(outcome, calm, beats, alone)


def same(outcome: TrainOutcome, due: TrainOutcome, beats: list[Heartbeat], others: list[Heartbeat]) -> None:
    """The same was measured at each step, and the adapter is the same, but for rounding."""
    assert [beat.step for beat in beats] == [beat.step for beat in others]
    for ours, theirs in zip(beats, others, strict=True):
        assert figures(ours) == pytest.approx(figures(theirs), rel=1e-2, abs=1e-3), ours.step
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-2, abs=1e-3), ours.step
    weights, expected = (load_file(training.adapter / "adapter_model.safetensors") for training in (outcome, due))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=1e-3)


def test_two_devices_end_together_by_budget_and_by_tripwire(world: World, tmp_path: Path) -> None:
    job, calls = tmp_path / "job", first_step(STAGE, ROWS) + 4
    changes = {"steps": 6, "checkpoint_every": 6, "tripwires": Tripwires(most_kl=1e-12), "judge_calls": calls}
    stage = STAGE.model_copy(update=changes)
    assert world.refused(job, stage).code == "training-judge-spent"
    account = json.loads((job / "judge" / "account.json").read_text())
    assert account["calls"] == len(world.asked) <= calls
    assert checkpoints(job) == [1]
    ended = world.refused(job, stage.model_copy(update={"judge_calls": 1000}))
    assert (ended.code, "nats a token" in str(ended.details["reason"])) == ("training-tripped", True)
    assert checkpoints(job) == [1, 4]
