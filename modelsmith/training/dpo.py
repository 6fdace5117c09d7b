"""Direct preference optimisation: a LoRA adapter by TRL's `DPOTrainer`, on pairs. What it shares is in `run`.

The reference is the model as the stage finds it: the base model, or the parent's adapter on it, never the bare model
beneath a parent. Its log-probabilities are computed once, before the first step, from the same weights after every
restart. Three things make a step cheap: no reference passes through it, the prompts of a batch share what they begin
with, and both answers share their prompt (`packing.pack_answers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from trl import DPOConfig, DPOTrainer

from modelsmith.schema.training import Dpo
from modelsmith.substrates.chat import answer_end, prompt_ids, trained_answer
from modelsmith.substrates.decoding import end_tokens
from modelsmith.training import ranks
from modelsmith.training.loading import require_context
from modelsmith.training.order import IN_ORDER, parts
from modelsmith.training.packing import IGNORED, Tokens, logits_at, pack_answers
from modelsmith.training.run import Bench
from modelsmith.training.signs import Signs

CHOSEN, REJECTED = "chosen_tokens", "rejected_tokens"


def trainer(bench: Bench) -> DPOTrainer:
    """See `run.Build`."""
    settings = bench.job.training
    assert isinstance(settings, Dpo)
    tokens = _tokenised(bench)
    longest = [max(len(row[CHOSEN]), len(row[REJECTED])) for row in tokens]
    require_context(bench.model, [len(row["prompt_tokens"]) + most for row, most in zip(tokens, longest, strict=True)])
    log_probs = reference_log_probs(bench.model, tokens, bench.arguments["per_device_train_batch_size"])
    rows = [row | {"reference": pair} for row, pair in zip(tokens, log_probs.view(-1, 2).tolist(), strict=True)]
    trainer_made = _Trainer(
        model=bench.model,
        args=DPOConfig(**bench.arguments | IN_ORDER, max_length=None, beta=settings.beta, loss_type=[settings.loss]),
        data_collator=lambda items: _collate(rows, items[0]),
        train_dataset=parts(bench),
        processing_class=bench.tokenizer,
        peft_config=bench.adapter,
        callbacks=[bench.signs],
    )
    if "ref" in trainer_made.model.peft_config:
        trainer_made.model.delete_adapter("ref")  # TRL's copy of the parent's, for references that are known already
    trainer_made.signs, trainer_made.settings = bench.signs, settings
    return trainer_made


class _Trainer(DPOTrainer):  # type: ignore[misc]
    """Computes logits of the answers' tokens and of no other, and no reference."""

    signs: Signs
    settings: Dpo

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        gained = ranks.through(model, answer_log_probs, inputs) - inputs["reference"]
        lengths = torch.bincount(inputs["answer_of"])
        better, worse = gained[0::2], gained[1::2]
        if self.settings.loss == "ipo":
            better, worse = better / lengths[0::2], worse / lengths[1::2]
        margin = better - worse
        weight = inputs["weight"]
        loss = LOSSES[self.settings.loss](margin, self.settings.beta).mean() * weight
        preferred = (margin.detach() > 0).float().mean() * weight
        self.signs.learned(
            float(loss.detach()),
            accuracy=float(preferred),
            margin=float(margin.detach().mean() * weight) * self.settings.beta,
        )
        return loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: lineage lives in the promotion record."""


LOSSES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "sigmoid": lambda margin, beta: -logsigmoid(beta * margin),
    "hinge": lambda margin, beta: torch.relu(1 - beta * margin),
    "ipo": lambda margin, beta: (margin - 1 / (2 * beta)) ** 2,
}
"""Loss of a pair by how much more the chosen answer has gained on its reference than the rejected one, in nats; for
``ipo``, in nats per token. TRL's formulas: Rafailov et al. 2023 (eq. 7), Zhao et al. 2023, Azar et al. 2023 (eq. 17).
"""


def answer_log_probs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probability in nats of each answer of a batch (`together`), given its prompt: (answers)."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    learned = batch["next_ids"] != IGNORED
    logits = logits_at(causal, batch, learned)
    each = -torch.nn.functional.cross_entropy(logits, batch["next_ids"][learned], reduction="none")
    return each.new_zeros(int(batch["answer_of"].max()) + 1).index_add(0, batch["answer_of"], each)


def together(answers: Sequence[Tokens]) -> dict[str, torch.Tensor]:
    """All answers in one sequence, as in `packing.Packed`; ``answer_of`` (t) is the number of each token's answer."""
    (packed,) = pack_answers(answers, most=sum(len(answer.answer) + 1 for answer in answers))
    owner = [number for number in packed.rows for _ in answers[number].answer]
    return packed.inputs | {"next_ids": packed.next_ids, "answer_of": torch.tensor(owner)}


def reference_log_probs(model: Any, rows: list[dict[str, list[int]]], size: int) -> torch.Tensor:
    """What the model as it is now gives each row's chosen and rejected answer, in nats: (2 * rows), on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().to(device)

    def pairs(rows: Sequence[dict[str, list[int]]]) -> list[torch.Tensor]:
        batches = []
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = _pack(rows[start : start + size])
                batches.append(answer_log_probs(model, {name: value.to(device) for name, value in batch.items()}).cpu())
        return list(torch.cat(batches).view(-1, 2)) if batches else []

    return torch.cat(ranks.shared_out(rows, pairs))


def _collate(rows: list[dict[str, Any]], part: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The part's rows; without any, one that weighs nothing, since every rank has to take part in each step."""
    mine = [rows[number] for number in part["rows"] or [0]]
    reference = torch.tensor([value for row in mine for value in row["reference"]])
    return _pack(mine) | {"reference": reference, "weight": torch.tensor(part["weight"])}


def _pack(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return together([Tokens(row["prompt_tokens"], row[side]) for row in rows for side in (CHOSEN, REJECTED)])


def _tokenised(bench: Bench) -> list[dict[str, list[int]]]:
    tokenizer, job = bench.tokenizer, bench.job
    end = answer_end(tokenizer, end_tokens(bench.model, tokenizer), job.chat)
    prompts = [prompt_ids(tokenizer, row.messages, job.system, job.chat) for row in bench.rows]
    return [
        {
            "prompt_tokens": prompt,
            CHOSEN: trained_answer(tokenizer, prompt, row.chosen, end, job.chat),
            REJECTED: trained_answer(tokenizer, prompt, row.rejected, end, job.chat),
        }
        for prompt, row in zip(prompts, bench.rows, strict=True)
    ]
