from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest

from modelsmith.evidence.chart import MARGIN, WIDTH, chart
from modelsmith.evidence.sanitise import assert_clean

GOLDEN = Path(__file__).parent / "golden" / "chart.svg"
SVG = "{http://www.w3.org/2000/svg}"
LONG = [f"a-capability-with-a-rather-long-descriptive-name-{i}" if i % 3 else f"cap-{i}" for i in range(12)]


@pytest.fixture(scope="module")
def shapes(evidence, small, evidence_with, rows_with):
    few = {"core": 4, "held_out": 4}
    return {
        "passing": evidence,
        "failing, three models": small,
        "twelve long names": evidence_with(
            candidate=rows_with(0.55, capabilities=LONG),
            incumbent=rows_with(0.7, seed=3, capabilities=LONG),
            incumbent_model="iter-123-0123abcd",
        ),
        "missing sections": evidence_with(
            candidate=rows_with(1.0, capabilities=["one"], sizes=few),
            incumbent=rows_with(0.2, capabilities=["one"], sizes=few),
        ),
        "held-out only": evidence_with(
            candidate=rows_with(0.5, sizes={"held_out": 9}), incumbent=rows_with(0.5, seed=4, sizes={"held_out": 9})
        ),
        "a very long specialist name": evidence_with(specialist="iter-" + "9" * 150),
    }


SHAPES = ("passing", "failing, three models", "twelve long names", "missing sections", "held-out only",
          "a very long specialist name")  # fmt: skip


def test_the_picture_is_as_it_was(small):
    """Set MODELSMITH_WRITE_GOLDEN=1 to write it anew, and look at it."""
    text = chart(small)
    if os.environ.get("MODELSMITH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert chart(type(small).model_validate_json(small.model_dump_json())) == text


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_well_formed_described_and_has_a_background_of_its_own(shapes, shape):
    root = ET.fromstring(chart(shapes[shape]))
    title, description, background = list(root)[:3]
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    assert (title.tag, title.get("id")) == (f"{SVG}title", "title")
    assert shapes[shape].candidate.headline.verdict in title.text
    assert (description.tag, description.get("id")) == (f"{SVG}desc", "desc")
    assert background.tag == f"{SVG}rect"
    assert background.get("fill") == "#ffffff"
    assert float(background.get("width")) == WIDTH - 1
    assert_clean(chart(shapes[shape]).encode())


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_overlaps_another_or_leaves_the_picture(shapes, shape):
    root = ET.fromstring(chart(shapes[shape]))
    boxes = [_box(text) for text in root.iter(f"{SVG}text")]
    for left, top, right, bottom, content in boxes:
        assert left >= MARGIN - 1, content
        assert right <= WIDTH - MARGIN + 1, content
        assert 0 < top < bottom < float(root.get("height")), content
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


def _box(text: ET.Element) -> tuple[float, float, float, float, str]:
    """The place a text takes in DejaVu Sans, about the widest of the fonts asked for."""
    size = float(text.get("font-size", 13))
    wide = sum(
        0.32 if c in "iljtfr.,|'!()[]/- " else 0.88 if c in "mwMW@%" else 0.67 if c.isupper() else 0.61
        for c in text.text
    )
    width = wide * size * (1.05 if text.get("font-weight") else 1)
    x, y = float(text.get("x")), float(text.get("y"))
    left = {"end": x - width, "middle": x - width / 2}.get(text.get("text-anchor", "start"), x)
    return left, y - 0.76 * size, left + width, y + 0.2 * size, text.text


def test_every_figure_stands_in_the_description(small):
    description = ET.fromstring(chart(small)).find(f"{SVG}desc").text
    headline = small.candidate.headline
    for estimate in (
        headline.composite,
        headline.held_out,
        *(s.score for s in headline.sections if s.section != "held_out"),
    ):
        assert f"{estimate.value:.3f}, interval {estimate.low:.3f} to {estimate.high:.3f}" in description
    for rate in headline.per_capability:
        assert f"{rate.section.replace('_', '-')} {rate.passed} of {rate.total}" in description


def test_a_missed_threshold_and_a_loss_are_said_in_words_not_in_colour_alone(small, shapes):
    texts = [text.text for text in ET.fromstring(chart(shapes["twelve long names"])).iter(f"{SVG}text")]
    assert "FAIL" in texts
    assert texts.count("missed") == 2
    assert any("results that the incumbent passes are lost" in text for text in texts)


def test_names_are_escaped_and_nothing_outside_is_loaded(small):
    sly = small.model_copy(update={"cluster": "<script>alert(1)</script>&\x07", "specialist": 'a"b<c'})
    text = chart(sly)
    ET.fromstring(text)
    assert "<script" not in text
    for word in ("href", "url(", "@import", "javascript", "<image", "<foreignObject"):
        assert word not in text
