"""Observations of a run as the rows of verdicts that everything is worked out from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelsmith.schema.errors import GateNotCleared
from modelsmith.schema.run import Observation, VerdictRow


def verdict_rows(observations: Iterable[Observation]) -> tuple[VerdictRow, ...]:
    """The verdicts of a run, in the order of section, scenario, wording and repeat.

    Raises:
        GateNotCleared: ``unscored`` when an observation ended in an error: it is not a zero, and it blocks the gate.
    """
    rows = []
    for observation in observations:
        if observation.row is None:
            raise GateNotCleared(
                "unscored",
                "The run holds an answer that could not be scored.",
                "Mend the cause and run the eval again; it resumes where it stopped.",
                section=observation.section,
                error=(observation.error or {}).get("code"),
            )
        rows.append(observation.row)
    return sorted_rows(rows)


def sorted_rows(rows: Sequence[VerdictRow]) -> tuple[VerdictRow, ...]:
    """In the order of section, scenario, wording and repeat, in which they are committed."""
    return tuple(sorted(rows, key=_position))


def _position(row: VerdictRow) -> tuple[int, str, int, int]:
    return ("core", "robustness", "micro", "held_out").index(row.section), row.id, row.wording, row.repeat
