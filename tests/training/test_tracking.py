"""A tracker of one's own gets the figures of a training and nothing else; what is wrong with it never stops one."""

from __future__ import annotations

import importlib.util
import io
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.canonical import digest
from modelsmith.schema.cluster import Tracking
from modelsmith.schema.training import Dpo, Sft
from modelsmith.training import tracker
from modelsmith.training.job import Heartbeat, TrainJob
from modelsmith.training.measures import Measures
from modelsmith.training.tracking import ABSENT, TRACKER_LOG, Tracker, tracked_run

SECRET = "hf_" + "Abcd" * 8
THIS_MACHINE = [name for name in (socket.gethostname(),) if len(name) > 5]
"""Its name; one of two or three letters stands in any file of bytes by chance."""


def job(**other) -> TrainJob:
    fields = {"base": digest("b"), "parent": None, "rows": digest("r"), "system": "Be secretive.", "training": Sft()}
    return TrainJob(**(fields | other))


def run_for(to: str, **other):
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
    return tracked_run(cluster.model_copy(update={"tracking": Tracking(to=to)}), job(**other), "stage 1 of 2, sft")


def beats(count: int = 3, first: int = 1):
    for step in range(first, count + 1):
        measures = Measures(reward=0.5, length=9, cut_off=0, entropy=0.5, equal_groups=0, kl=None, held_in=0.5)
        yield Heartbeat(step=step, steps=count, loss=1 / step, seconds=1, eta=1, measures=measures)


def messages_of(folder: Path, run, sound: bool = True, grace: float = 60.0, steps=()) -> list[str]:
    """What is said while a training's figures are told."""
    messages: list[str] = []
    telling = Tracker(folder, run, messages.append, grace)
    for beat in steps or beats():
        telling.tell(beat)
    telling.end(sound)
    return messages


def everything_in(folder: Path) -> str:
    return "\n".join(
        f"{path.relative_to(folder)}\n{path.read_bytes().decode('utf-8', 'replace')}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A real MLflow store in a folder."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MODELSMITH_TOKEN", SECRET)
    monkeypatch.setenv("SOME_KEY", SECRET)
    return tmp_path / "store"


def found_in(store: Path, project: str = "rtb-pricing"):
    from mlflow import MlflowClient

    client = MlflowClient(store.as_uri())
    experiment = client.get_experiment_by_name(project)
    return client, client.search_runs([experiment.experiment_id])


def losses_in(client, run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]


def test_mlflow_gets_every_step_and_the_settings(store, tmp_path):
    assert messages_of(tmp_path, run_for("mlflow")) == [], (tmp_path / TRACKER_LOG).read_text()
    client, (run,) = found_in(store)
    assert losses_in(client, run) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert set(run.data.metrics) == {"loss", "reward", "length", "cut_off", "entropy", "equal_groups", "held_in"}
    assert run.data.params["method"] == "sft"
    assert run.data.params["steps"] == "48"
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("rtb-pricing stage 1 of 2, sft ")


def test_mlflow_gets_no_prompt_path_user_host_or_key(store, tmp_path):
    messages_of(tmp_path, run_for("mlflow"))
    # where the store itself lies is its own, and it writes that down
    content = everything_in(store).replace(store.as_uri(), "STORE")
    for word in ("secretive", SECRET, str(Path.home()), os.getcwd(), *THIS_MACHINE, "modelsmith/", "package:"):
        assert word not in content, word


def test_the_same_training_goes_on_in_its_run_and_a_failed_one_says_so(store, tmp_path):
    messages_of(tmp_path, run_for("mlflow"), sound=False)
    assert found_in(store)[1][0].info.status == "FAILED"
    (tmp_path / "tracked.json").unlink()
    messages_of(tmp_path, run_for("mlflow"))
    messages_of(tmp_path, run_for("mlflow", training=Dpo(method="dpo")))
    client, runs = found_in(store)
    assert [[step for step, _ in losses_in(client, run)] for run in runs] == [[1, 2, 3]] * 2, "nothing is told twice"
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"], "one run each, the first of which went on"


def test_without_a_tracker_in_the_cluster_file_nothing_is_started(tmp_path):
    cluster = load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
    assert tracked_run(cluster, job(), "") is None
    assert messages_of(tmp_path, None) == []
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_whose_place_nobody_named_is_said_once(tmp_path, monkeypatch):
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert messages_of(tmp_path, run_for("mlflow")) == [
        "the tracker mlflow has no place to go: set MLFLOW_TRACKING_URI; training is not touched by it"
    ]


def test_a_tracker_that_is_not_installed_is_said_once(tmp_path, monkeypatch):
    run = run_for("wandb")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        ended = []
        patch.setattr(os, "killpg", lambda *arguments: ended.append(arguments))
        stream = io.BytesIO(run.model_dump_json().encode())
        assert tracker.main(stream, os.open(os.devnull, os.O_WRONLY), -4.9) == ABSENT
        time.sleep(0.3)
        assert ended == [], "whoever has ended by itself ends no other process of its group"
    absent = tmp_path / "python"
    absent.write_text(f"#!/bin/sh\ncat > /dev/null\nexit {ABSENT}\n")
    absent.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(absent))
    assert messages_of(tmp_path, run) == [
        "the tracker wandb is not installed: pip install 'modelsmith[wandb]'; training is not touched by it"
    ]


def test_a_tracker_that_refuses_is_said_once_and_without_its_words(store, tmp_path):
    store.write_text("no folder")
    (sentence,) = messages_of(tmp_path, run_for("mlflow"))
    assert sentence.startswith("the tracker mlflow failed (")
    assert str(tmp_path) not in sentence
    assert str(store) in (tmp_path / TRACKER_LOG).read_text(), "the log on this machine says more"


def test_a_tracker_that_hangs_is_left_and_its_process_is_gone(tmp_path, monkeypatch):
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        messages: list[str] = []
        telling = Tracker(tmp_path, run_for("mlflow"), messages.append, grace=1.0)
        begin = time.monotonic()
        for beat in beats(200):
            telling.tell(beat)
        assert time.monotonic() - begin < 60, "200 steps do not wait a second each"
        process = telling._process
        assert process
        telling.end(True)
        assert time.monotonic() - begin < 120
    assert messages == [
        "the tracker mlflow did not take the last figures within 1 seconds; training is not touched by it"
    ]
    assert process.poll() is not None


def steps_in(to: str, offline: Path) -> list[int]:
    """The steps that a library keeps on this machine, in the order in which it got them."""
    if to == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        (name,) = SQLiteStorage.get_runs("rtb-pricing")
        return [log["step"] for log in SQLiteStorage.get_logs("rtb-pricing", name)]
    from wandb.proto.wandb_internal_pb2 import Record

    steps = []
    for file in sorted(offline.rglob("*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        data, at = file.read_bytes(), 7
        while at < len(data):  # a log as LevelDB writes it: checksum, length and kind of a part, and the part
            length = int.from_bytes(data[at + 4 : at + 6], "little")
            record = Record.FromString(data[at + 7 : at + 7 + length])
            at += 7 + length
            if record.HasField("history"):
                steps.append(record.history.step.num)
    return steps


@pytest.mark.parametrize("to", ["trackio", "wandb"])
def test_the_other_trackers_take_figures_by_their_own_libraries(to, tmp_path, monkeypatch):
    """Kept on this machine: Trackio's folder, and Weights & Biases without its server; taken again after a kill."""
    if importlib.util.find_spec(to) is None:
        pytest.skip(f"{to} is not installed here; it is some 100 MB, so `make test` does not install it")
    store_folder = tmp_path / "kept"
    store_folder.mkdir()
    monkeypatch.setenv("TRACKIO_DIR", str(store_folder))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(store_folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SOME_KEY", SECRET)
    for steps in (beats(3), beats(5, first=2)):
        time.sleep(1.1)  # Weights & Biases names a run's folder by the second
        assert messages_of(tmp_path, run_for(to), steps=list(steps)) == [], (tmp_path / TRACKER_LOG).read_text()
    text = everything_in(store_folder)
    assert "held_in" in text
    for word in ("secretive", SECRET, os.getcwd(), *THIS_MACHINE, "modelsmith/training"):
        assert word not in text, word
    assert steps_in(to, store_folder) == [1, 2, 3, 4, 5], "steps 2 and 3 were taken twice, and told once"
