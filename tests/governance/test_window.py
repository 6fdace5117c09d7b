"""A window by its registered rule: back at once when it is worse, confirmed when a loss is excluded, else neither."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modelsmith.governance.window import judge, sentence, watched
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts, Metric, StageCounts
from modelsmith.schema.watch import Budget, Guard, Outcome, Rule

BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)


def terms(max_drop=0.2, **rule):
    return Rollback(
        metric="auction_win_rate", max_drop=max_drop, window_minutes=60, manual_hours=48,
        rule=Rule(**({"least_decisions": 100} | rule)),
    )  # fmt: skip


def metric(name, mine, theirs, mine_known, theirs_known):
    return Metric(
        metric=name, specialist=mine, incumbent=theirs, specialist_known=mine_known, incumbent_known=theirs_known
    )


def stage(mine, theirs, units=(2_000, 8_000), share=0.2, known=None, more=()):
    known = known or units
    wins = metric("auction_win_rate", mine, theirs, *known)
    return StageCounts(share=share, specialist=units[0], incumbent=units[1], metrics=(wins, *more))


def counts(*stages):
    return Counts(began=BEGAN, ended=BEGAN + timedelta(minutes=30), stages=stages)


@pytest.mark.parametrize("ended", [False, True])
def test_a_loss_beyond_what_was_approved_sends_traffic_back_at_once(ended):
    judgement = judge(terms(), counts(stage(200, 1_600)), ended=ended)
    assert judgement.outcome == "roll-back"
    assert "auction_win_rate is 50.0% worse than the incumbent, 20.0% worse is allowed" in judgement.reasons[0]


def test_a_loss_that_is_certain_but_allowed_does_not():
    judgement = judge(terms(max_drop=0.5), counts(stage(280, 1_600)), ended=False)
    assert judgement.outcome == "inconclusive"
    assert judgement.findings[0].worse > 2


def test_a_loss_beyond_what_is_allowed_that_may_be_chance_does_not():
    assert judge(terms(), counts(stage(15, 80, (100, 400))), ended=False).outcome == "inconclusive"


def test_an_ended_window_is_confirmed_only_when_a_loss_is_excluded():
    good = counts(stage(400, 1_600))
    assert judge(terms(), good, ended=True).outcome == "confirm"
    early = judge(terms(), good, ended=False)
    assert (early.outcome, early.reasons[0]) == ("inconclusive", "the window is still open")
    strict = judge(terms(max_drop=0.02), good, ended=True)
    assert strict.outcome == "inconclusive"
    assert "a loss beyond 2.0% is not excluded" in strict.reasons[-1]


@pytest.mark.parametrize("nothing", [None, counts(), counts(stage(0, 0, (0, 0)))])
def test_no_data_is_never_held_nor_a_loss(nothing):
    judgement = judge(terms(least_decisions=1, errors=Guard(max_rise=0.02)), nothing, ended=True)
    assert judgement.outcome == "inconclusive"
    assert "nothing to compare yet" in sentence(judgement.findings[0])


def test_too_few_decisions_on_one_side_decide_nothing():
    judgement = judge(terms(least_decisions=2_001), counts(stage(100, 1_600)), ended=True)
    assert judgement.outcome == "inconclusive"
    assert judgement.reasons[0].startswith("the specialist has 2000 of the 2001 decisions")


def test_reports_that_go_missing_on_one_arm_keep_it_from_being_confirmed():
    """The losers of the incumbent are reported, those of the specialist are kept back; the rates look fine."""
    judgement = judge(terms(), counts(stage(400, 1_600, known=(900, 8_000))), ended=True)
    assert judgement.outcome == "inconclusive"
    assert "reports of auction_win_rate do not come from both sides" in judgement.reasons[0]


def test_an_arm_that_is_never_reported_counts_as_lost():
    """A specialist that times out and is then never reported: silence is no outcome, and its wins are missing."""
    assert judge(terms(), counts(stage(60, 1_600, known=(300, 8_000))), ended=False).outcome == "roll-back"


def test_reporting_only_wins_changes_nothing_about_a_loss():
    assert judge(terms(), counts(stage(200, 1_600, known=(200, 1_600))), ended=False).outcome == "roll-back"


def test_traffic_that_is_steered_to_one_arm_is_noticed():
    judgement = judge(terms(), counts(stage(800, 1_600, units=(4_000, 8_000))), ended=True)
    assert judgement.outcome == "inconclusive"
    assert "decisions do not come from both sides" in judgement.reasons[0]


def test_guards_trip_by_themselves_and_hold_by_themselves():
    errors = terms(errors=Guard(max_rise=0.02), slow=Budget(max_rise=0.05, milliseconds=800))
    fine = metric("slow", 40, 160, 2_000, 8_000)
    bad = stage(400, 1_600, more=(metric("errors", 200, 40, 2_000, 8_000), fine))
    good = stage(400, 1_600, more=(metric("errors", 2, 8, 2_000, 8_000), fine))
    tripped = judge(errors, counts(bad), ended=False)
    assert tripped.outcome == "roll-back"
    assert "errors is 9.5 points worse than the incumbent, 2.0 points worse is allowed" in tripped.reasons[0]
    assert judge(errors, counts(good), ended=True).outcome == "confirm"


def test_a_guard_that_was_never_measured_is_not_held():
    judgement = judge(terms(format=Guard(max_rise=0.02)), counts(stage(400, 1_600)), ended=True)
    assert judgement.outcome == "inconclusive"
    assert "format" in judgement.reasons[0]


def test_less_is_better_where_the_rule_says_so():
    complaints = terms(outcomes={"complaints": Outcome(better="lower", max_loss=0.2)})
    worse = stage(400, 1_600, more=(metric("complaints", 300, 600, 2_000, 8_000),))
    better = stage(400, 1_600, more=(metric("complaints", 75, 600, 2_000, 8_000),))
    assert judge(complaints, counts(worse), ended=False).outcome == "roll-back"
    assert judge(complaints, counts(better), ended=True).outcome == "confirm"


def test_stages_with_other_shares_are_no_paradox():
    """At 10 % the hour was good, at 50 % it was bad: pooled, the specialist would seem to lose a third."""
    good_hour, bad_hour = stage(320, 2_880, (800, 7_200), 0.1), stage(400, 400, (4_000, 4_000), 0.5)
    judgement = judge(terms(), counts(good_hour, bad_hour), ended=True)
    assert judgement.findings[0].loss == pytest.approx(0.0)
    assert judgement.outcome == "confirm"


def test_alpha_is_divided_among_metrics():
    """The same loss trips alone, and not among nine."""
    counted = counts(stage(66, 400, (500, 2_000)))
    many = {f"metric-{n}": Outcome(max_loss=0.5) for n in range(8)}
    evidence = judge(terms(), counted, ended=False).findings[0].worse
    assert 1.31 < evidence < 2.25
    assert judge(terms(), counted, ended=False).outcome == "roll-back"
    assert judge(terms(outcomes=many), counted, ended=False).outcome == "inconclusive"


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5]), *[st.integers(0, 50)] * 6), max_size=3), st.booleans())
@settings(max_examples=80, deadline=None)
def test_whatever_is_counted_a_verdict_has_its_reasons(found, ended):
    stages = []
    for share, mine, theirs, more, others, errors, slips in found:
        units = (mine + more, theirs + others)
        extra = metric("errors", min(errors, units[0]), min(slips, units[1]), *units)
        stages.append(stage(mine, theirs, units, share, more=(extra,)))
    judged = judge(terms(errors=Guard(max_rise=0.02)), counts(*stages), ended=ended)
    assert judged.reasons
    assert all(len(reason) <= 500 for reason in judged.reasons)
    assert ended or judged.outcome != "confirm"
    for finding in judged.findings:
        assert finding.least is None or finding.loss is None or finding.least <= finding.loss + 1e-6
        assert finding.most is None or finding.loss is None or finding.loss <= finding.most + 1e-6


@given(
    st.lists(
        st.tuples(st.sampled_from([1e-6, 0.03, 0.5, 1 - 1e-6]), *[st.sampled_from([0, 1, 7, 10**6, 10**15])] * 6),
        max_size=3,
    ),
    st.sampled_from([1e-9, 0.05, 0.2]),
    st.sampled_from([0.001, 0.2, 0.999]),
)
@settings(max_examples=120, deadline=None)
def test_no_counts_that_a_file_may_hold_break_the_judgement(found, alpha, allowed):
    stages = []
    for share, mine, theirs, denominator, others, errors, slips in found:
        units = (max(mine, denominator), max(theirs, others))
        extra = metric("errors", min(errors, denominator), min(slips, others), denominator, others)
        wins = metric("auction_win_rate", min(mine, denominator), min(theirs, others), denominator, others)
        stages.append(StageCounts(share=share, specialist=units[0], incumbent=units[1], metrics=(wins, extra)))
    rule = terms(allowed, errors=Guard(max_rise=allowed), error_probability=alpha, least_decisions=1)
    for better in ("higher", "lower"):
        changed_rule = rule.model_copy(update={"rule": rule.rule.model_copy(update={"better": better})})
        assert judge(changed_rule, counts(*stages), ended=True).outcome in ("roll-back", "confirm", "inconclusive")


@pytest.mark.parametrize(("field", "value"), [("max_drop", 0.0), ("max_drop", 1.0), ("window_minutes", 10**12)])
def test_terms_that_no_rule_can_judge_are_refused(field, value):
    facts = {"metric": "wins", "max_drop": 0.1, "window_minutes": 60, "manual_hours": 48} | {field: value}
    assert Rollback(**facts), "without a rule it means what it did"
    with pytest.raises(ValidationError, match="with a rule"):
        Rollback(**facts, rule=Rule())


def test_terms_without_a_rule_watch_nothing_and_are_written_as_before():
    old = Rollback(metric="auction_win_rate", max_drop=0.04, window_minutes=60, manual_hours=48)
    assert watched(old) == ()
    assert canonical_json(old) == (
        b'{"manual_hours":48,"max_drop":0.04,"metric":"auction_win_rate","window_minutes":60}'
    )


@pytest.mark.parametrize("name", ["errors", "slow", "format"])
def test_no_outcome_has_the_name_of_a_guard(name):
    with pytest.raises(ValidationError, match="measures itself"):
        Rule(outcomes={name: Outcome(max_loss=0.1)})


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValidationError, match="more events than units"):
        metric("errors", 3, 0, 2, 0)
    with pytest.raises(ValidationError, match="counted twice"):
        StageCounts(share=0.5, specialist=1, incumbent=1, metrics=(metric("a", 0, 0, 0, 0), metric("a", 0, 0, 0, 0)))
    with pytest.raises(ValidationError, match="more is known"):
        StageCounts(share=0.5, specialist=1, incumbent=1, metrics=(metric("a", 0, 0, 2, 0),))
