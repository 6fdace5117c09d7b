"""Failure classes of training: how an exception is named, and what each class means for the person who waits."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.training.job import DamagedInputError, FailureClass, WorkerError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_MEMORY = ("out of memory", "allocate memory", "alloc_failed", "allocation_failed", "failed to cuda calloc")
"""How it is said that memory ran out: by CUDA and PyTorch, by the system, by cuBLAS and its like, by cuDNN, by NCCL.
Libraries beside PyTorch take memory past its allocator (https://github.com/pytorch/pytorch/issues/128601)."""
_PROBE = 1 << 20
"""Bytes that a folder with any room to speak of takes."""


class StoppedError(Exception):
    """The worker was asked to stop; its checkpoint is written."""


class DivergedError(Exception):
    """Loss or gradient is not a number any more."""


class TrippedError(Exception):
    """A tripwire was met; the message says which."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.mend = mend


class WeightsDifferError(Exception):
    """The weights that sample are not those that are trained; the message says by how much."""


class SamplerMissingError(Exception):
    """The stage asks for vLLM, and this host has none; the message says what is looked for."""


class SamplerRefusedError(Exception):
    """vLLM does not take the adapter under training; the message is its reason."""


class SamplerFailedError(Exception):
    """The vLLM server did not start, ended, or did not answer as asked; the message says which."""


class JudgeSpentError(Exception):
    """The judge has been asked as often as the stage allows; the message says how often."""


class JudgeFailedError(Exception):
    """The judge could not be asked, or did not reply; the message says why."""


class JudgeUnclearError(Exception):
    """The judge came to no verdict on too many answers; the message says on how many, and why on one of them."""


class CorruptCheckpointError(Exception):
    """A checkpoint whose files are whole could not be loaded; the message is its name."""


class ModelUnfitError(Exception):
    """The base model is of a kind that is not trained here; the message says what it has."""


class RowTooLongError(Exception):
    """A row has more tokens than the base model takes; the message says which and how many."""


class HostUnfitError(Exception):
    """This machine cannot do what the settings ask for; the message says what is missing, and what mends it."""


_JUDGE: dict[type[BaseException], FailureClass] = {
    JudgeSpentError: "judge-spent",
    JudgeFailedError: "judge-failed",
    JudgeUnclearError: "judge-unclear",
}

_SAMPLER: dict[type[BaseException], FailureClass] = {
    SamplerMissingError: "sampler-missing",
    SamplerRefusedError: "sampler-refused",
    SamplerFailedError: "sampler-failed",
}

OUTSIDE_ERRORS = (JudgeSpentError, JudgeFailedError, JudgeUnclearError, SamplerFailedError, StoppedError)
"""What ends a training in the midst of a step of which nothing was learned yet: no verdict, no answer, or the wish of
whoever started it. A checkpoint of the step before is written."""


_TOLD: dict[type[BaseException], FailureClass] = (
    _JUDGE | _SAMPLER | {HostUnfitError: "host-unfit", ModelUnfitError: "model-unfit", RowTooLongError: "row-too-long"}
)
"""Classes whose message says what happened in words for the person who waits."""


def classify(error: BaseException) -> FailureClass:
    """Class of a worker's exception, from it or what caused it."""
    for cause in _chain(error):
        text = str(cause).lower()
        if isinstance(cause, DamagedInputError):
            return "damaged-input"
        if isinstance(cause, CorruptCheckpointError):
            return "corrupt-checkpoint"
        if isinstance(cause, DivergedError):
            return "nan-loss"
        if isinstance(cause, TrippedError):
            return "tripped"
        if isinstance(cause, WeightsDifferError):
            return "weights-differ"
        if type(cause) in _TOLD:
            return _TOLD[type(cause)]
        if isinstance(cause, MemoryError) or any(words in text for words in _NO_MEMORY):
            return "oom"
        if (isinstance(cause, OSError) and cause.errno in _FULL) or "no space left on device" in text:
            return "disk-full"
    return "crash"


def classify_in(folder: Path, error: BaseException) -> FailureClass:
    """Class of a worker's exception; what looks like a crash in a folder that takes nothing more is a full disk.

    Libraries that write in C++ say only that a write failed, if that much.
    """
    failure = classify(error)
    return "disk-full" if failure == "crash" and not has_room(folder) else failure


def has_room(folder: Path) -> bool:
    """Whether the folder still takes what a log and an error need, and some more."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            size = probe.write(bytes(_PROBE))
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno not in _FULL
    return size == _PROBE


def as_worker_error(folder: Path, error: Exception) -> WorkerError:
    """A worker's report of the exception that ended it, for ``error.json``.

    Messages of classes that are told to people stand alone; of others the exception's type says more.
    """
    failure = classify_in(folder, error)
    is_told = failure == "tripped" or failure in _TOLD.values()
    text = str(error) if is_told else f"{type(error).__name__}: {error}"
    return WorkerError(
        failure=failure, message=text[:500], mend=error.mend if isinstance(error, TrippedError) else None
    )


def as_error(error: WorkerError, log_tail: str, folder: Path | None = None) -> ModelsmithError:
    """What the person is told when a worker has failed for good. ``folder``: the job's, where more can be read."""
    message, mend = _WORDS[error.failure]
    kind = _KINDS.get(error.failure, InfrastructureFailure)
    if error.failure in _TOLD.values():
        message += f" {error.message}"
    if error.failure == "tripped":
        message += f": {error.message}."
    details = {"reason": error.message, "log": log_tail} if error.failure == "crash" else {"reason": error.message}
    if folder is not None:
        details["path"] = str(folder)
    mend = f"{error.mend} {_SAME_END}" if error.mend else mend
    return kind(f"training-{error.failure}", message, mend, **details)


_AGAIN = "Run the command again; training goes on from its last checkpoint."
_SAME_END = "Until the cluster file's training has changed on main, the same command ends here again."
_KINDS: dict[FailureClass, type[ModelsmithError]] = {
    "nan-loss": InvalidInput,
    "tripped": InvalidInput,
    "judge-spent": InvalidInput,
    "judge-unclear": InvalidInput,
    "damaged-input": IntegrityFailure,
    "weights-differ": IntegrityFailure,
    "sampler-refused": InvalidInput,
    "model-unfit": InvalidInput,
    "row-too-long": InvalidInput,
}
_WORDS: dict[FailureClass, tuple[str, str]] = {
    "oom": (
        "Training needs more memory than there is.",
        "Lower training.batch_size or lora.rank, or use a larger host.",
    ),
    "damaged-input": (
        "An input of the training is not the one that the job names, so nothing was trained on it.",
        "Run the command again, which copies rows and parent anew; restore the base model's weights if it is they.",
    ),
    "corrupt-checkpoint": (
        "No checkpoint of the training could be loaded.",
        "Delete the job's folder and train again.",
    ),
    "disk-full": ("The disk is full.", f"Free some space. {_AGAIN}"),
    "nan-loss": (
        "Loss or gradient is not a number any more, twice: training diverged.",
        "Lower training.learning_rate.",
    ),
    "tripped": (
        "A tripwire ended the training",
        "Look at curve.svg in the job's folder.",
    ),
    "weights-differ": (
        "The weights that sampled answers are not those that were trained, so nothing was learned from them.",
        "Report it with the base model's name; train it by sft or dpo, or by sampler: embedded where vLLM sampled.",
    ),
    "sampler-missing": (
        "The stage samples by vLLM, and the host that trains has none.",
        "Run `make vllm` there, or name the Python of an environment with vLLM in MODELSMITH_VLLM; "
        "or write sampler: embedded.",
    ),
    "sampler-refused": (
        "vLLM does not take the adapter under training.",
        "Change lora to what vLLM serves (a rank of 512 at most), or write sampler: embedded.",
    ),
    "sampler-failed": (
        "The vLLM server that writes sampled answers failed again and again.",
        f"Read vllm.log in the job's folder; lower gpu_memory_share or write sampler: embedded. {_AGAIN}",
    ),
    "judge-spent": (
        "The judge has been asked as often as the stage allows, and the training is not done.",
        "Raise judge_calls of the stage, or take fewer steps; a training by hand goes on from its checkpoint.",
    ),
    "judge-failed": (
        "The judge did not reply, so answers could not be rewarded; no reward was made up.",
        f"See that the judge can be asked. {_AGAIN}",
    ),
    "judge-unclear": (
        "The judge came to no verdict on too many answers; no reward was made up.",
        "Choose a more able judge model, give it more tokens, or write the instruction more plainly.",
    ),
    "host-unfit": (
        "The machine that trains cannot do it as the cluster file asks.",
        f"Mend that, or change the setting that asks for it. {_AGAIN}",
    ),
    "row-too-long": (
        "A training row does not fit into the base model's context, so nothing was trained.",
        "Shorten it, or take it out, where it comes from: a generator's template, a data set or a teacher's limit.",
    ),
    "model-unfit": (
        "The base model is of a kind that is not trained here.",
        "Choose one such as Llama, Qwen3, Gemma 3, Mistral or SmolLM.",
    ),
    "crash": ("The training worker crashed.", "Read the worker's log in the job's folder."),
    "killed": ("The training worker was killed twice, perhaps for want of memory.", f"Close other programs. {_AGAIN}"),
    "preempted": ("The training worker was asked to end, again and again.", f"See who ends it. {_AGAIN}"),
    "host-lost": (
        "Hosts on which it trained were lost, again and again.",
        f"See that they can be reached (`modelsmith doctor`). {_AGAIN}",
    ),
    "stalled": ("The training worker stopped making progress twice.", f"Check what else runs on the host. {_AGAIN}"),
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
