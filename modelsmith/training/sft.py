"""Supervised fine-tuning: a LoRA adapter by TRL's `SFTTrainer`, on the answers only. What it shares is in `run`.

Three things make a step cheap: rows share the system prompt's tokens (`packing`), logits are computed only where an
answer is learned, and with ``lora.top_layers`` the layers below take no part in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTConfig, SFTTrainer

from modelsmith.substrates.chat import answer_end, prompt_ids, trained_answer
from modelsmith.substrates.decoding import end_tokens
from modelsmith.training import ranks
from modelsmith.training.loading import require_context
from modelsmith.training.order import IN_ORDER, parts
from modelsmith.training.packing import IGNORED, Tokens, logits_at, pack
from modelsmith.training.run import Bench
from modelsmith.training.signs import Signs


def trainer(bench: Bench) -> SFTTrainer:
    """See `run.Build`."""
    tokens = _tokenised(bench)
    require_context(bench.model, [len(row.prompt) + len(row.answer) for row in tokens])
    sft_trainer = _Trainer(
        model=bench.model,
        args=SFTConfig(**bench.arguments | IN_ORDER, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
        data_collator=lambda items: _packed(tokens, items[0]["rows"]),
        train_dataset=parts(bench),
        processing_class=bench.tokenizer,
        peft_config=bench.adapter,
        callbacks=[bench.signs],
    )
    sft_trainer.signs = bench.signs
    return sft_trainer


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """Computes logits at the positions whose next token is learned, and nowhere else."""

    signs: Signs

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        undivided = self.args.gradient_accumulation_steps * ranks.count() == 1
        loss = ranks.through(model, _loss, inputs, "mean" if undivided else "sum")
        if not undivided:
            # by the tokens that the whole step learns, at all ranks, so that the step is that of the whole batch; the
            # sum over ranks, where their wrapper takes the mean
            loss = loss / num_items_in_batch * ranks.count()
        self.signs.learned(float(loss.detach()) * self.args.gradient_accumulation_steps)
        return loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: lineage lives in the promotion record."""


def _loss(model: Any, inputs: dict[str, torch.Tensor], reduction: str) -> torch.Tensor:
    """Cross entropy of the tokens that are learned, in nats."""
    causal = model.get_base_model()
    labels = inputs["labels"][:, 1:]
    learned = labels != IGNORED
    logits = logits_at(causal, inputs, learned)
    return torch.nn.functional.cross_entropy(logits, labels[learned], reduction=reduction)


def _packed(tokens: list[Tokens], rows: list[int]) -> dict[str, torch.Tensor]:
    """These rows packed. Without rows, one that teaches nothing: every rank takes part in each step."""
    packed = pack([tokens[row] for row in rows or [0]])
    return packed if rows else packed | {"labels": torch.full_like(packed["labels"], IGNORED)}


def _tokenised(bench: Bench) -> list[Tokens]:
    tokenizer, job = bench.tokenizer, bench.job
    end = answer_end(tokenizer, end_tokens(bench.model, tokenizer), job.chat)
    prompts = [prompt_ids(tokenizer, row.messages, job.system, job.chat) for row in bench.rows]
    return [
        Tokens(prompt, trained_answer(tokenizer, prompt, row.answer, end, job.chat))
        for prompt, row in zip(prompts, bench.rows, strict=True)
    ]
