from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
from invented_sets import governed, scenario
from picture_rules import assert_readable

from modelsmith.evaluation.corpus.balance import balance
from modelsmith.evidence.balance_chart import balance_chart

GOLDEN = Path(__file__).parent / "golden" / "balance.svg"
SVG = "{http://www.w3.org/2000/svg}"
CAPABILITIES = ("auction-timeout", "bid-shading", "supply-path")


def few():
    core = [
        scenario(f"{name}-{n}", name, ("low", "medium", "high")[n % 3], outcome="overspend" if n else "lost-auctions")
        for place, name in enumerate(CAPABILITIES)
        for n in range(2 + 4 * place)
    ]
    held_out = [scenario(f"held-{n}", CAPABILITIES[n % 2], "high") for n in range(6)]
    return governed(core, held_out, [scenario("micro-1", "bid-shading")], (0.5, 0.3, 0.2))


SHAPES = {
    "three capabilities": few(),
    "one scenario": governed([scenario("a")]),
    "no held-out": governed([scenario("a"), scenario("b", "pacing")]),
    "many long names": governed(
        [scenario(f"s-{n}", f"a-capability-with-a-rather-long-descriptive-name-{n:02d}") for n in range(40)],
        [scenario(f"h-{n}", "a-capability-that-core-does-not-have-and-whose-name-is-long") for n in range(9)],
    ),
}


def test_the_picture_is_as_it_was():
    """Set MODELSMITH_WRITE_GOLDEN=1 to write it anew, and look at it."""
    text = balance_chart(balance(few()))
    if os.environ.get("MODELSMITH_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_readable_on_any_page_and_loads_nothing(shape):
    assert_readable(balance_chart(balance(SHAPES[shape])))


def test_every_bar_says_in_words_what_it_shows():
    set_balance = balance(few())
    root = ET.fromstring(balance_chart(set_balance))
    titles = [title.text for title in root.iter(f"{SVG}title")]
    for dimension in set_balance.dimensions:
        for value in dimension.values:
            assert any(
                t.startswith(f"{value.value} carries {value.composite:.1%} of the composite and {value.held_out:.1%}")
                for t in titles
            )
    description = root.find(f"{SVG}desc").text
    for flag in set_balance.flags:
        assert flag.sentence.rstrip(".") in description


def test_bars_are_as_long_as_the_parts_they_stand_for():
    set_balance = balance(few())
    root = ET.fromstring(balance_chart(set_balance))
    lengths = {}
    for group in root.iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            bars = [float(bar.get("width")) for bar in group.iter(f"{SVG}rect") if bar.get("height") == "12"]
            lengths[title.text.split(" carries ")[0]] = sum(bars)
    parts = {value.value: value.composite for dimension in set_balance.dimensions for value in dimension.values}
    for first, other in combinations([name for name in parts if parts[name]], 2):
        assert lengths[first] / lengths[other] == pytest.approx(parts[first] / parts[other], rel=0.01)


def test_no_wording_of_any_scenario_is_in_the_picture():
    text = balance_chart(balance(governed([scenario("a")], [scenario("h", text="A sentence that is held out.")])))
    assert "sentence" not in text
    assert "story" not in text
