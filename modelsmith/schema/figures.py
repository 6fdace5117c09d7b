"""Figures beside the limit that they are held against: rounding must never say another thing than the verdict."""

from __future__ import annotations


def format_apart(value: float, limit: float, digits: int = 3) -> tuple[str, str]:
    """Both with as many decimals, at least `digits`, as it takes to look different when they are.

    >>> format_apart(0.6996, 0.7)
    ('0.6996', '0.7000')
    >>> format_apart(0.7, 0.7)
    ('0.700', '0.700')
    """
    for places in range(digits, 18):
        match = f"{value:.{places}f}", f"{limit:.{places}f}"
        if (float(match[0]) == float(match[1])) == (value == limit):
            return match
    return repr(value), repr(limit)


def format_beside(value: float, limit: float | None, digits: int = 3) -> tuple[str, str]:
    """A value beside its limit, as `format_apart`; a value without a limit stands alone."""
    return (f"{value:.{digits}f}", "") if limit is None else format_apart(value, limit, digits)


def p_value(p: float) -> str:
    """A p value as readers expect it: one that is small is bounded, so that it never looks like zero.

    >>> p_value(0.03125), p_value(1.0), p_value(2e-30)
    ('p = 0.0312', 'p = 1', 'p < 0.0001')
    """
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"


def counted(number: int, unit: str) -> str:
    """A number with its unit, which stands in the singular for one.

    >>> counted(1, "minute"), counted(60, "minute")
    ('1 minute', '60 minutes')
    """
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign: what is more than nothing never looks like nothing.

    >>> signed(0.00042)
    '+0.0004'
    >>> signed(-0.5), signed(0.0)
    ('-0.500', '+0.000')
    """
    text, _ = format_apart(value + 0.0, 0.0, digits)
    return text if text.startswith("-") else f"+{text}"
