"""Time and memory of a DPO step, beside a bare TRL script with the same base model, settings, pairs and order of pairs.

Each side is a process of its own. A step counts what the side needs before the first one, too: the reference that ours
computes once, TRL's tokenising. The pairs are made of the adtech kit's generators: the right answer, and as rejected
the right answer to another generator's row. The bare script gives TRL conversations and lets it do the rest.
"""

from __future__ import annotations

import sys
from typing import Any

from beside_trl import Subject, asked_of, main, practice

from modelsmith.schema.training import Dpo
from modelsmith.schema.training_row import PreferencePair


def pairs(count: int) -> list[PreferencePair]:
    """The same pairs on both sides."""
    prompts = practice(count)
    others = {prompt.generator: prompt.answer for prompt in prompts}
    return [
        PreferencePair(
            messages=prompt.messages,
            chosen=prompt.answer,
            rejected=next(answer for name, answer in others.items() if name != prompt.generator),
            source="generator",
            generator=prompt.generator,
            points=prompt.points,
            rubric=prompt.rubric,
        )
        for prompt in prompts
    ]


def conversation(row: Any, system: str) -> dict[str, list[dict[str, str]]]:
    """A pair as TRL takes it."""
    return {
        "prompt": asked_of(row, system),
        "chosen": [{"role": "assistant", "content": row.chosen}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
    }


def bare(model: Any, arguments: dict[str, Any], data: Any, tokenizer: Any, lora: Any, stage: Dpo) -> Any:
    """TRL's own trainer."""
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(**arguments, max_length=None, beta=stage.beta, loss_type=[stage.loss])
    return DPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=lora)


if __name__ == "__main__":
    main(Subject("dpo", Dpo, pairs, conversation, bare), __file__, __doc__, sys.argv[1:])
