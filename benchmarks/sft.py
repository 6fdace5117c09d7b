"""Time and memory of an SFT step, beside a bare TRL script with the same base model, settings, rows and order of rows.

Each side is a process of its own. A step counts what the side needs before the first one, too: tokenising. Both learn
the answers alone; the bare script gives TRL prompts and completions as conversations and lets it do the rest.
"""

from __future__ import annotations

import sys
from typing import Any

from beside_trl import Subject, asked_of, main, practice

from modelsmith.schema.training import Sft
from modelsmith.schema.training_row import TrainingRow


def rows(count: int) -> list[TrainingRow]:
    """The kit's own rows."""
    from modelsmith.diagnosis.generate import plain

    return [plain(row) for row in practice(count)]


def conversation(row: Any, system: str) -> dict[str, list[dict[str, str]]]:
    """A row as TRL takes it."""
    return {"prompt": asked_of(row, system), "completion": [{"role": "assistant", "content": row.answer}]}


def bare(model: Any, arguments: dict[str, Any], data: Any, tokenizer: Any, lora: Any, stage: Sft) -> Any:
    """TRL's own trainer."""
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(**arguments, max_length=None)
    return SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=lora)


if __name__ == "__main__":
    main(Subject("sft", Sft, rows, conversation, bare), __file__, __doc__, sys.argv[1:])
