"""One thing that `modelsmith doctor` looked at."""

from __future__ import annotations

from typing import Literal

from modelsmith.schema.base import Frozen


class Finding(Frozen):
    """One finding: its subject, its state, why that matters, and what mends it."""

    subject: str
    level: Literal["ok", "note", "bad"]
    sentence: str
    why: str = ""
    mend: str = ""
