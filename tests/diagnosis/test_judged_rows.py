"""Rows and pairs under a rubric of which a judge decides points: asked within its account, and never a silent fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diagnosis.talker import MODEL, Talker
from judged import FAIL, PASS, Reply, Scripted

from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.generate import generate_prompts
from modelsmith.diagnosis.pairs import Drawn, missed_points, pairs_from
from modelsmith.evaluation.judges.metered import Account, MeteredSubstrate
from modelsmith.evaluation.judges.model import ModelJudge
from modelsmith.loop import answers, rows_judge
from modelsmith.loop.preparing import Prepared, prepare
from modelsmith.loop.recipe import Recipe, stage_rows, write_prompts
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.rubric import Rubric, RubricPoint
from modelsmith.schema.source import BaseModelSource, JudgeModel
from modelsmith.schema.training import Dpo, OwnSamples, Sft, Sources, Teacher
from modelsmith.training.judging import require_rows_judge

ROOT = Path(__file__).parents[2]
SOURCE = BaseModelSource(name="tiny", uri="file:///judge", digest="sha256:" + "1" * 64, license="MIT")
JUDGE = JudgeModel(name="small", base_model=SOURCE)
TONE = RubricPoint.model_validate(
    {"id": "tone", "text": "The answer is calm.", "weight": 1, "check": {"type": "judge", "instruction": "Is it?"}}
)
OWN = Sources(own_samples=OwnSamples(share=0.5, samples=1))


@pytest.fixture
def judged(governed: Any) -> Any:
    """The set with a judged point more, and a judge."""
    rubric = governed.rubric.model_copy(update={"points": (*governed.rubric.points, TONE)})
    return replace(governed, rubric=rubric, evalset=governed.evalset.model_copy(update={"judge": JUDGE}))


@pytest.fixture
def clusters(governed: Any, observe: Any) -> Any:
    return failure_clusters(governed, observe(lambda *_: "no idea"))


@pytest.fixture
def recipe(judged: Any, tmp_path: Path) -> Recipe:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / ".git").mkdir()
    return Recipe(Workspace(clone, tmp_path / "home"), load_cluster(WorkTree(ROOT), "rtb-pricing"), judged)


@pytest.fixture
def judge_by(
    monkeypatch: pytest.MonkeyPatch, judged: Any, clusters: Any
) -> Callable[[Callable[[str], Reply]], Scripted]:
    """The model gives every right answer in other words; the judge replies by a script."""
    right = {row.messages[-1].content: json.loads(row.answer) for row in generate_prompts(judged, clusters, 60, 17)}
    monkeypatch.setattr(
        answers, "open_substrate", lambda *_: Talker(lambda _, text: json.dumps(dict(reversed(right[text].items()))))
    )

    def judging(script: Callable[[str], Reply]) -> Scripted:
        scripted = Scripted(script)

        def metered(_: Workspace, __: Any, account: Account) -> ModelJudge:
            return ModelJudge(MeteredSubstrate(scripted, account), JUDGE, SOURCE.digest)

        monkeypatch.setattr(rows_judge, "open_metered_judge", metered)
        return scripted

    return judging


def batch(recipe: Recipe, folder: Path, clusters: Any, calls: int | None = 99) -> Prepared:
    return prepare(recipe, folder, Sft(rows=60, sources=OWN, judge_calls=calls), clusters, MODEL)


def evenly(text: str) -> str:
    """Passes about half of what it is asked, and the same each time."""
    return PASS if int(sha256(text.encode())[-1], 16) % 2 else FAIL


def test_the_judge_lets_rows_pass_within_its_account_and_once(recipe, clusters, judge_by, tmp_path):
    judge = judge_by(evenly)
    (source,) = batch(recipe, tmp_path / "one", clusters).sources
    passed = sum(evenly(text) == PASS for text in judge.asked)
    assert source.kept + source.rejected.get("no-room", 0) == passed > 5
    assert source.rejected["fails-rubric"] == len(judge.asked) - passed > 5
    account = json.loads((tmp_path / "one" / rows_judge.FOLDER / "account.json").read_text())
    assert account["calls"] == len(judge.asked) <= 99
    assert rows_judge.judge_of(tmp_path / "one") == ModelJudge(judge, JUDGE, SOURCE.digest).identity
    again = judge_by(lambda _: pytest.fail("what was said costs nothing again"))
    assert batch(recipe, tmp_path / "one", clusters).sources == (source,)
    assert not again.asked


def test_what_fails_a_declared_point_is_asked_of_no_judge(recipe, clusters, judge_by, tmp_path, monkeypatch):
    judge = judge_by(evenly)
    monkeypatch.setattr(answers, "open_substrate", lambda *_: Talker(lambda *_: "{}"))
    (source,) = batch(recipe, tmp_path / "one", clusters).sources
    assert (source.kept, judge.asked) == (0, [])
    assert rows_judge.judge_of(tmp_path / "one") is None


@pytest.mark.parametrize(
    ("reply", "calls", "code"),
    [
        ("I like it.", 99, "judge-unclear"),
        (ModelsmithError("endpoint-failed", "It is down.", "Wait."), 99, "endpoint-failed"),
        (PASS, 3, "rows-judge-spent"),
    ],
)
def test_without_a_verdict_it_ends_with_a_reason(recipe, clusters, judge_by, tmp_path, reply, calls, code):
    """And the next try goes on from what was said: no answer is failed for want of a judge."""
    judge_by(lambda _: reply)
    with pytest.raises(ModelsmithError) as ended:
        batch(recipe, tmp_path / "one", clusters, calls)
    assert ended.value.code == code
    assert not (tmp_path / "one" / "rows.jsonl").exists()
    judge_by(lambda _: PASS)
    (source,) = batch(recipe, tmp_path / "one", clusters, 200).sources
    assert source.kept > 5


def test_an_account_that_cannot_be_read_is_not_taken_for_an_empty_one(recipe, clusters, judge_by, tmp_path):
    judge_by(evenly)
    (tmp_path / "one" / rows_judge.FOLDER).mkdir(parents=True)
    (tmp_path / "one" / rows_judge.FOLDER / "account.json").write_text("{")
    with pytest.raises(ModelsmithError) as ended:
        batch(recipe, tmp_path / "one", clusters)
    assert ended.value.code == "rows-judge-lost"


def test_pairs_come_also_of_what_only_the_judge_fails(recipe, judged, clusters, judge_by, tmp_path):
    """But not where it fails the declared right answer as well: nothing would tell the two apart."""
    stage = Dpo(method="dpo", rows=60, samples=1, judge_calls=500)
    prompts = generate_prompts(judged, clusters, 60, 17)
    write_prompts(tmp_path / "left-aside", stage, prompts, lambda row: row)
    plain = stage_rows(recipe, tmp_path / "left-aside", stage.model_copy(update={"judge_calls": None}), MODEL)
    assert plain == (), "without a number the judge is not asked, and the declared points pass"
    judge = judge_by(evenly)
    write_prompts(tmp_path / "asked", stage, prompts, lambda row: row)
    pairs = stage_rows(recipe, tmp_path / "asked", stage, MODEL)
    failed = sum(evenly(text) == FAIL for text in judge.asked[: len(prompts)])
    doubted = judge.asked[len(prompts) :]
    assert 0 < len(pairs) == sum(evenly(text) == PASS for text in doubted) < failed == len(doubted)
    assert {pair.points for pair in pairs} == {("tone",)}


def test_a_declared_miss_needs_no_judge_for_a_pair(judged, clusters):
    prompts = generate_prompts(judged, clusters, 6, 17)
    sizes: list[int] = []

    def none(sampled: Any) -> list[dict[str, bool]]:
        sizes.append(len(sampled))
        return [{} for _ in sampled]

    pairs = pairs_from(judged.rubric, prompts, [[Drawn("{}", False)]] * 6, none)
    assert (len(pairs), set(sizes)) == (6, {0})


def test_a_pair_is_never_the_right_answer_against_itself(judged, clusters):
    """An answer that the limit of tokens ended fails where its last word may be half of one, though it is all there."""
    point = {"id": "figure", "weight": 1.0, "text": "Says the figure."}
    check = {"type": "number", "expected": {"value": 42}}
    rubric = Rubric.model_validate(judged.rubric.model_dump(by_alias=True) | {"points": (point | {"check": check},)})
    (prompt,) = [
        prompt_made.model_copy(update={"answer": "42"}) for prompt_made in generate_prompts(judged, clusters, 1, 17)
    ]
    lines = [Drawn("42", True), Drawn(" 42\n", True), Drawn("42", True), Drawn("7", False)]
    assert missed_points(rubric, prompt, lines[0])
    assert [pair.rejected for pair in pairs_from(rubric, [prompt], [lines])] == ["7"]
    assert pairs_from(rubric, [prompt], [lines[:3]]) == ()


def test_who_may_judge_rows_is_said_before_anything_is_asked(judged):
    teacher = Sources(teacher=Teacher(name="mentor", base_model=SOURCE))
    other = "sha256:" + "2" * 64
    for stage, base, code in (
        (Sft(sources=OWN), other, "sources-judged"),
        (Sft(sources=OWN, judge_calls=1), SOURCE.digest, "judge-is-trained"),
        (Sft(sources=teacher, judge_calls=1), other, "judge-is-teacher"),
        (Dpo(method="dpo", judge_calls=1), SOURCE.digest, "judge-is-trained"),
        (Dpo(method="dpo"), SOURCE.digest, None),
        (Sft(), other, None),
        (Sft(sources=OWN, judge_calls=1), other, None),
    ):
        try:
            require_rows_judge(judged.rubric, JUDGE, stage, base)
            refusal = None
        except ModelsmithError as error:
            refusal = error.code
        assert refusal == code, stage
    with pytest.raises(ValueError, match="judge_calls goes with sources"):
        Sft(judge_calls=1)
