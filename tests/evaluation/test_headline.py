from __future__ import annotations

from collections import defaultdict
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.evaluation.compare import compare
from modelsmith.evaluation.critical import critical_failures, how
from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.overridable import override_refusal
from modelsmith.evaluation.statistics import mcnemar_exact, paired_difference, wilson
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.evalset import CompositeWeights, DecisionRule, Thresholds
from modelsmith.schema.run import GateRule, PointWeight, VerdictRow

SIZES = {"core": 60, "robustness": 60, "micro": 12, "held_out": 60}
WORDINGS = {"core": (0,), "robustness": (1, 2), "micro": (0,), "held_out": (0, 1, 2)}


def rule(composite=0.7, held_out=0.75, **decision) -> GateRule:
    settings_ = {"margin": 0.1, "max_regressions": 0.1, "min_scenarios": 50, "critical_pass": 0.0} | decision
    return GateRule(
        points=(
            PointWeight(id="format", weight=1, required=True),
            PointWeight(id="cause", weight=3, required=True),
            PointWeight(id="style", weight=1, required=False),
        ),
        composite=CompositeWeights(core=0.5, robustness=0.3, micro=0.2),
        thresholds=Thresholds(composite=composite, held_out=held_out),
        decision=DecisionRule(**settings_),
    )


def row(section, name, wording=0, repeat=0, good=True, critical=False, capability="cap-a", content="", **points):
    return VerdictRow(
        section=section,
        scenario=digest([name, content]),
        id=name,
        capability=capability,
        critical=critical,
        wording=wording,
        repeat=repeat,
        points={"format": True, "cause": good, "style": True} | points,
    )


def name_of(section, number):
    return f"{'core' if section == 'robustness' else section.replace('_', '-')}-{number:02d}"


def run(failing=(), sections=tuple(SIZES), sizes=SIZES, critical=("core-00",)):
    """A whole run in which everything passes except (section, number)."""
    return [
        row(
            section,
            name_of(section, number),
            wording,
            good=(section, number) not in failing,
            critical=name_of(section, number) in critical,
            capability=f"cap-{'abcdef'[number % 6]}",
        )
        for section in sections
        for number in range(sizes[section])
        for wording in WORDINGS[section]
    ]


def outcomes(result):
    return {check.name: check.outcome for check in result.checks}


def sentence(result, name):
    return next(check.sentence for check in result.checks if check.name == name)


rows_strategy = st.lists(
    st.builds(
        lambda section, number, wording, repeat, format_, cause, style: row(
            section,
            name_of(section, number),
            wording,
            repeat,
            good=cause,
            critical=number == 1,
            capability=f"cap-{number % 2}",
            format=format_,
            style=style,
        ),
        st.sampled_from(list(SIZES)),
        st.integers(0, 5),
        st.integers(0, 2),
        st.integers(0, 1),
        *[st.booleans()] * 3,
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda verdict_row: (verdict_row.section, verdict_row.id, verdict_row.wording, verdict_row.repeat),
)


class TestFigures:
    @given(rows_strategy, st.none() | rows_strategy, st.randoms(use_true_random=False))
    def test_the_order_of_rows_changes_no_byte(self, rows, incumbent, random):
        shuffled = random.sample(rows, len(rows))
        turned = None if incumbent is None else incumbent[::-1]
        assert canonical_json(headline(rows, incumbent, rule())) == canonical_json(headline(shuffled, turned, rule()))

    @given(rows_strategy, rows_strategy)
    def test_every_figure_is_what_the_definitions_say(self, rows, incumbent):
        result = headline(rows, incumbent, rule())
        mine, theirs = self._passing(rows), self._passing(incumbent)
        weights = {"core": 0.5, "robustness": 0.3, "micro": 0.2}
        means = {}
        for section in SIZES:
            scores = defaultdict(list)
            for verdict_row in rows:
                if verdict_row.section == section:
                    points = verdict_row.points
                    scores[verdict_row.id].append((points["format"] + 3 * points["cause"] + points["style"]) / 5)
            if scores:
                means[section] = fmean(fmean(values) for values in scores.values())
        assert {
            section_result.section: section_result.score.value for section_result in result.sections
        } == pytest.approx(means, abs=1e-9)
        present = {section: weight for section, weight in weights.items() if section in means}
        if present:
            expected = sum(w * means[s] for s, w in present.items()) / sum(present.values())
            assert result.composite.value == pytest.approx(expected, abs=1e-9)
        else:
            assert result.composite.n == 0
        for verdict_row in result.sections:
            inside = [passed for (section, _), passed in mine.items() if section == verdict_row.section]
            assert verdict_row.pass_rate.n == verdict_row.score.n == len(inside)
            bounds = wilson(sum(inside), len(inside), 0.95)
            assert (
                verdict_row.pass_rate.value,
                verdict_row.pass_rate.low,
                verdict_row.pass_rate.high,
            ) == pytest.approx(tuple(bounds), abs=1e-9)
        lost = {key for key, passed in mine.items() if not passed and theirs.get(key)}
        assert {(regression.section, regression.id) for regression in result.regressions} == lost
        assert result.compared == sum(theirs.get(key, False) for key in mine)
        pairs = [key for key in mine if key in theirs and key[0] in ("core", "held_out")]
        if pairs:
            bounds = paired_difference({k: mine[k] for k in pairs}, {k: theirs[k] for k in pairs}, 0.95)
            estimate = result.difference
            assert (estimate.value, estimate.low, estimate.high) == pytest.approx(tuple(bounds), abs=1e-9)
        else:
            assert result.difference is None
        assert {p.point: (p.passed, p.total) for p in result.per_rubric} == {
            point: (sum(verdict_row.points[point] for verdict_row in rows), len(rows))
            for point in ("format", "cause", "style")
        }
        assert sum(capability_result.total for capability_result in result.per_capability) == len(mine)
        assert sum(capability_result.passed for capability_result in result.per_capability) == sum(mine.values())

    @staticmethod
    def _passing(rows):
        passing = {}
        for verdict_row in rows:
            key = (verdict_row.section, verdict_row.id)
            passing[key] = passing.get(key, True) and verdict_row.points["format"] and verdict_row.points["cause"]
        return passing

    @given(rows_strategy)
    def test_estimates_lie_inside_their_intervals(self, rows):
        result = headline(rows, None, rule())
        for estimate in [result.composite, result.held_out, *(s.score for s in result.sections)]:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert estimate.high > estimate.low

    def test_core_and_robustness_are_correlated_and_so_widen_the_interval(self):
        failing = {("core", n) for n in range(20)}
        together = headline(run(failing | {("robustness", n) for n in range(20)}), None, rule()).composite
        apart = headline(run(failing | {("robustness", n) for n in range(40, 60)}), None, rule()).composite
        assert together.value == apart.value
        assert together.high - together.low > apart.high - apart.low

    def test_no_rows_is_invalid_input(self):
        with pytest.raises(InvalidInput) as caught:
            headline([], None, rule())
        assert caught.value.code == "no-rows"

    @pytest.mark.parametrize(
        ("rows", "code"),
        [
            ([row("core", "a"), row("core", "a", good=False)], "rows-disagree"),
            ([row("core", "a"), row("robustness", "a", 1, critical=True)], "rows-disagree"),
            ([row("core", "a"), row("robustness", "a", 1, content="other")], "rows-disagree"),
            ([row("core", "a", extra=True)], "points-differ"),
        ],
    )
    def test_rows_that_contradict_each_other_are_refused(self, rows, code):
        with pytest.raises(IntegrityFailure) as caught:
            headline(rows, None, rule())
        assert caught.value.code == code

    def test_an_incumbent_on_changed_scenarios_cannot_be_compared(self):
        with pytest.raises(InvalidInput) as caught:
            headline([row("core", "a")], [row("core", "a", content="older")], rule())
        assert caught.value.code == "question-differs"


class TestVerdict:
    def test_a_good_run_passes_with_sentences_that_a_reviewer_can_defend(self):
        failing = {("held_out", n) for n in range(9)}
        result = headline(run(failing), run(failing), rule())
        assert result.verdict == "PASS"
        assert [check.name for check in result.checks] == [
            "composite",
            "held-out",
            "critical-scenarios",
            "critical-losses",
            "capability-floors",
            "regressions",
            "non-inferiority",
            "set-size",
            "coverage",
        ]
        assert sentence(result, "held-out") == (
            "held-out 0.850 [0.739, 0.919] reaches the threshold 0.750 (51 of 60 scenarios)"
        )
        assert sentence(result, "regressions") == (
            "0 of 183 results that the incumbent passes are lost (0.000), within the limit 0.100"
        )

    def test_one_wording_that_fails_fails_the_scenario(self):
        rows = run()
        spoilt = [
            r.model_copy(update={"points": r.points | {"cause": False}})
            if r.id == "held-out-07" and r.wording == 2
            else r
            for r in rows
        ]
        result = headline(spoilt, rows, rule())
        assert result.held_out.value == pytest.approx(59 / 60)
        assert [(regression.section, regression.id) for regression in result.regressions] == [
            ("held_out", "held-out-07")
        ]

    @pytest.mark.parametrize(("section", "check"), [("core", "composite"), ("held_out", "held-out")])
    def test_a_missed_threshold_fails(self, section, check):
        failing = {(section, n) for n in range(1, 50)} | {("robustness", n) for n in range(1, 50) if section == "core"}
        result = headline(run(failing), run(failing), rule())
        assert result.verdict == "FAIL"
        assert {name for name, outcome in outcomes(result).items() if outcome == "FAIL"} == {check}
        assert "misses the threshold" in sentence(result, check)

    def test_a_threshold_that_is_just_reached_is_reached(self):
        result = headline(run({("held_out", n) for n in range(15)}), None, rule(held_out=0.75))
        assert result.held_out.value == 0.75
        assert outcomes(result)["held-out"] == "PASS"

    def test_a_near_miss_shows_enough_digits_to_be_understood(self):
        result = headline(run({("held_out", n) for n in range(15)}), None, rule(held_out=0.7504))
        assert "held-out 0.7500 " in sentence(result, "held-out")
        assert "misses the threshold 0.7504 " in sentence(result, "held-out")

    @pytest.mark.parametrize("section", ["core", "robustness"])
    def test_one_lost_critical_scenario_fails_whatever_else_is_gained(self, section):
        result = headline(run({(section, 0)}), run({("held_out", n) for n in range(60)}), rule())
        assert result.verdict == "FAIL"
        assert outcomes(result)["critical-losses"] == "FAIL"
        assert "core-00" in sentence(result, "critical-losses")

    def test_critical_scenarios_must_pass_though_no_incumbent_passes_them(self):
        """A first release is held to them too: there is nobody yet against whom one could be lost."""
        critical, failing = ("core-00", "held-out-00"), {("core", 0)}
        rows, other = run(failing, critical=critical), run(failing, critical=critical)
        strict = rule(critical_pass=DecisionRule().critical_pass)
        for incumbent in (other, None):
            result = headline(rows, incumbent, strict)
            assert result.verdict == "FAIL"
            assert sentence(result, "critical-scenarios") == (
                "1 of 2 critical scenarios pass (0.500), fewer than the 1.000 that must; failing: core-00"
            )
        half = headline(rows, other, rule(critical_pass=0.5))
        assert (half.verdict, outcomes(half)["critical-losses"]) == ("PASS", "PASS")
        assert headline(run(critical=critical), None, strict).verdict == "PASS"
        assert "non-inferiority" not in outcomes(headline(run(), None, rule()))

    def test_no_capability_hides_behind_the_others(self):
        """`cap-f` asks 10 core, 2 micro and 10 held-out scenarios: rephrasings ask none anew."""
        failing = {("core", n) for n in range(5, 60, 6)} | {("robustness", 5), ("held_out", 5), ("held_out", 11)}
        result = headline(run(failing), None, rule(composite=0.5))
        assert result.verdict == "FAIL"
        assert sentence(result, "capability-floors") == (
            "1 capability below the floor: cap-f 0.455 (10 of 22 pass, floor 0.500)"
        )
        lower = headline(run(failing), None, rule(composite=0.5, capability_floors={"cap-f": 0.4}))
        assert (lower.verdict, outcomes(lower)["capability-floors"]) == ("PASS", "PASS")
        higher = headline(run({("core", 0)}), None, rule(capability_floors={"cap-a": 1.0}))
        assert "cap-a 0.955 (21 of 22 pass, floor 1.000)" in sentence(higher, "capability-floors")

    def test_every_critical_scenario_that_fails_is_told_with_its_points(self):
        rows = [
            *run(critical=()),
            row("core", "zeta", critical=True, good=False, style=False),
            row("held_out", "alpha", 0, critical=True),
            row("held_out", "alpha", 1, critical=True, good=False),
        ]
        failures = critical_failures(reversed(rows), rule())
        assert [
            (failure.id, failure.section, failure.failed, failure.answers, failure.points) for failure in failures
        ] == [
            ("zeta", "core", 1, 1, {"cause": 1, "style": 1}),
            ("alpha", "held_out", 1, 2, {"cause": 1}),
        ]
        assert [how(failure) for failure in failures] == [
            "score 0.20; misses cause, style",
            "1 of 2 answers fail, score 0.70; misses cause (1)",
        ]
        assert critical_failures(run(critical=()), rule()) == ()

    def test_regressions_within_policy_pass_and_one_more_fails(self):
        within = {("micro", n) for n in range(12)} | {("robustness", n) for n in range(1, 8)}
        limit = rule(max_regressions=19 / 192)
        assert outcomes(headline(run(within), run(), limit))["regressions"] == "PASS"
        assert outcomes(headline(run(within | {("robustness", 9)}), run(), limit))["regressions"] == "FAIL"

    def test_a_loss_that_cannot_be_excluded_is_inconclusive(self):
        failing = {("core", n) for n in range(1, 8)} | {("held_out", n) for n in range(1, 8)}
        result = headline(run(failing), run(), rule())
        assert result.verdict == "INCONCLUSIVE"
        assert outcomes(result)["non-inferiority"] == "INCONCLUSIVE"
        assert "does not exclude a loss beyond the margin 0.100 (120 paired scenarios)" in sentence(
            result, "non-inferiority"
        )

    def test_a_small_set_is_inconclusive(self):
        sizes = {"core": 20, "robustness": 20, "micro": 6, "held_out": 60}
        result = headline(run(sizes=sizes), run(sizes=sizes), rule())
        assert result.verdict == "INCONCLUSIVE"
        assert (
            sentence(result, "set-size")
            == "20 core and 60 held-out scenarios are too few to tell (at least 50 of each)"
        )

    @pytest.mark.parametrize("missing", list(SIZES))
    def test_a_part_that_was_not_asked_never_gives_a_pass(self, missing):
        sections = tuple(section for section in SIZES if section != missing)
        result = headline(run(sections=sections), None, rule(min_scenarios=1))
        assert result.verdict == "INCONCLUSIVE"
        assert "not asked" in sentence(result, "coverage")

    def test_only_held_out_gives_a_headline_without_a_composite(self):
        result = headline(run(sections=("held_out",)), run(sections=("held_out",)), rule())
        assert (result.composite.n, result.composite.low, result.composite.high) == (0, 0, 1)
        assert result.verdict == "INCONCLUSIVE"

    def test_rows_left_out_of_a_run_are_noticed(self):
        rows = run({("core", 5), ("held_out", 5)})
        shortened = [verdict_row for verdict_row in rows if all(verdict_row.points.values())]
        result = headline(shortened, run(), rule())
        assert result.verdict == "INCONCLUSIVE"
        assert "were not asked the same: 2 results have no equal counterpart" in sentence(result, "coverage")

    @given(rows_strategy, rows_strategy)
    def test_a_pass_means_that_every_check_passes(self, rows, incumbent):
        result = headline(rows, incumbent, rule(min_scenarios=1, composite=0.3, held_out=0.3))
        verdicts = set(outcomes(result).values())
        assert (result.verdict == "PASS") == (verdicts == {"PASS"})
        assert (result.verdict == "FAIL") == ("FAIL" in verdicts)


class TestComparison:
    @settings(max_examples=50)
    @given(rows_strategy, rows_strategy)
    def test_exchanging_the_runs_mirrors_the_comparison(self, a, b):
        if not {(r.section, r.id) for r in a if r.section in ("core", "held_out")} & {(r.section, r.id) for r in b}:
            with pytest.raises(InvalidInput, match="share no core or held-out"):
                compare(a, b, rule())
            return
        forward, back = compare(a, b, rule()), compare(b, a, rule())
        assert (forward.gained, forward.lost) == (back.lost, back.gained)
        assert forward.mcnemar_p == back.mcnemar_p == round(mcnemar_exact(forward.gained, forward.lost), 9)
        assert forward.difference.value == -back.difference.value
        assert forward.composite == back.composite[::-1]
        assert {(f.section, f.id) for f in forward.flips} == {(f.section, f.id) for f in back.flips}
        assert [(p.gained, p.lost) for p in forward.point_flips] == [(p.lost, p.gained) for p in back.point_flips]

    def test_flips_name_scenario_and_rubric_points(self):
        result = compare(run({("core", 3)}), run({("held_out", 4)}), rule())
        assert [(f.section, f.id, f.direction, f.points) for f in result.flips] == [
            ("core", "core-03", "gained", ("cause",)),
            ("held_out", "held-out-04", "lost", ("cause",)),
        ]
        assert {p.point: (p.gained, p.lost) for p in result.point_flips} == {
            "format": (0, 0),
            "cause": (1, 3),
            "style": (0, 0),
        }
        assert result.outcome == "undecided"
        assert result.sentence.startswith("No difference is shown: +0.000 [")

    def test_a_clear_gain_is_told_as_one(self):
        result = compare(run({("core", n) for n in range(30)}), run(), rule())
        assert result.outcome == "better"
        assert "+0.250" in result.sentence
        assert "30 gained, 0 lost" in result.sentence
        assert compare(run(), run({("core", n) for n in range(30)}), rule()).outcome == "worse"

    def test_runs_on_different_questions_are_not_compared(self):
        with pytest.raises(InvalidInput) as caught:
            compare([row("core", "a")], [row("core", "a", content="older")], rule())
        assert caught.value.code == "question-differs"


FEW = {"core": 8, "robustness": 8, "micro": 4, "held_out": 8}


def refusal(mine, theirs=None, judge=None, **decision):
    gate_rule = rule(composite=0.5, held_out=0.5, **decision)
    result = headline(mine, theirs or run(sizes=FEW), gate_rule, judge)
    return result.verdict, override_refusal(mine, result, gate_rule)


def test_a_person_may_override_too_few_data():
    assert refusal(run(sizes=FEW)) == ("INCONCLUSIVE", None)
    lost = run(sizes=FEW, failing=[("core", 3)])
    gained = run(sizes=FEW, failing=[("core", 4)])
    assert refusal(lost, gained, min_scenarios=1, max_regressions=1.0) == ("INCONCLUSIVE", None)


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict", "because"),
    [
        (run(), run(), "PASS", "needs no override"),
        (run(sizes=FEW, failing=[("held_out", n) for n in range(8)]), None, "FAIL", "nobody overrides: held-out 0.000"),
        (run(sizes=FEW, sections=("core", "held_out")), None, "INCONCLUSIVE", "were not asked"),
        (run(sizes=FEW, failing=[("core", 0)]), run(sizes=FEW, failing=[("core", 0)]), "INCONCLUSIVE", "core-00"),
        (run(sizes=FEW), run(sizes={**FEW, "micro": 3}), "INCONCLUSIVE", "were not asked the same"),
    ],
    ids=["a pass", "a held-out fail", "a part not asked", "a critical scenario fails", "unequally asked"],
)
def test_nobody_overrides_anything_else(mine, theirs, verdict, because):
    result = refusal(mine, theirs)
    assert result[0] == verdict
    assert because in result[1]


def test_nobody_overrides_a_judge_that_people_do_not_agree_with():
    gate_rule = rule(composite=0.5, held_out=0.5).model_copy(update={"min_kappa": 0.6})
    mine = run(sizes=FEW)
    result = headline(mine, mine, gate_rule, None)
    assert result.verdict == "INCONCLUSIVE"
    assert "no judge was measured" in (override_refusal(mine, result, gate_rule) or "")
