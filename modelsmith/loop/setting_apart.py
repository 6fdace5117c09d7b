"""Prompts of an iteration that nothing is trained on: what tries with several seeds are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modelsmith.diagnosis.firewall import most_alike, scored_texts
from modelsmith.diagnosis.generate import generate_prompts
from modelsmith.diagnosis.meaning import kept_apart
from modelsmith.evaluation.scoring import judged_points
from modelsmith.loop.recipe import Recipe
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.diagnosis import FailureCluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Stage
from modelsmith.schema.training_row import Prompt
from modelsmith.schema.tries import APART
from modelsmith.training.judging import held_apart, require_another
from modelsmith.training.rows import read_rows, write_rows

HELD_IN_FILE: Final = "held-in.jsonl"
"""Name of the file of these prompts in an iteration's folder."""
PromptKey = tuple[Message, ...]


def require_choosable(governed: GovernedSet, cluster: Cluster, rows: int) -> None:
    """Refuse to choose among seeds where nothing could tell the tries apart, before anything is trained.

    Args:
        governed: Whose rubric scores the answers to the prompts set aside, and whose judge.
        cluster: Whose loop says how often the judge may be asked.
        rows: Rows of the first stage, from which they are taken.

    Raises:
        InvalidInput: ``seeds-judged``, ``seeds-few-rows``, ``judge-calls-few``, ``judge-is-trained``.
    """
    if not held_apart(rows):
        raise InvalidInput(
            "seeds-few-rows",
            f"Tries with several seeds are chosen by a quarter of the first stage's prompts, and of {rows} none is "
            "left for that.",
            "Raise `rows` of the first stage, or write `loop.seeds: 1`.",
            rows=rows,
        )
    judged, calls = [point.id for point in judged_points(governed.rubric)], cluster.loop.judge_calls
    if not judged:
        return
    if calls is None:
        raise InvalidInput(
            "seeds-judged",
            f"Tries with several seeds are chosen by the rubric's score on training prompts, a judge decides "
            f"{', '.join(judged)}, and nothing says how often it may be asked.",
            "Write `loop.judge_calls: N`, for each try, or `loop.seeds: 1`.",
            points=judged,
        )
    require_another(governed.evalset.judge, cluster.base_model.digest)
    least = held_apart(rows) * len(judged)
    if calls < least:
        raise InvalidInput(
            "judge-calls-few",
            f"loop.judge_calls is {calls}, and each try may ask the judge {least} times.",
            f"Write at least {least}.",
            least=least,
            whole=least,
        )


def set_apart(recipe: Recipe, folder: Path, stage: Stage, clusters: Sequence[FailureCluster]) -> frozenset[PromptKey]:
    """Leave the iteration's prompts set aside in its folder; what they ask, for no stage to be trained on.

    They aim at the same failures as the first stage's batch, and have passed the firewall. Their seed is not a stage's:
    of the same one they would be the beginning of its batch, and leave a small stage nothing.

    Raises:
        InvalidInput: as `require_choosable` and `generate_prompts`.
    """
    governed = recipe.governed
    require_choosable(governed, recipe.cluster, stage.rows)
    candidates = generate_prompts(governed, clusters, held_apart(stage.rows), (stage.seed + APART // 2) % 2**32)
    limit = most_alike(governed, recipe.policy)
    prompts = kept_apart(candidates, scored_texts(governed), limit, recipe.meaning).rows
    require_choosable(governed, recipe.cluster, 4 * len(prompts))
    write_rows(folder / HELD_IN_FILE, prompts)
    return frozenset(prompt.messages for prompt in prompts)


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
