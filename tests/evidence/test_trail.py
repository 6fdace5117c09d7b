"""What the packet tells of the time since the incumbent: rules made easier, and candidates that failed before."""

from __future__ import annotations

import pytest
from histories import name, run

from modelsmith.evidence.packet import packet
from modelsmith.evidence.trail import SetMerge, Trail, earlier_runs, rule_changes, trail_section
from modelsmith.schema.evalset import Thresholds
from modelsmith.schema.evidence import EarlierRun
from modelsmith.schema.run import judged_by


def stricter(evidence, composite):
    """The rule as it was, with more to reach."""
    return evidence.rule.model_copy(update={"thresholds": Thresholds(composite=composite, held_out=0.6)})


def since(evidence, **changes):
    return evidence.model_copy(update={"since": evidence.since.model_copy(update=changes)})


def test_a_lowered_gate_is_told_with_what_the_former_rule_says(evidence, cluster):
    lowered = since(evidence, rule=stricter(evidence, 0.99))
    dana = SetMerge(7, "petra", ("dana",), rule_changes(lowered.since.rule, evidence.rule))
    text = packet(lowered, cluster, trail=Trail((dana,)))
    assert "**The rule is not what it was** when main first had this cluster: composite to reach 0.99 -> 0.7" in text
    assert "By the rule of then, the same answers are **FAIL**: composite" in text
    assert "Merged since, pull request 7, asked for by petra, approved by dana: composite to reach 0.99 -> 0.7" in text
    assert "The rule is what it was when main first had this cluster" in packet(evidence, cluster)


def test_other_rubric_points_are_no_reason_to_say_pass(evidence):
    other = evidence.rule.model_copy(update={"points": evidence.rule.points[:2]})
    assert "cannot be judged" in trail_section(since(evidence, rule=other), Trail())


def test_earlier_candidates_stand_with_their_verdict_and_untold_are_named(evidence):
    then = judged_by(stricter(evidence, 0.99), evidence.candidate.headline).model_copy(update={"verdict": "FAIL"})
    failed = EarlierRun(
        model="iter-001-00000001", run_id=evidence.candidate.run_id, question=evidence.question, judged=then
    )
    changed_evidence = evidence.model_copy(update={"earlier": (failed,) * 12})
    text = trail_section(changed_evidence, Trail(untold=("iter-002-00000002",)))
    assert text.count("| iter-001-00000001 |") == 10
    assert "0.990" in text
    assert "**FAIL**" in text
    assert "And 2 before them." in text
    assert "tells of no complete eval: iter-002-00000002." in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_kappa": 0.6}, "least agreement of the judge none -> 0.6"),
        ({"thresholds": Thresholds(composite=0.7, held_out=0.5)}, "held-out to reach 0.6 -> 0.5 (**easier**)"),
        ({"thresholds": Thresholds(composite=0.8, held_out=0.6)}, "composite to reach 0.7 -> 0.8"),
    ],
)
def test_what_differs_between_two_rules_is_said_in_words(evidence, change, said):
    assert rule_changes(evidence.rule, evidence.rule.model_copy(update=change)) == (said,)


def test_limits_that_a_rule_loses_or_widens_make_it_easier(evidence):
    rule = evidence.rule
    judged = rule.model_copy(update={"min_kappa": 0.6})
    assert rule_changes(judged, rule) == ("least agreement of the judge 0.6 -> none (**easier**)",)
    wider = rule.model_copy(update={"decision": rule.decision.model_copy(update={"margin": 0.2, "min_scenarios": 5})})
    assert all(change.endswith("(**easier**)") for change in rule_changes(rule, wider))
    optional = rule.points[0].model_copy(update={"required": False})
    points = rule.model_copy(update={"points": (optional, *rule.points[1:])})
    assert rule_changes(rule, points) == ("rubric point answer-format no longer required (**easier**)",)


def test_the_ledger_tells_of_every_rule_that_judged_a_candidate():
    first = run(1, 0.5)
    lower = first.rule.model_copy(update={"thresholds": Thresholds(composite=0.4, held_out=0.4)})
    again = first.model_copy(update={"rule": lower, "before": first.by_rule})
    mine = run(2, 0.8)
    runs = tuple(earlier_runs([run(0, 0.1), first, again, mine], [name(1), name(2)], mine))
    assert [(entry.model, entry.judged.rule) for entry in runs] == [(name(1), first.rule), (name(1), lower)]
