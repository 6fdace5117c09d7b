"""The supervisor of a training worker: starts it, listens, restarts it once where that helps, and adopts its result."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from modelsmith.evaluation.reward import require_rewarding
from modelsmith.fleet.executor import Executor, HostLostError, Submitted
from modelsmith.fleet.folder import BESIDE_FILE, ERROR_FILE, JOB_FILE, LOG, RECOVERIES_FILE, write_json
from modelsmith.fleet.worker import STOP_GRACE, STOPPED
from modelsmith.schema.beside import BesideServing
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.plain_file import open_plain, read_plain
from modelsmith.schema.training import Grpo, unfit
from modelsmith.schema.training_row import Prompt
from modelsmith.training.checkpoints import keep_only_last
from modelsmith.training.failures import as_error, has_room
from modelsmith.training.job import (
    ADAPTER_FOLDER,
    CHECKPOINT_FOLDER,
    FailureClass,
    Heartbeat,
    Inputs,
    JobFile,
    TrainJob,
    TrainResult,
    Waiting,
    WorkerError,
    finished,
    heartbeats,
    place,
    waits,
)
from modelsmith.training.judging import require_judge
from modelsmith.training.recovery import Recoveries, Recovery, read_recoveries, recovery
from modelsmith.training.rows import read_rows
from modelsmith.training.tripped_before import tripped_before
from modelsmith.training.worker import METHODS

WORKER = "modelsmith.training.worker"
"""Module that an executor runs on the job's folder."""
START_GRACE = 900.0
"""Seconds until the first heartbeat of a worker: loading, tokenising, one step."""
BEAT_GRACE = 600.0
"""Seconds between heartbeats after which a worker counts as stalled."""
JUDGED_GRACE = 3600.0
"""The same where a judge rewards answers, who may be slow, or be asked again and again."""
_POLL = 0.25
_LOG_TAIL = 16_384
"""Bytes at a log's end of which the last lines are told."""


@dataclass(frozen=True)
class TrainOutcome:
    """Result of a finished training: its adapter, and how it went."""

    adapter: Path
    steps: int
    final_loss: float
    seconds: float
    peak_bytes: int
    versions: dict[str, str]
    restarts: int
    """How often the worker was restarted from a checkpoint."""
    adopted: bool
    """The result was there already."""
    recoveries: tuple[Recovery, ...] = ()
    """Everything that was done for the job, by this call and by earlier ones."""
    reward: str | None = None
    """Identity of the reward, as the trainer states it; None where answers were not rewarded."""
    judge: str | None = None
    """Identity of the judge, where one decided points of it."""
    devices: int | None = None
    """On how many devices the worker that finished trained; None where it did not say."""


def train(
    job_dir: Path,
    job: TrainJob,
    inputs: Inputs,
    executor: Executor,
    progress: Callable[[Heartbeat], None],
    recovered: Callable[[Recovery], None] = lambda _: None,
    beside: BesideServing | None = None,
    waiting: Callable[[Waiting], None] = lambda _: None,
    devices: int = 1,
) -> TrainOutcome:
    """Run the job to its end, or adopt its result, or a tripwire's end, when the same job was done before.

    After a failure against which `training.recovery` has a remedy the worker is started again; each remedy is told and
    kept in the job's folder. With ``beside`` the worker waits for front doors of its machine, which ``waiting`` hears;
    the budget is not part of the job, and who waits does not stall. On Ctrl-C the worker saves a checkpoint and ends;
    the next call goes on from there. ``devices`` is how many the executor's workers train on together: each has
    as many rows of a step as any other.

    Raises:
        InvalidInput: ``method-not-available``, ``job-folder-taken`` (by another job), ``parent-shape``,
            ``devices-unfit``, ``training-nan-loss``, ``training-tripped``, ``training-judge-spent``,
            ``training-judge-unclear``, ``training-sampler-refused``, ``training-model-unfit``,
            ``training-row-too-long``, ``judged-reward``, ``judge-is-trained``, ``judge-calls-few``.
        IntegrityFailure: ``training-damaged-input``, ``training-weights-differ``, ``reward-differs``.
        InfrastructureFailure: ``job-busy``, ``training-oom``, ``training-disk-full``, ``training-crash``,
            ``training-host-unfit``, ``training-killed``, ``training-stalled``, ``training-corrupt-checkpoint``,
            ``training-judge-failed``, ``training-sampler-missing``, ``training-sampler-failed``,
            ``training-host-lost``; as the executor.
        KeyboardInterrupt: interrupted; the worker has ended.
    """
    if job.training.method not in METHODS:
        raise InvalidInput(
            "method-not-available",
            f"Training by {job.training.method} is not available yet.",
            f"Use one of: {', '.join(sorted(METHODS))}.",
            method=job.training.method,
        )
    _check_devices(job, devices)
    _check_parent(job, inputs)
    _check_reward(job, inputs)
    job_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job_dir / ".supervisor.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InfrastructureFailure(
            "job-busy", "Another process trains this job.", "Wait until it has finished, then run the command again."
        ) from None
    try:
        identity = _claim(job_dir, job)
        adopted = finished(job_dir, identity)
        if adopted is not None:
            return _outcome(job_dir, adopted, restarts=0, adopted=True)
        ended = tripped_before(job_dir, job.training)
        if ended is not None:
            raise as_error(ended, "", job_dir)
        place(job_dir, job, inputs)
        (job_dir / BESIDE_FILE).unlink(missing_ok=True)
        if beside is not None:
            write_json(job_dir / BESIDE_FILE, beside)
        recoveries, tried, last = read_recoveries(job_dir), Counter[FailureClass](), 0

        def follow(beat: Heartbeat) -> None:
            nonlocal last
            last = beat.step
            progress(beat)

        while True:
            (job_dir / ERROR_FILE).unlink(missing_ok=True)
            patience = JUDGED_GRACE if job.judge else 0.0
            failure = _attempt(executor, job_dir, follow, waiting, patience)
            result = finished(job_dir, identity)
            if result is not None and (failure is None or failure.failure == "killed"):  # it was done by then
                return _outcome(job_dir, result, tried.total(), adopted=False)
            failure = failure or WorkerError(failure="crash", message="The worker ended without a whole result.")
            remedy = recovery(job, failure, recoveries, tried, last, devices)
            if remedy is not None and remedy.action == "free-space":
                keep_only_last(job_dir / CHECKPOINT_FOLDER)
                remedy = remedy if has_room(job_dir) else None
            if remedy is None:
                raise as_error(failure, _tail(job_dir / LOG), job_dir)
            recoveries, tried[failure.failure] = (*recoveries, remedy), tried[failure.failure] + 1
            write_json(job_dir / RECOVERIES_FILE, Recoveries(made=recoveries))
            recovered(remedy)
            if remedy.action == "inputs-anew":
                place(job_dir, job, inputs)
    finally:
        lock.release()


def _check_devices(job: TrainJob, devices: int) -> None:
    reason = unfit(job.training, devices)
    if reason:
        raise InvalidInput("devices-unfit", reason, "Write another number of devices.", devices=devices)


def _check_parent(job: TrainJob, inputs: Inputs) -> None:
    if inputs.parent is None:
        return
    config = json.loads((inputs.parent / "adapter_config.json").read_text(encoding="utf-8"))
    lora = job.training.lora
    if (config.get("r"), config.get("lora_alpha")) != (lora.rank, lora.alpha):
        raise InvalidInput(
            "parent-shape",
            f"The parent's adapter has rank {config.get('r')} and alpha {config.get('lora_alpha')}; "
            f"the cluster asks for {lora.rank} and {lora.alpha}.",
            "Keep lora.rank and lora.alpha as they were, or start from the base model.",
            rank=lora.rank,
            alpha=lora.alpha,
        )


def _check_reward(job: TrainJob, inputs: Inputs) -> None:
    """The rubric can reward every answer, and is the one that the prompts were made for."""
    if job.training.method != "grpo":
        return
    prompts = read_rows(inputs.rows, Prompt)
    if job.rubric is None or any(prompt.rubric != content_digest(job.rubric) for prompt in prompts):
        raise IntegrityFailure(
            "reward-differs",
            "The prompts were made for another rubric than the one that would reward answers to them.",
            "Diagnose the run again to make the prompts anew.",
        )
    assert isinstance(job.training, Grpo)
    require_rewarding(job.rubric, [prompt.expected for prompt in prompts], job.training.judge_calls)
    require_judge(job.rubric, job.judge.model if job.judge else None, job.training, job.base, len(prompts))


def _claim(folder: Path, job: TrainJob) -> str:
    """Write ``job.json``, unless the folder belongs to another job."""
    identity = job.identity()
    path = folder / JOB_FILE
    if path.exists():
        try:
            owner = JobFile.model_validate_json(read_plain(path)).identity
        except ValidationError:
            owner = "unreadable"
        if owner != identity:
            raise InvalidInput(
                "job-folder-taken",
                "The job's folder belongs to a different training job.",
                "Use a new folder, or delete this one to train anew.",
                found=owner,
                expected=identity,
            )
    write_json(path, JobFile(identity=identity, job=job))
    return identity


def _attempt(
    executor: Executor,
    folder: Path,
    progress: Callable[[Heartbeat], None],
    waiting: Callable[[Waiting], None],
    patience: float,
) -> WorkerError | None:
    """Start a worker and follow it to its end; None when it says that it succeeded."""
    try:
        worker = executor.submit(folder)
        try:
            return _follow(worker, folder, progress, waiting, patience)
        except HostLostError:
            raise
        except BaseException:
            worker.stop(STOP_GRACE)
            raise
    except HostLostError as error:
        return WorkerError(failure="host-lost", message=str(error)[:500])


def _follow(
    worker: Submitted,
    folder: Path,
    progress: Callable[[Heartbeat], None],
    waiting: Callable[[Waiting], None],
    patience: float,
) -> WorkerError | None:
    since, grace = worker.since, max(START_GRACE, patience)
    deadline = time.monotonic() + grace
    while True:
        lines, since, status = worker.beats(since, _POLL)
        beats = heartbeats(lines)
        for beat in beats:
            progress(beat)
        waited = waits(lines)
        for wait in waited:
            waiting(wait)
        if status is not None:
            worker.fetch()
            return _failure(status, folder)
        if beats:
            grace = max(BEAT_GRACE, patience)
        if beats or waited:
            deadline = time.monotonic() + grace
        elif time.monotonic() > deadline:
            worker.stop(0)
            return WorkerError(failure="stalled", message="No heartbeat came in time.")


def _failure(status: int, folder: Path) -> WorkerError | None:
    if status == 0:
        return None
    try:
        return WorkerError.model_validate_json(read_plain(folder / ERROR_FILE))
    except (FileNotFoundError, ValidationError):
        if not has_room(folder):
            return WorkerError(failure="disk-full", message="The worker found no room, not even to say so.")
        if status == -signal.SIGTERM:
            return WorkerError(failure="preempted", message="The worker was asked to end.")
        was_killed = status < 0 or status == STOPPED
        return WorkerError(
            failure="killed" if was_killed else "crash", message=f"The worker ended with status {status}."
        )


def _outcome(folder: Path, result: TrainResult, restarts: int, adopted: bool) -> TrainOutcome:
    return TrainOutcome(
        adapter=folder / ADAPTER_FOLDER,
        steps=result.steps,
        final_loss=result.final_loss,
        seconds=result.seconds,
        peak_bytes=result.peak_bytes,
        versions=result.versions,
        restarts=restarts,
        adopted=adopted,
        recoveries=read_recoveries(folder),
        reward=result.reward,
        judge=result.judge,
        devices=result.devices,
    )


def _tail(log: Path) -> str:
    """The last lines of the worker's log."""
    try:
        with open_plain(log) as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            return "\n".join(file.read(_LOG_TAIL).decode("utf-8", "replace").splitlines()[-15:])
    except FileNotFoundError:
        return ""
