"""What `modelsmith new` writes reads back as it was said, whatever YAML of another version makes of such a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.repository.document import Unreadable
from modelsmith.repository.drafts import yaml_bytes
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.plaintext import first_unwelcome

LIKE_NUMBERS = "1e3 12e5 1.e3 0o7 +.5 -.5 1e+3 1E-3 1.5e3 1e400 1e-400 0x1F 1_000 12:30 2020-01-01 .inf ~ null on"
UNSEEN = ["a\u3000b", "I \u2764\ufe0f it", "12\u00a0mg", "a\u200cb", "\ue000x", "", " a ", "ends\n\n", "\n\nbegins"]


def read_back(value):
    return read_yaml("draft.yaml", yaml_bytes(value)).data


@pytest.mark.parametrize("text", [*LIKE_NUMBERS.split(), *UNSEEN])
def test_a_text_that_looks_like_something_else_stays_a_text(text):
    for value in ({"code": text}, {"enum": [text, "b"]}, {"reference": {"code": text}}):
        assert read_back(value) == value


@given(st.text(max_size=60))
def test_any_text_reads_back_or_is_refused(text):
    try:
        assert read_back({"text": text}) == {"text": text}
    except Unreadable:
        assert first_unwelcome(text), "only what nobody sees and nobody needs"


def test_what_people_read_stays_as_they_wrote_it():
    assert yaml_bytes({"note": "Gr\u00f6\u00dfe in mg"}).decode() == "note: Gr\u00f6\u00dfe in mg\n"
    assert yaml_bytes({"note": "\u00c4rger \u2764\ufe0f"}).decode() == 'note: "\u00c4rger \u2764\\U0000fe0f"\n'
