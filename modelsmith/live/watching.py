"""Which deployment of a cluster is under watch, as main says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

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
