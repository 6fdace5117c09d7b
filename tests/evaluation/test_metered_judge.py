"""What a judge may be asked in all: charged before it is asked, and one question at a time while it is away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from modelsmith.evaluation.judges.metered import Account, BudgetSpentError, MeteredSubstrate
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.scenario import Message
from modelsmith.substrates.port import Completion, Prompt

PROMPTS = [Prompt(str(number), (Message(role="user", content=str(number)),)) for number in range(8)]
AWAY = InfrastructureFailure("endpoint-failing", "It does not answer.", "Wait.")
LONG = InvalidInput("prompt-too-long", "It is too long.", "Shorten it.")


class Scripted:
    """Answers by prompt; what it is told to raise ends the batch."""

    facts = EngineFacts(substrate="fake", version="1", dtype="float32", device="cpu")

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.says: dict[str, ModelsmithError] = {}
        self.raises: ModelsmithError | None = None

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        self.batches.append([prompt.key for prompt in prompts])
        if self.raises:
            raise self.raises
        for prompt in prompts:
            error = self.says.get(prompt.key)
            yield Completion(prompt.key, "" if error else "yes", "error" if error else "stop", 1, 1, 0.1, error)

    def close(self) -> None:
        """Nothing is held."""


def errors_of(metered: MeteredSubstrate) -> list[ModelsmithError | None]:
    error_by_key = {
        completion.key: completion.error for completion in metered.complete(PROMPTS, "", Sampling(max_new_tokens=8))
    }
    return [error_by_key[prompt.key] for prompt in PROMPTS]


def spent(path: Path) -> int:
    return int(json.loads(path.read_text())["calls"]) if path.exists() else 0


def test_a_judge_that_is_away_costs_one_question_each_time(tmp_path):
    path, judge = tmp_path / "account.json", Scripted()
    for tried, (raises, says) in enumerate(((AWAY, {}), (None, dict.fromkeys("01234567", AWAY))), start=1):
        judge.raises, judge.says = raises, says
        metered = MeteredSubstrate(judge, Account(path, 100))
        if raises:
            with pytest.raises(InfrastructureFailure):
                errors_of(metered)
        else:
            assert errors_of(metered) == [AWAY] * 8
        assert spent(path) == tried


def test_one_that_is_there_is_asked_in_batches_until_it_fails(tmp_path):
    path, judge = tmp_path / "account.json", Scripted()
    metered = MeteredSubstrate(judge, Account(path, 100))
    assert errors_of(metered) == errors_of(metered) == [None] * 8
    assert [len(batch) for batch in judge.batches] == [1, 7, 8]
    judge.says = {"7": AWAY}
    assert errors_of(metered) == [None] * 7 + [AWAY]
    judge.says = {"0": LONG}
    assert errors_of(metered) == [LONG] + [None] * 7
    assert [len(batch) for batch in judge.batches] == [1, 7, 8, 8, 1, 7], "one that is too long says nothing of it"
    assert spent(path) == 32


def test_a_batch_that_the_account_does_not_hold_is_not_begun(tmp_path):
    path, judge = tmp_path / "account.json", Scripted()
    with pytest.raises(BudgetSpentError, match="8 questions, and 7 of 7 are left"):
        errors_of(MeteredSubstrate(judge, Account(path, 7)))
    assert (judge.batches, spent(path)) == ([], 0)
