"""What a window can see at all, before anybody deploys: it agrees with what windows of that size come to."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelsmith.governance.sight import sight
from modelsmith.governance.window import tripped
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts, Metric, StageCounts
from modelsmith.schema.watch import Rule

ROOT = Path(__file__).parents[2]


def terms(max_drop=0.1, traffic=200.0, minutes=60, **rule):
    facts = {"decisions_per_minute": traffic, "expected_rate": 0.2, "least_decisions": 50} | rule
    return Rollback(metric="wins", max_drop=max_drop, window_minutes=minutes, manual_hours=1, rule=Rule(**facts))


def ended(seed, loss, units=12_000, share=0.2, rate=0.2):
    """Whether a window of that traffic with that loss trips at its end."""
    draw = random.Random(seed)
    mine = round(units * share)
    won = [sum(draw.random() < rate * (1 - loss) for _ in range(mine)), 0]
    won[1] = sum(draw.random() < rate for _ in range(units - mine))
    wins = Metric(
        metric="wins", specialist=won[0], incumbent=won[1], specialist_known=mine, incumbent_known=units - mine
    )
    stage = StageCounts(share=share, specialist=mine, incumbent=units - mine, metrics=(wins,))
    at = datetime(2026, 5, 1, tzinfo=UTC)
    return bool(tripped(terms(), Counts(began=at, ended=at, stages=(stage,))))


def test_the_loss_that_it_names_is_the_one_that_half_of_all_windows_see():
    window = sight(terms(), 0.2)
    assert window.decisions == 12_000
    assert 0.1 < window.loss < 0.3
    assert 8 <= sum(ended(seed, window.loss) for seed in range(30)) <= 24
    assert sum(ended(seed, 2 * window.loss) for seed in range(10)) == 10


def test_more_traffic_sees_less_and_never_less_than_is_allowed():
    losses = [sight(terms(traffic=float(10**k)), 0.2).loss for k in range(1, 6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == 0.1


def test_a_window_that_cannot_confirm_says_how_long_it_would_take():
    window = sight(terms(max_drop=0.04), 0.1)
    assert not window.confirms
    longer = sight(terms(max_drop=0.04, minutes=round(window.minutes_to_confirm * 1.1)), 0.1)
    assert longer.confirms


def test_too_little_traffic_sees_nothing():
    assert "not even the loss of everything" in sight(terms(traffic=0.5), 0.1).sentence


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_two_arms_or_stated_traffic_nothing_is_said(share):
    assert sight(terms(), share) is None
    assert sight(terms(decisions_per_minute=None, expected_rate=None), 0.2) is None


RULED = """rollback:
  metric: auction_win_rate
  max_drop: 0.04
  window_minutes: 60
  manual_hours: 48
  rule: {decisions_per_minute: 20, expected_rate: 0.2}
"""


def warned(folder, ruled, check="{type: json_schema, schema: {type: object}}"):
    """What `validate` warns of in a cluster file that ends so, by the field of the rollback rule.

    ``check`` is the only point of the cluster's rubric.
    """
    evals = folder / "evals" / "adtech" / "x"
    (evals / "rubrics").mkdir(parents=True)
    (evals / "evalset.yaml").write_bytes((ROOT / "evals" / "adtech" / "rtb-root-cause" / "evalset.yaml").read_bytes())
    (evals / "rubrics" / "root-cause.yaml").write_text(
        f"id: r\nowner: o\ndescription: x\npoints: [{{id: p, text: x, weight: 1, check: {check}}}]\n"
    )
    path = folder / "clusters" / "rtb-pricing" / "cluster.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "cluster: rtb-pricing\ndomain: adtech\nowner: head-of-trading\ndescription: x\n"
        "base_model: {name: m, uri: 'file:///m.gguf', digest: 'sha256:" + "0" * 64 + "', license: MIT}\n"
        "eval_set: adtech/x\ngate: {composite: 0.5, held_out: 0.5}\n" + ruled
    )
    return {
        warning.field: warning.message for warning in validate(WorkTree(folder)).warnings if "rule" in warning.field
    }


def test_validate_says_what_a_window_cannot_see(tmp_path):
    ((field, message),) = warned(tmp_path, RULED).items()
    assert field == "rollback.rule"
    assert "can see a loss of" in message
    assert "cannot confirm" in message


def test_validate_says_of_a_rule_that_it_can_never_confirm(tmp_path):
    rule = "rule: {format: {max_rise: 0.1}}"
    warnings = warned(
        tmp_path,
        RULED.split("rule:")[0] + rule + "\ndeployment: {traffic_share: 1.0}\n",
        "{type: judge, instruction: x}",
    )
    assert warnings.keys() == {"rollback.rule", "rollback.rule.format"}
    assert "no incumbent to compare it with" in warnings["rollback.rule"]
    assert "no window is ever confirmed" in warnings["rollback.rule.format"]


def test_the_rule_of_the_page_is_one_that_can_confirm(tmp_path):
    page = (ROOT / "docs" / "window.md").read_text()
    (example,) = [part for part in page.split("```") if part.startswith("yaml\nrollback:")]
    assert warned(tmp_path, example.removeprefix("yaml\n")) == {}
