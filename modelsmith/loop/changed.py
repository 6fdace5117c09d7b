"""The eval that CI runs on a change: ask what changed, and judge the whole set by known verdicts for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.prompts import generation_digest
from modelsmith.evaluation.set_change import changed_ids, set_change
from modelsmith.evidence.bundle import verdict_rows
from modelsmith.loop.engines import Subject
from modelsmith.loop.evals import Setting, evaluate, read_observations, subject_of
from modelsmith.loop.known import Known, accepted, carried, known_verdicts
from modelsmith.promotion.main import Main
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import GovernedSet
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.change import SetChange
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.run import Headline, RunResult, VerdictRow


@dataclass(frozen=True)
class ChangeEval:
    """What came of it."""

    change: SetChange
    run: RunResult | None
    """The run of what changed; None when nothing that is asked or scored did."""
    whole: Headline | None
    """Headline of the whole set; None when the rest has no known verdicts."""
    sentence: str
    """Why, in words."""


def evaluate_change(
    workspace: Workspace, main: Main, old: GovernedSet, setting: Setting, subject: Subject, threads: int | None
) -> ChangeEval:
    """Ask the scenarios that changed since `old`; all of them when rubric, judge, prompt or sampling did.

    Raises:
        ModelsmithError: as `evaluate`.
    """
    new = setting.governed
    change = set_change(old, new)
    same_rules = old.rubric_digest == new.rubric_digest and old.evalset.judge == new.evalset.judge
    everything = not same_rules or generation_digest(old) != generation_digest(new)
    ids = changed_ids(change)
    if not everything and not ids:
        run = None
    else:
        setting = setting if everything else replace(setting, only=ids, tag=f"{setting.tag}-changed")
        run = evaluate(workspace, setting, subject, None, threads)
    if everything and run is not None:
        return ChangeEval(change, run, run.headline, "rubric, judge, prompt or sampling changed, so all was asked")
    known = known_verdicts(workspace, main, setting.cluster.cluster, old, subject.weights)
    if known is None:
        return ChangeEval(change, run, None, f"no verdicts of {subject.name} on the unchanged scenarios are known")
    rows = _whole(workspace, known, new, run)
    against = _incumbent(workspace, main, old, setting, subject, run, threads)
    if rows is None or isinstance(against, str):
        why = against if isinstance(against, str) else f"some verdicts of {subject.name} are not known"
        return ChangeEval(change, run, None, why)
    judge = run.judge if run else known.judge_of(new)
    whole = headline(rows, against, effective_rule(new, setting.cluster), judge)
    asked = len(ids) if run else 0
    total = len(new.digests)
    return ChangeEval(change, run, whole, f"{asked} of {total} scenarios were asked; the others' verdicts are known")


def _incumbent(
    workspace: Workspace,
    main: Main,
    old: GovernedSet,
    setting: Setting,
    subject: Subject,
    run: RunResult | None,
    threads: int | None,
) -> tuple[VerdictRow, ...] | str | None:
    """Verdicts of the model that the subject was accepted against; None when it has none, a sentence when unknown."""
    for _, evidence in accepted(main, setting.cluster.cluster):
        if evidence.candidate.weights != subject.weights or evidence.question != old.question():
            continue
        model = evidence.incumbent
        fresh = None
        if run is not None:
            artifact = None if model.model == "base" else model.weights
            try:
                other = subject_of(workspace, setting.cluster, model.model, artifact)
            except InvalidInput as error:
                return f"{error.message}, so the change cannot be judged against the incumbent"
            fresh = evaluate(workspace, replace(setting, tag=f"{setting.tag}-incumbent"), other, None, threads)
        known = Known(old, model.weights, evidence.engine, model.rows, evidence.judge)
        rows = _whole(workspace, known, setting.governed, fresh)
        return rows if rows is not None else f"some verdicts of {model.model} are not known"
    return None


def _whole(
    workspace: Workspace, known: Known, new: GovernedSet, run: RunResult | None
) -> tuple[VerdictRow, ...] | None:
    """Verdicts on the whole new set: those of the run, and the known ones for the rest; None when some are missing."""
    fresh = verdict_rows(read_observations(workspace, run)) if run else ()
    carry = carried(workspace, known, new)
    rows: Mapping[tuple[str, str, int, int], VerdictRow] = {_place(row): row for row in (*carry.rows, *fresh)}
    missing = set(carry.unknown) - {"/".join(map(str, _place(row))) for row in fresh}
    return None if missing else tuple(rows.values())


def _place(row: VerdictRow) -> tuple[str, str, int, int]:
    return row.section, row.id, row.wording, row.repeat
