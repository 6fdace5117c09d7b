"""What rewarded answers in training, let rows pass and chose among seeds, against main: the eval's rubric and judge."""

from __future__ import annotations

from modelsmith.evaluation.reward import reward_digest
from modelsmith.evaluation.scoring import judged_points
from modelsmith.points.check import READING
from modelsmith.promotion.proposed import Promotion, refuse
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.canonical import parse_canonical
from modelsmith.schema.promotion import TRAINING_FILE, TrainingFacts


def check_reward(promotion: Promotion, *, present: bool) -> str:
    """What scored sampled answers in training is what scores answers in the eval: main's rubric, read as it does.

    ``present``: somebody merges now, so it is read as this version does. A history may have been read as any before.
    """
    main, record = promotion.main, promotion.record
    if record.event == "candidate":
        facts = parse_canonical(TRAINING_FILE, promotion.file(TRAINING_FILE), TrainingFacts)
    else:
        facts = promotion.evidence.training
    governed = load_eval_set(main.tree, load_cluster(main.tree, record.cluster).eval_set)
    judged = bool(judged_points(governed.rubric))
    measured = None if record.event == "candidate" else promotion.evidence.judge
    _refuse_choosing_judge(facts, judged, measured.identity if measured else None)
    _refuse_rows_judge(facts, judged, measured.identity if measured else None)
    _refuse_stages(facts, governed.rubric_digest, measured.identity if measured else None, present)
    rewarded = "grpo" in ({stage.method for stage in facts.stages if not stage.skipped} or {facts.method})
    if not rewarded:
        named = facts.trained_reward is not None or facts.trained_judge is not None
        refuse(named, "a reward is named, and no stage trained by one")
        return "no stage trained by reward"
    judge = facts.trained_judge
    refuse(judged and judge is None, "a judge decides points of the rubric, and none is named that rewarded answers")
    refuse(not judged and judge is not None, "a judge is named that rewarded answers, and the rubric has no use of one")
    refuse(
        measured is not None and judge not in (None, measured.identity),
        "answers were rewarded by another judge than the eval's",
    )
    refuse(
        facts.trained_reward not in _rewards(governed.rubric_digest, judge, present),
        "answers were rewarded by another rubric than the eval's, or read in another way",
    )
    return "rewarded by the eval's own rubric" + (" and judge" if judged else "")


def _rewards(rubric: str, judge: str | None, present: bool) -> set[str]:
    """Rewards that are this rubric with this judge: read as this version does, or as any before did."""
    return {reward_digest(rubric, reading, judge) for reading in ((READING,) if present else range(1, READING + 1))}


def _refuse_stages(facts: TrainingFacts, rubric: str, measured: str | None, present: bool) -> None:
    """What is said of the reward and the judges of each stage of several is what is said of all, and the eval's own.

    What was written before stages said so names none; nobody writes that any more.
    """
    for number, stage in enumerate(facts.stages, start=1):
        name, reward, judge = f"stage {number}: ", stage.trained_reward, stage.trained_judge
        rewarded = stage.method == "grpo" and not stage.skipped
        refuse(not rewarded and (reward, judge) != (None, None), f"{name}a reward is named, and it trained by none")
        refuse(present and rewarded and reward is None, f"{name}trained by reward, and does not say by which")
        refuse(rewarded and stage.rows_judge is not None, f"{name}a judge of rows is named, and it samples its own")
        for identity in (judge, stage.rows_judge):
            other = measured is not None and identity not in (None, measured)
            refuse(other, f"{name}answers were judged by another judge than the eval's")
        judge_digest = judge or facts.trained_judge
        refuse(
            reward is not None and reward not in _rewards(rubric, judge_digest, present),
            f"{name}answers were rewarded by another rubric than the eval's, or read in another way",
        )
    for field in ("trained_reward", "trained_judge", "rows_judge"):
        first = next((value for stage in facts.stages if (value := getattr(stage, field))), None)
        value = getattr(facts, field)
        refuse(None not in (first, value) and first != value, f"{field} is another than that of its stages")


def _refuse_choosing_judge(facts: TrainingFacts, judged: bool, measured: str | None) -> None:
    """Several seeds were chosen among by the eval's own judge, where one decides points."""
    if facts.tries is None:
        return
    judge = facts.tries.judge
    refuse(judge is not None and not judged, "seeds were chosen by a judge, and the rubric has no use of one")
    refuse(
        judge is None and judged, "a judge decides points of the rubric, and none is named that seeds were chosen by"
    )
    refuse(
        judge is not None and measured is not None and judge != measured,
        "seeds were chosen by another judge than the eval's",
    )


def _refuse_rows_judge(facts: TrainingFacts, judged: bool, measured: str | None) -> None:
    """Rows whose answers no declared check lets pass were let pass by the eval's own judge."""
    judge, paired = facts.rows_judge, "dpo" in ({stage.method for stage in facts.stages} | {facts.method})
    refuse(judge is not None and not judged, "a judge of rows is named, and the rubric has no use of one")
    refuse(
        judge is not None and not facts.sources and not paired,
        "a judge of rows is named, and all rows come from generators",
    )
    refuse(
        judge is None and judged and bool(facts.sources),
        "a judge decides points of the rubric, and none is named that let rows of other sources pass",
    )
    refuse(
        judge is not None and measured is not None and judge != measured,
        "rows were judged by another judge than the eval's",
    )
