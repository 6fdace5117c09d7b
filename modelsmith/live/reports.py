"""Reports of outcomes as an application sends them: read strictly, refused in words. Pure but for the id's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from modelsmith.live.ids import Ids
from modelsmith.live.port import Decision
from modelsmith.schema.live import LEAST_SHARE
from modelsmith.schema.one_reading import read_json

LARGEST: Final = 1 << 20
"""Bytes of a body at most."""
MOST: Final = 1000
"""Reports in a batch at most."""
_LONGEST_KEY: Final = 2_000

Refused = Literal[
    "malformed", "forged", "outside-key", "late", "shadow", "not-watched", "unknown-metric", "not-yes-or-no",
    "contradicted", "key-reused", "flood", "not-stored",
]  # fmt: skip
STATUS: Final[dict[str, int]] = {
    "taken": 200, "repeated": 200, "malformed": 400, "forged": 403, "outside-key": 403, "contradicted": 409,
    "key-reused": 409, "late": 410, "shadow": 422, "not-watched": 422, "unknown-metric": 422, "not-yes-or-no": 422,
    "flood": 429, "not-stored": 503,
}  # fmt: skip
WORDS: Final[dict[str, str]] = {
    "malformed": "a report has decision_id, metric, value and idempotency_key, and nothing else",
    "forged": "no door with this key has made that decision_id",
    "outside-key": "this key is not for the cluster of that decision",
    "late": "its decision was made longer ago than the rule takes reports",
    "shadow": "a shadow answer reached nobody, so it has no outcome",
    "not-watched": "the deployment of that decision is not under watch, or no longer",
    "unknown-metric": "the rule of that deployment names no such outcome",
    "not-yes-or-no": "value is 1 where the outcome happened and 0 where it did not",
    "contradicted": "another value was reported for this decision and metric; the first one stands",
    "key-reused": "this idempotency_key was used for another report",
    "flood": "too many reports at once; send these again later",
    "not-stored": "reports cannot be stored now; send these again later",
}

NO_BODY: Final = (
    f'a body is one report, or {{"reports": [...]}} with 1 to {MOST:,} of them, in JSON that every reader reads alike '
    f"(UTF-8, no field twice, no NaN); {WORDS['malformed']}"
)
"""What is said of a body in which there are no reports to read."""


class Report(NamedTuple):
    """One report that can be taken."""

    decision: Decision
    metric: str
    happened: bool
    key: bytes
    """Digest of the idempotency key."""


class ExpectedReports(NamedTuple):
    """The reports that a deployment under watch expects."""

    metrics: Sequence[str]
    late: timedelta
    validated: bool = False
    """Whether it was validated: then decisions of its full traffic are asked for, and no longer those of a window."""


def read_body(body: bytes) -> list[Any] | None:
    """The reports of a body, one or ``{"reports": [...]}``; None for what is neither."""
    if len(body) > LARGEST:
        return None
    try:
        value = read_json(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and set(value) == {"reports"}:
        reports = value["reports"]
        return reports if isinstance(reports, list) and 0 < len(reports) <= MOST else None
    return [value]


def read_report(
    value: Any, ids: Ids, watched: dict[str, ExpectedReports], may: Callable[[str], bool], sender: str, now: datetime
) -> Report | tuple[Refused, str]:
    """One report, or why it is refused and the cluster where that is known.

    Args:
        value: As it came.
        ids: Of this door.
        watched: What each deployment takes, by its record.
        may: Whether the sender's key is for a cluster.
        sender: Whose key it is: idempotency keys are each sender's own.
        now: The door's clock.
    """
    if not isinstance(value, dict) or set(value) != {"decision_id", "metric", "value", "idempotency_key"}:
        return "malformed", ""
    metric, reported, key = value["metric"], value["value"], value["idempotency_key"]
    if not isinstance(metric, str) or not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
        return "malformed", ""
    decision = ids.read(value["decision_id"])
    if decision is None:
        return "forged", ""
    if not may(decision.cluster):
        return "outside-key", decision.cluster
    refused = _refusal(decision, metric, reported, watched.get(decision.record), now)
    if refused:
        return refused, decision.cluster
    text = json.dumps([decision.cluster, sender, key]).encode()
    return Report(decision, metric, bool(reported), hashlib.blake2b(text, digest_size=16).digest())


def _refusal(
    decision: Decision, metric: str, reported: Any, expected: ExpectedReports | None, now: datetime
) -> Refused | None:
    if decision.stage == "shadow":
        return "shadow"
    if expected is None or expected.validated != (decision.stage == "full"):
        return "not-watched"
    if not expected.validated and not LEAST_SHARE <= decision.share <= 1 - LEAST_SHARE:
        return "not-watched"
    if metric not in expected.metrics:
        return "unknown-metric"
    if isinstance(reported, bool) or not isinstance(reported, int | float) or reported not in (0, 1):
        return "not-yes-or-no"
    return "late" if now - decision.at > expected.late else None
