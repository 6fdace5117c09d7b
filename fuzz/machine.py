"""Targets: artifacts, folders of runs and workers, and what git says."""

from __future__ import annotations

from functools import cache

from fuzz.examples import example
from fuzz.target import BETWEEN, Target, parts, scratch
from modelsmith.artifacts import seal
from modelsmith.evaluation.results import RunFolder
from modelsmith.fleet import folder as fleet
from modelsmith.forges import pre_receive, reader, refusal
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.run import Observation, RunRequest, RunResult
from modelsmith.schema.source import BaseModelSource
from modelsmith.schema.training_row import TrainingRow
from modelsmith.signing.files import SUMS_FILE, sums
from modelsmith.substrates import base_models, gguf
from modelsmith.training import checkpoints, job, rows, supervisor


def read_listing(data: bytes) -> object:
    folder = scratch() / "artifact"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_bytes(b"text")
    (folder / SUMS_FILE).write_bytes(data)
    return seal.check(folder, sha256(data))


def listing_seeds() -> list[bytes]:
    return [sums({"README.md": sha256(b"text").removeprefix("sha256:")})]


def read_adapter_config(data: bytes) -> object:
    path = scratch() / "adapter_config.json"
    path.write_bytes(data)
    return seal.scrub_adapter_config(path, "base")


def read_gguf_marker(data: bytes) -> object:
    folder = scratch() / "gguf"
    folder.mkdir(exist_ok=True)
    (folder / gguf.MARKER).write_bytes(data)
    return gguf.is_complete(folder)


@cache
def base_model() -> BaseModelSource:
    """A folder of weights, pinned."""
    folder = scratch() / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return example(BaseModelSource).model_copy(update={"digest": base_models.listing_digest(folder)})


def read_base_model_uri(data: bytes) -> object:
    """Without hub addresses that are in order: they lead to the network."""
    uri = data.decode("utf-8", "replace")
    source = base_model().model_copy(update={"uri": uri})
    if uri.startswith("hf://") and "@" in uri:
        return None
    return base_models.resolve(source, scratch(), scratch() / "cache")


def base_model_seeds() -> list[bytes]:
    return [b"file://weights", b"file://" + str(scratch() / "weights").encode()]


def read_refusal(data: bytes) -> object:
    return refusal.find_refusal(data.decode("utf-8", "replace"))


def refusal_seeds() -> list[bytes]:
    error = InvalidInput("code", "What is wrong.", "How to mend it.")
    return [
        b"remote: " + refusal.refusal_lines(error).encode(),
        b"! [remote rejected] main (pre-receive hook declined)",
    ]


def read_updates(data: bytes) -> object:
    return [reader.pull_number(update.ref) for update in pre_receive.parse_updates(data.decode("utf-8", "replace"))]


def update_seeds() -> list[bytes]:
    return [b"%s %s refs/modelsmith/pulls/7\n%s %s refs/heads/main\n" % (b"0" * 40, b"5a" * 20, b"5a" * 20, b"a5" * 20)]


def read_run(data: bytes) -> object:
    observations, request, result = parts(data, 3)
    folder = RunFolder(scratch(), "cluster", "run")
    folder.path.mkdir(parents=True, exist_ok=True)
    for name, content in (("observations.jsonl", observations), ("request.json", request), ("result.json", result)):
        (folder.path / name).write_bytes(content)
    return folder.observations(), folder.request(), folder.result()


def run_seeds() -> list[bytes]:
    one, two = (canonical_json(example(Observation, repeat=repeat)) + b"\n" for repeat in (0, 1))
    rest = [canonical_json(example(RunRequest)), canonical_json(example(RunResult))]
    return [BETWEEN.join([one + two, *rest]), BETWEEN.join([one + two + one[:30], *rest])]


def read_worker(data: bytes) -> object:
    """What a training worker leaves in its folder."""
    beats, result, error, complete = parts(data, 4)
    folder = scratch() / "job"
    (folder / job.ADAPTER_FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in (
        (fleet.HEARTBEAT_FILE, beats), (fleet.RESULT_FILE, result), (fleet.ERROR_FILE, error),
        (checkpoints.COMPLETE, complete),
    ):  # fmt: skip
        (folder / name).write_bytes(content)
    intact = checkpoints.is_intact(folder)
    finished = supervisor._finished(folder, "sha256:" + "5a" * 32)
    lines, _ = fleet.lines_since(folder / fleet.HEARTBEAT_FILE, 0)
    return job.heartbeats(lines), finished, fleet.is_whole(folder), supervisor._verdict(1, folder), intact


def worker_seeds() -> list[bytes]:
    beat = canonical_json(example(job.Heartbeat)) + b"\n"
    rest = [canonical_json(example(model)) for model in (job.TrainResult, job.WorkerError)]
    return [BETWEEN.join([beat + beat + beat[:20], *rest, b'{"a":"sha256:00"}'])]


def read_training_rows(data: bytes) -> object:
    path = scratch() / "rows.jsonl"
    path.write_bytes(data)
    return rows.read_rows(path)


def row_seeds() -> list[bytes]:
    return [canonical_json(example(TrainingRow)) + b"\n"]


TARGETS = (
    Target("listing", read_listing, listing_seeds),
    Target("adapter-config", read_adapter_config, lambda: [b'{"target_modules":["q","k"],"r":2}']),
    Target("gguf-marker", read_gguf_marker, lambda: [b'{"a.safetensors":[1,"sha256:00"]}']),
    Target("base-model-uri", read_base_model_uri, base_model_seeds),
    Target("refusal", read_refusal, refusal_seeds),
    Target("updates", read_updates, update_seeds),
    Target("run", read_run, run_seeds),
    Target("worker", read_worker, worker_seeds),
    Target("training-rows", read_training_rows, row_seeds),
)
