from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from picture_rules import SVG, assert_readable

from modelsmith.evidence.chart import chart

GOLDEN = Path(__file__).parent / "golden" / "chart.svg"
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
        "the longest specialist name": evidence_with(specialist="iter-" + "9" * 9 + "-0123abcd"),
    }


SHAPES = ("passing", "failing, three models", "twelve long names", "missing sections", "held-out only",
          "the longest specialist name")  # fmt: skip


def test_the_picture_is_as_it_was(small):
    """Set MODELSMITH_WRITE_GOLDEN=1 to write it anew, and look at it."""
    text = chart(small)
    if os.environ.get("MODELSMITH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert chart(type(small).model_validate_json(small.model_dump_json())) == text


@pytest.mark.parametrize("shape", SHAPES)
def test_it_keeps_what_every_picture_keeps_and_its_title_says_the_verdict(shapes, shape):
    text = chart(shapes[shape])
    assert_readable(text)
    assert shapes[shape].candidate.headline.verdict in ET.fromstring(text)[0].text


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


def test_a_missed_threshold_and_a_loss_are_said_in_words_not_in_colour(small, shapes):
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
