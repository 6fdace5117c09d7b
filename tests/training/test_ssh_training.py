"""A real training on hosts behind a real sshd: the adapter is this machine's own, whatever befalls them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sshd import Sshd, Ways
from trainings import Case, Thread, once_at, same_weights, train

from modelsmith.fleet.doors import DoorSign, Took, doors_folder
from modelsmith.fleet.executor import Executor
from modelsmith.fleet.hosts import Model, executor_on
from modelsmith.fleet.worker import STOPPED
from modelsmith.schema.beside import BesideServing
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Lora, Sft
from modelsmith.schema.training_row import TrainingRow
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training.checkpoints import is_intact
from modelsmith.training.job import Heartbeat
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import WORKER

STEPS = 6


@pytest.fixture
def case(tiny_model: Path, tmp_path: Path) -> Case:
    rows = [
        TrainingRow(
            messages=(Message(role="user", content=f"Note {i}"),), answer="x" * (1 + i), generator="g", template="t",
            points=("cause",),
        )
        for i in range(8)
    ]  # fmt: skip
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = Sft(steps=STEPS, batch_size=4, learning_rate=0.01, checkpoint_every=2, lora=Lora(rank=2, alpha=4))
    return Case(tiny_model, tmp_path / "rows.jsonl", settings)


@pytest.fixture
def ways(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    ways_there = Ways(tmp_path_factory.mktemp("ssh"), monkeypatch)
    yield ways_there
    ways_there.close()


def with_model(host: Sshd, model: Path) -> Sshd:
    shutil.copytree(model, host.home / "models" / listing_digest(model).removeprefix("sha256:"))
    return host


@contextmanager
def busy_door(home: Path) -> Iterator[None]:
    """A front door that answers a request all the time."""
    sign, over = DoorSign(doors_folder(home)), threading.Event()

    def answer() -> None:
        while not over.wait(0.1):
            sign.write(0, [Took(1.0, True)])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def on(home: Path, notify: Callable[[str], None], *hosts: str) -> Callable[[Path], Executor]:
    return lambda model: executor_on(home, hosts, WORKER, [Model(listing_digest(model), model)], notify)


def test_a_training_on_a_host_makes_the_adapter_that_this_machine_makes(ways: Ways, case: Case, tmp_path: Path) -> None:
    host, messages = with_model(ways.host(), case.model), list[str]()
    ways.write(tmp_path / "home")
    beats: list[Heartbeat] = []
    outcome = train(tmp_path / "job", case, on(tmp_path / "home", messages.append, "gpu-1"), beats.append)
    local = train(tmp_path / "here", case, Thread(), lambda beat: None)
    assert messages == ["on the host gpu-1"]
    assert [beat.step for beat in beats] == list(range(1, STEPS + 1))
    assert {path.name: file_digest(path) for path in outcome.adapter.iterdir()} == {
        path.name: file_digest(path) for path in local.adapter.iterdir()
    }
    assert outcome.recoveries == ()
    assert list((host.work / "jobs").iterdir()) == []


def test_where_a_host_is_lost_the_next_goes_on_from_what_was_fetched(ways: Ways, case: Case, tmp_path: Path) -> None:
    """The first cannot be reached at all, the second is lost midway, and the third has to do the rest.

    A door on the second has nineteen twentieths of its time, so that it is not done before it is lost.
    """
    hosts = [with_model(ways.host(f"gpu-{number}"), case.model) for number in (1, 2, 3)]
    ways.write(tmp_path / "home", lost_seconds=5.0)
    hosts[0].stop()
    beats: list[Heartbeat] = []
    longer, folder, messages, lost = case.settings(steps=24), tmp_path / "job", list[tuple[str, int]](), list[int]()

    def progress(beat: Heartbeat) -> None:
        beats.append(beat)
        if not lost and any((folder / "checkpoints").glob("*/COMPLETE.json")):
            lost.append(beat.step)
            hosts[1].stop()

    run_by = on(tmp_path / "home", lambda text: messages.append((text, len(beats))), *(host.name for host in hosts))
    with busy_door(hosts[1].home):
        outcome = train(folder, longer, run_by, progress, beside=BesideServing(share=0.05))
    assert [(recovery.failure, recovery.action) for recovery in outcome.recoveries] == [("host-lost", "next-host")] * 2
    assert [text for text, _ in messages] == ["on the host gpu-2", "on the host gpu-3"]
    steps = [beat.step for beat in beats]
    first, rest = steps[: messages[1][1]], steps[messages[1][1] :]
    assert first == list(range(1, len(first) + 1))
    assert 1 < rest[0] <= len(first) + 1, "it did not begin anew"
    assert rest == list(range(rest[0], 25))
    calm = train(tmp_path / "calm", longer, Thread(), lambda beat: None)
    assert same_weights(outcome.adapter, calm.adapter)


def test_without_any_host_a_training_ends_with_each_of_them_named(ways: Ways, case: Case, tmp_path: Path) -> None:
    for name in ("gpu-1", "gpu-2"):
        ways.host(name).stop()
    ways.write(tmp_path / "home")
    with pytest.raises(InfrastructureFailure) as caught:
        train(tmp_path / "job", case, on(tmp_path / "home", lambda _: None, "gpu-1", "gpu-2"), lambda beat: None)
    assert (caught.value.code, caught.value.details["hosts"]) == ("host-unreachable", ["gpu-1", "gpu-2"])


def test_what_a_host_finished_alone_is_taken_and_not_trained_again(ways: Ways, case: Case, tmp_path: Path) -> None:
    """Whoever submitted it was killed; the worker ended in the time that it works on alone."""
    with_model(ways.host(), case.model)
    ways.write(tmp_path / "home")
    run_by = on(tmp_path / "home", lambda _: None, "gpu-1")

    class KilledError(Exception):
        pass

    class Killed:
        """As a kill leaves it: nothing was told to the worker."""

        def __init__(self, model: Path) -> None:
            self._real = run_by(model)

        def submit(self, folder: Path) -> object:
            job = self._real.submit(folder)
            while job.beats(job.since, 0.5).status is None:
                pass
            raise KilledError

    with pytest.raises(KilledError):
        train(tmp_path / "job", case, Killed, lambda beat: None)  # type: ignore[arg-type]
    assert not (tmp_path / "job" / "result.json").exists()
    before = (tmp_path / "job" / "heartbeat.jsonl").read_bytes()
    outcome = train(tmp_path / "job", case, run_by, lambda beat: None)
    assert outcome.steps == STEPS
    assert (tmp_path / "job" / "heartbeat.jsonl").read_bytes() == before


def test_ctrl_c_brings_a_checkpoint_here_and_leaves_no_worker_there(ways: Ways, case: Case, tmp_path: Path) -> None:
    host = with_model(ways.host(), case.model)
    ways.write(tmp_path / "home")

    def interrupt() -> None:
        raise KeyboardInterrupt

    longer = case.settings(steps=100_000, checkpoint_every=50_000)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "job", longer, on(tmp_path / "home", lambda _: None, "gpu-1"), once_at(2, interrupt))
    (checkpoint,) = (tmp_path / "job" / "checkpoints").iterdir()
    assert is_intact(checkpoint)
    (ended,) = host.work.glob("control/*/*.json")
    assert json.loads(ended.read_bytes())["status"] == STOPPED
