"""Figures beside the limit that they are held against: rounding must never say another thing than the verdict."""

from __future__ import annotations


def told_apart(value: float, limit: float, digits: int = 3) -> tuple[str, str]:
    """Both with as many decimals, at least `digits`, as it takes to look different when they are.

    >>> told_apart(0.6996, 0.7)
    ('0.6996', '0.7000')
    >>> told_apart(0.7, 0.7)
    ('0.700', '0.700')
    """
    for places in range(digits, 18):
        shown = f"{value:.{places}f}", f"{limit:.{places}f}"
        if (float(shown[0]) == float(shown[1])) == (value == limit):
            return shown
    return repr(value), repr(limit)


def told_beside(value: float, limit: float | None, digits: int = 3) -> tuple[str, str]:
    """As `told_apart`; a value without a limit stands alone, with nothing beside it."""
    return (f"{value:.{digits}f}", "") if limit is None else told_apart(value, limit, digits)
