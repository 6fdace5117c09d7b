"""Where a candidate comes from, as facts without text, paths or hosts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import get_args

from modelsmith import __version__
from modelsmith.diagnosis.firewall import scored_texts, separate
from modelsmith.loop.context import IterationContext
from modelsmith.loop.state import Iteration
from modelsmith.loop.training import parent_of
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.evidence import Library
from modelsmith.schema.promotion import TrainingFacts
from modelsmith.schema.run import RunResult
from modelsmith.schema.training import training_digest
from modelsmith.schema.training_row import TrainingRow
from modelsmith.training.rows import rows_digest
from modelsmith.training.supervisor import TrainOutcome


def training_facts(
    context: IterationContext,
    iteration: Iteration,
    rows: Sequence[TrainingRow],
    outcome: TrainOutcome,
    diagnosed: RunResult,
) -> TrainingFacts:
    """``training.json`` of the candidate."""
    training, used = context.cluster.stages[0], {row.generator for row in rows}
    return TrainingFacts(
        base_model=context.cluster.base_model.name,
        base_digest=context.cluster.base_model.digest,
        parent=parent_of(context, iteration),
        method=training.method,
        seed=training.seed + iteration.number - 1,
        rows=len(rows),
        rows_digest=rows_digest(rows),
        generators={g.id: content_digest(g) for g in context.governed.generators if g.id in used},
        reward=context.governed.rubric_digest,
        diagnosed_run=diagnosed.run_id,
        hyperparameters=training_digest(context.cluster.training),
        steps=outcome.steps,
        final_loss=outcome.final_loss,
        toolkit=versions(),
    )


def versions() -> str:
    """Modelsmith and the libraries beside it, with their versions, in one line."""
    return ", ".join([f"modelsmith {__version__}", *(f"{name} {found}" for name, found in environment().items())])


def environment() -> dict[Library, str]:
    """Versions of the libraries that shape weights and completions."""
    found: dict[Library, str] = {}
    for name in get_args(Library):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def nearest_to_scored(context: IterationContext, rows: Sequence[TrainingRow]) -> float:
    """How near a training row comes to anything scored; 1 is the same words."""
    return round(separate(rows, scored_texts(context.governed), limit=1.01).nearest, 4)
