from __future__ import annotations

import json
from pathlib import Path

import pytest

import modelsmith
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.scoring import point_weights, reward, row_passed, score_completion
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree

SETS = {
    name: load_eval_set(WorkTree(Path(modelsmith.__file__).parents[1]), name)
    for name in ("adtech/rtb-root-cause", "fintech/fraud-typology")
}
GOVERNED = SETS["adtech/rtb-root-cause"]


@pytest.mark.parametrize("governed", SETS.values(), ids=SETS)
def test_the_reference_of_every_governed_scenario_is_a_full_answer(governed):
    for sample in plan(governed, SECTIONS, quick=False):
        answer = json.dumps(sample.scenario.reference)
        points, reasons = score_completion(governed.rubric, sample.scenario, answer)
        assert row_passed(points, point_weights(governed.rubric)), (sample.key, reasons)
        assert reward(governed.rubric, sample.scenario.reference, answer) == 1


def test_the_answer_to_another_case_never_passes():
    answers = {json.dumps(scenario.reference) for scenario in GOVERNED.core}
    for scenario in GOVERNED.core:
        for answer in answers - {json.dumps(scenario.reference)}:
            assert reward(GOVERNED.rubric, scenario.reference, answer) < 1


@pytest.mark.parametrize("governed", SETS.values(), ids=SETS)
def test_quick_mode_asks_every_capability(governed):
    capabilities = {scenario.capability for scenario in governed.core}
    assert {sample.scenario.capability for sample in plan(governed, ("core",), quick=True)} == capabilities
