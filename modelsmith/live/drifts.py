"""What has left its envelope since it was validated: looked for where whole days end, and told once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from modelsmith.governance.drift import Drifted, Rate, drifted
from modelsmith.live.watching import Validated

_log = logging.getLogger(__name__)


class Drifts:
    """The drifts that one door has found.

    Args:
        rates: What was counted under a name, by metric; None where it cannot be read now.
        told: Called, in some thread, for each that is new.
    """

    def __init__(self, rates: Callable[[str], Mapping[str, Rate] | None], report: Callable[[], None]) -> None:
        self._rates, self._report = rates, report
        self._found: dict[tuple[str, int, str], tuple[Validated, int, Drifted]] = {}
        """By record, week and metric."""
        self._looked: dict[str, int] = {}
        """By record, the last day at whose beginning was looked."""

    def entries(self) -> list[tuple[Validated, int, Drifted]]:
        """Each with the number of its week; again what was told before."""
        return list(self._found.values())

    def look(self, validated: Validated, now: datetime) -> None:
        """Look for drift once a day: in this week, and in the week before, since reports may still come.

        Between, hours of the day that are worse than others would look like a drift.
        """
        day, week, before = validated.day(now), validated.week(now), self._looked.get(validated.record)
        if before is not None and day <= before:
            return
        ended = day % 7 and before is not None
        weeks = range(max(0, week - 1), week + 1 if ended else week)
        looked = [self._look_at_week(validated, number) for number in weeks]
        if all(looked):
            self._looked[validated.record] = day

    def _look_at_week(self, validated: Validated, week: int) -> bool:
        """Judge a week's counts; False where they cannot be read now."""
        rates = self._rates(validated.counted_as(week))
        if rates is None:
            return False
        for drift in drifted(validated.terms, validated.baseline, rates):
            new = (validated.record, week, drift.metric) not in self._found
            self._found.setdefault((validated.record, week, drift.metric), (validated, week, drift))
            if new:
                _log.error(
                    "%s drifts: %s is %.4f, validated at %.4f",
                    validated.specialist,
                    drift.metric,
                    drift.observed,
                    drift.baseline,
                )
                self._report()
        return True
