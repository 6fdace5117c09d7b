"""How the candidate came to be measured by this rule: what changed since the incumbent, and who failed before. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.judges.agreement import agreement
from modelsmith.evidence.markdown import safe, table
from modelsmith.governance.routing import BASE
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.change import SetChange
from modelsmith.schema.evidence import EarlierRun, Evidence
from modelsmith.schema.figures import format_beside
from modelsmith.schema.promotion import SpecialistId
from modelsmith.schema.run import GateRule, Headline, RunResult

EARLIER_SHOWN: Final = 10
"""Earlier evals in the packet, the latest; the others are counted."""
_LIMITS: Final = {
    "thresholds.composite": ("composite to reach", -1),
    "thresholds.held_out": ("held-out to reach", -1),
    "min_kappa": ("least agreement of the judge", -1),
    "decision.min_scenarios": ("least scenarios", -1),
    "decision.confidence": ("confidence of intervals", -1),
    "decision.max_regressions": ("share that may be lost", 1),
    "decision.margin": ("margin of loss", 1),
}
"""Values of a rule in words, and which way is easier."""


class SetMerge(NamedTuple):
    """A merge that changed what is asked or what has to be reached."""

    pull: int | None
    """None when main holds no receipt of it."""
    asked_by: str
    approved_by: tuple[str, ...]
    sentences: tuple[str, ...]
    """Its changes, each in one sentence."""


class Trail(NamedTuple):
    """Changes on main since the incumbent was accepted."""

    merges: tuple[SetMerge, ...] = ()
    before: int = 0
    """Merges before them that touched the same files."""
    untold: tuple[SpecialistId, ...] = ()
    """Candidates that were never accepted and of whose evals the evidence says nothing."""


NO_TRAIL: Final = Trail()


def earlier_runs(runs: Sequence[RunResult], models: Sequence[str], candidate: RunResult) -> Iterator[EarlierRun]:
    """What the ledger knows of these models' complete ``runs``, each by the rules that judged it.

    The candidate's own eval under its rule is what the evidence is about, so it is not among them.
    """
    keys = {(candidate.run_id, content_digest(candidate.rule))}
    for run in runs:
        for judged in run.by_rule:
            key = run.run_id, content_digest(judged.rule)
            if run.model in models and key not in keys:
                keys.add(key)
                yield EarlierRun(model=run.model, run_id=run.run_id, question=run.question, judged=judged)


def rule_changes(old: GateRule, new: GateRule) -> tuple[str, ...]:
    """What differs between two rules, in words; what makes it easier to pass says so."""
    then, now = (dict(_values(rule.model_dump(mode="json", exclude={"points"}))) for rule in (old, new))
    changes = [
        _limit(path, then.get(path), now.get(path)) for path in {**then, **now} if then.get(path) != now.get(path)
    ]
    before, after = ({point.id: point for point in rule.points} for rule in (old, new))
    for name in (*after, *(removed for removed in before if removed not in after)):
        if name not in before:
            changes.append(f"rubric point {name} added")
        elif name not in after:
            changes.append(f"rubric point {name} removed")
        elif before[name].required and not after[name].required:
            changes.append(f"rubric point {name} no longer required (**easier**)")
        elif before[name] != after[name]:
            changes.append(f"rubric point {name}: weight {before[name].weight:g} -> {after[name].weight:g}")
    return tuple(changes)


def set_changes(change: SetChange) -> tuple[str, ...]:
    """Changes of the eval set's questions, counted; scores and limits are `rule_changes`."""
    changes = []
    for kind in ("added", "removed", "changed"):
        scenarios = [scenario for scenario in change.scenarios if scenario.kind == kind and scenario.scored]
        if scenarios:
            changes.append(f"{len(scenarios)} scenario{'' if len(scenarios) == 1 else 's'} {kind}")
    points = [point.point for point in change.points if point.kind == "changed"]
    return (*changes, *([f"rubric points changed: {', '.join(points)}"] if points else []))


def by_former_rule(evidence: Evidence) -> Headline | None:
    """The candidate's answers by the rule of the incumbent's time; None where that rule knows other rubric points."""
    rule, judge = evidence.since.rule, evidence.judge
    if {point.id for point in rule.points} != {point.id for point in evidence.rule.points}:
        return None
    if judge is not None:
        judge = agreement(judge.judge, judge.identity, judge.verdicts, rule.decision.confidence, rule.min_kappa)
    return headline(evidence.candidate.rows, evidence.incumbent.rows, rule, judge)


def trail_section(evidence: Evidence, trail: Trail) -> str:
    """The packet's section on earlier runs and on changes of the rule."""
    lines = ["### Since the incumbent", "", *(f"- {line}" for line in _changes(evidence, trail))]
    if evidence.earlier:
        lines += ["", "Candidates evaluated since then, each by the rule of its day (the harness's word):", ""]
        lines.append(_earlier(evidence))
    if trail.untold:
        names = ", ".join(safe(name) for name in trail.untold)
        lines += ["", f"On main, never accepted, and the harness tells of no complete eval: {names}."]
    return "\n".join(lines)


def _changes(evidence: Evidence, trail: Trail) -> Iterator[str]:
    model_name = evidence.incumbent.model
    then = "when main first had this cluster" if model_name == BASE else f"when {safe(model_name)} was accepted"
    changes_of_rule = rule_changes(evidence.since.rule, evidence.rule)
    if changes_of_rule:
        yield f"**The rule is not what it was** {then}: {'; '.join(changes_of_rule)}"
        former = by_former_rule(evidence)
        if former is None:
            yield "By the rule of then the candidate cannot be judged: it knows other rubric points"
        else:
            failed = "; ".join(safe(check.sentence) for check in former.checks if check.outcome != "PASS")
            verdict_text = former.verdict if former.verdict == "PASS" else f"**{former.verdict}**"
            yield f"By the rule of then, the same answers are {verdict_text}{f': {failed}' if failed else ', too'}"
    else:
        yield f"The rule is what it was {then}"
    if evidence.since.question != evidence.question:
        versions = f"version {evidence.since.eval_set_version} -> {evidence.eval_set_version}"
        yield f"**What is asked is not what it was** {then} ({versions})"
    if trail.before:
        yield f"{trail.before} more merges changed files of the cluster or its set before these"
    for merge in trail.merges:
        named = f"pull request {merge.pull}" if merge.pull else "a merge without a receipt"
        requested = f", asked for by {safe(merge.asked_by)}" if merge.asked_by else ""
        approved = (
            f", approved by {', '.join(safe(approver) for approver in merge.approved_by)}" if merge.approved_by else ""
        )
        yield f"Merged since, {named}{requested}{approved}: {'; '.join(merge.sentences)}"


def _earlier(evidence: Evidence) -> str:
    rows = [["candidate", "composite", "to reach", "held-out", "to reach", "verdict then", ""]]
    hidden = max(0, len(evidence.earlier) - EARLIER_SHOWN)
    for run in islice(evidence.earlier, hidden, None):
        judged = run.judged
        limits = judged.rule.thresholds
        composite = format_beside(judged.composite.value, limits.composite)
        held_out = format_beside(judged.held_out.value, limits.held_out)
        same = "" if run.question == evidence.question else "another question"
        rows.append([safe(run.model), *composite, *held_out, _mark(judged.verdict), same])
    return table(rows, "lrrrrll") + (f"\n\nAnd {hidden} before them." if hidden else "")


def _mark(outcome: str) -> str:
    return outcome if outcome == "PASS" else f"**{outcome}**"


def _limit(path: str, then: Any, now: Any) -> str:
    name, easier = _LIMITS.get(path, (path.replace("_", " "), 0))
    line = f"{name} {_figure(then)} -> {_figure(now)}"
    removed = then is not None and now is None
    return f"{line} (**easier**)" if easier and (removed or (then is not None and (now - then) * easier > 0)) else line


def _figure(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, (int, float)) else safe(str(value))


def _values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _values(inside, f"{path}.{key}" if path else key)
    else:
        yield path, value
