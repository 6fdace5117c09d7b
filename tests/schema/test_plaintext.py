"""What is plain text: one answer for files, records and words of people."""

from __future__ import annotations

import unicodedata

import pytest
from pydantic import TypeAdapter, ValidationError

from modelsmith.schema.plaintext import PlainLine, PlainText, first_hidden, first_unwelcome

EVERY = [chr(number) for number in range(0x110000)]


def test_nothing_that_steers_hides_or_ends_a_line_is_plain():
    """By this Python's own tables; the module's ranges do not come from them."""
    shown = {*"\t\n", *map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))}
    shown |= {chr(number) for number in range(0x13430, 0x13456)}
    for character in EVERY:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} and character not in shown:
            assert first_hidden(f"a{character}b"), f"U+{ord(character):04X}"


def test_letters_marks_digits_and_signs_of_every_script_are_plain():
    empty = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
    for character in EVERY:
        selects = "VARIATION SELECTOR" in unicodedata.name(character, "")
        if unicodedata.category(character)[0] in "LMNPS" and character not in empty and not selects:
            assert first_hidden(character) is None, f"U+{ord(character):04X}"


@pytest.mark.parametrize(
    "words",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 and \u2764\ufe0f\u200d\U0001f525",
        "1\ufe0f\u20e3 \xa9\ufe0f",
        "\u05e9\u05dc\u05d5\u05dd, world",
        "مرحبا",
        "Łukasz, Zoë, 山田",
    ],
)
def test_people_write_in_their_own_script(words):
    assert TypeAdapter(PlainLine).validate_python(words) == words


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("pass\u200dword", "U+200D ZERO WIDTH JOINER"),
        ("\u202eevil", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("a\x1b[2K", "U+001B ESCAPE"),
        ("a\x85b", "U+0085 NEXT LINE"),
        ("می\u200c", "U+200C ZERO WIDTH NON-JOINER"),
    ],
)
def test_and_nothing_hides_in_their_words(words, named):
    assert first_unwelcome(words).name == named
    with pytest.raises(ValidationError, match=named.replace("+", r"\+")):
        TypeAdapter(PlainText).validate_python(words)


@pytest.mark.parametrize("words", ["a\nb", "a\rb", "a\tb"])
def test_one_line_is_one_line(words):
    with pytest.raises(ValidationError, match="one line"):
        TypeAdapter(PlainLine).validate_python(words)
