"""Canonical JSON is RFC 8785's, byte for byte, and refuses what that cannot write."""

from __future__ import annotations

from enum import StrEnum

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from modelsmith.schema.canonical import canonical_json

NUMBERS = st.floats() | st.floats(-1e-3, 1e-3) | st.floats(1e14, 1e23) | st.integers() | st.integers(-(2**54), 2**54)
TEXTS = st.text() | st.text('\0\x1f\x7f"\\/é\u2028\ud800\udfff\uffff\U0001f600', max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


class Word(StrEnum):
    """Text that is not plainly text."""

    ONE = "one"


def by_the_reference(value):
    try:
        return rfc8785.dumps(value)
    except ValueError:
        return None


@given(VALUES)
@example([0.0, -0.0, 1.0, -5.0, 0.1, 1e-4, 9.9e-5, 1e-6, 1e-7, 1e15, 1e16, 123456789012345680.0, 1e20, 1e21, 5e-324])
@example([2**53 - 1, -(2**53) + 1])
@example(2**53)
@example(float("nan"))
@example(float("-inf"))
@example("\ud800")
@example({"\ue000": 1, "\U0001f600": 2, "a": 3, "B": 4})
@example([Word.ONE, {Word.ONE: True}])
@example({1: "a key that is no text"})
@example({"set": {1}})
def test_it_is_what_the_reference_implementation_writes_and_refuses(value):
    try:
        ours = canonical_json(value)
    except ValueError:
        ours = None
    assert ours == by_the_reference(value)


def test_the_rfc_s_own_example():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
        "literals": [None, True, False],
    }
    assert canonical_json(value) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize("value", [float("nan"), 2**53, "\udfff", {1: 2}, b"bytes"])
def test_what_json_cannot_say_exactly_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011
        canonical_json([value])
