"""What is plain text: one answer for files, records and words of people."""

from __future__ import annotations

import unicodedata

import pytest
from pydantic import TypeAdapter, ValidationError

from modelsmith.schema.assigned import BLANK, EMPTY, is_known, is_shown
from modelsmith.schema.plaintext import PlainLine, PlainText, first_hidden, first_unwelcome, visible

EVERY = [chr(number) for number in range(0x110000)]


def test_what_is_not_assigned_or_not_for_eyes_is_not_plain():
    """By this Python's own tables; a later one assigns more, which stays out until all know it."""
    for character in EVERY:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} and character not in "\t\n":
            assert first_hidden(f"a{character}b"), f"U+{ord(character):04X}"
            assert visible(f"a{character}b").isascii()


def test_what_shows_nothing_is_not_plain():
    """Default_Ignorable_Code_Point of Unicode 14.0.0, as DerivedCoreProperties.txt lists it, and blank letters."""
    ignorable = (
        "ad 34f 61c 115f-1160 17b4-17b5 180b-180f 200b-200f 202a-202e 2060-206f 3164 fe00-fe0f feff ffa0 fff0-fff8 "
        "1bca0-1bca3 1d173-1d17a e0000-e0fff"
    )
    for part in ignorable.split():
        first, last = (int(end, 16) for end in (part.split("-") * 2)[:2])
        assert all(first_hidden(chr(number)) for number in range(first, last + 1)), part
        assert EMPTY.issuperset(range(first, last + 1)), part
    assert all(map(first_hidden, BLANK))
    assert EMPTY.issuperset(map(ord, BLANK))
    assert not any(is_shown(chr(number)) or chr(number).isspace() for number in EMPTY)


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the table is of Unicode 14.0.0")
def test_letters_marks_digits_and_signs_of_every_script_are_plain():
    """The table is made anew: everything assigned but what the two tests above name."""
    empty = set("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | set(BLANK)
    for character in EVERY:
        selects = "VARIATION SELECTOR" in unicodedata.name(character, "")
        kind = unicodedata.category(character)
        expected = (kind[0] in "LMNPS" or kind == "Zs") and character not in empty and not selects
        assert is_shown(character) == expected, f"U+{ord(character):04X}"
        assert is_known(character) == (kind not in ("Cn", "Cs", "Cc")), f"U+{ord(character):04X}"


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


@pytest.mark.parametrize("blank", [" ", "\u3000", "\u00a0"])
def test_a_reason_that_goes_on_out_of_sight_is_not_plain(blank):
    """Files with such a run are refused, and what lies under promotions/ could never be mended."""
    TypeAdapter(PlainLine).validate_python(f"fine{blank * 199}indeed")
    for kind in (PlainLine, PlainText):
        with pytest.raises(ValidationError, match="200 times in a row"):
            TypeAdapter(kind).validate_python(f"fine{blank * 200}indeed")
