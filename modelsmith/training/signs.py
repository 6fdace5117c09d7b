"""A trainer's signs of life: heartbeats, sealed checkpoints, and the way to stop. Heavy: imports transformers."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from modelsmith.fleet.folder import HEARTBEAT_FILE, lines_since, say
from modelsmith.fleet.yielding import TOLD_EVERY, Yielding
from modelsmith.training import ranks
from modelsmith.training.checkpoints import seal_checkpoint
from modelsmith.training.failures import DivergedError, StoppedError
from modelsmith.training.job import Heartbeat, Waiting, heartbeats
from modelsmith.training.measures import Measures


class Signs(TrainerCallback):  # type: ignore[misc]
    """A trainer gets it as a callback, and tells it the loss of each step."""

    def __init__(self, folder: Path, stop: threading.Event, yielding: Yielding | None = None) -> None:
        self.begun = False
        """A step was begun, so what was loaded could be loaded."""
        self.waited = 0.0
        """Seconds that it waited for a front door, before and between steps."""
        self._folder = folder
        self._stop = stop
        self._yielding = yielding
        self._clock = time.monotonic()
        self._first = self._step = 0
        self._waited_before = 0.0
        self._learned: list[dict[str, float]] = []
        self._measures: Measures | None = None
        self.ended: Exception | None = None
        """Why training ended before its last step; None where nothing ended it."""
        self._judge_calls: int | None = None
        self._reported_at = 0.0

    def learned(self, loss: float, **measures: float) -> None:
        """Take note of the loss of the step under way, and of what else the method says of it.

        A step that goes through its batch in parts says it for each; the mean is told.

        Raises:
            DivergedError: the loss is not a number any more.
        """
        if not math.isfinite(loss):
            raise DivergedError(f"loss {loss} at step {self._step + 1}")
        self._learned.append({"loss": loss, **measures})

    def measured(self, measures: Measures) -> None:
        """Take note of what the step under way measured."""
        self._measures = measures

    def measures_until(self, step: int) -> dict[int, Measures]:
        """Measurements up to this step, by this worker or those before it."""
        beats = heartbeats(lines_since(self._folder / HEARTBEAT_FILE, 0)[0])
        return {beat.step: beat.measures for beat in beats if beat.measures and beat.step <= step}

    def note_calls(self, calls: int | None) -> None:
        """Take note of how often the judge was asked by now."""
        self._judge_calls = calls

    def end(self, reason: Exception) -> None:
        """Let training end for this reason, with a checkpoint, after the step under way."""
        self.ended = reason

    def wait(self) -> None:
        """Wait for a front door that is beyond the budget, saying so; a request to stop ends it."""
        if self._yielding is not None and ranks.is_first():
            self.waited += self._yielding.wait(
                lambda why, seconds: say(self._folder, Waiting(waits=why, waited=seconds))
            )

    def waits_for_vllm(self, why: str, seconds: float) -> None:
        """Say that the work under way waits for its server, for so many seconds already; told every ten seconds.

        Raises:
            StoppedError: asked to stop meanwhile.
        """
        if self._stop.is_set():
            raise StoppedError
        self._reported_at = min(self._reported_at, seconds)
        if seconds - self._reported_at >= TOLD_EVERY:
            self._reported_at = seconds
            say(self._folder, Waiting(whom="vLLM", waits=why, waited=seconds))

    def wait_to_begin(self) -> None:
        """Wait likewise before there is anything that a stop would have to put away.

        Raises:
            StoppedError: asked to stop meanwhile.
        """
        self.wait()
        if ranks.from_first(self._yielding is not None and self._stop.is_set()):
            raise StoppedError

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See transformers.

        Raises:
            StoppedError: see `wait_to_begin`.
        """
        self._step = state.global_step
        if not self.begun:
            self.begun, self._first = True, state.global_step
            self.wait_to_begin()
            self._clock, self._waited_before = time.monotonic(), self.waited

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """See transformers. What is not a number is found before it is in the weights, and so in no checkpoint.

        Raises:
            DivergedError: the gradient is not a number any more.
        """
        gradients = [tensor.grad for tensor in model.parameters() if tensor.grad is not None]
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise DivergedError(f"gradient at step {self._step + 1}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See transformers."""
        seconds = time.monotonic() - self._clock - (self.waited - self._waited_before)
        each = seconds / (state.global_step - self._first)
        parts, self._learned = self._learned, []
        means = ranks.mean({name: math.fsum(part[name] for part in parts) / len(parts) for name in parts[0]})
        beat = Heartbeat(
            step=state.global_step,
            steps=state.max_steps,
            loss=means.pop("loss"),
            seconds=seconds,
            eta=each * (state.max_steps - state.global_step),
            measures=self._measures,
            accuracy=means.get("accuracy"),
            margin=means.get("margin"),
            judge_calls=self._judge_calls,
        )
        if ranks.is_first():
            say(self._folder, beat)
        if not self.ended and state.global_step < state.max_steps:
            self.wait()
        if self.ended or (ranks.from_first(self._stop.is_set()) and state.global_step < state.max_steps):
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See transformers."""
        ranks.meet()  # each has written what it alone knows
        if ranks.is_first():
            seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        ranks.meet()  # the end of one ends the others, so none ends before it is sealed
