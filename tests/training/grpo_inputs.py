"""What tests of GRPO train on: a rubric, settings and rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelsmith.schema.canonical import content_digest
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Grpo, Lora, Tripwires
from modelsmith.schema.training_row import Prompt
from modelsmith.training.rows import write_rows

STEPS = 6
RUBRIC = Rubric.model_validate(
    {
        "id": "r", "owner": "lead", "description": "D.",
        "points": (
            {"id": "form", "text": "J.", "weight": 1, "check": {"type": "json_schema", "schema": {"type": "object"}}},
            {"id": "letter", "text": "Early.", "weight": 1, "check": {"type": "regex", "pattern": "[a-m]"}},
            {"id": "other", "text": "Late.", "weight": 2, "check": {"type": "regex", "pattern": "[n-zA-Z]"}},
        ),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(
        path,
        [
            Prompt(
                messages=(Message(role="user", content=f"Note {i}: {'late bids' if i % 2 else 'bots'}"),),
                answer="a e", generator="g", template="t", points=("letter",), expected={},
                rubric=content_digest(RUBRIC),
            )
            for i in range(12)
        ],
    )  # fmt: skip
    return path


SETTINGS = Grpo(
    method="grpo", steps=STEPS, batch_size=8, group_size=4, learning_rate=0.02, schedule="constant",
    max_completion_tokens=6, checkpoint_every=2, watch_every=2, lora=Lora(rank=4, alpha=8, dropout=0.1),
    tripwires=Tripwires(most_kl=1e9),
)  # fmt: skip
