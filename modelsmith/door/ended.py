"""One request that has ended, as telemetry is told of it, and the port of what exports it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from modelsmith.live.port import Decision

Signal = Literal["traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics")
TRACE_PARENT: Final = "traceparent"
"""The header by which a caller's trace goes on here; nothing else of it is read."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One request that has ended."""

    decision: Decision
    specialist: str
    """The specialist that was to answer."""
    record: str
    """Digest of the record that put it there; empty for the base model."""
    rule: str | None
    """The governed rule that took the request."""
    answered_by: str | None
    """None where nobody did."""
    status: int
    """What the caller got; 499 where it left before the end."""
    stream: bool
    first_ms: float | None
    total_ms: float
    tokens_in: int
    tokens_out: int
    parent: str = ""
    """The caller's ``traceparent``, as it came."""
    at: int = field(default_factory=time.time_ns)
    """Nanoseconds of the machine's clock."""


class Sink(Protocol):
    """What makes spans and figures of requests, and exports them in threads of its own."""

    def tell(self, ended: Ended) -> None:
        """Tell of one request."""

    def close(self) -> None:
        """Export what waits, however long that takes."""
