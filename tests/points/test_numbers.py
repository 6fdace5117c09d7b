"""The ``number`` check on a text: what people of several countries and models write, and what it is taken for."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from modelsmith.points.answers import MAX_BYTES
from modelsmith.points.check import PointVerdict, grade_point
from modelsmith.schema.rubric import RubricPoint

CASES = yaml.safe_load((Path(__file__).parent / "numbers.yaml").read_text("utf-8"))
EXPECTED = (-5, 5, 1234, 123456, 1234567.5, 1, 2, 2.5, 7, 10, 12, 12.34, 0, 0.5, 1.2, 500, 5000, 5e6)
READS = [(answer, case["number"], case["why"]) for case in CASES for answer in case["answers"]]


def verdict(answer: str, expected: float, **declared: object) -> PointVerdict:
    point = {"type": "number", "expected": {"value": expected}, **declared}
    return grade_point(RubricPoint.model_validate({"id": "p", "text": "t", "weight": 1, "check": point}), answer, {})


def test_a_number_is_read_whole_or_not_at_all():
    """The table of hard cases (numbers.yaml): each answer passes for one number alone, or for none."""
    wrong = [
        (answer, why, f"expected {expected}", result)
        for answer, number, why in READS
        for expected in EXPECTED
        if (result := verdict(answer, expected)).passed is not (expected == number)
    ]
    assert wrong == []
    assert len(READS) > 600


@pytest.mark.parametrize(
    ("answer", "expected", "unit", "passed"),
    [
        ("5%", 5, None, True), ("5 %", 5, "percent", True), ("5 percent", 5, "percent", True),
        ("5", 5, "percent", True),
        ("5%", 0.05, "share", True), ("0.05", 0.05, "share", True), ("5\uff05", 0.05, "share", True),
        ("5\u2030", 0.5, "percent", True), ("50 bps", 0.5, "percent", True), ("0%", 0, None, True),
        ("0.05%", 0.05, "share", False), ("5", 0.05, "share", False), ("5%", 0.05, "percent", False),
        ("0.05%", 0.05, None, False), ("5%", 0.05, None, False), ("1%", 1, None, False), ("5%", 5, "share", False),
        ("500%", 5, "share", True), ("-5%", -5, None, True), ("7%", 0.05, None, False),
    ],
)  # fmt: skip
def test_a_percentage_is_held_against_the_declared_unit(answer, expected, unit, passed):
    declared = {"unit": unit} if unit else {}
    assert verdict(answer, expected, **declared).passed is passed


def test_a_reason_shows_how_the_numbers_differ():
    """As the number is written, and how far it is off where one looks like the other."""
    far, near = verdict("7", 5).reason, verdict("0.3000000000000000166", 0.3).reason
    assert far == "the number is 7, expected 5 give or take 0.0"
    assert ("0.3000000000000000166" in near, "off by 1.66e-17" in near) == (True, True)
    assert "off by" in verdict("0." + "3" * 60, 0.3333333333333333).reason
    assert "cannot tell which number is meant, 5 or 7" in verdict("5 or 7", 5).reason
    assert "no `unit`" in verdict("5%", 0.05).reason


@pytest.mark.parametrize(
    ("answer", "passed"),
    [("5", False), ("It is 5", False), ("5.", False), ("5 ms", False), ("5\n", True), ("5 ms per request", True),
     ("5\nThe", True)],
)  # fmt: skip
def test_the_last_number_of_an_answer_that_was_cut_off_may_be_half_of_one(answer, passed):
    """``12`` may be the beginning of ``1234``, and ``5`` that of ``5 million``; a whole line is whole."""
    for expected in (5, 12, 50):
        point = {"type": "number", "expected": {"value": expected}}
        rubric_point = RubricPoint.model_validate({"id": "p", "text": "t", "weight": 1, "check": point})
        assert grade_point(rubric_point, answer, {}, cut_off=True).passed is (passed and expected == 5)


@given(st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_every_number_reads_back_as_it_is_commonly_written(number, grouped):
    text = f"{number:,}" if grouped and isinstance(number, int) else str(number)
    for spelled in (text, text.replace("-", "\u2212"), f"It is {text}.", text.replace(",", "\u202f"), f"**{text}**"):
        assert verdict(spelled, number).passed


FORMS = (
    "{}", "It is {}.", "**{}**", "${}", "{} ms", "Answer: {}", "\\boxed{{{}}}", "<b>{}</b>", "about {}", "`{}`",
    "EUR {}", "{}!", "({} apples)", "| {} |", "- {}", "\u7b54\u6848\u662f{}\u3002", "$${}$$", "{}\n", "bid = {}",
)  # fmt: skip
"""Ways to write one number."""
TURNED = (
    "-{}", "\u2212{}", "-${}", "${{-{}}}", "-**{}**", "-({})", "({})", "(${})", "minus {}", "{}k", "{} million",
    "{} Mio.", "{} lakh", "{}\u4e07", "{}0", "1{}", "{}e3", "{} \u00d7 10^3", "{}^2", "1/{}", "{}/2", "{},5",
    "{}\u00bd", "<{}", "> {}", "{}+", "not {}", "{} to {other}", "{}-{other}", "{}\u2013{other}", "{} or {other}",
    "{other}, not {}", "{}\u00b1{other}", "{}%, {other}%", "{other} ({})", "{} * {other}", "1,{}", "{}:{other}",
    "~~{}~~ {other}", "{} {other}", "x{other} {}%\u207b\u00b9", "{}\u00b2", "{}?", "{}-", "half of {}", "0x{}",
    "{}.{other}.1", "{} (negative)", "minus: {}", "{} (in millions)", "${}b", "{} grand", "less than or equal to {}",
    "{} < x", "anything but {}", "{}, if not a million", "<del>{}</del> {other}", "<think>{}</think> {other}",
    "{} is a guess", "x minus {}",
)  # fmt: skip
"""Ways to write another number, or none, with the digits of one."""


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from(FORMS + TURNED), st.sampled_from(FORMS))
def test_a_wrong_number_never_passes_however_it_is_written(right, other, turned, form):
    """What says another number than the right one, or the right one turned into another, fails."""
    assume(right != other)
    assert not verdict(form.format(f"{other:,}"), right).passed
    if turned in TURNED:
        text = turned.format(right, other=other)
        assert not verdict(text, right).passed, text


@pytest.mark.parametrize(
    "piece",
    ["1,", "1 ", "-", "- \n", " ", "1", ".", "1e", "-$", "a_", "\u066c\u0661", "1\u202f", "*", "<b>", "\\text{", "<a ",
     "a1 ", "~", "(", "=\n5\n", "`", "_1", "&lt;", "\n", "\n ", "> \n", "a ", "\u0300", "{", "{,", "\\", "$(", "e",
     "<think>", "</think ", "<!--", "ten "],
)  # fmt: skip
def test_reading_a_number_takes_linear_time(piece):
    """A pattern that tries again and again would not end within this suite's time."""
    filled = piece * (MAX_BYTES // 16 // len(piece))
    for text in (filled, f"5{filled}5", f"5 {filled}=5"):
        verdict(text, 1)


def test_a_number_is_compared_in_decimals_not_in_floats():
    assert verdict("1.1", 1.0, absolute=0.1).passed
    assert not verdict(str(Decimal("1.1") + Decimal("1e-18")), 1.0, absolute=0.1).passed
