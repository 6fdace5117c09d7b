"""The picture of a window reads on its own, and says of each metric what it says in words."""

import pytest
from picture_rules import assert_readable

from modelsmith.evidence.live_chart import live_chart
from modelsmith.schema.live_evidence import Finding


def finding(metric="auction_win_rate", scale="relative", **other):
    facts = {"allowed": 0.1, "loss": 0.03, "least": -0.05, "most": 0.12, "worse": 0.4, "held": 1.0}
    return Finding(metric=metric, scale=scale, **(facts | other))


@pytest.mark.parametrize("outcome", ["confirm", "roll-back", "inconclusive"])
def test_the_picture_is_readable_at_every_outcome(outcome):
    rows = [
        finding(), finding("errors", "points", allowed=0.02, loss=0.6, least=0.4, most=None),
        finding("a-metric-with-a-name-that-goes-on-and-on-and-on-and-on-and-on", loss=None, least=None, most=None),
        finding("slow", "points", loss=-0.9, least=-0.99, most=-0.8),
    ]  # fmt: skip
    text = live_chart("iter-002-0000000a in production", outcome, rows, "2000 of 10000 decisions; 12 minutes left")
    assert_readable(text)
    assert outcome in text
    assert "errors: a loss of 60.0 points, excluded below 40.0 points, allowed 2.0 points" in text


def test_a_window_before_its_first_decision_has_a_picture():
    assert_readable(live_chart("iter-002-0000000a in production", "inconclusive", [], "0 decisions"))


def test_names_are_data():
    assert_readable(live_chart("</svg><script>x</script>", "confirm", [], "<"))
