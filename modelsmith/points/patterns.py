"""RE2 patterns: linear time and bounded memory, whatever the pattern and the text.

A pattern is taken in Unicode's composed form (NFC), as answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from modelsmith.normal_form import normalized
from modelsmith.schema.errors import InvalidInput

MAX_MEMORY = 2 << 20
"""Memory that one compiled pattern may use, in bytes."""
MAX_SIZE = 100_000
"""Steps of compiled patterns that one eval set may hold; compiling so many takes about a second."""


def matches(pattern: str, text: str) -> bool:
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


class PatternSet:
    """Many patterns looked for in one pass over a text.

    Raises:
        InvalidInput: ``bad-pattern``.
    """

    FEW = 16
    """So many are looked for one by one: that is as fast, and RE2's set has one memory for all of them."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._one_by_one = [compiled(pattern) for pattern in patterns]
        self._set: Any = None
        if len(patterns) > self.FEW:
            import re2

            options = re2.Options()
            options.max_mem = MAX_MEMORY * self.FEW
            options.log_errors = False
            self._set = re2.Set.SearchSet(options)
            for pattern in patterns:
                self._set.Add(_composed(pattern))
            self._set.Compile()

    def matching(self, text: str) -> list[int]:
        """Numbers of the patterns that match anywhere in the text, in no order."""
        data = text.encode("utf-8", "replace")
        if self._set is not None:
            return [*self._set.Match(data)]
        return [number for number, pattern in enumerate(self._one_by_one) if pattern.search(data) is not None]


def compiled(pattern: str) -> Any:
    """The pattern, ready to search encoded texts with.

    Raises:
        InvalidInput: ``bad-pattern``.
    """
    import re2

    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    try:
        return re2.compile(_composed(pattern), options)
    except (re2.error, UnicodeEncodeError) as error:
        cause = error.args[0] if error.args else error
        raise InvalidInput(
            "bad-pattern",
            f"RE2 cannot use the pattern {pattern[:80]!r}: {cause.decode() if isinstance(cause, bytes) else cause}.",
            "Write the pattern in RE2 syntax (no look-around, no back-references); where it is too large, repeat less.",
        ) from None


_compiled = lru_cache(maxsize=64)(compiled)


def _composed(pattern: str) -> bytes:
    return normalized("NFC", pattern).encode("utf-8")
