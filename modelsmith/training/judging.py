"""What a training by reward asks of the judge that decides points of the rubric, and what it asks too much. Pure."""

from __future__ import annotations

from modelsmith.evaluation.reward import require_rewarding
from modelsmith.evaluation.scoring import judged_points
from modelsmith.schema.base import Digest
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.source import JudgeModel
from modelsmith.schema.training import Grpo, Sft, Stage

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
    require_another(judge, base)
    least, most = (points * answers for answers in (first_step(settings, rows), all_steps(settings, rows)))
    if settings.judge_calls < least:
        raise InvalidInput(
            "judge-calls-few",
            f"judge_calls is {settings.judge_calls}, and the first step alone may ask the judge {least} times.",
            f"Write at least {least}; the whole stage asks {most} times at most.",
            least=least,
            whole=most,
        )


def require_rows_judge(rubric: Rubric, judge: JudgeModel | None, settings: Stage, base: Digest) -> None:
    """Refuse rows that only a judge can tell right from wrong, where none may be asked or it is one of those who write.

    Without judged points nothing is refused. A stage by pairs that names no number of questions leaves them aside.

    Raises:
        InvalidInput: ``sources-judged``, ``judge-is-trained``, ``judge-is-teacher``.
    """
    judged = [point.id for point in judged_points(rubric)]
    if not judged or isinstance(settings, Grpo):
        return
    sources = settings.sources if isinstance(settings, Sft) else None
    if sources and settings.judge_calls is None:
        raise InvalidInput(
            "sources-judged",
            f"Rows of `sources` are kept only if they pass the rubric, a judge decides {', '.join(judged)}, and the "
            "stage does not say how often it may be asked.",
            "Write `judge_calls: N` into the sft stage, leave `sources` out, or give these points a declared check.",
            points=judged,
        )
    if settings.judge_calls is None:
        return
    require_another(judge, base)
    teacher = sources.teacher if sources else None
    if judge and judge.base_model and teacher and teacher.base_model == judge.base_model:
        raise InvalidInput(
            "judge-is-teacher",
            f"The judge {judge.name} is the teacher {teacher.name}, and no model passes its own answers.",
            "Name another judge in evalset.yaml, or another teacher.",
            judge=judge.name,
        )


def require_another(judge: JudgeModel | None, base: Digest) -> None:
    """Raise InvalidInput (``judge-is-trained``) where the judge is the base model that is trained."""
    if judge is not None and judge.base_model is not None and judge.base_model.digest == base:
        raise InvalidInput(
            "judge-is-trained",
            f"The judge {judge.name} is the base model that is trained, and no model judges its own answers.",
            "Name another judge in evalset.yaml, or train without one: leave `judge_calls` out.",
            judge=judge.name,
        )
