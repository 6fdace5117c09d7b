"""What training is rewarded by is what evaluation scores by: same rubric, same reading, same number."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import FAIL, PASS, Scripted

from modelsmith.evaluation.judges.model import ModelJudge
from modelsmith.evaluation.judges.port import JudgeQuestion
from modelsmith.evaluation.reward import Sampled, require_rewarding, reward_digest, rewards
from modelsmith.evaluation.scoring import point_weights, row_score, score_completion
from modelsmith.points.check import READING
from modelsmith.schema.canonical import content_digest, sha256
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Scenario
from modelsmith.schema.source import JudgeModel

EXPECTED = {"cause": "timeout", "bid": 2.5}


def rubric(*more: dict) -> Rubric:
    points = [
        {"id": "format", "text": "JSON.", "weight": 1, "check": {"type": "json_schema", "schema": {"type": "object"}}},
        {"id": "cause", "text": "Right.", "weight": 3, "required": False,
         "check": {"type": "text", "match": "contains", "expected": {"reference": "cause"}}},
        {"id": "bid", "text": "Right.", "weight": 2,
         "check": {"type": "number", "path": None, "expected": {"reference": "bid"}, "absolute": 0.1}},
    ]  # fmt: skip
    return Rubric.model_validate({"id": "r", "owner": "lead", "description": "D.", "points": (*points, *more)})


JUDGED = {"id": "tone", "text": "Kind.", "weight": 1, "check": {"type": "judge", "instruction": "Is it kind?"}}
SCENARIO = Scenario.model_validate_json(
    json.dumps(
        {"id": "s", "capability": "c", "risk": "low", "operator_lens": "l", "outcome_type": "o",
         "messages": [{"role": "user", "content": "Why?"}], "reference": EXPECTED,
         "criteria": [{"point": "format", "pass": "yes", "fail": "no"}]}
    )
)  # fmt: skip


ANSWERS = st.lists(
    st.tuples(st.sampled_from(['{"cause": "timeout"}', "timeout at 2.5", "bid 2.4", ""]) | st.text(), st.booleans()),
    max_size=5,
)


@given(ANSWERS)
def test_a_reward_is_the_score_that_evaluation_gives(answers: list[tuple[str, bool]]) -> None:
    scored = [score_completion(rubric(), SCENARIO, text, cut_off=cut)[0] for text, cut in answers]
    due = [row_score(points, point_weights(rubric())) for points in scored]
    assert rewards(rubric(), [Sampled(text, cut, EXPECTED) for text, cut in answers]) == due


def test_an_answer_cut_off_in_its_number_earns_what_it_earns_in_an_eval() -> None:
    whole, cut = (Sampled("timeout at 2.5", cut_off, EXPECTED) for cut_off in (False, True))
    assert rewards(rubric(), [whole])[0] > rewards(rubric(), [cut])[0]


@given(ANSWERS)
def test_so_is_one_of_which_a_judge_decides_a_point(answers: list[tuple[str, bool]]) -> None:
    def verdict(prompt: str) -> str:
        return PASS if int(sha256(prompt.encode("utf-8", "replace"))[-1], 16) % 2 else FAIL

    judge, subject = ModelJudge(Scripted(verdict), JudgeModel(name="judge"), sha256(b"")), rubric(JUDGED)
    due = []
    for text, cut in answers:
        verdicts = {
            verdict_.key: verdict_
            for verdict_ in judge.decide([JudgeQuestion("tone", subject.points[-1], SCENARIO, text)])
        }
        due.append(
            row_score(score_completion(subject, SCENARIO, text, verdicts, cut_off=cut)[0], point_weights(subject))
        )
    sampled = [Sampled(text, cut, EXPECTED, SCENARIO.messages) for text, cut in answers]
    assert rewards(subject, sampled, judge) == due


@pytest.mark.parametrize("reply", ["Fine.", InfrastructureFailure("endpoint-down", "It is down.", "Start it.")])
def test_a_judge_without_a_verdict_is_an_error_and_never_a_zero(reply: str | ModelsmithError) -> None:
    judge = ModelJudge(Scripted(lambda _: reply), JudgeModel(name="judge"), sha256(b""))
    with pytest.raises(ModelsmithError) as caught:
        rewards(rubric(JUDGED), [Sampled("{}", False, EXPECTED, SCENARIO.messages)], judge)
    assert caught.value.code == ("judge-unclear" if reply == "Fine." else "endpoint-down")


def test_a_judged_point_is_refused_without_a_budget_and_never_a_zero() -> None:
    require_rewarding(rubric(JUDGED), [EXPECTED], 1)
    with pytest.raises(InvalidInput) as refused:
        require_rewarding(rubric(JUDGED), [EXPECTED], None)
    assert refused.value.code == "judged-reward"
    assert refused.value.details["points"] == ["tone"]
    with pytest.raises(InfrastructureFailure, match="judge"):
        rewards(rubric(JUDGED), [Sampled("{}", False, EXPECTED)])


def test_a_row_that_the_rubric_cannot_compare_is_refused_before_training() -> None:
    with pytest.raises(InvalidInput) as refused:
        require_rewarding(rubric(), [EXPECTED, {"cause": "timeout"}], None)
    assert refused.value.code == "bad-reference-path"


def test_another_rubric_or_another_reading_is_another_reward() -> None:
    mine, other = content_digest(rubric()), content_digest(rubric(JUDGED))
    judged = reward_digest(mine, judge=sha256(b"judge"))
    assert len({reward_digest(mine), reward_digest(other), reward_digest(mine, READING + 1), judged}) == 4
    assert reward_digest(mine) == reward_digest(mine, READING)
