"""How long to wait before a request is sent again: pure arithmetic, without clock, sleep or shared random state."""

from __future__ import annotations

import hashlib
import math
from email.utils import parsedate_to_datetime

FIRST_SECONDS = 0.5
"""Longest wait before the second attempt; it doubles from attempt to attempt."""
MOST_SECONDS = 30.0
"""Longest wait that we choose ourselves."""
MOST_ASKED_SECONDS = 60.0
"""Longest wait that a server's ``Retry-After`` gets from us; one that asks for an hour is asked again after this."""


def delay(key: str, attempt: int) -> float:
    """Seconds between attempt number ``attempt`` (from 1) of the prompt ``key`` and the next.

    Exponential with jitter between half and all of it. The jitter is drawn from key and attempt, so that prompts which
    failed together do not come back together, and a rerun waits as the run did.

    >>> 0.25 <= delay("core/a/0/0", 1) <= 0.5 and 1.0 <= delay("core/a/0/0", 3) <= 2.0
    True
    """
    longest = MOST_SECONDS if attempt > 16 else min(MOST_SECONDS, FIRST_SECONDS * 2 ** (attempt - 1))
    drawn = hashlib.sha256(f"{key}\x00{attempt}".encode("utf-8", "surrogatepass")).digest()
    return longest * (0.5 + int.from_bytes(drawn[:4], "big") / 2**33)


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, as a number or as an HTTP date; None when it says neither.

    Args:
        value: The header.
        now: Seconds since the epoch.

    >>> retry_after("2", 0.0), retry_after("Thu, 01 Jan 1970 00:00:07 GMT", 4.0), retry_after("soon", 0.0)
    (2.0, 3.0, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), MOST_ASKED_SECONDS)
