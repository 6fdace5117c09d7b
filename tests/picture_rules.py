"""What every picture keeps: readable on light and dark pages, no text over another, nothing loaded from outside."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

from modelsmith.evidence.sanitise import assert_clean
from modelsmith.evidence.svg import MARGIN, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


def assert_readable(text: str) -> None:
    """Well formed, described, on a background of its own, with its texts apart and inside the margins."""
    root = ET.fromstring(text)
    title, description, background = list(root)[:3]
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "title desc")
    assert (title.tag, title.get("id"), bool(title.text)) == (f"{SVG}title", "title", True)
    assert (description.tag, description.get("id"), bool(description.text)) == (f"{SVG}desc", "desc", True)
    assert (background.tag, background.get("fill")) == (f"{SVG}rect", "#ffffff")
    assert float(background.get("width")) == WIDTH - 1
    assert_clean(text.encode())
    for word in ("href", "url(", "@import", "javascript", "<image", "<foreignObject", "<style", "<script"):
        assert word not in text
    boxes = [text_box(element) for element in root.iter(f"{SVG}text")]
    for x, top, right, bottom, content in boxes:
        assert x >= MARGIN - 1, content
        assert right <= WIDTH - MARGIN + 1, content
        assert 0 < top < bottom < float(root.get("height")), content
    for first, other in combinations(boxes, 2):
        apart = first[2] <= other[0] or other[2] <= first[0] or first[3] <= other[1] or other[3] <= first[1]
        assert apart, (first, other)


def text_box(text: ET.Element) -> tuple[float, float, float, float, str]:
    """The place a text takes in DejaVu Sans, about the widest of the fonts asked for."""
    size = float(text.get("font-size", 13))
    wide = sum(
        0.32 if c in "iljtfr.,|'!()[]/- " else 0.88 if c in "mwMW@%" else 0.67 if c.isupper() else 0.61
        for c in text.text
    )
    width = wide * size * (1.05 if text.get("font-weight") else 1)
    x, y = float(text.get("x")), float(text.get("y"))
    x_left = {"end": x - width, "middle": x - width / 2}.get(text.get("text-anchor", "start"), x)
    return x_left, y - 0.76 * size, x_left + width, y + 0.2 * size, text.text
