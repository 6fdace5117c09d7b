"""A training job as data, and as a folder that is all of it but the base model: see `fleet.folder`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_serializer

from modelsmith.artifacts import seal
from modelsmith.fleet.folder import INPUTS, JOB_FILE, PUT_AWAY, RESULT_FILE, clear, is_whole
from modelsmith.schema.base import Digest, Frozen, Share
from modelsmith.schema.canonical import digest, file_digest
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.source import Chat, JudgeModel
from modelsmith.schema.training import Stage
from modelsmith.signing.files import SIGNATURE_FILE, write_atomically
from modelsmith.substrates.base_models import is_base_model
from modelsmith.training.measures import Measures

ROWS_INPUT = f"{INPUTS}/rows.jsonl"
PARENT_INPUT = f"{INPUTS}/parent"
ADAPTER_FOLDER = "adapter"
CHECKPOINT_FOLDER = PUT_AWAY

QUANTISES = "bitsandbytes"
"""The library that holds a base model in 4 bits; of the extra ``qlora``."""

FailureClass = Literal[
    "oom",
    "damaged-input",
    "corrupt-checkpoint",
    "disk-full",
    "nan-loss",
    "tripped",
    "weights-differ",
    "sampler-missing",
    "sampler-refused",
    "sampler-failed",
    "judge-spent",
    "judge-failed",
    "judge-unclear",
    "host-unfit",
    "model-unfit",
    "row-too-long",
    "crash",
    "killed",
    "preempted",
    "stalled",
    "host-lost",
]
"""Why a worker ended. ``killed``, ``preempted``, ``stalled`` and ``host-lost`` its supervisor saw; the others it names
itself."""


_NOT_IN_THE_RESULT = {"checkpoint_every", "gradient_checkpointing", "judge_calls", "gpu_memory_share"}
"""Settings that change what a training costs, and not what comes of it."""


class RewardJudge(Frozen):
    """Judge of what no declared check can decide, where sampled answers are rewarded."""

    model: JudgeModel
    identity: Digest
    """Digest of all that shapes a verdict of it: see `evaluation.judges.port.Judge`."""


class TrainJob(Frozen):
    """One training, by digest: no path, so it means the same on every host."""

    base: Digest
    """The base model, as the cluster pins it; the host has it."""
    parent: Digest | None
    """Artifact id of the adapter to continue from; its folder is ``inputs/parent``."""
    rows: Digest
    """Digest of ``inputs/rows.jsonl``."""
    system: str
    """The eval set's system prompt, before every row."""
    chat: Chat = Chat.defaults()
    """How the base model is spoken to."""
    training: Stage
    rubric: Rubric | None = None
    """The rubric that scores completions, where the method rewards them."""
    judge: RewardJudge | None = None
    """Who decides the rubric's judged points, where it has some; its weights the host has, as it has the base."""

    @field_serializer("rubric")
    def _as_written(self, rubric: Rubric | None) -> Any:
        return rubric.model_dump(mode="json", by_alias=True) if rubric else None

    def identity(self) -> str:
        """Digest of everything that shapes the result: two identical jobs may share one."""
        settings = self.model_dump(mode="json", exclude={"training": _NOT_IN_THE_RESULT, "judge": True})
        if self.chat == Chat():
            del settings["chat"]
        if self.rubric is None:
            del settings["rubric"]
        if self.judge is not None:
            settings["judge"] = self.judge.identity
        return digest(settings)


class JobFile(Frozen):
    """``job.json``: the job and its identity."""

    identity: Digest
    job: TrainJob


@dataclass(frozen=True)
class Inputs:
    """Where the inputs lie that the job's folder gets a copy of."""

    rows: Path
    """JSONL file of training rows."""
    parent: Path | None = None
    """Folder of the sealed artifact."""


class Heartbeat(Frozen):
    """A line of ``heartbeat.jsonl``, one for each optimizer step."""

    step: Annotated[int, Field(ge=0)]
    steps: int
    loss: float
    seconds: float
    """Since this worker began to train, without what it waited for a front door."""
    eta: float
    """Seconds left, at the speed so far."""
    measures: Measures | None = None
    """Measurements that are watched, where answers are rewarded."""
    accuracy: Share | None = None
    """Share of the step's pairs whose chosen answer has gained more than the rejected one, where pairs are learned."""
    margin: float | None = None
    """By how much more, in nats times ``beta``, on average."""
    judge_calls: Annotated[int, Field(ge=0)] | None = None
    """Questions put to the judge in the whole training, where one rewards answers."""


class Waiting(Frozen):
    """A line of ``heartbeat.jsonl`` of a worker that waits for something else on its machine."""

    whom: Literal["the front door", "vLLM"] = "the front door"
    """A front door that is busy, or the server that writes its answers."""
    waits: Annotated[str, StringConstraints(max_length=1000)]
    """Why, in words; a host may be who says it."""
    waited: Annotated[float, Field(ge=0)]
    """Seconds so far."""


class TrainResult(Frozen):
    """``result.json``, written last: the adapter beside it is whole."""

    identity: Digest
    steps: int
    final_loss: float
    """Mean loss of the last tenth of the steps."""
    seconds: float
    """Training time of the worker that finished, without what it waited for a front door."""
    peak_bytes: int
    """Largest resident memory of that worker; of several processes, of the first."""
    versions: dict[str, str]
    """Training libraries; and vLLM, where it wrote the sampled answers."""
    reward: Digest | None = None
    """Identity of the reward, where answers were rewarded: see `evaluation.reward.reward_digest`."""
    judge: Digest | None = None
    """Identity of the judge, where one decided points of the reward."""
    devices: Annotated[int, Field(ge=1)] | None = None
    """On how many devices that worker trained; None in what was written before this was recorded."""
    files: dict[str, Digest]
    """Digest of each file of the adapter's folder, by its path in the job's; see `fleet.folder.Made`."""


class WorkerError(Frozen):
    """``error.json``: why the worker gave up."""

    failure: FailureClass
    message: Annotated[str, StringConstraints(max_length=1000)]
    mend: Annotated[str, StringConstraints(max_length=1000)] | None = None
    """What helps, where that is not the same for all of its class."""


class DamagedInputError(Exception):
    """An input is not the one that ``job.json`` names."""


def heartbeats(lines: Iterable[bytes]) -> list[Heartbeat]:
    """The heartbeats among the lines of ``heartbeat.jsonl``."""
    beats = []
    for line in lines:
        try:
            beats.append(Heartbeat.model_validate_json(line))
        except ValidationError:
            continue
    return beats


def waits(lines: Iterable[bytes]) -> list[Waiting]:
    """The times of waiting that the lines of ``heartbeat.jsonl`` tell."""
    entries = []
    for line in lines:
        with suppress(ValidationError):
            entries.append(Waiting.model_validate_json(line))
    return entries


def place(folder: Path, job: TrainJob, inputs: Inputs) -> None:
    """Put into the job's folder what it lacks of its inputs."""
    if (folder / INPUTS).is_symlink() or not (folder / INPUTS).is_dir():
        clear(folder / INPUTS)
        (folder / INPUTS).mkdir()
    rows, parent = folder / ROWS_INPUT, folder / PARENT_INPUT
    if not (rows.is_file() and file_digest(rows) == job.rows):
        if rows.is_dir() and not rows.is_symlink():
            clear(rows)
        write_atomically(rows, read_plain(inputs.rows))
    if inputs.parent is not None and not _is_artifact(parent, job.parent):
        clear(parent)
        shutil.copytree(inputs.parent, parent, ignore=shutil.ignore_patterns(SIGNATURE_FILE))


def read_job(folder: Path, base: Path, judge: Path | None = None) -> JobFile:
    """The folder's job, once everything that it names is as it says.

    Raises:
        DamagedInputError: the job itself, its rows, its parent, the base model or the judge's weights are others.
    """
    try:
        file = JobFile.model_validate_json(read_plain(folder / JOB_FILE))
    except (OSError, ValidationError) as error:
        raise DamagedInputError(f"{JOB_FILE} cannot be read") from error
    job = file.job
    rows = folder / ROWS_INPUT
    for name, sound in (
        (JOB_FILE, file.identity == job.identity()),
        (ROWS_INPUT, rows.is_file() and file_digest(rows) == job.rows),
        (PARENT_INPUT, job.parent is None or _is_artifact(folder / PARENT_INPUT, job.parent)),
        ("the base model", is_base_model(base, job.base)),
        ("the judge", _is_judge(judge, job.judge)),
    ):
        if not sound:
            raise DamagedInputError(f"{name} is not as the job says")
    return file


def finished(folder: Path, identity: str) -> TrainResult | None:
    """The result in the folder, when it answers this job and its adapter is intact."""
    try:
        result = TrainResult.model_validate_json(read_plain(folder / RESULT_FILE))
    except (FileNotFoundError, ValidationError):
        return None
    return result if result.identity == identity and is_whole(folder) else None


def _is_judge(folder: Path | None, judge: RewardJudge | None) -> bool:
    if judge is None or judge.model.base_model is None:
        return True
    return folder is not None and is_base_model(folder, judge.model.base_model.digest)


def _is_artifact(folder: Path, artifact: str | None) -> bool:
    try:
        seal.verify_artifact(folder, artifact or "")
    except ModelsmithError:
        return False
    return True
