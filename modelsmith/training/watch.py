"""Watching a training that is rewarded: what each step measures, and the end when a tripwire is met. Heavy."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerCallback

from modelsmith.evaluation.reward import Sampled
from modelsmith.schema.source import Chat
from modelsmith.schema.training import Grpo
from modelsmith.schema.training_row import Prompt
from modelsmith.substrates.chat import answer_in
from modelsmith.substrates.decoding import DecodedSequence
from modelsmith.training import ranks
from modelsmith.training.failures import OUTSIDE_ERRORS, JudgeUnclearError, TrippedError, WeightsDifferError
from modelsmith.training.judged import Reward
from modelsmith.training.measures import Measures, too_unclear, tripped
from modelsmith.training.sampler import PROBES, Sampler, disagreement
from modelsmith.training.served import ServedSampler
from modelsmith.training.signs import Signs


class Watch(TrainerCallback):  # type: ignore[misc]
    """A trainer gets it as a callback before its signs, and tells it what each step measured.

    Where several processes train together each has the same history, so that all end at the same step.
    """

    def __init__(
        self,
        aside: Sequence[tuple[Prompt, list[int]]],
        sampler: Sampler | ServedSampler,
        signs: Signs,
        settings: Grpo,
        reward: Reward,
        chat: Chat,
        tokenizer: Any,
    ) -> None:
        """``aside``: the prompts that are not trained on, with their tokens."""
        self._aside, self._sampler, self._signs, self._settings = aside, sampler, signs, settings
        self._reward, self._chat, self._tokenizer = reward, chat, tokenizer
        self._history: dict[int, Measures] = {}
        self._before: float | None = None
        self._now: Measures | None = None

    def due(self, step: int, steps: int) -> bool:
        """Whether the costly measures are taken at this step."""
        return step % self._settings.watch_every == 0 or step == steps

    def measured(self, measures: Measures) -> None:
        """Take note of what the step under way measured."""
        self._now = measures

    def sampled(self, prompt: list[int], output: DecodedSequence, row: Prompt) -> Sampled:
        """An answer as the rubric gets it in an eval: without its thoughts."""
        tokens = output.tokens[:-1] if output.ended else output.tokens
        answer = answer_in(self._tokenizer, prompt, tokens, "stop" if output.ended else "length", self._chat)
        return Sampled(answer.text, answer.finish == "length", row.expected, row.messages)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """See transformers.

        Raises:
            TrippedError: the training ended here before, and would again.
            WeightsDifferError: what samples is not what is trained.
            JudgeSpentError: the judge may not be asked as often as the next step may need; it and other errors of the
                judge also by the look at the prompts set aside.
            JudgeUnclearError: the judge came to no verdict too often.
        """
        step = state.global_step
        self._history = ranks.from_first(self._signs.measures_until(step))
        if step == 0:
            self._require_left(len(self._aside) + self._settings.batch_size)
            self._before = self._held_in(model)
        else:
            if step in self._history and self.due(step, state.max_steps) and self._history[step].held_in is None:
                self._history[step] = self._history[step].model_copy(update={"held_in": self._held_in(model)})
            self._require_judge(step, state.max_steps)
        self._require_verdicts()
        trip = tripped(self._history, self._settings.tripwires)
        if trip:
            raise TrippedError(*trip)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """See transformers.

        Raises:
            WeightsDifferError: what samples is not what is trained.
        """
        assert self._now
        figures: dict[str, Any] = {}
        if state.global_step == 1:
            figures["held_in_before"] = self._before
        try:
            if self.due(state.global_step, state.max_steps):
                figures["held_in"] = self._held_in(model)
            self._require_judge(state.global_step, state.max_steps)
        except OUTSIDE_ERRORS as error:
            self._signs.end(error)
        self._signs.note_calls(self._reward.calls)
        measures = self._now.model_copy(update=figures)
        self._history[state.global_step] = measures
        self._signs.measured(measures)
        try:
            self._require_verdicts()
        except JudgeUnclearError as error:
            self._signs.end(error)
        trip = tripped(self._history, self._settings.tripwires)
        if trip:
            self._signs.end(TrippedError(*trip))

    def _require_verdicts(self) -> None:
        reason = too_unclear(self._history, self._settings.tripwires)
        if reason:
            raise JudgeUnclearError(f"{reason} {ranks.from_first(self._reward.last_unclear)}".strip())

    def _require_left(self, answers: int) -> None:
        ranks.decided(lambda: self._reward.require_left(answers))

    def _require_judge(self, step: int, steps: int) -> None:
        """End between two steps, where a checkpoint is whole, rather than in the midst of one."""
        if step < steps:
            look = len(self._aside) if self.due(step + 1, steps) else 0
            self._require_left(look + self._settings.batch_size)

    def _held_in(self, model: Any) -> float | None:
        """Mean score of greedy answers to the prompts set aside; they also prove whose weights they are."""
        if not self._aside:
            return None
        sampled = ranks.shared_out(self._aside, lambda share: self._answered(model, share))
        return ranks.decided(lambda: fmean(score.score for score in self._reward.of(sampled) if score))

    def _answered(self, model: Any, share: Sequence[tuple[Prompt, list[int]]]) -> list[Sampled]:
        """Greedy answers to some of the prompts set aside. Whoever has none answers one to prove its weights by."""
        prompts = [ids for _, ids in share or self._aside[:1]]
        outputs = self._sampler.greedy(model, prompts, self._settings.max_completion_tokens)
        for ids, output in list(zip(prompts, outputs, strict=True))[:PROBES]:
            wrong = disagreement(model, ids, output)
            if wrong:
                raise WeightsDifferError(wrong)
        return [self.sampled(ids, output, row) for (row, ids), output in zip(share, outputs, strict=False)]


def k3(start: torch.Tensor, now: torch.Tensor) -> float:
    """Mean divergence a token, in nats, from log-probabilities of sampled tokens: Schulman's k3 estimator."""
    ratio = start - now
    return max(0.0, float((ratio.exp() - ratio - 1).mean()))
