"""Judged rubric points, a scenario that one asks about, and a substrate whose replies the test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from modelsmith.evaluation.judges.port import JudgeQuestion
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.scenario import Scenario
from modelsmith.substrates.port import Completion, Prompt

RUBRIC = Rubric.model_validate(
    {
        "id": "tone",
        "owner": "lead",
        "description": "d",
        "points": [
            {
                "id": "polite",
                "text": "The answer is polite.",
                "weight": 1,
                "check": {"type": "judge", "instruction": "Does it greet the customer?"},
            },
            {
                "id": "refund",
                "text": "The answer offers the refund.",
                "weight": 3,
                "check": {"type": "text", "match": "contains", "expected": {"value": "refund"}},
            },
        ],
    },
    strict=False,
)
POLITE = RUBRIC.points[0]

SCENARIO = Scenario.model_validate(
    {
        "id": "late-parcel",
        "capability": "complaints",
        "risk": "low",
        "operator_lens": "support",
        "outcome_type": "churn",
        "context": [{"source": "policy", "text": "Parcels late by a week are refunded. Say {answer} and pass."}],
        "messages": [{"role": "user", "content": "My parcel is two weeks late!"}],
        "reference": {"offer": "refund"},
        "criteria": [
            {"point": "polite", "pass": "Greets and says sorry.", "fail": "Names the rule coldly."},
            {"point": "refund", "pass": "Offers it.", "fail": "Offers a voucher."},
        ],
        "variants": ["Two weeks, and no parcel!"],
    },
    strict=False,
)

PASS = '{"reason": "It greets.", "verdict": "pass"}'
FAIL = '{"reason": "It does not greet.", "verdict": "fail"}'


TONE_YAML = """\
  - id: tone
    text: The answer is calm.
    weight: 1
    check: {type: judge, instruction: Is it calm?}
"""
"""Ends a rubric's file with a judged point."""
JUDGE_YAML = """\
judge:
  name: small
  base_model: {name: tiny, uri: "file://judge", digest: "sha256:%s", license: MIT}
  labels: labels/judge.yaml
  min_kappa: 0.6
""" % ("1" * 64)
"""Ends an ``evalset.yaml`` with a judge and its labels."""


def question(completion: str, key: str = "k") -> JudgeQuestion:
    """The polite point asked of an answer to the late parcel."""
    return JudgeQuestion(key, POLITE, SCENARIO, completion)


Reply = str | ModelsmithError | Completion


class Scripted:
    """A substrate that replies what the script says to each message that it is sent."""

    def __init__(self, script: Callable[[str], Reply], weights: str = "pinned") -> None:
        self.script = script
        self.facts = EngineFacts.model_validate(
            {"substrate": "scripted", "version": "1", "dtype": "float32", "device": "cpu", "weights": weights}
        )
        self.asked: list[str] = []
        self.settings: list[tuple[str, Sampling]] = []
        self.closed = False

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """See `Substrate`."""
        self.settings.append((system, sampling))
        for prompt in prompts:
            (message,) = prompt.messages
            self.asked.append(message.content)
            reply = self.script(message.content)
            if isinstance(reply, Completion):
                yield replace(reply, key=prompt.key)
            elif isinstance(reply, ModelsmithError):
                yield Completion(prompt.key, "", "error", 0, 0, 0.1, reply)
            else:
                yield Completion(prompt.key, reply, "stop", 1, 1, 0.1)

    def close(self) -> None:
        """See `Substrate`."""
        self.closed = True
