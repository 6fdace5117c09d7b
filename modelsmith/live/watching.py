"""Which deployment of a cluster is under watch, and which was validated, as main says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelsmith.governance.drift import DAY, WEEK, Rate
from modelsmith.schema.cluster import Rollback


@dataclass(frozen=True)
class Watching:
    """A deployment under watch, as main says it."""

    cluster: str
    specialist: str
    record: str
    """Digest of the record that deployed it."""
    terms: Rollback
    opens: datetime
    """When the deployment was approved."""

    @property
    def closes(self) -> datetime:
        """Until when the contract sends traffic back by itself."""
        return self.opens + timedelta(minutes=self.terms.window_minutes)


@dataclass(frozen=True)
class Shadowed:
    """A specialist that gets copies of requests before it is deployed."""

    cluster: str
    specialist: str
    record: str
    """Digest of the last record of its history."""
    terms: Rollback
    """Rollback terms of the cluster file."""
    counted_as: str
    """By which name all of its copies are decided; see `promotion.serving.shadowed_as`."""
    beside: str
    """What both sides are asked with and held to; see `promotion.serving.compared`."""
    age: timedelta
    """How old a copy may be that still counts."""

    def period(self, at: datetime) -> int:
        """Number of the period that a moment lies in: two are as long as a copy counts.

        So what one period holds, or the one before it, is evidence now and for a while.
        """
        return int(at.timestamp() // (self.age.total_seconds() / 2))

    def counted_in(self, period: int) -> str:
        """By which name a period's counts are kept."""
        return f"{self.counted_as} in {self.age.total_seconds() / 2:.0f} s no. {period}"

    def counting(self, at: datetime) -> tuple[str, str]:
        """The names of the counts that a moment is judged by: of its period, and of the one before."""
        return self.counted_in(self.period(at)), self.counted_in(self.period(at) - 1)


@dataclass(frozen=True)
class Validated:
    """A specialist that production validated on live evidence, and that serves: watched for drift, week by week."""

    cluster: str
    specialist: str
    record: str
    """Digest of the record that routing.yaml names beside it."""
    terms: Rollback
    since: datetime
    """When it was judged; weeks begin here."""
    baseline: Mapping[str, Rate]

    def week(self, at: datetime) -> int:
        """Number of the week that a moment lies in, from 0 on; what is earlier lies in the first."""
        return max(0, (at - self.since) // WEEK)

    def day(self, at: datetime) -> int:
        """Number of the day that a moment lies in, likewise; seven are a week."""
        return max(0, (at - self.since) // DAY)

    def counted_as(self, week: int) -> str:
        """By which name a week's counts are kept."""
        return f"{self.record} week {week}"
