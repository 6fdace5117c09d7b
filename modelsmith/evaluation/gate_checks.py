"""The registered rule applied to what was measured: one sentence for each condition, in words a reviewer can defend.

FAIL: a threshold is missed, too few critical scenarios pass or one is lost, a capability is below its floor, or more
regressions than the rule allows. INCONCLUSIVE: the set is too small or incompletely asked, the paired interval does not
exclude a loss beyond the margin, or the judge agrees too little with people. PASS: otherwise.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from modelsmith.evaluation.tally import SECTIONS, Tallies, composite_weights, section_tallies
from modelsmith.schema.base import Section
from modelsmith.schema.figures import format_apart
from modelsmith.schema.run import Estimate, GateCheck, GateRule, JudgeAgreement, Outcome, Regression

_FLOORS_SHOWN = 5
"""Capabilities below their floor that the sentence names."""


@dataclass(frozen=True)
class Measured:
    """Figures of a run that the rule is held against."""

    candidate: Tallies
    incumbent: Tallies | None
    composite: Estimate
    held_out: Estimate
    regressions: tuple[Regression, ...]
    compared: int
    difference: Estimate | None
    judge: JudgeAgreement | None


def gate_checks(measured: Measured, rule: GateRule) -> tuple[GateCheck, ...]:
    """Every condition of the verdict, in the order in which a reviewer reads them."""
    against = measured.incumbent is not None
    checks = [
        _composite(measured, rule),
        _held_out(measured, rule),
        _critical(measured, rule),
        *([_critical_losses(measured)] if against else []),
        _capabilities(measured, rule),
        _regressions(measured, rule),
        *([_non_inferiority(measured, rule)] if against else []),
    ]
    if rule.min_kappa is not None:
        checks.append(_judge(measured.judge, rule.min_kappa))
    return (*checks, _set_size(measured, rule), _coverage(measured, rule))


def _composite(measured: Measured, rule: GateRule) -> GateCheck:
    sections = composite_weights(rule)
    missing = [section for section in sections if not section_tallies(measured.candidate, section)]
    if missing:
        return GateCheck(
            name="composite",
            outcome="INCONCLUSIVE",
            sentence=f"the composite cannot be judged, because {_names(missing)} {_was(missing)} not asked",
        )
    if not measured.composite.n:
        return GateCheck(name="composite", outcome="INCONCLUSIVE", sentence="no part of the eval has a weight")
    return _threshold("composite", "composite", measured.composite, rule.thresholds.composite, "")


def _held_out(measured: Measured, rule: GateRule) -> GateCheck:
    inside = section_tallies(measured.candidate, "held_out")
    if not inside:
        return GateCheck(
            name="held-out",
            outcome="INCONCLUSIVE",
            sentence="the held-out pass rate cannot be judged, because held-out was not asked",
        )
    passed = f"{sum(tally.passed for tally in inside)} of "
    return _threshold("held-out", "held-out", measured.held_out, rule.thresholds.held_out, passed)


def _threshold(name: str, label: str, estimate: Estimate, threshold: float, passed: str) -> GateCheck:
    reached = estimate.value >= threshold
    value, limit = format_apart(estimate.value, threshold)
    return GateCheck(
        name=name,
        outcome="PASS" if reached else "FAIL",
        sentence=(
            f"{label} {value} [{estimate.low:.3f}, {estimate.high:.3f}] "
            f"{'reaches' if reached else 'misses'} the threshold {limit} "
            f"({passed}{_count(estimate.n, 'scenario')})"
        ),
    )


def _critical(measured: Measured, rule: GateRule) -> GateCheck:
    """Whether enough critical scenarios pass. It does not depend on who serves: a first release has no incumbent."""
    critical = {tally.id: True for tally in measured.candidate.values() if tally.critical}
    critical |= {tally.id: False for tally in measured.candidate.values() if tally.critical and not tally.passed}
    failed = sorted(name for name, passed in critical.items() if not passed)
    if not critical:
        return GateCheck(name="critical-scenarios", outcome="PASS", sentence="no critical scenario was asked")
    share = (len(critical) - len(failed)) / len(critical)
    value, least = format_apart(share, rule.decision.critical_pass)
    reached = share >= rule.decision.critical_pass
    sentence = (
        f"{len(critical) - len(failed)} of {_count(len(critical), 'critical scenario')} pass ({value}), "
        f"{'enough for' if reached else 'fewer than'} the {least} that must"
    )
    return GateCheck(
        name="critical-scenarios",
        outcome="PASS" if reached else "FAIL",
        sentence=f"{sentence}; failing: {_names(failed)}" if failed else sentence,
    )


def _critical_losses(measured: Measured) -> GateCheck:
    lost = sorted({regression.id for regression in measured.regressions if regression.critical})
    return GateCheck(
        name="critical-losses",
        outcome="FAIL" if lost else "PASS",
        sentence=(
            f"{_count(len(lost), 'critical scenario')} lost that the incumbent passes: {_names(lost)}"
            if lost
            else "no critical scenario is lost that the incumbent passes"
        ),
    )


def _capabilities(measured: Measured, rule: GateRule) -> GateCheck:
    """No capability may be bad enough to hide behind the others."""
    scored = [tally for tally in measured.candidate.values() if tally.section != "robustness"]
    total = Counter(tally.capability for tally in scored)
    passed = Counter(tally.capability for tally in scored if tally.passed)
    floors = {name: rule.decision.capability_floors.get(name, rule.decision.capability_floor) for name in total}
    low = sorted(name for name in total if passed[name] / total[name] < floors[name])
    floor_lines = [_floor(name, passed[name], total[name], floors[name]) for name in low[:_FLOORS_SHOWN]]
    rest = f" and {len(low) - len(floor_lines)} more" if len(low) > len(floor_lines) else ""
    return GateCheck(
        name="capability-floors",
        outcome="FAIL" if low else "PASS",
        sentence=(
            f"{_count(len(low), 'capability', 'capabilities')} below the floor: {', '.join(floor_lines)}{rest}"
            if low
            else f"no capability of {len(total)} is below its floor"
        ),
    )


def _floor(name: str, passed: int, total: int, floor: float) -> str:
    value, least = format_apart(passed / total, floor)
    return f"{name} {value} ({passed} of {total} pass, floor {least})"


def _regressions(measured: Measured, rule: GateRule) -> GateCheck:
    limit = rule.decision.max_regressions
    count = len(measured.regressions)
    outcome: Outcome = "PASS"
    if measured.incumbent is None:
        sentence = "no incumbent to regress against"
    elif not measured.compared:
        sentence = "nothing to lose: the incumbent passes none of the scenarios"
    else:
        share = count / measured.compared
        within = share <= limit
        share_text, most = format_apart(share, limit)
        outcome = "PASS" if within else "FAIL"
        sentence = (
            f"{count} of {measured.compared} results that the incumbent passes are lost ({share_text}), "
            f"{'within' if within else 'more than'} the limit {most}"
        )
    return GateCheck(name="regressions", outcome=outcome, sentence=sentence)


def _non_inferiority(measured: Measured, rule: GateRule) -> GateCheck:
    margin = rule.decision.margin
    change = measured.difference
    if change is None:
        return GateCheck(
            name="non-inferiority",
            outcome="INCONCLUSIVE",
            sentence="a loss cannot be excluded, because candidate and incumbent share no core or held-out scenario",
        )
    excluded = change.low > -margin
    low, loss = format_apart(change.low, -margin)
    low, limit = (low if low.startswith("-") else f"+{low}"), loss.removeprefix("-")
    return GateCheck(
        name="non-inferiority",
        outcome="PASS" if excluded else "INCONCLUSIVE",
        sentence=(
            f"pass rate against the incumbent {change.value:+.3f} [{low}, {change.high:+.3f}] "
            f"{'excludes' if excluded else 'does not exclude'} a loss beyond the margin {limit} "
            f"({_count(change.n, 'paired scenario')})"
        ),
    )


def _judge(judge: JudgeAgreement | None, needed: float) -> GateCheck:
    """A judge that people would not agree with proves nothing, good or bad."""
    if judge is None:
        sentence = "no judge was measured against people's labels, and the rule asks for it"
    elif judge.unclear:
        sentence = (
            f"the judge {judge.judge} gave no clear verdict on {judge.unclear} of "
            f"{_count(len(judge.verdicts), 'labelled answer')}"
        )
    elif judge.kappa is None:
        sentence = (
            f"whether the judge {judge.judge} agrees with people cannot be told from "
            f"{_count(len(judge.verdicts), 'labelled answer')} with one and the same verdict"
        )
    else:
        kappa = judge.kappa
        value, least = format_apart(kappa.value, needed)
        sentence = (
            f"the judge {judge.judge} {'agrees' if judge.met else 'does not agree enough'} with people: Cohen's kappa "
            f"{value} [{kappa.low:.3f}, {kappa.high:.3f}], asked for {least} "
            f"({judge.agreed} of {_count(kappa.n, 'labelled answer')} judged alike)"
        )
    agrees = judge is not None and judge.met is True
    return GateCheck(name="judge-agreement", outcome="PASS" if agrees else "INCONCLUSIVE", sentence=sentence)


def _set_size(measured: Measured, rule: GateRule) -> GateCheck:
    sizes = {
        "core": len(section_tallies(measured.candidate, "core")),
        "held-out": len(section_tallies(measured.candidate, "held_out")),
    }
    needed = rule.decision.min_scenarios
    enough = min(sizes.values()) >= needed
    listed = " and ".join(f"{size} {name}" for name, size in sizes.items())
    return GateCheck(
        name="set-size",
        outcome="PASS" if enough else "INCONCLUSIVE",
        sentence=f"{listed} scenarios are {'enough' if enough else 'too few'} to tell (at least {needed} of each)",
    )


def _coverage(measured: Measured, rule: GateRule) -> GateCheck:
    sections: list[Section] = [section for section in SECTIONS if section in composite_weights(rule)]
    sections.append("held_out")
    missing = [section for section in sections if not section_tallies(measured.candidate, section)]
    unequal = _not_in_both(measured)
    outcome: Outcome = "INCONCLUSIVE" if missing or unequal else "PASS"
    if missing:
        sentence = f"{_names(missing)} {_was(missing)} not asked, and a verdict needs every part"
    elif unequal:
        sentence = (
            f"candidate and incumbent were not asked the same: {_count(unequal, 'result')} "
            f"{'has' if unequal == 1 else 'have'} no equal counterpart"
        )
    else:
        sizes = [f"{_label(section)} {len(section_tallies(measured.candidate, section))}" for section in sections]
        sentence = f"every part was asked (scenarios: {', '.join(sizes)})"
    return GateCheck(name="coverage", outcome=outcome, sentence=sentence)


def _not_in_both(measured: Measured) -> int:
    """Scenarios in a section that only one of the two runs answered, or in other wordings or repeats."""
    if measured.incumbent is None:
        return 0
    candidate = {key: tally.points.keys() for key, tally in measured.candidate.items()}
    incumbent = {key: tally.points.keys() for key, tally in measured.incumbent.items()}
    return sum(candidate.get(key) != incumbent.get(key) for key in candidate.keys() | incumbent.keys())


def _label(section: str) -> str:
    return section.replace("_", "-")


def _names(names: list[Section] | list[str]) -> str:
    labels = [_label(name) for name in names[:5]]
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(labels) if rest or len(labels) < 2 else f"{', '.join(labels[:-1])} and {labels[-1]}") + rest


def _was(names: list[Section]) -> str:
    return "was" if len(names) == 1 else "were"


def _count(number: int, noun: str, many: str = "") -> str:
    return f"{number} {noun if number == 1 else many or f'{noun}s'}"
