"""What supervisor and worker say to each other through the job's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.canonical import canonical_json, digest, file_digest
from modelsmith.schema.source import Chat
from modelsmith.schema.training import Training
from modelsmith.signing.files import write_atomically

JOB_FILE = "job.json"
HEARTBEAT_FILE = "heartbeat.jsonl"
RESULT_FILE = "result.json"
ERROR_FILE = "error.json"
ADAPTER_FOLDER = "adapter"
CHECKPOINT_FOLDER = "checkpoints"
COMPLETE = "COMPLETE.json"
"""Marker of a whole folder, written last: its files with their digests."""
STOPPED = 75
"""Exit status of a worker that was asked to stop and has put a checkpoint away."""

FailureClass = Literal["oom", "corrupt-checkpoint", "disk-full", "nan-loss", "crash", "killed", "stalled"]
"""Why a worker ended: it names the first five itself; ``killed`` and ``stalled`` are what its supervisor saw."""


class TrainJob(Frozen):
    """One training: ``job.json``."""

    model: str
    """Folder of the base model (safetensors, tokenizer, chat template)."""
    parent: str | None
    """Folder of the adapter to continue from."""
    rows: str
    """JSONL file of training rows."""
    system: str
    """The eval set's system prompt, before every row."""
    chat: Chat = Chat()
    """How the base model is spoken to."""
    training: Training

    def identity(self) -> str:
        """Digest of everything that shapes the result, and of no path: two identical jobs may share one result."""
        return digest(
            {
                "model": _content(Path(self.model)),
                "parent": _content(Path(self.parent)) if self.parent else None,
                "rows": file_digest(Path(self.rows)),
                "system": self.system,
                **({} if self.chat == Chat() else {"chat": self.chat.model_dump(mode="json")}),
                "training": self.training.model_dump(mode="json", exclude={"checkpoint_every"}),
            }
        )


class JobFile(Frozen):
    """``job.json``: the job and its identity."""

    identity: Digest
    job: TrainJob


class Heartbeat(Frozen):
    """A line of ``heartbeat.jsonl``, one for each optimizer step."""

    step: Annotated[int, Field(ge=0)]
    steps: int
    loss: float
    seconds: float
    """Since this worker began to train."""
    eta: float
    """Seconds left, at the speed so far."""


class TrainResult(Frozen):
    """``result.json``, written last: the adapter beside it is whole."""

    identity: Digest
    steps: int
    final_loss: float
    """Mean loss of the last tenth of the steps."""
    seconds: float
    """Training time of the worker that finished."""
    peak_bytes: int
    """Largest resident memory of that worker."""
    versions: dict[str, str]
    """Training libraries."""
    adapter: dict[str, Digest]
    """Digest of each file of the adapter's folder."""


class WorkerError(Frozen):
    """``error.json``: why the worker gave up."""

    failure: FailureClass
    message: str
    checkpoint: str | None = None
    """Name of the checkpoint that could not be loaded."""


def write_json(path: Path, value: Frozen) -> None:
    """Canonical JSON, whole or not at all."""
    write_atomically(path, canonical_json(value) + b"\n")


def read_heartbeats(path: Path, offset: int) -> tuple[list[Heartbeat], int]:
    """Heartbeats after the byte offset, and the next offset; a torn last line waits for its rest."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    beats = []
    for line in whole.splitlines():
        try:
            beats.append(Heartbeat.model_validate_json(line))
        except ValidationError:
            continue
    return beats, offset + len(whole)


def folder_listing(folder: Path) -> dict[str, str]:
    """Digest of every file of a flat folder, by name; hidden files and markers of completeness are left out."""
    return {
        path.name: file_digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name != COMPLETE
    }


def _content(folder: Path) -> str:
    """Digest of a folder's files by name and content; the marker's own digests are taken where there is one."""
    try:
        return file_digest(folder / COMPLETE)
    except FileNotFoundError:
        return digest(folder_listing(folder))
