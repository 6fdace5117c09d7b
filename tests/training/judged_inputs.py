"""What tests of a judged reward train on: a rubric, settings and prompts."""

from __future__ import annotations

from modelsmith.schema.canonical import content_digest
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Grpo, Lora, Tripwires
from modelsmith.schema.training_row import Prompt

RUBRIC = Rubric.model_validate(
    {
        "id": "r", "owner": "lead", "description": "D.",
        "points": (
            {"id": "letter", "text": "Early.", "weight": 1, "check": {"type": "regex", "pattern": "[a-m]"}},
            {"id": "kind", "text": "Kind.", "weight": 3, "check": {"type": "judge", "instruction": "Is it kind?"}},
        ),
    }
)  # fmt: skip
SETTINGS = Grpo(
    method="grpo", steps=4, batch_size=8, group_size=4, learning_rate=0.02, schedule="constant",
    max_completion_tokens=6, checkpoint_every=4, watch_every=2, lora=Lora(rank=4, alpha=8, dropout=0.1),
    tripwires=Tripwires(most_kl=1e9), judge_calls=100,
)  # fmt: skip
ROWS = 12


def prompts() -> list[Prompt]:
    return [
        Prompt(
            messages=(Message(role="user", content=f"Note {i}: {'late bids' if i % 2 else 'bots'}"),), answer="a e",
            generator="g", template="t", points=("letter",), expected={"n": i}, rubric=content_digest(RUBRIC),
        )
        for i in range(ROWS)
    ]  # fmt: skip
