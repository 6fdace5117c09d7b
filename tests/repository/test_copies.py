"""No wording of a set repeats another one; the parts that only look alike are odd, and refuse nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelsmith.operations.near_copies import near_copies
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate

Edit = Callable[[str, str, str], None]
Put = Callable[[str, str | bytes | None], None]

SET = "evals/ads/diagnosis"
FIRST, SECOND = (f"{SET}/scenarios/floors/floor-{n}.yaml" for n in (1, 2))
MICRO = f"{SET}/micro/floors/floor-micro-1.yaml"


def problems_of(repo: Path) -> list[tuple[str, str, str]]:
    return [(problem.file, problem.field, problem.message) for problem in validate(WorkTree(repo)).problems]


@pytest.fixture
def two(repo: Path, put: Put) -> Path:
    """The small repository with a second core scenario of its own."""
    text = (repo / FIRST).read_text()
    own = text.index("content: ") + len("content: ")
    text = text.replace("floor-1", "floor-2").replace(text[own : text.index("\n", own)], "Nobody bids on audio today.")
    put(SECOND, text[: text.index("variants:")] + "variants:\n  - Audio gets no bid at all today.\n")
    assert problems_of(repo) == []
    return repo


def test_a_variant_that_is_the_note_or_another_variant_is_no_rephrasing(two: Path, change: Edit) -> None:
    again = "NOBODY bids, on audio  today!"
    change(SECOND, "  - Audio gets no bid at all today.", f'  - "{again}"\n  - Audio, no bid.\n  - Audio... no bid')
    assert problems_of(two) == [
        (SECOND, "variants[0]", "this variant is the scenario's own wording"),
        (SECOND, "variants[2]", "this variant is variants[1] again"),
    ]


def test_a_variant_of_a_case_with_another_answer_can_never_be_right(two: Path, change: Edit) -> None:
    change(SECOND, "cause: floor\n", "cause: audio\n")
    change(SECOND, "Audio gets no bid at all today.", "every refused answer was below the seller's new minimum.")
    ((file, field, message),) = problems_of(two)
    assert (file, field) == (SECOND, "variants[0]")
    assert f"asked by {MICRO}, where another answer is right" in message
    assert "nobody can be right on both" in message


def test_a_whole_case_under_a_new_id_is_named_once(two: Path, put: Put) -> None:
    put(SECOND, (two / FIRST).read_text().replace("id: floor-1", "id: floor-2"))
    assert problems_of(two) == [
        (SECOND, "messages[0].content", f"this is also asked by {FIRST}, so one case would count twice")
    ]


def test_one_question_about_other_passages_is_another_case(two: Path, put: Put) -> None:
    text = (two / FIRST).read_text()
    context = "context: [{source: log, text: The exchange of Rome answered late.}]\n"
    put(SECOND, text.replace("id: floor-1\n", f"id: floor-2\n{context}"))
    assert problems_of(two) == []


def test_a_case_that_is_nearly_another_one_is_only_odd(two: Path, put: Put) -> None:
    put(SECOND, (two / FIRST).read_text().replace("floor-1", "floor-2").replace("41 percent", "73 percent")
        .replace("Forty-one in a hundred answers are", "Many answers are"))  # fmt: skip
    report = validate(WorkTree(two))
    assert report.problems == ()
    (odd,) = near_copies(report.sets["ads/diagnosis"])
    assert (odd.file, odd.field) == (SECOND, "messages")
    assert f"nearly the same case as {FIRST}" in odd.message
