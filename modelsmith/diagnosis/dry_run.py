"""What would become of a set's generators, tried before any model is asked: can they make rows, and which stay?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from modelsmith.diagnosis.firewall import Loss, ScoredText, losses, most_alike, scored_texts, separate
from modelsmith.diagnosis.generate import possible_rows
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training import Settings
from modelsmith.schema.training_row import TrainingRow

SAMPLE: Final = 24
"""Rows of each generator that are held against the scored texts, if it has no more templates than that: rows of one
template differ by their slots only."""


class Clear(NamedTuple):
    """That no row of a dry run was too near to a scored text: after it, the same rows are held against new texts only.

    Texts are named by SHA-256: whoever keeps this keeps no text.
    """

    rows: str
    """SHA-256 of the rows that were tried, in their order."""
    texts: tuple[str, ...]
    """SHA-256 of each scored text with its kind."""
    nearest: float
    """Similarity of the nearest pair."""
    nearest_to: str
    """Which scored text that was; empty where no row had anything in common with one."""


class DryRun(NamedTuple):
    """Result of a dry run of every generator: rows that were tried and dropped."""

    rows: int
    """Rows that were tried."""
    dropped: int
    nearest: float
    """Similarity of the nearest pair of a kept row and a scored text."""
    losses: tuple[Loss, ...]
    """Generators that lose rows, whoever loses the largest share first."""
    clear: Clear | None = None
    """For the next dry run; None where a row was too near."""


def dry_run(
    governed: GovernedSet, training: Settings, before: Clear | None = None, policy: Policy | None = None
) -> DryRun:
    """Make as many rows as the training can ask for, and let the firewall judge a sample of them.

    ``before`` is of an earlier dry run, of whatever set; it spares time, and what is found is the same. ``policy`` may
    have a stricter limit than the eval set.

    Raises:
        InvalidInput: a generator cannot make its rows (see `generate_rows`).
    """
    rows = possible_rows(governed, training.rows, training.seed)
    templates = {generator.id: len(generator.templates) for generator in governed.generators}
    tried, counts = [], dict.fromkeys(templates, 0)
    for row in rows:
        if counts[row.generator] < max(SAMPLE, templates[row.generator]):
            counts[row.generator] += 1
            tried.append(row)
    texts, limit = scored_texts(governed), most_alike(governed, policy)
    clear = _clear_again(tried, texts, limit, before) if before else None
    if clear is not None:
        return DryRun(len(tried), 0, clear.nearest, (), clear)
    separated = separate(tried, texts, limit)
    if not separated.dropped:
        names = tuple(map(_name, texts))
        nearest_to = names[separated.nearest_to] if separated.nearest_to >= 0 else ""
        clear = Clear(_rows_name(tried), names, separated.nearest, nearest_to)
    return DryRun(len(tried), len(separated.dropped), separated.nearest, losses(tried, separated), clear)


def _clear_again(rows: Sequence[TrainingRow], texts: Sequence[ScoredText], limit: float, before: Clear) -> Clear | None:
    """What `separate` would find, from what it found before; None where that does not say it."""
    names = tuple(map(_name, texts))
    if before.rows != _rows_name(rows) or before.nearest_to not in names or before.nearest >= limit:
        return None
    names_before = {*before.texts}
    new = [place for place, name in enumerate(names) if name not in names_before]
    separated = separate(rows, [texts[place] for place in new], limit)
    if separated.dropped:
        return None
    if separated.nearest <= before.nearest:
        return Clear(before.rows, names, before.nearest, before.nearest_to)
    return Clear(before.rows, names, separated.nearest, names[new[separated.nearest_to]])


def _rows_name(rows: Sequence[TrainingRow]) -> str:
    return hashlib.sha256("\n".join(row.model_dump_json() for row in rows).encode()).hexdigest()


def _name(text: ScoredText) -> str:
    return hashlib.sha256(f"{text.kind}\n{text.text}".encode("utf-8", "surrogatepass")).hexdigest()
