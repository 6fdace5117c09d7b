"""From verdict rows to every number a reviewer reads, and the verdict.

`headline` is the one function for it: eval calls it, and whoever verifies evidence calls it again on the recorded rows.
It is pure, and the order of the rows does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modelsmith.evaluation.gate_checks import Measured, gate_checks
from modelsmith.evaluation.repeats import repeat_rates
from modelsmith.evaluation.tally import (
    SECTIONS,
    Tallies,
    composite,
    difference,
    paired,
    pass_rate,
    require_same_scenarios,
    section_score,
    tally,
)
from modelsmith.schema.run import (
    CapabilityRate,
    GateCheck,
    GateRule,
    Headline,
    JudgeAgreement,
    Outcome,
    PointRate,
    Regression,
    SectionScore,
    VerdictRow,
)


def headline(
    rows: Sequence[VerdictRow],
    incumbent: Sequence[VerdictRow] | None,
    rule: GateRule,
    judge: JudgeAgreement | None = None,
) -> Headline:
    """The headline of a run, against the incumbent's rows on the same question where there are any.

    ``judge`` is the agreement of whoever decided the judged points of both.

    Raises:
        InvalidInput: ``no-rows``; ``question-differs`` when the incumbent answered other scenarios of the same names.
        IntegrityFailure: ``rows-disagree`` or ``points-differ``.
    """
    candidate = tally(rows, rule)
    prior = tally(incumbent, rule) if incumbent is not None else None
    confidence = rule.decision.confidence
    pairs = []
    regressions: tuple[Regression, ...] = ()
    compared = 0
    if prior is not None:
        require_same_scenarios(candidate, prior)
        pairs = paired(candidate, prior)
        regressions = _regressions(candidate, prior)
        compared = sum(prior[key].passed for key in candidate if key in prior)
    measured = Measured(
        candidate=candidate,
        incumbent=prior,
        composite=composite(candidate, rule),
        held_out=pass_rate(candidate, "held_out", confidence),
        regressions=regressions,
        compared=compared,
        difference=difference(pairs, confidence) if pairs else None,
        judge=judge,
    )
    checks = gate_checks(measured, rule)
    return Headline(
        composite=measured.composite,
        held_out=measured.held_out,
        sections=tuple(
            SectionScore(
                section=section,
                score=section_score(candidate, section, confidence),
                pass_rate=pass_rate(candidate, section, confidence),
                repeats=repeat_rates(candidate, section, rule),
            )
            for section in SECTIONS
            if any(where == section for where, _ in candidate)
        ),
        per_rubric=_per_rubric(rows, rule),
        per_capability=_per_capability(candidate),
        regressions=regressions,
        compared=compared,
        difference=measured.difference,
        checks=checks,
        cut_off=sum(row.cut_off for row in rows),
        verdict=_outcome(checks),
    )


def of_a_part(whole: Headline) -> Headline:
    """The headline of answers to a part of the set: it never ends in PASS, however small the rule asks a set to be."""
    sentence = "only a part of the set was asked, and a verdict needs every part"
    part = GateCheck(name="coverage", outcome="INCONCLUSIVE", sentence=sentence)
    checks = tuple(part if check.name == "coverage" else check for check in whole.checks)
    return whole.model_copy(update={"checks": checks, "verdict": _outcome(checks)})


def _outcome(checks: Sequence[GateCheck]) -> Outcome:
    outcomes = {check.outcome for check in checks}
    return "FAIL" if "FAIL" in outcomes else "INCONCLUSIVE" if "INCONCLUSIVE" in outcomes else "PASS"


def _regressions(candidate: Tallies, prior: Tallies) -> tuple[Regression, ...]:
    return tuple(
        Regression(
            section=entry.section,
            id=entry.id,
            scenario=entry.scenario,
            capability=entry.capability,
            critical=entry.critical,
        )
        for key, entry in candidate.items()
        if key in prior and prior[key].passed and not entry.passed
    )


def _per_rubric(rows: Sequence[VerdictRow], rule: GateRule) -> tuple[PointRate, ...]:
    return tuple(
        PointRate(point=weight.id, passed=sum(row.points[weight.id] for row in rows), total=len(rows))
        for weight in rule.points
    )


def _per_capability(candidate: Tallies) -> tuple[CapabilityRate, ...]:
    passed = Counter((entry.section, entry.capability) for entry in candidate.values() if entry.passed)
    total = Counter((entry.section, entry.capability) for entry in candidate.values())
    return tuple(
        CapabilityRate(section=section, capability=capability, passed=passed[section, capability], total=total[key])
        for key in sorted(total, key=lambda key: (SECTIONS.index(key[0]), key[1]))
        for section, capability in [key]
    )
