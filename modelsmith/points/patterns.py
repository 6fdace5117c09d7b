"""RE2 patterns: linear time and bounded memory, whatever the pattern and the text.

A pattern is taken in Unicode's composed form (NFC), as answers are.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from modelsmith.schema.errors import InvalidInput

MAX_MEMORY = 2 << 20
"""Memory that one compiled pattern may use, in bytes."""
MAX_SIZE = 100_000
"""Steps of compiled patterns that one eval set may hold; compiling so many takes about a second."""


def found(pattern: str, text: str) -> bool:
    """Whether the pattern matches anywhere in the text; ``^`` and ``$`` anchor it.

    Raises:
        InvalidInput: ``bad-pattern`` when RE2 refuses the pattern or it needs too much memory.
    """
    return _compiled(pattern).search(text.encode("utf-8", "replace")) is not None


def size(pattern: str) -> int:
    """Steps of the compiled pattern: what compiling it costs.

    Raises:
        InvalidInput: ``bad-pattern``.
    """
    return int(_compiled(pattern).programsize)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    try:
        return re2.compile(unicodedata.normalize("NFC", pattern).encode("utf-8"), options)
    except (re2.error, UnicodeEncodeError) as error:
        cause = error.args[0] if error.args else error
        raise InvalidInput(
            "bad-pattern",
            f"RE2 cannot use the pattern {pattern[:80]!r}: {cause.decode() if isinstance(cause, bytes) else cause}.",
            "Write the pattern in RE2 syntax (no look-around, no back-references); where it is too large, repeat less.",
        ) from None
