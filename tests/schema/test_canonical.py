"""Canonical JSON is RFC 8785's, byte for byte, and refuses what that cannot write."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json, is_canonical, is_plain_canonical, parse_canonical
from modelsmith.schema.errors import IntegrityFailure


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


_NUMBERS = (
    st.floats() | st.integers() | st.sampled_from([1.0, -0.0, 1e16, 1e-5, 1e-6, 1e-7, 1e21, 2**53, 2**53 - 1, 0.1])
)
_TEXTS = st.text(max_size=4) | st.sampled_from(
    [",1234567890123456789,", "[1.0]", "2e-7", "\U0001f600", "\ufffd", ",1.0", '":1e5', "\x7f", "\u2028", "\ud800"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


class _Any(Frozen):
    value: Any


def _reference(value):
    """What `rfc8785` itself writes; None for what it refuses."""
    try:
        return rfc8785.dumps(value.model_dump(mode="json") if isinstance(value, Frozen) else value)
    except ValueError:
        return None


@given(value=_VALUES)
def test_the_quick_way_writes_and_refuses_what_the_reference_does(value):
    due = _reference(_Any(value=value))
    if due is None:
        with pytest.raises(ValueError):  # noqa: PT011
            canonical_json(_Any(value=value))
    else:
        assert canonical_json(_Any(value=value)) == due
    for data in (due, json.dumps({"value": value}, separators=(",", ":")).encode()):
        if data is not None:
            parsed = json.loads(data)
            assert is_canonical(data, parsed) == (_reference(parsed) == data)


class _Grown(Frozen):
    name: str
    added: str | None = None


class TestMachineFiles:
    def test_what_an_older_toolkit_wrote_is_read_with_defaults_of_today(self):
        assert parse_canonical("f", b'{"name":"a"}', _Grown) == _Grown(name="a")
        assert parse_canonical("f", b'{"added":null,"name":"a"}', _Grown) == _Grown(name="a")

    @pytest.mark.parametrize(
        "data",
        [
            b'{"name": "a"}',
            b'{"name":"a"}\n',
            b'{"name":"a","added":null}',
            b'{"name":"a","name":"a"}',
            b'{"name":"a","unknown":1}',
            b'{"name":1}',
            b"[" * 100_000,
            b"",
        ],
    )
    def test_any_other_way_of_writing_it_is_refused(self, data):
        with pytest.raises(IntegrityFailure) as caught:
            parse_canonical("f", data, _Grown)
        assert caught.value.code == "bad-file"

    @pytest.mark.parametrize(
        "words",
        ["a\u2028b", "a\x85b", "a\x9b2Jb", "\u202egood", "pass\u200bword", "a\ufeffb", "\U000e0061", "a\u200db"],
    )
    def test_canonical_json_that_hides_something_as_it_is_is_refused_by_name(self, words):
        """RFC 8785 escapes nothing above U+001F, so a diff and a terminal would show it as it pleases."""
        value = _Grown(name=words)
        assert not is_plain_canonical(canonical_json(value), value)
        with pytest.raises(IntegrityFailure, match=r"it holds U\+"):
            parse_canonical("f", canonical_json(value), _Grown)

    @pytest.mark.parametrize("words", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647", "\u2764\ufe0f", "Zoë\n", "\x1b"])
    def test_words_in_every_script_and_what_json_escapes_are_read(self, words):
        value = _Grown(name=words)
        assert parse_canonical("f", canonical_json(value), _Grown) == value
