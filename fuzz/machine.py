"""Targets: artifacts, folders of runs and workers, and what git says."""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import cache

from pydantic import ValidationError

from fuzz.examples import example
from fuzz.target import BETWEEN, Target, parts, scratch
from modelsmith.artifacts import gguf_header, kinds, seal
from modelsmith.evaluation.results import RunFolder
from modelsmith.fleet import folder as fleet
from modelsmith.fleet.remote import files, wire
from modelsmith.fleet.remote.facts import HostFacts
from modelsmith.forges import pre_receive, reader, refusal
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.promotion import EXPORT_FILE, Export
from modelsmith.schema.run import Observation, RunRequest, RunResult
from modelsmith.schema.source import BaseModelSource
from modelsmith.schema.training_row import PreferencePair, Prompt, TrainingRow
from modelsmith.signing.files import SUMS_FILE, sums
from modelsmith.substrates import base_models
from modelsmith.substrates import gguf as conversion
from modelsmith.training import checkpoints, job, rows, supervisor


def read_listing(data: bytes) -> object:
    folder = scratch() / "artifact"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_bytes(b"text")
    (folder / SUMS_FILE).write_bytes(data)
    return seal.verify_artifact(folder, sha256(data))


def listing_seeds() -> list[bytes]:
    return [sums({"README.md": sha256(b"text").removeprefix("sha256:")})]


def read_adapter_config(data: bytes) -> object:
    path = scratch() / "adapter_config.json"
    path.write_bytes(data)
    return seal.scrub_adapter_config(path, "base")


def gguf(
    values: bytes | None = None,
    tensors: bytes | None = None,
    data: bytes = bytes(64),
    counts: tuple[int, int] = (2, 1),
    version: int = 3,
) -> bytes:
    """A GGUF file of two tensors; its parts can be given otherwise.

    Args:
        values: The keys with their values; the architecture when None.
        tensors: What is told of the tensors; two of four values each when None.
        data: Their bytes.
        counts: Of tensors and of values, as the header says them.
        version: Of the format.
    """
    said = values if values is not None else value(b"general.architecture", 8, text(b"llama"))
    told = tensors if tensors is not None else tensor(b"a.weight", (4,), 0, 0) + tensor(b"b.weight", (4,), 0, 32)
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + said + told
    return head + bytes(-len(head) % 32) + data


def text(data: bytes) -> bytes:
    """A string of a GGUF file."""
    return struct.pack("<Q", len(data)) + data


def value(key: bytes, kind: int, data: bytes) -> bytes:
    """A key with its value."""
    return text(key) + struct.pack("<I", kind) + data


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    """What the header tells of a tensor."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_seeds() -> list[bytes]:
    tokens = value(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"b"))
    scores = value(b"tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 2) + bytes(8))
    named = value(b"general.architecture", 8, text(b"llama"))
    return [gguf(), gguf(named + tokens + scores, counts=(2, 3))]


def read_gguf_header(data: bytes) -> object:
    path = scratch() / "one.gguf"
    path.write_bytes(data)
    return gguf_header.require_sound(path)


def read_export(data: bytes) -> object:
    folder = scratch() / "export"
    folder.mkdir(exist_ok=True)
    (folder / EXPORT_FILE).write_bytes(data)
    return kinds.export_of(folder)


def read_gguf_marker(data: bytes) -> object:
    folder = scratch() / "gguf"
    folder.mkdir(exist_ok=True)
    (folder / conversion.MARKER).write_bytes(data)
    return conversion.is_converted(folder)


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
        (fleet.COMPLETE, complete),
    ):  # fmt: skip
        (folder / name).write_bytes(content)
    intact = checkpoints.is_intact(folder)
    finished = job.finished(folder, "sha256:" + "5a" * 32)
    lines, _ = fleet.lines_since(folder / fleet.HEARTBEAT_FILE, 0)
    return job.heartbeats(lines), finished, fleet.is_whole(folder), supervisor._failure(1, folder), intact


def worker_seeds() -> list[bytes]:
    beat = canonical_json(example(job.Heartbeat)) + b"\n"
    rest = [canonical_json(example(model)) for model in (job.TrainResult, job.WorkerError)]
    return [BETWEEN.join([beat + beat + beat[:20], *rest, b'{"a":"sha256:00"}'])]


def read_training_rows(data: bytes) -> object:
    path = scratch() / "rows.jsonl"
    path.write_bytes(data)
    kind = PreferencePair if b'"chosen"' in data else Prompt if b'"expected"' in data else TrainingRow
    return rows.read_rows(path, kind)


def row_seeds() -> list[bytes]:
    return [canonical_json(example(kind)) + b"\n" for kind in rows.ROW_OF.values()]


def read_host(data: bytes) -> object:
    """What a host says over a connection, and the names in it."""
    path, job_folder, messages = scratch() / "said", scratch() / "job", []
    path.write_bytes(data)
    with path.open("rb") as file, suppress(wire.Closed):
        channel = wire.Channel(file.fileno(), -1)
        channel.find_greeting(1.0)
        while (one := channel.receive(1.0)) is not None:
            messages.append(one)
    for frame, body in messages:
        with suppress(files.OddPlaceError):
            place = files.place_of(job_folder, frame.name)
            assert place.resolve().is_relative_to(job_folder.resolve())
        for kind in (wire.Listed, HostFacts):
            with suppress(ValidationError):
                kind.model_validate_json(body)
    return messages


def host_seeds() -> list[bytes]:
    listing = canonical_json(wire.Listed(files={"adapter/adapter_config.json": sha256(b"")}))
    facts = canonical_json(example(HostFacts))
    frames = [
        (wire.Frame(kind="hello", name="1.0", number=1), b""),
        (wire.Frame(kind="ready", body=len(listing)), listing),
        (wire.Frame(kind="facts", body=len(facts)), facts),
        (wire.Frame(kind="kept", name="checkpoint-4", body=len(listing)), listing),
        (wire.Frame(kind="lines", number=0, body=3), b"{}\n"),
        (wire.Frame(kind="ended", number=-9), b""),
    ]
    entries_found = [frame.model_dump_json(exclude_defaults=True).encode() + b"\n" + body for frame, body in frames]
    return [b"Welcome\n" + wire.GREETING + b"".join(entries_found)]


TARGETS = (
    Target("listing", read_listing, listing_seeds),
    Target("adapter-config", read_adapter_config, lambda: [b'{"target_modules":["q","k"],"r":2}']),
    Target("gguf-header", read_gguf_header, gguf_seeds),
    Target("export", read_export, lambda: [canonical_json(example(Export))]),
    Target("gguf-marker", read_gguf_marker, lambda: [b'{"a.safetensors":[1,"sha256:00"]}']),
    Target("base-model-uri", read_base_model_uri, base_model_seeds),
    Target("refusal", read_refusal, refusal_seeds),
    Target("updates", read_updates, update_seeds),
    Target("run", read_run, run_seeds),
    Target("worker", read_worker, worker_seeds),
    Target("training-rows", read_training_rows, row_seeds),
    Target("host", read_host, host_seeds),
)
