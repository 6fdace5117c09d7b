"""A change of rubric or scenarios, seen as what it does: differences in words, verdicts carried over, flips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parrot import Parrot, governed, judged, scenario

from modelsmith.evaluation.cache import KeptCompletion
from modelsmith.evaluation.change.carry import carried_agreement, carry
from modelsmith.evaluation.change.effects import flips, point_flips
from modelsmith.evaluation.change.set_change import changed_ids, set_change
from modelsmith.evaluation.grading import Grader
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.promotion.rule import effective_rule
from modelsmith.schema.canonical import digest
from modelsmith.schema.evalset import Sampling, Thresholds
from modelsmith.schema.governed_set import GovernedSet, label_digest
from modelsmith.schema.labels import Label
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.run import JudgeAgreement, LabelVerdict, Observation, VerdictRow
from modelsmith.schema.source import JudgeModel


def answered(subject: GovernedSet) -> tuple[dict[str, KeptCompletion], list[VerdictRow]]:
    """The parrot's completions of every prompt, and the verdicts that grading gives them."""
    samples = {sample.key: sample for sample in plan(subject, SECTIONS, quick=False)}
    answers = {
        key: Parrot.answer(sample.prompt(), sample.repeat).encode("utf-8", "replace").decode()
        for key, sample in samples.items()
    }
    grader = Grader(subject, samples, None)
    rows = [graded.row for graded in grader.grade([observation(samples[key], text) for key, text in answers.items()])]
    completions = {
        key: KeptCompletion(
            text=text, finish="stop", prompt_tokens=1, completion_tokens=1, seconds=0.1, wall_seconds=0.1,
            first_token_seconds=None,
        )
        for key, text in answers.items()
    }  # fmt: skip
    return completions, [row for row in rows if row]


def observation(sample, text: str) -> Observation:
    return Observation(
        row=None, section=sample.section, id=sample.scenario.id,
        wording=sample.wording, repeat=sample.repeat, completion=text,
        finish="stop", reasons={}, prompt_tokens=1, completion_tokens=1, seconds=0.1,
    )  # fmt: skip


def with_points(subject: GovernedSet, **changes: dict[str, object]) -> GovernedSet:
    """The set with fields of rubric points changed; a point set to None is gone."""
    points = []
    for point in subject.rubric.model_dump(mode="json", by_alias=True)["points"]:
        change = changes.pop(point["id"], {})
        if change is not None:
            points.append(point | change)
    points += [{"id": name, **value} for name, value in changes.items()]
    document = subject.rubric.model_dump(mode="json", by_alias=True) | {"points": points}
    return replace(subject, rubric=Rubric.model_validate(document, strict=False))


OTHER_FIELD = {"check": {"type": "json_field", "path": "cause", "expected": {"value": "pacing"}}}
NEW_POINT = {
    "text": "Says pacing",
    "weight": 1,
    "check": {"type": "text", "match": "contains", "expected": {"value": "pacing"}},
}


class TestWhatDiffers:
    def test_nothing_changed_nothing_is_said(self):
        change = set_change(governed(), governed())
        assert (change.points, change.scenarios, change.settings) == ((), (), ())

    def test_a_point_says_its_new_weight_share_and_check(self):
        change = set_change(governed(), with_points(governed(), cause={"weight": 1.0, "required": False}))
        found_by_name = {point.point: point.sentences for point in change.points}
        assert found_by_name["cause"] == (
            "weight: 3.0 -> 1.0",
            "required: true -> false",
            "share of the score: 75% -> 50%",
        )
        assert found_by_name["format"] == ("share of the score: 25% -> 50%",)

    def test_points_come_and_go(self):
        change = set_change(governed(), with_points(governed(), format=None, pacing=NEW_POINT))
        assert {(point.point, point.kind) for point in change.points} == {("pacing", "added"), ("format", "removed")}

    def test_scenarios_come_go_move_change_and_only_scored_changes_are_asked(self):
        subject = governed()
        core = list(subject.core)
        core[0] = scenario("core-0", 0, messages=[{"role": "user", "content": "New words"}])
        core[1] = scenario("core-1", 1, operator_lens="supply")
        moved = core.pop(7)
        core.pop(6)
        changed = replace(subject, core=(*core, scenario("core-9", 9)), held_out=(*subject.held_out, moved))
        change = set_change(subject, changed)
        found_by_name = {
            scenario_change.id: (scenario_change.kind, scenario_change.fields, scenario_change.scored)
            for scenario_change in change.scenarios
        }
        assert found_by_name == {
            "core-0": ("changed", ("messages",), True),
            "core-1": ("changed", ("operator_lens",), False),
            "core-6": ("removed", (), True),
            "core-7": ("changed", ("moved from scenarios to held_out",), True),
            "core-9": ("added", (), True),
        }
        assert changed_ids(change) == ("core-0", "core-7", "core-9")

    def test_words_that_only_a_judge_reads_count_where_a_judge_reads_them(self):
        def reworded(subject: GovernedSet, point: str) -> tuple[str, ...]:
            criteria = [{"point": point, "pass": "Polite.", "fail": "Rude."}]
            core = (scenario("core-0", 0, criteria=criteria), *subject.core[1:])
            return changed_ids(set_change(subject, replace(subject, core=core)))

        assert reworded(judged(), "tone") == ("core-0",)
        assert reworded(judged(), "cause") == ()
        assert reworded(governed(), "cause") == ()

    def test_settings_name_the_value_before_and_after(self):
        subject = governed()
        stricter = subject.evalset.model_copy(
            update={"thresholds": subject.evalset.thresholds.model_copy(update={"held_out": 0.9})}
        )
        assert set_change(subject, replace(subject, evalset=stricter)).settings == ("thresholds.held_out: 0.5 -> 0.9",)

    def test_a_long_instruction_shows_where_it_differs_and_a_short_one_whole(self):
        long = f"Is it calm? {'Count each word that a calm colleague would not write. ' * 9}"
        then, now = (
            with_points(judged(), tone={"check": {"type": "judge", "instruction": text}})
            for text in (f"{long}A greeting is enough. Say why.", f"{long}A greeting is never enough. Say why.")
        )
        ((sentence,),) = (point.sentences for point in set_change(then, now).points)
        assert sentence == (
            'check.instruction: ...ot write. A greeting is enough. Say why." -> '
            '...ot write. A greeting is never enough. Say why."'
        )
        ((short,),) = (point.sentences for point in set_change(judged(), then).points)
        assert short.startswith('check.instruction: "')
        first, second = short.split(" -> ")
        assert first != second.removesuffix("...")

    def test_labels_and_the_cluster_s_gate_are_said_but_no_labelled_answer(self):
        subject = judged()
        labelled = (("core-0", "Calm.", "pass"), ("core-0", "Hm.", "fail"), ("held-0", "Oh!", "fail"))
        then, now = (
            replace(subject, labels=labels(*label_rows))
            for label_rows in (labelled, (*labelled[1:2], ("held-0", "Oh!", "pass")))
        )
        gates = (Thresholds(composite=0.7, held_out=0.6), Thresholds(composite=0.95, held_out=0.6))
        change = set_change(then, now, gates)
        assert change.labels == (
            "core-0, tone: 1 labelled answer removed", "held-0, tone: 1 labelled answer fail -> pass"
        )  # fmt: skip
        assert change.gate == ("gate.composite: 0.7 -> 0.95",)
        assert set_change(then, then, (gates[0], gates[0])) == set_change(subject, subject)


class TestTheJudgesAgreement:
    def test_it_follows_what_people_say_now_of_answers_that_the_judge_saw(self):
        rows = [("core-0", f"Calm {n}.", "pass" if n < 10 else "fail") for n in range(20)]
        old = replace(measured(), labels=labels(*rows))
        agreement_before = agreement_with(old, {label.answer: label.verdict == "pass" for label in old.labels})
        assert carried_agreement(old, old, agreement_before) == agreement_before
        new = replace(old, labels=labels(("core-0", "Calm 0.", "fail"), *rows[1:]))
        fallen = carried_agreement(old, new, agreement_before)
        assert (agreement_before.kappa.value, fallen.kappa.value) == (1.0, 0.9)
        unseen = replace(old, labels=labels(*rows, ("core-0", "New.", "fail")))
        assert carried_agreement(old, unseen, agreement_before) is None
        sharper = with_points(old, tone={"check": {"type": "judge", "instruction": "Is it calm and short?"}})
        assert carried_agreement(old, sharper, agreement_before) is None

    def test_a_changed_min_kappa_leaves_every_verdict_as_it_is(self):
        old = measured()
        judge = old.evalset.judge.model_copy(update={"min_kappa": 0.9})
        new = replace(old, evalset=old.evalset.model_copy(update={"judge": judge}))
        rows = [
            sample.row(old.digests[sample.scenario.id], {point.id: True for point in old.rubric.points}, False)
            for sample in plan(old, SECTIONS, quick=False)
        ]
        assert carry(old, new, rows, {}).unknown == ()


def measured() -> GovernedSet:
    """The set with a judged point, and a judge that people's labels measure."""
    subject = judged()
    judge = JudgeModel(name="house", labels="labels/judge.yaml", min_kappa=0.6)
    return replace(subject, evalset=subject.evalset.model_copy(update={"judge": judge}))


def labels(*label_rows: tuple[str, str, str]) -> tuple[Label, ...]:
    return tuple(
        Label(scenario=scenario, point="tone", answer=answer, verdict=verdict)
        for scenario, answer, verdict in label_rows
    )


def agreement_with(subject: GovernedSet, judged_so: dict[str, bool]) -> JudgeAgreement:
    verdicts = [
        LabelVerdict(
            label=label_digest(label), point=label.point, person=label.verdict == "pass", judge=judged_so[label.answer]
        )
        for label in subject.labels
    ]
    return agreement(subject.evalset.judge.name, digest("judge"), verdicts, 0.95, subject.evalset.judge.min_kappa)


class TestCarriedVerdicts:
    def test_without_a_change_every_verdict_holds_and_no_answer_is_needed(self):
        _, rows = answered(governed())
        carried = carry(governed(), governed(), rows, {})
        assert carried.unknown == ()
        assert sorted(carried.rows, key=str) == sorted(rows, key=str)

    def test_weights_thresholds_and_gone_points_need_no_answer(self):
        _, rows = answered(governed())
        lighter = with_points(governed(), format=None, cause={"weight": 9.0, "required": False})
        carried = carry(governed(), lighter, rows, {})
        assert carried.unknown == ()
        assert {tuple(row.points) for row in carried.rows} == {("cause",)}

    @pytest.mark.parametrize("change", [{"cause": OTHER_FIELD}, {"pacing": NEW_POINT}])
    def test_an_edited_or_new_point_is_decided_from_answers_as_a_run_would(self, change):
        answers, rows = answered(governed())
        edited = with_points(governed(), **change)
        assert len(carry(governed(), edited, rows, {}).unknown) == len(rows)
        carried = carry(governed(), edited, rows, answers)
        assert carried.unknown == ()
        assert sorted(carried.rows, key=str) == sorted(answered(edited)[1], key=str)

    def test_an_answer_at_hand_is_read_as_today_whatever_was_said_before(self):
        answers, rows = answered(governed())
        older = [row.model_copy(update={"points": dict.fromkeys(row.points, True)}) for row in rows]
        assert sorted(carry(governed(), governed(), older, answers).rows, key=str) == sorted(rows, key=str)

    def test_an_edited_scenario_is_unknown_unless_its_answer_is_at_hand(self):
        answers, rows = answered(governed())
        subject = governed()
        edited = replace(subject, core=(scenario("core-0", 0, reference={"cause": "timeout"}), *subject.core[1:]))
        unknown = carry(subject, edited, rows, {}).unknown
        assert {sample.key for sample in unknown} == {
            "core/core-0/0/0",
            "robustness/core-0/1/0",
            "robustness/core-0/2/0",
        }
        carried = carry(subject, edited, rows, answers)
        assert sorted(carried.rows, key=str) == sorted(answered(edited)[1], key=str)

    def test_another_prompt_or_sampling_lets_no_verdict_hold(self):
        _, rows = answered(governed())
        subject = governed()
        warmer = subject.evalset.model_copy(update={"sampling": Sampling(max_new_tokens=16, temperature=0.5)})
        carried = carry(subject, replace(subject, evalset=warmer), rows, {})
        assert carried.rows == ()

    def test_a_judged_point_holds_only_while_its_words_and_criteria_do(self):
        before = judged()
        rows = [row.model_copy(update={"points": {**row.points, "tone": True}}) for row in answered(governed())[1]]
        assert carry(before, judged(), rows, {}).unknown == ()
        assert len(carry(before, judged(text="Other words."), rows, {}).unknown) == len(rows)
        criteria = [{"point": "tone", "pass": "Polite.", "fail": "Rude."}]
        worded = replace(before, core=(scenario("core-0", 0, criteria=criteria), *before.core[1:]))
        assert {sample.scenario.id for sample in carry(before, worded, rows, {}).unknown} == {"core-0"}

    @given(st.sets(st.sampled_from(["format", "cause"]), max_size=1), st.integers(0, 7), st.booleans())
    def test_whatever_is_carried_is_what_a_fresh_run_would_say(self, gone, edited_scenario, edit_point):
        subject = governed()
        answers, rows = answered(subject)
        new = with_points(subject, **dict.fromkeys(gone), **({"pacing": NEW_POINT} if edit_point else {}))
        core = [
            scenario(case.id, n, reference={"cause": "price_floor"}) if n == edited_scenario else case
            for n, case in enumerate(subject.core)
        ]
        new = replace(new, core=tuple(core))
        fresh = {str((row.section, row.id, row.wording)): row for row in answered(new)[1]}
        for row in carry(subject, new, rows, {}).rows + carry(subject, new, rows, answers).rows:
            assert fresh[str((row.section, row.id, row.wording))] == row


class TestFlips:
    def test_a_stricter_point_turns_scenarios_and_names_itself(self, cluster):
        _, rows = answered(governed())
        edited = with_points(governed(), cause=OTHER_FIELD)
        answers, _ = answered(governed())
        after = carry(governed(), edited, rows, answers).rows
        turned = flips(rows, effective_rule(governed(), cluster), after, effective_rule(edited, cluster))
        assert turned
        assert {point for turned_scenario in turned for point in turned_scenario.points} == {"cause"}
        counted = {flip.point: (flip.gained, flip.lost) for flip in point_flips(rows, after)}
        assert set(counted) == {"cause"}
        assert sum(counted["cause"]) == sum(
            before.points["cause"] != now.points["cause"]
            for before, now in zip(sorted(rows, key=place), sorted(after, key=place), strict=True)
        )

    def test_no_change_flips_nothing(self, cluster):
        _, rows = answered(governed())
        rule = effective_rule(governed(), cluster)
        assert flips(rows, rule, rows, rule) == ()
        assert point_flips(rows, rows) == ()


def place(row: VerdictRow) -> tuple[str, str, int, int]:
    return row.section, row.id, row.wording, row.repeat


@pytest.fixture
def cluster():
    from modelsmith.repository.load import load_cluster
    from modelsmith.repository.tree import WorkTree

    return load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")
