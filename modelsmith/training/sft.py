"""Supervised fine-tuning: a LoRA adapter by TRL's `SFTTrainer`, on the answers only. What it shares is in `run`.

Three things make a step cheap: rows share the system prompt's tokens (`packing`), logits are computed only where an
answer is learned, and with ``lora.top_layers`` the layers below take no part in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from modelsmith.substrates.chat import answer_end, prompt_ids, text_ids
from modelsmith.substrates.decoding import end_tokens
from modelsmith.training.packing import IGNORED, Tokens, pack
from modelsmith.training.run import Bench
from modelsmith.training.signs import Signs


def trainer(bench: Bench) -> SFTTrainer:
    """See `run.Build`."""
    made = _Trainer(
        model=bench.model,
        args=SFTConfig(**bench.arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
        data_collator=lambda rows: pack([Tokens(row["prompt_tokens"], row["answer_tokens"]) for row in rows]),
        train_dataset=Dataset.from_list(_tokenised(bench)),
        processing_class=bench.tokenizer,
        peft_config=bench.adapter,
        callbacks=[bench.signs],
    )
    made.signs = bench.signs
    return made


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """Computes logits at the positions whose next token is learned, and nowhere else."""

    signs: Signs

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        causal = model.get_base_model()
        inputs = dict(inputs)
        labels = inputs.pop("labels")[:, 1:]
        learned = labels != IGNORED
        hidden = causal.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        logits = causal.get_output_embeddings()(hidden[learned]).float()
        parts = self.args.gradient_accumulation_steps
        if parts == 1 or num_items_in_batch is None:
            loss = torch.nn.functional.cross_entropy(logits, labels[learned])
            self.signs.learned(float(loss.detach()))
            return loss
        # each part by its share of the tokens that the whole step learns, so that the step is that of the whole batch
        loss = torch.nn.functional.cross_entropy(logits, labels[learned], reduction="sum") / num_items_in_batch
        self.signs.learned(float(loss.detach()) * parts)
        return loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: lineage lives in the promotion record."""


def _tokenised(bench: Bench) -> list[dict[str, list[int]]]:
    tokenizer, job = bench.tokenizer, bench.job
    end = answer_end(tokenizer, end_tokens(bench.model, tokenizer), job.chat)
    return [
        {
            "prompt_tokens": prompt_ids(tokenizer, row.messages, job.system, job.chat),
            "answer_tokens": [*text_ids(tokenizer, row.answer, job.chat), end],
        }
        for row in bench.rows
    ]
