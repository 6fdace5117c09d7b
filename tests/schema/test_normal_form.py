"""A text has the normal form that Unicode gives it, and no text takes time that grows with its square."""

import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith import normal_form
from modelsmith.normal_form import normalized
from modelsmith.points.answers import composed_text
from modelsmith.texts.overlap import plain_words

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
EVERY = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
MARKS = [character for character in EVERY if unicodedata.combining(unicodedata.normalize("NFKD", character)[0])]


@given(st.lists(st.sampled_from([*MARKS, "a", "\u00e9", "\uac00", "\u1100", "\u1ead", "\ufdfa"]), max_size=200))
@settings(max_examples=150, deadline=None)
def test_it_is_the_form_that_unicode_gives(some):
    text = "".join(some) + "x" + "".join(MARKS[::-3]) + "".join(some)
    for form in FORMS:
        assert normalized(form, text) == unicodedata.normalize(form, text)


def test_every_mark_that_unicode_has_is_known():
    for apart in ("NFD", "NFKD"):
        runs = normal_form._runs(apart)
        for character in EVERY:
            parts = unicodedata.normalize(apart, character)
            assert bool(runs.fullmatch(character * 32)) == bool(unicodedata.combining(parts[0])), hex(ord(character))


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\u0301\uff9e", "\u0344\u0316"])
@pytest.mark.parametrize("form", FORMS)
def test_marks_in_bad_order_take_no_longer_than_others(form, marks):
    begin = time.process_time()
    normalized(form, "\u00e9" + marks * 100_000)
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("use", [composed_text, plain_words])
def test_whoever_compares_texts_does_it_so(use):
    begin = time.process_time()
    use("a" + "\u0301\u0316" * 100_000)
    assert time.process_time() - begin < 10
