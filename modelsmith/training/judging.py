"""What a training by reward asks of the judge that decides points of the rubric, and what it asks too much. Pure."""

from __future__ import annotations

from modelsmith.evaluation.reward import require_rewarding
from modelsmith.evaluation.scoring import judged_points
from modelsmith.schema.base import Digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.source import JudgeModel
from modelsmith.schema.training import Grpo

HELD_IN = 16
"""Prompts that are set aside at most, to be answered greedily; a quarter of the rows, where that is fewer."""


HELD_APART = 64
"""Prompts that are set aside at most where several seeds are tried: a choice needs more of them than a look."""


def held_apart(rows: int) -> int:
    """How many of so many prompts are set aside from every stage, for tries with several seeds to be chosen by."""
    return min(HELD_APART, rows // 4)


def set_aside(rows: int) -> int:
    """How many of so many prompts are not trained on."""
    return min(HELD_IN, rows // 4)


def first_step(settings: Grpo, rows: int) -> int:
    """Answers that are rewarded until the first step is done: those of the prompts set aside, and its own."""
    return set_aside(rows) + settings.batch_size


def all_steps(settings: Grpo, rows: int) -> int:
    """Answers that are rewarded in the whole stage."""
    looks = 1 + -(-settings.steps // settings.watch_every)
    return looks * set_aside(rows) + settings.steps * settings.batch_size


def require_judge(rubric: Rubric, judge: JudgeModel | None, settings: Grpo, base: Digest, rows: int) -> None:
    """Refuse a judge that cannot reward answers, before anything is sampled. Without judged points, nothing is refused.

    Args:
        rubric: What rewards answers.
        judge: Who decides its judged points.
        settings: The stage's.
        base: The base model that is trained.
        rows: Prompts, at most.

    Raises:
        InvalidInput: ``judged-reward``, ``judge-is-trained``, ``judge-calls-few``; as `require_rewarding`.
    """
    require_rewarding(rubric, (), settings.judge_calls)
    points = len(judged_points(rubric))
    if not points or settings.judge_calls is None:
        return
    if judge is not None and judge.base_model is not None and judge.base_model.digest == base:
        raise InvalidInput(
            "judge-is-trained",
            f"The judge {judge.name} is the base model that is trained, and no model rewards its own answers.",
            "Name another judge in evalset.yaml, or train by sft or dpo.",
            judge=judge.name,
        )
    least, whole = (points * answers for answers in (first_step(settings, rows), all_steps(settings, rows)))
    if settings.judge_calls < least:
        raise InvalidInput(
            "judge-calls-few",
            f"judge_calls is {settings.judge_calls}, and the first step alone may ask the judge {least} times.",
            f"Write at least {least}; the whole stage asks {whole} times at most.",
            least=least,
            whole=whole,
        )
