"""A run of training, whatever the method: from the base model and the last checkpoint to a sealed result.

Heavy: imports torch, transformers and PEFT; only the worker uses it.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoTokenizer

from modelsmith.evaluation.reward import reward_digest
from modelsmith.fleet.folder import BESIDE_FILE, HEARTBEAT_FILE, RESULT_FILE, clear, lines_since, listing, write_json
from modelsmith.fleet.yielding import Yielding
from modelsmith.schema.beside import BesideServing
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.training import Settings
from modelsmith.training import ranks
from modelsmith.training.checkpoints import is_intact, last_intact, seal_checkpoint
from modelsmith.training.failures import OUTSIDE_ERRORS, CorruptCheckpointError, StoppedError, classify
from modelsmith.training.job import (
    ADAPTER_FOLDER,
    CHECKPOINT_FOLDER,
    PARENT_INPUT,
    QUANTISES,
    ROWS_INPUT,
    JobFile,
    TrainJob,
    TrainResult,
    heartbeats,
)
from modelsmith.training.judged import Reward, open_reward
from modelsmith.training.loading import adapter_as_it_is, load
from modelsmith.training.recovery import checkpoints_kept, parts_of_step, read_recoveries
from modelsmith.training.rows import ROW_OF, read_rows
from modelsmith.training.signs import Signs

LIBRARIES = ("accelerate", "datasets", "peft", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Bench:
    """The parts that a method makes its trainer of."""

    folder: Path
    """Folder of the job."""
    base: Path
    """Where this host has the base model."""
    job: TrainJob
    rows: tuple[Any, ...]
    """Rows of the method's kind: see `training.rows.ROW_OF`."""
    model: Any
    """The base model, with the parent's adapter on it if there is one; see `loading.load`."""
    adapter: LoraConfig | None
    """The new adapter for it, if it has none yet."""
    tokenizer: Any
    arguments: dict[str, Any]
    """transformers' ``TrainingArguments`` as every method has them."""
    signs: Signs
    """To be among the trainer's callbacks, and to be told each step's loss."""
    reward: Reward | None = None
    """What sampled answers are worth, where the method rewards them."""
    cleanup: ExitStack = field(default_factory=ExitStack)
    """What the method started and must end with the training."""
    used: dict[str, str] = field(default_factory=dict)
    """Programs that have a part in the training besides the libraries, by name: their versions."""


Build = Callable[[Bench], Any]
"""A method: its transformers ``Trainer``, ready to train."""


def run(
    folder: Path,
    file: JobFile,
    base: Path,
    stop: threading.Event,
    build: Build,
    judge: Path | None = None,
    doors: Path | None = None,
) -> None:
    """Train the folder's job, from its last intact checkpoint if there is one.

    ``judge`` is where this host has the weights of the judge, where the job names one. With ``doors``, where front
    doors of this host say how busy they are, it waits for them by the budget in the folder.

    Raises:
        StoppedError: asked to stop; a checkpoint is written.
        CorruptCheckpointError: the checkpoint could not be loaded although its files are as they were written. It is
            removed, so that the next run goes on from the one before.
        DivergedError: loss or gradient is not a number any more.
        TrippedError: a tripwire was met; a checkpoint is written.
        JudgeSpentError, JudgeFailedError, JudgeUnclearError: an answer could not be rewarded; a checkpoint is written.
        SamplerMissingError, SamplerRefusedError, SamplerFailedError: see `served`.
        HostUnfitError: this machine cannot do what the settings ask for.
    """
    signs = Signs(folder, stop, _yielding(folder, stop, doors))
    signs.wait_to_begin()
    reward = open_reward(folder, file.job, judge) if file.job.rubric else None
    try:
        _run(folder, file, base, signs, build, reward)
    finally:
        if reward:
            reward.close()


def _run(folder: Path, file: JobFile, base: Path, signs: Signs, build: Build, reward: Reward | None) -> None:
    bench = _bench(folder, file.job, base, signs, reward)
    with bench.cleanup:
        with adapter_as_it_is(bench.model):
            trainer = build(bench)
        _train(bench, file, trainer)


def _train(bench: Bench, file: JobFile, trainer: Any) -> None:
    folder, job, signs = bench.folder, bench.job, bench.signs
    waited, checkpoints = signs.waited, folder / CHECKPOINT_FOLDER
    checkpoint = ranks.from_first(last_intact(checkpoints) if ranks.is_first() else None)
    begin = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except OUTSIDE_ERRORS:
        _put_away(trainer, checkpoints, signs)
        raise
    except Exception as error:
        loading = checkpoint is not None and not signs.begun
        if checkpoint and loading and classify(error) == "crash" and not ranks.lost_one(error):
            shutil.rmtree(checkpoint, ignore_errors=True)
            raise CorruptCheckpointError(checkpoint.name) from error
        raise
    if signs.ended:
        raise signs.ended
    if trainer.state.global_step < job.training.steps:
        raise StoppedError
    if not ranks.is_first():
        return
    result = TrainResult(
        identity=file.identity,
        steps=trainer.state.global_step,
        final_loss=_final_loss(folder / HEARTBEAT_FILE, job.training.steps),
        seconds=time.monotonic() - begin - (signs.waited - waited),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        versions={name: version(name) for name in LIBRARIES} | bench.used,
        reward=_reward_of(job),
        judge=job.judge.identity if job.judge else None,
        devices=ranks.count(),
        files=save_adapter(trainer.model, folder / ADAPTER_FOLDER),
    )
    write_json(folder / RESULT_FILE, result)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _reward_of(job: TrainJob) -> str | None:
    judge = job.judge.identity if job.judge else None
    return reward_digest(content_digest(job.rubric), judge=judge) if job.rubric else None


def _put_away(trainer: Any, checkpoints: Path, signs: Signs) -> None:
    """Save a checkpoint when a step is interrupted: the end of the step before, as nothing was learned since.

    Where several processes train together, what ended the step ended it in all of them: see `ranks.decided`.
    """
    step = trainer.state.global_step
    if signs.begun and step and not ranks.from_first(is_intact(checkpoints / f"checkpoint-{step}")):
        trainer._save_checkpoint(trainer.model, trial=None)
        ranks.meet()  # each has written what it alone knows
        if ranks.is_first():
            seal_checkpoint(checkpoints / f"checkpoint-{step}")
        ranks.meet()  # the end of one ends the others, so none ends before it is sealed


def _yielding(folder: Path, stop: threading.Event, doors: Path | None) -> Yielding | None:
    path = folder / BESIDE_FILE
    if doors is None or not path.exists():
        return None
    return Yielding(BesideServing.model_validate_json(read_plain(path)), doors, stop.wait)


def _bench(folder: Path, job: TrainJob, base: Path, signs: Signs, reward: Reward | None = None) -> Bench:
    cuda = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(str(base), local_files_only=True, trust_remote_code=False)
    model, adapter = load(base, job.training, folder / PARENT_INPUT if job.parent else None)
    recoveries = read_recoveries(folder)
    parts = parts_of_step(job, recoveries, ranks.count())
    arguments = _arguments(job.training, folder / CHECKPOINT_FOLDER, cuda) | {
        "per_device_train_batch_size": job.training.batch_size // ranks.count() // parts,
        "gradient_accumulation_steps": parts,
        "save_total_limit": checkpoints_kept(recoveries),
    }
    return Bench(
        folder,
        base,
        job,
        read_rows(folder / ROWS_INPUT, ROW_OF[job.training.method]),
        model,
        adapter,
        tokenizer,
        arguments,
        signs,
        reward,
        used={QUANTISES: version(QUANTISES)} if job.training.load_in_4bit else {},
    )


def _arguments(training: Settings, checkpoints: Path, cuda: bool) -> dict[str, Any]:
    return {
        "output_dir": str(checkpoints),
        "max_steps": training.steps,
        "per_device_train_batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(training.schedule, training.schedule),
        "warmup_steps": max(1, training.steps // 20),
        "seed": training.seed,
        "data_seed": training.seed,
        "save_strategy": "steps",
        "save_steps": training.checkpoint_every,
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": False,
        "use_cpu": not cuda,
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
        "remove_unused_columns": False,
    }


def save_adapter(model: Any, target: Path) -> dict[str, str]:
    """Write the adapter as safetensors with its configuration in a fixed order and without paths; digests by path."""
    scratch = target.with_name(f".{target.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch, safe_serialization=True, selected_adapters=["default"])
    path = scratch / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for other in scratch.iterdir():
        if other.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            other.unlink()
    clear(target)
    scratch.rename(target)
    return {f"{target.name}/{name}": digest for name, digest in listing(target).items()}


def _final_loss(path: Path, steps: int) -> float:
    losses = {beat.step: beat.loss for beat in heartbeats(lines_since(path, 0)[0])}
    last = [loss for step, loss in sorted(losses.items()) if step > steps - max(1, steps // 10)]
    return math.fsum(last) / len(last)
