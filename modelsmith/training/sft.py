"""The worker of supervised fine-tuning: `fleet.executor` starts it on a job folder.

Reads ``job.json``, trains a LoRA adapter with TRL's `SFTTrainer` on the answers only, and leaves ``adapter/`` and
``result.json``, or ``error.json``. Killed at any moment, the same command goes on from the last intact checkpoint and
ends in the same adapter. When standard input is a pipe that closes, it saves a checkpoint and ends with status 75.

Three things make a step cheap: rows share the system prompt's tokens (`packing`), logits are computed only where an
answer is learned, and with ``lora.top_layers`` the layers below take no part in the backward pass.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import shutil
import stat
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from modelsmith.substrates.quiet import quiet

quiet()
gc.disable()  # what these imports make stays: looking for garbage among it takes a fifth of their time

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

from modelsmith.schema.canonical import file_digest  # noqa: E402
from modelsmith.schema.training import Lora, Settings  # noqa: E402
from modelsmith.substrates.adapter import load_adapter  # noqa: E402
from modelsmith.substrates.chat import prompt_ids, text_ids  # noqa: E402
from modelsmith.training import job as names  # noqa: E402
from modelsmith.training.checkpoints import last_intact, seal_checkpoint  # noqa: E402
from modelsmith.training.failures import CorruptCheckpointError, DivergedError, classify, classify_in  # noqa: E402
from modelsmith.training.job import Heartbeat, JobFile, TrainJob, TrainResult, WorkerError  # noqa: E402
from modelsmith.training.packing import IGNORED, Tokens, pack  # noqa: E402
from modelsmith.training.rows import read_rows  # noqa: E402

gc.freeze()
gc.enable()

LIBRARIES = ("accelerate", "datasets", "peft", "torch", "transformers", "trl")
STOP_GRACE = 120.0
"""Seconds that an orphaned worker may need to finish its step and its checkpoint."""


class StoppedError(Exception):
    """The worker was asked to stop; its checkpoint is written."""


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """Computes logits at the positions whose next token is learned, and nowhere else."""

    last_loss = math.nan

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        causal = model.get_base_model()
        inputs = dict(inputs)
        labels = inputs.pop("labels")[:, 1:]
        learned = labels != IGNORED
        hidden = causal.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        logits = causal.get_output_embeddings()(hidden[learned]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[learned])
        self.last_loss = float(loss.detach())
        if not math.isfinite(self.last_loss):
            raise DivergedError(f"loss {self.last_loss} at step {self.state.global_step + 1}")
        return loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: lineage lives in the promotion record."""


class _Signs(TrainerCallback):  # type: ignore[misc]
    """Heartbeats, sealed checkpoints, and the way to stop."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self.trainer: _Trainer | None = None
        self.begun = False
        self._file = folder / names.HEARTBEAT_FILE
        self._stop = stop
        self._clock = time.monotonic()
        self._first = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.begun:
            self.begun, self._clock, self._first = True, time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self.trainer is not None
        seconds = time.monotonic() - self._clock
        each = seconds / (state.global_step - self._first)
        beat = Heartbeat(
            step=state.global_step,
            steps=state.max_steps,
            loss=self.trainer.last_loss,
            seconds=seconds,
            eta=each * (state.max_steps - state.global_step),
        )
        with self._file.open("ab") as file:
            file.write(beat.model_dump_json().encode() + b"\n")
        if self._stop.is_set() and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def run(folder: Path, stop: threading.Event) -> TrainResult:
    """Train the folder's job, from its last intact checkpoint if there is one.

    Raises:
        StoppedError: asked to stop; a checkpoint is written.
        CorruptCheckpointError: the checkpoint cannot be loaded although its files are as they were written.
        DivergedError: the loss is not a number any more.
    """
    file = JobFile.model_validate_json((folder / names.JOB_FILE).read_bytes())
    job, checkpoints = file.job, folder / names.CHECKPOINT_FOLDER
    tokenizer = AutoTokenizer.from_pretrained(job.model, local_files_only=True)
    signs = _Signs(folder, stop)
    trainer = _trainer(job, tokenizer, checkpoints, signs)
    signs.trainer = trainer
    checkpoint = last_intact(checkpoints)
    begin = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:
        if checkpoint is not None and not signs.begun and classify(error) == "crash":
            raise CorruptCheckpointError(checkpoint.name) from error
        raise
    if trainer.state.global_step < job.training.steps:
        raise StoppedError
    result = TrainResult(
        identity=file.identity,
        steps=trainer.state.global_step,
        final_loss=_final_loss(folder / names.HEARTBEAT_FILE, job.training.steps),
        seconds=time.monotonic() - begin,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        versions={name: version(name) for name in LIBRARIES},
        adapter=_save_adapter(trainer.model, folder / names.ADAPTER_FOLDER),
    )
    names.write_json(folder / names.RESULT_FILE, result)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return result


def _trainer(job: TrainJob, tokenizer: Any, checkpoints: Path, signs: _Signs) -> _Trainer:
    cuda = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.bfloat16 if cuda else torch.float32, local_files_only=True, use_safetensors=True
    )
    adapter = None
    if job.parent:
        model = load_adapter(model, Path(job.parent), trainable=True)
    else:
        adapter = _lora(job.training.lora, model)
    return _Trainer(
        model=model,
        args=_arguments(job.training, checkpoints, cuda),
        data_collator=lambda rows: pack([Tokens(row["prompt_tokens"], row["answer_tokens"]) for row in rows]),
        train_dataset=Dataset.from_list(_tokenised(job, tokenizer)),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[signs],
    )


def _lora(lora: Lora, model: Any) -> LoraConfig:
    layers = model.config.num_hidden_layers
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(linear),
        layers_to_transform=list(range(max(0, layers - lora.top_layers), layers)) if lora.top_layers else None,
        task_type="CAUSAL_LM",
    )


def _arguments(training: Settings, checkpoints: Path, cuda: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(checkpoints),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(training.schedule, training.schedule),
        warmup_steps=max(1, training.steps // 20),
        seed=training.seed,
        data_seed=training.seed,
        save_strategy="steps",
        save_steps=training.checkpoint_every,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not cuda,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _tokenised(job: TrainJob, tokenizer: Any) -> list[dict[str, list[int]]]:
    return [
        {
            "prompt_tokens": prompt_ids(tokenizer, row.messages, job.system, job.chat),
            "answer_tokens": [*text_ids(tokenizer, row.answer, job.chat), tokenizer.eos_token_id],
        }
        for row in read_rows(Path(job.rows))
    ]


def _save_adapter(model: Any, target: Path) -> dict[str, str]:
    """The adapter as safetensors with its configuration in a fixed order and without paths; digests by file name."""
    scratch = target.with_name(f".{target.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch, safe_serialization=True)
    path = scratch / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for other in scratch.iterdir():
        if other.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            other.unlink()
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)
    return {file.name: file_digest(file) for file in sorted(target.iterdir())}


def _final_loss(heartbeats: Path, steps: int) -> float:
    beats, _ = names.read_heartbeats(heartbeats, 0)
    losses = {beat.step: beat.loss for beat in beats}
    last = [loss for step, loss in sorted(losses.items()) if step > steps - max(1, steps // 10)]
    return math.fsum(last) / len(last)


def _follow_lifeline(stop: threading.Event) -> None:
    """When standard input is a pipe and closes, ask for a stop, and end by force if that takes too long."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        stop.set()
        time.sleep(STOP_GRACE)
        os._exit(names.STOPPED)

    threading.Thread(target=wait, daemon=True).start()


def main(folder: Path, stop: threading.Event) -> int:
    """Exit status: 0 trained, 75 stopped with a checkpoint, 1 failed (``error.json`` says why)."""
    try:
        with FileLock(folder / ".worker.lock", timeout=STOP_GRACE + 30):
            run(folder, stop)
    except StoppedError:
        return names.STOPPED
    except Exception as error:
        _tell(error, folder)
        return 1
    return 0


def _tell(error: Exception, folder: Path) -> None:
    """Say why in ``error.json`` and the log, as far as the disk takes it."""
    text = f"{type(error).__name__}: {error}"[:500]
    checkpoint = str(error) if isinstance(error, CorruptCheckpointError) else None
    failure = WorkerError(failure=classify_in(folder, error), message=text, checkpoint=checkpoint)
    with suppress(OSError):
        names.write_json(folder / names.ERROR_FILE, failure)
    with suppress(OSError):
        traceback.print_exc()


if __name__ == "__main__":
    asked = threading.Event()
    _follow_lifeline(asked)
    sys.exit(main(Path(sys.argv[1]), asked))
