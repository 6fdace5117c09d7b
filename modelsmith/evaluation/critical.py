"""Critical scenarios that do not pass, and how: which points, in how many answers, how far from right. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from modelsmith.evaluation.scoring import row_passed
from modelsmith.evaluation.tally import Tally, tally
from modelsmith.schema.base import Frozen, Section, Slug
from modelsmith.schema.run import GateRule, VerdictRow


class CriticalFailure(Frozen):
    """One critical scenario in one section that asks it."""

    section: Section
    id: Slug
    capability: Slug
    failed: int
    """Answers that do not pass."""
    answers: int
    score: float
    """Mean score of the answers, 0 to 1."""
    points: dict[Slug, int]
    """Points that were missed, and by how many answers."""
    reasons: dict[Slug, str] = {}
    """What was wrong, point by point, with the first answer that missed it. Empty for held-out, and where only the
    verdicts are known."""


def critical_failures(rows: Iterable[VerdictRow], rule: GateRule) -> tuple[CriticalFailure, ...]:
    """All of them, by section and id."""
    critical = [row for row in rows if row.critical]
    tallies = tally(critical, rule).values() if critical else ()
    return tuple(_failure(failed_tally, rule) for failed_tally in tallies if not failed_tally.passed)


def how(failure: CriticalFailure) -> str:
    """One line: ``2 of 3 answers fail, score 0.50; misses cause (2), action (1)``."""
    points = ", ".join(
        f"{point} ({count})" if failure.answers > 1 else point for point, count in failure.points.items()
    )
    answers = f"{failure.failed} of {failure.answers} answers fail, " if failure.answers > 1 else ""
    return f"{answers}score {failure.score:.2f}; misses {points}"


def _failure(failed: Tally, rule: GateRule) -> CriticalFailure:
    answers = [failed.points[key] for key in sorted(failed.points)]
    missed = Counter(point for answer in answers for point, passed in answer.items() if not passed)
    return CriticalFailure(
        section=failed.section,
        id=failed.id,
        capability=failed.capability,
        failed=sum(not row_passed(answer, rule.points) for answer in answers),
        answers=len(answers),
        score=round(math.fsum(failed.scores) / len(failed.scores), 9),
        points={point.id: missed[point.id] for point in rule.points if missed[point.id]},
    )
