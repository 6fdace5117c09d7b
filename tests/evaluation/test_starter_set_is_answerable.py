from __future__ import annotations

import json
from pathlib import Path

import modelsmith
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.scoring import point_weights, reward, row_passed, score_completion
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree

GOVERNED = load_eval_set(WorkTree(Path(modelsmith.__file__).parents[1]), "adtech/rtb-root-cause")


def test_the_reference_of_every_governed_scenario_is_a_full_answer():
    for sample in plan(GOVERNED, SECTIONS, quick=False):
        answer = json.dumps(sample.scenario.reference)
        points, reasons = score_completion(GOVERNED.rubric, sample.scenario, answer)
        assert row_passed(points, point_weights(GOVERNED.rubric)), (sample.key, reasons)
        assert reward(GOVERNED.rubric, sample.scenario.reference, answer) == 1


def test_the_answer_to_another_case_never_passes():
    answers = {json.dumps(scenario.reference) for scenario in GOVERNED.core}
    for scenario in GOVERNED.core:
        for answer in answers - {json.dumps(scenario.reference)}:
            assert reward(GOVERNED.rubric, scenario.reference, answer) < 1


def test_quick_mode_asks_every_capability():
    capabilities = {scenario.capability for scenario in GOVERNED.core}
    assert {sample.scenario.capability for sample in plan(GOVERNED, ("core",), quick=True)} == capabilities
