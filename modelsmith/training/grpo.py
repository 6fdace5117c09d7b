"""Group relative policy optimisation: a LoRA adapter by TRL's `GRPOTrainer`, rewarded by the rubric's own score.

What it shares with other methods is in `run`. Two things make a step cheap: answers come from the in-process engine's
decoding (`sampler`) or from a vLLM server (`served`), and their log-probabilities from one packed sequence, in which a
prompt is computed once for all answers to it (`packing`). Advantages, losses and clipping are TRL's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from modelsmith.evaluation.reward import require_rewarding
from modelsmith.schema.canonical import digest
from modelsmith.schema.training import Grpo
from modelsmith.schema.training_row import Prompt
from modelsmith.substrates.chat import prompt_ids
from modelsmith.training import ranks
from modelsmith.training.judged import Reward
from modelsmith.training.judging import set_aside
from modelsmith.training.loading import require_context
from modelsmith.training.measures import Measures, without_verdicts
from modelsmith.training.packing import IGNORED, Tokens, as_seen, pack_answers
from modelsmith.training.run import Bench
from modelsmith.training.sampler import Sampler, seed_of
from modelsmith.training.served import ServedSampler, by_vllm, serve
from modelsmith.training.watch import Watch, k3

PACKED = 4096
"""Tokens of answers in one packed sequence: attention grows with their square."""


def trainer(bench: Bench) -> GRPOTrainer:
    """See `run.Build`."""
    job, settings, tokenizer = bench.job, bench.job.training, bench.tokenizer
    assert isinstance(settings, Grpo)
    assert job.rubric
    rows: tuple[Prompt, ...] = bench.rows
    assert bench.reward
    require_rewarding(job.rubric, [row.expected for row in rows], settings.judge_calls)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokens = [prompt_ids(tokenizer, row.messages, job.system, job.chat) for row in rows]
    require_context(bench.model, [len(prompt) + settings.max_completion_tokens for prompt in tokens])
    taught = len(rows) - set_aside(len(rows))
    longest = max(map(len, tokens)) + settings.max_completion_tokens
    served = ranks.count() == 1 and not settings.load_in_4bit and by_vllm(settings.sampler)
    sampler = serve(bench, settings, longest) if served else Sampler(bench.model, tokenizer)
    aside = list(zip(rows[taught:], tokens[taught:], strict=True))
    watch = Watch(aside, sampler, bench.signs, settings, bench.reward, job.chat, tokenizer)
    grpo_trainer = _Trainer(
        model=bench.model,
        reward_funcs=[_reward],
        args=GRPOConfig(**bench.arguments, **_options(settings)),
        train_dataset=Dataset.from_list([{"prompt": str(number)} for number in _order(taught, settings)]),
        processing_class=tokenizer,
        peft_config=bench.adapter,
        callbacks=[watch, bench.signs],
    )
    grpo_trainer.begin(bench, settings, bench.reward, rows, tokens, sampler, watch)
    return grpo_trainer


def _order(taught: int, settings: Grpo) -> list[int]:
    """The rows whose turn it is, over the whole training, each as often as any other.

    TRL's sampler shuffles anew in each epoch, by a generator that a resumed training begins from its seed again: from
    the second epoch on it would get other prompts than an undisturbed one.
    """
    turns = settings.steps * settings.batch_size // settings.group_size
    epochs = -(-turns // taught)
    shuffled = random.Random(settings.seed)  # noqa: S311
    return [number for _ in range(epochs) for number in shuffled.sample(range(taught), taught)][:turns]


def _options(settings: Grpo) -> dict[str, Any]:
    """TRL's options. Why these are the defaults stands in ``docs/grpo.md``."""
    return {
        "shuffle_dataset": False,
        "num_generations": settings.group_size,
        "max_completion_length": settings.max_completion_tokens,
        "temperature": settings.temperature,
        "beta": settings.beta,
        "epsilon": settings.epsilon,
        "loss_type": _LOSS_TYPES.get(settings.loss, settings.loss),
        "scale_rewards": settings.scale_rewards,
    }


_LOSS_TYPES = {"bnpo": "dapo"}
"""TRL's name of a loss where it is not ours. Its ``bnpo`` divides by the tokens of what goes through the model at once,
so a step in several parts (after `oom`) would be another one; ``dapo`` by those of the whole step, which is the same
where a step is one part."""


def _reward(completions: list[str], earned: list[float], **_: Any) -> list[float]:
    """What TRL asks for: `_Trainer._answers` has scored the answers where their tokens are still known."""
    return earned


class _Trainer(GRPOTrainer):  # type: ignore[misc]
    """Samples and scores by our own code; a prompt of TRL's data set is the number of a row."""

    def begin(
        self, bench: Bench, settings: Grpo, reward: Reward, rows: tuple[Prompt, ...], tokens: list[list[int]],
        sampler: Sampler | ServedSampler, watch: Watch,
    ) -> None:  # fmt: skip
        """Take what TRL's constructor does not know; the adapter is now what the stage begins with."""
        self._bench, self._settings, self._score, self._rows, self._tokens = bench, settings, reward, rows, tokens
        self._sampler, self._watch = sampler, watch
        self._start = {
            name: tensor.detach().clone() for name, tensor in self.model.named_parameters() if tensor.requires_grad
        }
        self._log_probs: torch.Tensor | None = None
        self._content: float | None = None
        self._unclear: float | None = None
        self._parts: list[dict[str, float]] = []
        self._drawn: dict[str, float] = {}
        self.rollout_func = self._answers  # set here: TRL's constructor warns of its argument as of something new

    def _answers(self, prompts: list[str], _trainer: Any) -> dict[str, Any]:
        """TRL's `RolloutFunc`: answers to a batch in which each prompt stands ``group_size`` times in a row.

        Of several processes each answers its share of the step's prompts, whole groups. A prompt's answers are those of
        its place in the step, whoever draws them, and the first process rewards all.
        """
        size = self._settings.group_size
        numbers = [int(prompt) for prompt in prompts[::size]]
        token_prompts = [self._tokens[number] for number in numbers]
        seed = int(digest([self.args.seed, self.state.global_step]).removeprefix("sha256:")[:15], 16)
        first = ranks.number() * len(token_prompts)
        seeds = [seed_of(seed, first + place) for place in range(len(token_prompts))]
        outputs = self._sampler.draw(
            self.model, token_prompts, size, self._settings.max_completion_tokens, self._settings.temperature, seeds
        )
        sampled = [
            self._watch.sampled(
                token_prompts[output.number // size], output, self._rows[numbers[output.number // size]]
            )
            for output in outputs
        ]
        every = ranks.gathered(sampled)
        earned = ranks.decided(lambda: self._score.of(every))
        contents = [score.content for score in earned if score and score.content is not None]
        self._content = fmean(contents) if contents else None
        self._unclear = None if self._score.calls is None else sum(score is None for score in earned) / len(earned)
        scores = without_verdicts([score.score if score else None for score in earned], size)
        return {
            "prompt_ids": [token_prompts[output.number // size] for output in outputs],
            "completion_ids": [output.tokens for output in outputs],
            "logprobs": None,
            "earned": scores[first * size :][: len(sampled)],
        }

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        arguments = (input_ids, attention_mask, logits_to_keep, compute_entropy, compute_aux_loss)
        if model is self.model:
            return self._packed(model, *arguments)
        return ranks.through(model, self._packed, *arguments)

    def _packed(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        compute_entropy: bool,
        compute_aux_loss: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        rows, log_probs, entropies = _tokens_of(input_ids, attention_mask, logits_to_keep), [], []
        places, aux = [], []
        base = model.get_base_model()
        for packed in pack_answers(rows, PACKED):
            out = model(
                **as_seen(base, {name: tensor.to(input_ids.device) for name, tensor in packed.inputs.items()}),
                shift_labels=packed.next_ids.to(input_ids.device),
                fused_lm_head=True,
                **({"output_router_logits": True} if compute_aux_loss else {}),
            )
            learned = packed.next_ids[0] != IGNORED
            log_probs.append(out.log_probs[0][learned])
            if compute_entropy:
                entropies.append(out.entropy[0][learned])
            places += [(row, at) for row in packed.rows for at in range(len(rows[row].answer))]
            aux.append(out.aux_loss)
        where = tuple(torch.tensor(list(axis), device=input_ids.device) for axis in zip(*places, strict=True))
        empty = torch.zeros(len(rows), logits_to_keep, device=input_ids.device, dtype=log_probs[0].dtype)
        placed = empty.index_put(where, torch.cat(log_probs))
        if torch.is_grad_enabled():
            self._log_probs = placed.detach()
        return (
            placed,
            empty.index_put(where, torch.cat(entropies)) if compute_entropy else None,
            torch.stack(aux).mean() if compute_aux_loss else None,
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._bench.signs.learned(float(loss.detach()) * self.args.gradient_accumulation_steps)
        metrics = {name: values[-1] for name, values in self._metrics["train"].items() if values}
        self._metrics["train"].clear()
        if "reward" in metrics:  # with the first part of a step; the answers of all parts were drawn and scored then
            self._drawn, self._parts = metrics, []
        step = self.state.global_step + 1
        looks = self._watch.due(step, self.state.max_steps)
        tokens = float(inputs["completion_mask"].sum())
        part = {"tokens": tokens, "kl": self._moved(inputs) * tokens if looks else 0.0}
        self._parts.append(ranks.mean(part) | {"entropy": metrics["entropy"]})
        if len(self._parts) < self.args.gradient_accumulation_steps:
            return loss
        of_all = sum(measured["tokens"] for measured in self._parts)
        measures = Measures(
            reward=min(1.0, self._drawn["reward"]),
            content=self._content,
            length=self._drawn["completions/mean_length"],
            cut_off=self._drawn["completions/clipped_ratio"],
            entropy=max(0.0, sum(measured["entropy"] * measured["tokens"] for measured in self._parts) / of_all),
            equal_groups=self._drawn["frac_reward_zero_std"],
            kl=sum(measured["kl"] for measured in self._parts) / of_all if looks else None,
            unclear=self._unclear,
        )
        self._watch.measured(ranks.from_first(measures))
        return loss

    def _moved(self, inputs: dict[str, torch.Tensor]) -> float:
        """How far the model is from what the stage began with, on this part's answers of this process."""
        assert self._log_probs is not None
        mask = inputs["completion_mask"]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], mask], dim=1)
        with torch.no_grad(), self._as_at_start():
            start, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, attention, mask.shape[1])
        return k3(start[mask.bool()], self._log_probs[mask.bool()])

    @contextmanager
    def _as_at_start(self) -> Iterator[None]:
        adapter = {name: tensor for name, tensor in self.model.named_parameters() if name in self._start}
        now = {name: tensor.data for name, tensor in adapter.items()}
        try:
            self.model.eval()
            for name, tensor in adapter.items():
                tensor.data = self._start[name]
            yield
        finally:
            for name, tensor in adapter.items():
                tensor.data = now[name]
            self.model.train()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: lineage lives in the promotion record."""


def _tokens_of(ids: torch.Tensor, mask: torch.Tensor, answer: int) -> list[Tokens]:
    """Rows of a padded batch, whose last ``answer`` columns are answers, without their padding."""
    return [
        Tokens(row[:-answer][visible[:-answer]].tolist(), row[-answer:][visible[-answer:]].tolist())
        for row, visible in zip(ids.cpu(), mask.cpu().bool(), strict=True)
    ]
