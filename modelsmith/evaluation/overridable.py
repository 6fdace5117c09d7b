"""Which evals a person may let count although they came out INCONCLUSIVE: those with too few data, and no others. Pure.

Too few data means that the set is too small, or that the paired interval does not exclude a loss. A judge that people
do not agree with, a part that was not asked and everything that FAILs are findings of another kind: more of the same
data would not mend them. Nor is a critical scenario that fails a matter of how many were asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelsmith.evaluation.tally import tally
from modelsmith.schema.run import GateRule, Headline, VerdictRow

TOO_FEW: Final = frozenset({"set-size", "non-inferiority"})
"""Checks whose INCONCLUSIVE says that there are too few data."""


def override_refusal(rows: Sequence[VerdictRow], headline: Headline, rule: GateRule) -> str | None:
    """Why nobody may override this verdict, in words; None for an INCONCLUSIVE with too few data.

    Args:
        rows: The candidate's verdicts.
        headline: What they come to.
        rule: The registered rule.

    Raises:
        InvalidInput: ``no-rows``.
        IntegrityFailure: as `tally`.
    """
    if headline.verdict == "PASS":
        return "the verdict is PASS, which needs no override"
    failed = [check.sentence for check in headline.checks if check.outcome == "FAIL"]
    if headline.verdict == "FAIL":
        return f"the verdict is FAIL, which nobody overrides: {'; '.join(failed)}"
    critical = sorted({entry.id for entry in tally(rows, rule).values() if entry.critical and not entry.passed})
    if critical:
        return f"a critical scenario fails, which nobody overrides: {', '.join(critical)}"
    unclear = [check for check in headline.checks if check.outcome == "INCONCLUSIVE"]
    missing = [check.sentence for check in unclear if check.name not in TOO_FEW]
    missing += [check.sentence for check in unclear if check.name == "non-inferiority" and headline.difference is None]
    if missing:
        return f"only too few data are overridden, and this is something else: {'; '.join(missing)}"
    return None
