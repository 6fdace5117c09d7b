"""Judge and repeats in evidence and packet: every figure follows from verdicts without text, or is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from modelsmith.cli.measures import judge_line, repeat_table
from modelsmith.cli.page import Page
from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evidence.bundle import evidence_bytes, recompute
from modelsmith.evidence.packet import packet
from modelsmith.evidence.risks import open_risks
from modelsmith.evidence.sanitise import assert_clean
from modelsmith.governance.audiences import view
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import Evidence
from modelsmith.schema.run import JudgeAgreement, LabelVerdict

SAID = [(True, True)] * 7 + [(False, False)] * 6 + [(True, False)] * 2 + [(False, None)]


def judged(needed: float | None = 0.6, label_verdicts=SAID) -> JudgeAgreement:
    verdicts = [
        LabelVerdict(label=digest(n), point=("cause", "action")[n % 2], person=person, judge=judge)
        for n, (person, judge) in enumerate(label_verdicts)
    ]
    return agreement("small-judge", digest("judge"), verdicts, 0.95, needed)


def again(evidence: Evidence, judge: JudgeAgreement | None, needed: float | None) -> Evidence:
    """The evidence as it would be with this judge."""
    rule = evidence.rule.model_copy(update={"min_kappa": needed})
    runs = {
        "candidate": (evidence.candidate, evidence.incumbent.rows),
        "incumbent": (evidence.incumbent, None),
    }
    update: dict[str, object] = {
        name: run.model_copy(update={"headline": headline(run.rows, against, rule, judge)})
        for name, (run, against) in runs.items()
    }
    update["baselines"] = tuple(
        run.model_copy(update={"headline": headline(run.rows, None, rule, judge)}) for run in evidence.baselines
    )
    return evidence.model_copy(update={"rule": rule, "judge": judge, **update})


def repeated(evidence: Evidence, drawn: int) -> Evidence:
    """The evidence as it would be with so many repeats, the odd ones of half of the scenarios failing."""
    runs = []
    for run in (evidence.candidate, evidence.incumbent, *evidence.baselines):
        rows = tuple(
            row.model_copy(
                update={
                    "repeat": repeat,
                    "points": {p: ok and not (repeat % 2 and row.id.endswith("1")) for p, ok in row.points.items()},
                }
            )
            for row in run.rows
            for repeat in range(drawn)
        )
        runs.append(run.model_copy(update={"rows": rows}))
    candidate, incumbent, *baselines = runs
    return again(
        evidence.model_copy(update={"candidate": candidate, "incumbent": incumbent, "baselines": tuple(baselines)}),
        None,
        None,
    )


@pytest.fixture(scope="module")
def with_judge(small) -> Evidence:
    return again(small, judged(), 0.6)


@pytest.fixture(scope="module")
def cluster():
    return load_cluster(WorkTree(Path(__file__).parents[2]), "rtb-pricing")


def change(evidence: Evidence, path: str, value) -> Evidence:
    data = json.loads(canonical_json(evidence))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inside = data
    for step in steps:
        inside = inside[step]
    inside[last] = value
    return Evidence.model_validate_json(json.dumps(data))


class TestEvidence:
    def test_honest_evidence_with_a_judge_or_with_repeats_recomputes(self, with_judge, small):
        for some_evidence in (with_judge, repeated(small, 3), again(small, judged(None), None)):
            recompute(Evidence.model_validate_json(evidence_bytes(some_evidence)))

    def test_a_judge_that_gave_an_unclear_reply_leaves_the_verdict_open(self, with_judge):
        (check,) = [c for c in with_judge.candidate.headline.checks if c.name == "judge-agreement"]
        assert (check.outcome, with_judge.judge.met) == ("INCONCLUSIVE", False)
        assert "1 of 16 labelled answers" in check.sentence

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("judge.kappa.value", 0.9),
            ("judge.kappa.low", 0.6),
            ("judge.agreed", 16),
            ("judge.unclear", 0),
            ("judge.met", True),
            ("judge.labels", digest("other labels")),
            ("judge.points.0.agreed", 8),
            ("judge.points", []),
            ("judge.verdicts.0.label", digest("another")),
            ("judge", None),
            ("rule.min_kappa", None),
        ],
    )
    def test_one_changed_figure_of_the_judge_is_found(self, with_judge, path, value):
        with pytest.raises(IntegrityFailure) as refused:
            recompute(change(with_judge, path, value))
        assert refused.value.code == "evidence-does-not-recompute"

    def test_any_flipped_verdict_on_a_label_is_found(self, with_judge):
        """What people say where the judge is unclear enters no figure; the promotion compares it with the labels."""
        for n, verdict in enumerate(with_judge.judge.verdicts):
            for side in ("person", "judge") if verdict.judge is not None else ("judge",):
                with pytest.raises(IntegrityFailure):
                    recompute(change(with_judge, f"judge.verdicts.{n}.{side}", not getattr(verdict, side)))

    @pytest.mark.parametrize("needed", [0.1, 0.99, None])
    def test_another_least_agreement_is_found(self, small, needed):
        evidence = again(small, judged(0.6, SAID[:-1]), 0.6)
        assert evidence.judge.met
        with pytest.raises(IntegrityFailure):
            recompute(change(evidence, "rule.min_kappa", needed))

    @pytest.mark.parametrize(
        "path", ["rates.0.every.value", "rates.1.at_least_one.low", "rates.2.every.high", "drawn", "rates.0.k"]
    )
    def test_one_changed_figure_of_the_repeats_is_found(self, small, path):
        evidence = repeated(small, 3)
        value = 9 if path.endswith(("drawn", "k")) else 0.123
        with pytest.raises(IntegrityFailure):
            recompute(change(evidence, f"candidate.headline.sections.0.repeats.{path}", value))

    def test_evidence_with_a_judge_is_clean_and_the_public_sees_no_label(self, with_judge):
        assert_clean(evidence_bytes(with_judge))
        fields = view(with_judge, "public", {})["judge"]
        assert fields.keys() == {"judge", "agreed", "unclear", "kappa", "points", "met"}
        assert view(with_judge, "reviewer", {})["judge"]["verdicts"][0].keys() == {"label", "point", "person", "judge"}


class TestPacket:
    def test_it_says_who_judged_and_how_far_people_agree(self, with_judge, cluster):
        text = packet(with_judge, cluster)
        assert_clean(text.encode())
        (line,) = [line for line in text.splitlines() if line.startswith("The model small-judge")]
        assert "On 16 answers that people labelled it says what they say 13 times: Cohen's kappa 0.737 (" in line
        assert "; the rule asks for 0.600." in line
        assert line.endswith("To 1 of them it gave no clear verdict.")
        assert "| action | 6 / 8 | " in text

    def test_a_judge_that_nobody_measured_is_said_to_be_so(self, small, cluster):
        text = packet(again(small, judged(None, []), None), cluster)
        assert "Nobody labelled answers to measure it by." in text

    def test_it_shows_repeats_beside_the_incumbents(self, small, cluster):
        text = packet(repeated(small, 3), cluster)
        assert_clean(text.encode())
        table = text.split("### Repeats")[1].split("###")[0]
        assert [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")][1:4] == [
            [" Core ", " 1 "], [" Core ", " 2 "], [" Core ", " 3 "]
        ]  # fmt: skip

    def test_without_judge_and_repeats_there_is_no_word_of_them(self, small, cluster):
        text = packet(small, cluster)
        assert "### Judge" not in text
        assert "### Repeats" not in text


class TestOpenRisk:
    def risks(self, small, cluster, judge, needed):
        return [risk for risk in open_risks(again(small, judge, needed), cluster) if "judge" in risk]

    def test_few_labels_leave_the_judge_uncertain(self, small, cluster):
        (sentence,) = self.risks(small, cluster, judged(0.6, SAID[:-1]), 0.6)
        assert sentence.startswith("The judge's kappa reaches 0.600, but its interval begins at 0.409: 15 labelled")

    def test_a_judge_whose_agreement_could_not_be_told_is_named(self, small, cluster):
        for judge in (judged(None), judged(None, [])):
            (sentence,) = self.risks(small, cluster, judge, None)
            assert "small-judge decided is unproven" in sentence

    def test_a_rule_that_asks_for_no_agreement_is_named(self, small, cluster):
        (sentence,) = self.risks(small, cluster, judged(None, SAID[:-1]), None)
        assert sentence.endswith("kappa is 0.737.")

    def test_many_labels_leave_nothing_to_say(self, small, cluster):
        assert self.risks(small, cluster, judged(0.6, SAID[:-1] * 9), 0.6) == []
        assert self.risks(small, cluster, None, None) == []


class TestOnTheTerminal:
    def test_the_judge_in_one_line(self):
        assert judge_line(judged()) == (
            "small-judge, kappa 0.737  [0.409, 1.000], 13 of 16 labelled answers judged as people do, "
            "1 without a clear verdict"
        )
        assert judge_line(judged(None, [])) == "small-judge, agreement with people not measured"
        assert "kappa not defined" in judge_line(judged(None, [(True, True)]))

    def test_repeats_by_section(self, small):
        output = io.StringIO()
        repeat_table(repeated(small, 2).candidate.headline.sections, Page(output))
        lines = output.getvalue().splitlines()
        assert " ".join(lines[0].split()) == "section k passes at least once in k passes every time in k"
        assert [line.split()[0] for line in lines[1:]] == [
            "core",
            "2",
            "robustness",
            "2",
            "micro",
            "2",
            "held_out",
            "2",
        ]
