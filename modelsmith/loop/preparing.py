"""What a stage begins with: rows or prompts that answer the failures, none of them near to a scored text."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

from modelsmith.diagnosis.firewall import Loss, losses, most_alike, scored_texts
from modelsmith.diagnosis.generate import generate_prompts, plain, prompts_for_all
from modelsmith.diagnosis.meaning import kept_apart
from modelsmith.loop.engines import Target
from modelsmith.loop.recipe import Recipe, write_prompts
from modelsmith.loop.setting_apart import PromptKey, require_left
from modelsmith.loop.sources import with_sources
from modelsmith.schema.diagnosis import FailureCluster, Offered
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.progress import Progress
from modelsmith.schema.steps import step
from modelsmith.schema.training import Sft, Stage
from modelsmith.schema.training_row import TrainingRow
from modelsmith.training.rows import row_id


class Prepared(NamedTuple):
    """A stage's prepared rows, and how many were dropped."""

    rows: tuple[TrainingRow, ...]
    """Rows or prompts."""
    dropped: int
    """How many of the generators' were too near to a scored text."""
    sources: tuple[Offered, ...]
    """Rows that other sources gave."""


def prepare(
    recipe: Recipe,
    folder: Path,
    stage: Stage,
    clusters: Sequence[FailureCluster] | None,
    model: Target,
    name: str = "",
    struck: Set[str] = frozenset(),
    apart: Set[PromptKey] = frozenset(),
) -> Prepared:
    """Leave in the stage's folder what it begins with.

    Args:
        recipe: Whose generators make it.
        folder: The stage's.
        stage: Its settings, whose seed draws.
        clusters: What it aims at; None for an equal share of every generator.
        model: Whose own answers are sampled, where the stage asks for them: the one that training begins with.
        name: The stage's, where a training has several.
        struck: Names of the rows that somebody has taken out.
        apart: What is asked by the prompts set aside (see `set_apart`): no row asks the same.

    Raises:
        InvalidInput: ``no-rows`` when everything is too near to a scored text; as `generate_prompts` and
            `with_sources`.
    """
    candidates = (
        prompts_for_all(recipe.governed, stage.rows, stage.seed)
        if clusters is None
        else generate_prompts(recipe.governed, clusters, stage.rows, stage.seed)
    )
    limit = most_alike(recipe.governed, recipe.policy)
    scored = scored_texts(recipe.governed)
    separation = kept_apart(candidates, scored, limit, recipe.meaning)
    lost = losses(candidates, separation)
    if not separation.rows:
        raise _no_rows(lost, limit)
    prompts = tuple(row for row in separation.rows if row.messages not in apart)
    require_left(stage, prompts)
    batch: Sequence[TrainingRow] = prompts
    sources: tuple[Offered, ...] = ()
    if isinstance(stage, Sft) and stage.sources:
        batch, sources = with_sources(recipe, folder, stage, prompts, clusters or (), model, scored)
    rows = tuple(row for row in batch if row_id(plain(row)) not in struck and row.messages not in apart)
    write_prompts(folder, stage, rows, plain)
    kind = "rows" if stage.method == "sft" else "prompts"
    recipe.workspace.notify(
        Progress(
            "diagnose",
            f"{len(rows)} training {kind}{f' for {name}' if name else ''}, {len(separation.dropped)} dropped as too "
            f"near to a scored text (nearest kept {separation.nearest:.2f})",
        )
    )
    for loss in lost:
        recipe.workspace.notify(Progress("diagnose", loss.sentence))
    return Prepared(rows, len(separation.dropped), sources)


def _no_rows(lost: tuple[Loss, ...], limit: float) -> InvalidInput:
    return InvalidInput(
        "no-rows",
        f"Every generated row is too near to a scored text (limit {limit:.2f}): "
        + "; ".join(loss.sentence for loss in lost),
        "Rewrite the generators in words of their own; `{next}` says which rows would pass.",
        limit=limit,
        generators=[
            {
                "generator": loss.generator,
                "rows": loss.rows,
                "dropped": loss.dropped,
                "template": loss.template,
                "scenario": loss.nearest.scenario,
                "kind": loss.nearest.kind,
                "similarity": loss.nearest.similarity,
                "by": loss.nearest.by,
                "text": loss.nearest.text,
            }
            for loss in lost
        ],
    ).then(step("validate", {}))
