"""The eval that CI runs on a change: ask what changed, and judge the whole set by known verdicts for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.prompts import generation_digest
from modelsmith.evaluation.results import observation_key
from modelsmith.evaluation.set_change import changed_ids, set_change
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.evidence.bundle import verdict_rows
from modelsmith.loop.engines import Subject
from modelsmith.loop.evals import BASE, Setting, evaluate, read_observations, subject_of
from modelsmith.loop.known import Known, accepted, carried, known_verdicts
from modelsmith.promotion.main import Main
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import GovernedSet
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Section
from modelsmith.schema.canonical import digest
from modelsmith.schema.change import SetChange
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.run import Headline, RunResult, VerdictRow

_TAG_LENGTH = 64
_PART_OF = {"core": "scenarios", "robustness": "scenarios", "micro": "micro", "held_out": "held_out"}


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
    workspace: Workspace, main: Main, old: GovernedSet | None, setting: Setting, subject: Subject, threads: int | None
) -> ChangeEval:
    """Ask the scenarios that changed since `old`; all of them when rubric, judge, prompt or sampling did.

    Without an `old` set everything is new, and all is asked.

    Raises:
        ModelsmithError: as `evaluate`.
    """
    new = setting.governed
    change = set_change(old, new)
    if old is None or _all_asked(old, new):
        run = evaluate(workspace, replace(setting, tag=run_tag(setting.tag)), subject, None, threads)
        why = "the eval set is new" if old is None else "rubric, judge, prompt or sampling changed"
        against = _incumbent(workspace, main, None, setting, subject, run, threads)
        if isinstance(against, str):
            return ChangeEval(change, run, run.headline, f"{why}, so all was asked; {against}")
        rows = verdict_rows(read_observations(workspace, run))
        whole = headline(rows, against, effective_rule(new, setting.cluster), run.judge)
        return ChangeEval(change, run, whole, f"{why}, so all was asked")
    ids = changed_ids(change)
    changed = None
    if ids:
        part = f"{setting.tag}-changed-{digest(list(ids))[7:13]}"
        setting = replace(setting, only=ids, sections=_sections(change), tag=part)
        changed = evaluate(workspace, replace(setting, tag=run_tag(part)), subject, None, threads)
    known = known_verdicts(workspace, main, setting.cluster.cluster, old, subject.weights)
    if known is None:
        why = f"no verdicts of {subject.name} on the unchanged scenarios are known"
        return ChangeEval(change, changed, None, why)
    whole_rows = _whole(workspace, known, new, changed)
    against = _incumbent(workspace, main, old, setting, subject, changed, threads)
    if whole_rows is None or isinstance(against, str):
        why = against if isinstance(against, str) else f"some verdicts of {subject.name} are not known"
        return ChangeEval(change, changed, None, why)
    judge = changed.judge if changed else known.judge_of(new)
    whole = headline(whole_rows, against, effective_rule(new, setting.cluster), judge)
    told = f"{len(ids)} of {len(new.digests)} scenarios changed; the others' verdicts are known"
    return ChangeEval(change, changed, whole, told)


def run_tag(tag: str) -> str:
    """The tag, or a shorter one of its own where it is too long to name a run."""
    return tag if len(tag) <= _TAG_LENGTH else f"{tag[: _TAG_LENGTH - 13]}-{digest(tag)[7:19]}"


def _all_asked(old: GovernedSet, new: GovernedSet) -> bool:
    same_rules = old.rubric_digest == new.rubric_digest and old.evalset.judge == new.evalset.judge
    return not same_rules or generation_digest(old) != generation_digest(new)


def _sections(change: SetChange) -> tuple[Section, ...]:
    """Sections in which scenarios changed, so that a held-out set counts as consulted only when it is asked."""
    parts = {one.part for one in change.scenarios if one.kind != "removed" and one.scored}
    return tuple(section for section in SECTIONS if _PART_OF[section] in parts)


def _incumbent(
    workspace: Workspace,
    main: Main,
    old: GovernedSet | None,
    setting: Setting,
    subject: Subject,
    run: RunResult | None,
    threads: int | None,
) -> tuple[VerdictRow, ...] | str | None:
    """Verdicts of the model that the subject was accepted against; None when it has none, a sentence when unknown.

    Without an `old` set the incumbent answers the whole set, as the subject did.
    """
    for _, evidence in accepted(main, setting.cluster.cluster):
        if evidence.candidate.weights != subject.weights or (old and evidence.question != old.question()):
            continue
        model = evidence.incumbent
        fresh = None
        if run is not None:
            artifact = None if model.model == BASE else model.weights
            try:
                other = subject_of(workspace, setting.cluster, model.model, artifact)
            except InvalidInput as error:
                return f"{error.message}, so the change cannot be judged against the incumbent"
            tag = run_tag(f"{setting.tag}-incumbent")
            fresh = evaluate(workspace, replace(setting, tag=tag), other, None, threads)
        if old is None:
            return verdict_rows(read_observations(workspace, fresh)) if fresh else None
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
    rows = {observation_key(row): row for row in (*carry.rows, *fresh)}
    return tuple(rows.values()) if rows.keys() >= set(carry.unknown) else None
