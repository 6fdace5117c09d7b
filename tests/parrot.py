"""A small eval set, invented, and a substrate that answers it without a model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.evalset import EvalSet, Sampling
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import Rubric, RubricPoint
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.scenario import Scenario
from modelsmith.substrates.port import Completion, Prompt

CAUSES = ("pacing", "price_floor", "timeout")


def scenario(name: str, number: int, **changes) -> Scenario:
    data = {
        "id": name,
        "capability": f"cap-{number % 3}",
        "risk": ("low", "medium", "high")[number % 3],
        "operator_lens": ("trader", "finance")[number % 2],
        "outcome_type": "overpay",
        "critical": number == 2,
        "messages": [{"role": "user", "content": f"Case {name}: what is wrong?"}],
        "reference": {"cause": CAUSES[number % 3]},
        "criteria": [{"point": "cause", "pass": "Names it.", "fail": "Does not."}],
        "variants": [f"{name}, told otherwise", f"{name}, told a third time"],
    }
    return Scenario.model_validate(data | changes, strict=False)


def governed(**changes) -> GovernedSet:
    rubric = Rubric.model_validate(
        {
            "id": "rubric",
            "owner": "lead",
            "description": "d",
            "points": [
                {
                    "id": "format",
                    "text": "JSON",
                    "weight": 1,
                    "check": {"type": "json_schema", "schema": {"type": "object"}},
                },
                {
                    "id": "cause",
                    "text": "cause",
                    "weight": 3,
                    "check": {"type": "json_field", "path": "cause", "expected": {"reference": "cause"}},
                },
            ],
        },
        strict=False,
    )
    evalset = EvalSet.model_validate(
        {
            "id": "set",
            "domain": "adtech",
            "version": "1.0.0",
            "owner": "lead",
            "description": "d",
            "rubric": "rubrics/rubric.yaml",
            "prompt": {"system": "Answer in JSON."},
            "sampling": {"max_new_tokens": 16},
            "composite": {"core": 0.5, "robustness": 0.3, "micro": 0.2},
            "thresholds": {"composite": 0.5, "held_out": 0.5},
            "quick": {"scenarios": 3},
        },
        strict=False,
    )
    whole = GovernedSet(
        evalset=evalset,
        rubric=rubric,
        core=tuple(scenario(f"core-{n}", n) for n in range(8)),
        micro=tuple(scenario(f"micro-{n}", n, variants=[]) for n in range(4)),
        held_out=tuple(scenario(f"held-{n}", n) for n in range(8)),
        generators=(),
        folder="evals/adtech/set",
    )
    return replace(whole, **changes)


def judged(text: str = "Names a cause.", instruction: str = "Is a cause named?") -> GovernedSet:
    """The set with a point that a judge decides."""
    subject = governed()
    point = RubricPoint.model_validate(
        {"id": "tone", "text": text, "weight": 1, "check": {"type": "judge", "instruction": instruction}}, strict=False
    )
    return replace(subject, rubric=subject.rubric.model_copy(update={"points": (*subject.rubric.points, point)}))


TOTAL = 8 + 16 + 4 + 24
"""How many answers the set asks for."""


class Parrot:
    """Answers by the digest of what it is asked: a port implementation without a model."""

    facts = EngineFacts(substrate="parrot", version="1", dtype="unknown", device="cpu")

    def __init__(self, delay: float = 0.0, fail: frozenset[str] = frozenset(), stop_after: int | None = None) -> None:
        self.delay, self.fail, self.stop_after = delay, fail, stop_after
        self.asked: list[str] = []
        self.settings: list[Sampling] = []
        self.prompts: dict[str, Prompt] = {}

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        self.settings.append(sampling)
        for prompt in reversed(prompts):
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            time.sleep(self.delay)
            self.asked.append(prompt.key)
            self.prompts[prompt.key] = prompt
            if prompt.key in self.fail:
                error = InfrastructureFailure("endpoint-down", "It is down.", "Start it.", where=("a", "b"))
                yield Completion(prompt.key, "", "error", 0, 0, 0.1, error)
            else:
                yield Completion(prompt.key, self.answer(prompt, sampling.seed), "stop", 10, 5, 0.25)

    @staticmethod
    def answer(prompt: Prompt, seed: int) -> str:
        number = int(sha256(f"{prompt.messages[-1].content}{seed}".encode())[7:15], 16)
        return json.dumps({"cause": CAUSES[number % 3]}) if number % 4 else "I do not know \ud800"

    def close(self) -> None:
        pass
