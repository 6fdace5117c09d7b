"""What a reviewer reads on a pull request's page, as a reader of Markdown makes it of our text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hostile_words import HOSTILE
from markdown_it import MarkdownIt

from modelsmith.evidence.pull_page import LONGEST, ChangeEvaluated, eval_page, promotion_page, rubric_page
from modelsmith.schema.change import Effect, PointChange, ScenarioChange, SetChange
from modelsmith.schema.comparison import ScenarioFlip
from modelsmith.schema.run import Estimate

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
PACKET = (Path(__file__).parent / "golden" / "packet.md").read_text()
FOLDER = "promotions/rtb-pricing/iter-001-00000001/04-customer-deployed"
NOTHING = SetChange(points=(), scenarios=(), settings=())


def estimate(value):
    return Estimate(value=value, low=value, high=value, n=8)


def effect(after="FAIL", flips=1, **other):
    flip = {
        "section": "core",
        "scenario": "sha256:" + "0" * 64,
        "id": "timeout-core-01",
        "capability": "timeout",
        "direction": "lost",
        "critical": True,
    }
    facts = {
        "cluster": "rtb-pricing", "specialist": "iter-001-00000001", "state": "customer-deployed", "before": "PASS",
        "after": after, "composite": (estimate(0.9), estimate(0.6)), "held_out": (estimate(0.8), None),
        "flips": tuple(ScenarioFlip(**flip, points=("cause",)) for _ in range(flips)), "point_flips": (), "unknown": 0,
        "sentence": "would no longer clear its gate",
    }  # fmt: skip
    return Effect(**(facts | other))


def visible(page):
    """The page as it is before anybody opens a fold."""
    return re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)


def test_a_promotion_tells_what_decides_and_folds_the_rest():
    page = promotion_page(PACKET, FOLDER, 7)
    assert page.startswith(("**PASS**", "**FAIL**"))
    text = visible(page)
    for heading in ("The registered rule", "Regressions", "Open risk", "Rollback", "What happens next"):
        assert f"### {heading}" in text
    assert "Speed and cost" in text
    assert "Answers passed by rubric point" not in text
    assert "Answers passed by rubric point" in page
    assert "`modelsmith" in page.replace("```sh\n", "`") or "modelsmith verify" in page
    assert page.count("<details>") == page.count("</details>")


def test_every_line_of_the_packet_is_on_the_page():
    page = promotion_page(PACKET, FOLDER, 7)
    lost = [line for line in PACKET.splitlines() if line.strip("# ") and line.strip("# ") not in page]
    assert [line for line in lost if "chart.svg" not in line] == []
    assert f"](/{FOLDER}/chart.svg)" in page


def test_a_rubric_change_says_which_gates_would_be_lost_before_all_else():
    page = rubric_page("rtb-pricing", NOTHING, [effect()], ["iter-001-00000001"], 9)
    assert page.startswith("**1 of 1 specialists of rtb-pricing would no longer clear their gate**")
    assert "**PASS to FAIL**" in page
    assert "- lost: `timeout-core-01` (core) **critical**" in page
    assert "bar [0.900]\n  line [0.600]" in page
    assert "no verdict can flip" in rubric_page("rtb-pricing", NOTHING, [], [], 9)


def test_a_page_is_cut_where_a_forge_takes_no_more_and_says_so():
    many = [effect(specialist=f"iter-{at:03d}-00000001", flips=40) for at in range(1, 200)]
    page = rubric_page("rtb-pricing", NOTHING, many, [], 9)
    assert len(page) <= LONGEST < 65_536
    assert "parts are left out" in page
    assert "modelsmith pr show 9" in page
    assert len(promotion_page("x" * 70_000, FOLDER, 7)) < 500


def test_an_eval_of_a_change_says_its_verdicts_first_then_what_is_unknown():
    evaluated = ChangeEvaluated(
        "rtb-pricing", "iter-001-00000001", None, "the weights are missing.", NOTHING, [effect()], []
    )
    page = eval_page([evaluated, evaluated._replace(model="iter-002-00000002")])
    assert page.count("**not known**") == 2
    assert page.index("**not known**") < page.index("would stand where it stands")
    assert page.count("would stand where it stands") == 1, "of a cluster the change is told once"
    assert "the weights are missing.\n" in page
    assert eval_page([]).startswith("**Nothing to evaluate**")


@pytest.mark.parametrize("words", HOSTILE)
def test_words_of_an_eval_make_nothing_on_its_page(words):
    page = eval_page([ChangeEvaluated("rtb-pricing", words, None, words, None, [], [])])
    tokens = READER.parse(page)
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "strong_open", "strong_close", "softbreak"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h3"]
    assert "@" not in page


@pytest.mark.parametrize("words", HOSTILE)
def test_words_of_a_proposal_make_nothing_on_the_page(words):
    """Neither a link, nor a picture, nor HTML of its own, nor a heading, nor the end of a fold."""
    points = (PointChange(point="cause", kind="changed", sentences=(words,)),)
    scenarios = (ScenarioChange(id="a", part="micro", kind="added", fields=(words,), scored=True),)
    change = SetChange(points=points, scenarios=scenarios, settings=(words,), labels=(words,), gate=(words,))
    page = rubric_page("rtb-pricing", change, [effect()], [], 9)
    tokens = READER.parse(page)
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "strong_open", "strong_close", "code_inline", "softbreak", "html_inline"}
    html = [token.content for token in tokens if token.type == "html_block"]
    html += [child.content for token in tokens for child in token.children or [] if child.type == "html_inline"]
    assert re.sub(r"</?details>|</?summary>|What changes|Verify it yourself, offline|\s", "", "".join(html)) == ""
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h3"]
    assert "@" not in page
