"""Prompts of an iteration that nothing is trained on: what tries with several seeds are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modelsmith.diagnosis.firewall import scored_texts
from modelsmith.diagnosis.generate import generate_prompts
from modelsmith.diagnosis.meaning import Meaning, kept_apart
from modelsmith.evaluation.scoring import judged_points
from modelsmith.schema.diagnosis import FailureCluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Stage
from modelsmith.schema.training_row import Prompt
from modelsmith.schema.tries import APART
from modelsmith.training.judging import held_apart
from modelsmith.training.rows import read_rows, write_rows

HELD_IN_FILE: Final = "held-in.jsonl"
"""Name of the file of these prompts in an iteration's folder."""
Asked = tuple[Message, ...]


def require_choosable(rubric: Rubric, rows: int) -> None:
    """Refuse to choose among seeds where nothing could tell the tries apart, before anything is trained.

    Args:
        rubric: What scores the answers to the prompts set aside.
        rows: Rows of the first stage, from which they are taken.

    Raises:
        InvalidInput: ``seeds-judged``, ``seeds-few-rows``.
    """
    judged = [point.id for point in judged_points(rubric)]
    if judged:
        raise InvalidInput(
            "seeds-judged",
            f"Tries with several seeds are chosen by the rubric's score on training prompts, and a judge decides "
            f"{', '.join(judged)}.",
            "Write `loop.seeds: 1`, or give these points a declared check.",
            points=judged,
        )
    if not held_apart(rows):
        raise InvalidInput(
            "seeds-few-rows",
            f"Tries with several seeds are chosen by a quarter of the first stage's prompts, and of {rows} none is "
            "left for that.",
            "Raise `rows` of the first stage, or write `loop.seeds: 1`.",
            rows=rows,
        )


def set_apart(
    folder: Path,
    governed: GovernedSet,
    stage: Stage,
    clusters: Sequence[FailureCluster],
    meaning: Meaning | None,
) -> frozenset[Asked]:
    """Leave the iteration's prompts set aside in its folder; what they ask, for no stage to be trained on.

    They aim at the same failures as the first stage's batch, and have passed the firewall. Their seed is no stage's: of
    the same one they would be the beginning of its batch, and leave a small stage nothing.

    Raises:
        InvalidInput: as `require_choosable` and `generate_prompts`.
    """
    require_choosable(governed.rubric, stage.rows)
    made = generate_prompts(governed, clusters, held_apart(stage.rows), (stage.seed + APART // 2) % 2**32)
    limit = governed.evalset.separation.training_to_scored
    prompts = kept_apart(made, scored_texts(governed), limit, meaning).rows
    require_choosable(governed.rubric, 4 * len(prompts))
    write_rows(folder / HELD_IN_FILE, prompts)
    return frozenset(one.messages for one in prompts)


def require_left(stage: Stage, prompts: Sequence[Prompt]) -> None:
    """Raise InvalidInput (``seeds-few-rows``) where a stage's every prompt was set aside."""
    if not prompts:
        raise InvalidInput(
            "seeds-few-rows",
            f"The generators have so few prompts that of the {stage.rows} of a stage by {stage.method} none is left "
            "beside those set aside.",
            "Add templates or slot values to the generators, or write `loop.seeds: 1`.",
            rows=stage.rows,
        )


def held_in_prompts(folder: Path) -> tuple[Prompt, ...]:
    """The prompts that `set_apart` left in an iteration's folder. Raises as `read_rows`."""
    return read_rows(folder / HELD_IN_FILE, Prompt)
