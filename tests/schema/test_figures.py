"""No rounding contradicts a verdict: what looks equal is equal, and what looks smaller is smaller."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from modelsmith.schema.figures import counted, format_apart, format_beside, p_value, signed

SHARES = st.floats(min_value=-1, max_value=1)


@given(SHARES, SHARES)
@example(0.6996, 0.7)
@example(0.7, math.nextafter(0.7, 1))
@example(5e-324, 0.0)
@example(-0.0, 0.0)
def test_a_figure_beside_its_limit_looks_as_it_is(value: float, limit: float) -> None:
    text, beside = format_apart(value, limit)
    assert (float(text) < float(beside)) == (value < limit)
    assert (float(text) > float(beside)) == (value > limit)


@given(SHARES)
@example(0.0004)
@example(-0.0)
def test_a_difference_looks_like_none_only_where_there_is_none(change: float) -> None:
    """``The second run passes more scenarios: ... [+0.000`` would contradict itself."""
    text = signed(change)
    assert (float(text) > 0, float(text) < 0) == (change > 0, change < 0)
    assert text[0] == ("-" if change < 0 else "+")


def test_digits_are_spent_only_where_they_tell_something() -> None:
    assert format_apart(0.6996, 0.7) == ("0.6996", "0.7000")
    assert format_apart(0.812345, 0.7) == ("0.812", "0.700")
    assert format_apart(0.7, 0.7) == ("0.700", "0.700")
    assert format_beside(0.7, None) == ("0.700", "")


def test_one_of_a_unit_is_said_in_the_singular() -> None:
    assert [counted(number, "minute") for number in (0, 1, 2)] == ["0 minutes", "1 minute", "2 minutes"]


@given(st.floats(min_value=0, max_value=1))
@example(0.0)
@example(0.0001)
@example(math.nextafter(0.0001, 0))
def test_no_p_value_looks_like_zero(p: float) -> None:
    """However many pairs flip one way, chance is never ruled out: ``p = 0`` would say so."""
    sign, text = p_value(p).removeprefix("p ").split()
    assert (sign == "<") == (p < 0.0001)
    assert float(text) >= 0.0001
    assert sign == "<" or math.isclose(float(text), p, rel_tol=0.005)
