"""What would become of a set's generators, tried before any model is asked: can they make rows, and which stay?"""

from __future__ import annotations

from typing import Final, NamedTuple

from modelsmith.diagnosis.firewall import Loss, losses, scored_texts, separate
from modelsmith.diagnosis.generate import possible_rows
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training import Settings

SAMPLE: Final = 24
"""Rows of each generator that are held against the scored texts, if it has no more templates than that: rows of one
template differ by their slots only."""


class DryRun(NamedTuple):
    """What the rows of every generator come to."""

    rows: int
    """Rows that were tried."""
    dropped: int
    nearest: float
    """Similarity of the nearest pair of a kept row and a scored text."""
    losses: tuple[Loss, ...]
    """Generators that lose rows, whoever loses the largest share first."""


def dry_run(governed: GovernedSet, training: Settings) -> DryRun:
    """Make as many rows as the training can ask for, and let the firewall judge a sample of them.

    Raises:
        InvalidInput: a generator cannot make its rows (see `generate_rows`).
    """
    made = possible_rows(governed, training.rows, training.seed)
    templates = {generator.id: len(generator.templates) for generator in governed.generators}
    tried, taken = [], dict.fromkeys(templates, 0)
    for row in made:
        if taken[row.generator] < max(SAMPLE, templates[row.generator]):
            taken[row.generator] += 1
            tried.append(row)
    kept = separate(tried, scored_texts(governed), governed.evalset.separation.training_to_scored)
    return DryRun(len(tried), len(kept.dropped), kept.nearest, losses(tried, kept))
