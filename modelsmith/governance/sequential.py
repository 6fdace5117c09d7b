"""Evidence about two arms, to be looked at after every event. Plain Python: whoever verifies needs no more.

Assignment is random and its probability known: a unit is the specialist's with probability ``s``, the share, whatever
the hour does to the rate of events. So a test needs no model of the rates. With ``a`` of the units with an event being
the specialist's and ``b`` the incumbent's, of ``n`` units of which it is known whether it happened:

- **Relative.** If the specialist's rate is ``r`` times the incumbent's, an event is the specialist's with probability
  ``q(r) = s r / (s r + 1 - s)``. Against "the ratio is r0", the likelihood ratio of an alternative r is
  ``(q(r) / q(r0))^a ((1 - q(r)) / (1 - q(r0)))^b``. Alternatives all lie on one side of r0; then its mean does not grow
  at any ratio on the other side either. What is not known does not enter, so late reports do no harm.
- **Points.** ``X = 1/s`` for an event of the specialist, ``-1/(1-s)`` for one of the incumbent and 0 for none has the
  difference of the two rates as its mean. Against "the difference is d0" a bettor has ``prod(1 + l (X - d0))``; the bet
  ``l`` keeps every factor positive, and its sign says to which side of d0 it bets.

Both are test martingales (nonnegative supermartingales that begin at 1) for every alternative or bet; so is their mean
over a fixed grid, which is the e-value here. By Ville's inequality it ever reaches ``1/alpha`` with probability at most
``alpha`` while the hypothesis holds, however often it is looked at. Stages with shares of their own multiply. All of it
is a function of counts alone, so that it can be recomputed.

Sources: Wald, Sequential Analysis (1947), for the first; Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting (JRSS B, 2024), for the second; Ramdas, Grunwald, Vovk and Shafer, Game-theoretic statistics and
safe anytime-valid inference (Statistical Science, 2023), for mixing, multiplying and looking at any time; Lindon and
Malek, Anytime-valid inference for multinomial count data (NeurIPS 2022), for labels under a known split. The estimates
are Mantel and Haenszel's (1959) over the stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

RATIOS: Final = (0.98, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.75, 0.7, 0.6, 0.5, 0.3)
"""Alternatives, as factors of the ratio that is tested (or its inverse): small losses need many events, large ones few.
"""
BETS: Final = (0.95, 0.75, *(0.5**k for k in range(1, 11)))
"""Bets, as parts of the largest one that can lose no more than everything."""
_STEPS: Final = 48
"""Halvings when a bound is looked for: far below what is shown."""


class Arms(NamedTuple):
    """Events of one metric in one stage."""

    share: float
    """The specialist's, above 0 and below 1."""
    events: int
    """Events of the specialist."""
    other_events: int
    """Events of the incumbent."""
    known: int
    """Units of the specialist, with the event or without."""
    other_known: int


def ratio_evidence(stages: Sequence[Arms], ratio: float, *, below: bool) -> float:
    """Natural logarithm of the e-value against "the specialist's rate is ``ratio`` times the incumbent's".

    Args:
        stages: Events, stage by stage.
        ratio: What is tested; above 0.
        below: Whether to ask if the true ratio lies below (the hypothesis is then "at least ``ratio``"), or above.
    """

    def log_likelihoods(other: float) -> float:
        return math.fsum(
            arms.events * math.log(_label(arms.share, other) / _label(arms.share, ratio))
            + arms.other_events * math.log(_other_label(arms.share, other) / _other_label(arms.share, ratio))
            for arms in stages
        )

    return _log_mean([log_likelihoods(ratio * part if below else ratio / part) for part in RATIOS])


def _label(share: float, ratio: float) -> float:
    return share * ratio / (share * ratio + 1 - share)


def _other_label(share: float, ratio: float) -> float:
    """One less `_label`, to the last digit."""
    return (1 - share) / (share * ratio + 1 - share)


def difference_evidence(stages: Sequence[Arms], difference: float, *, below: bool) -> float:
    """Natural logarithm of the e-value against "the specialist's rate is the incumbent's plus ``difference``".

    Args:
        stages: Events, stage by stage.
        difference: What is tested, in points: above -1 and below 1.
        below: Whether to ask if the true difference lies below, or above.
    """

    def wealth(part: float) -> float:
        return math.fsum(_wealth(arms, difference, part, below) for arms in stages)

    return _log_mean([wealth(part) for part in BETS])


def _wealth(arms: Arms, difference: float, part: float, below: bool) -> float:
    """Log of what is left of a bet of ``part`` of the largest."""
    mine, theirs = 1 / arms.share - difference, -1 / (1 - arms.share) - difference
    bet = -part / mine if below else part / -theirs
    quiet = arms.known + arms.other_known - arms.events - arms.other_events
    return (
        arms.events * math.log1p(bet * mine)
        + arms.other_events * math.log1p(bet * theirs)
        + quiet * math.log1p(-bet * difference)
    )


def imbalance_evidence(events: Sequence[tuple[float, int, int]]) -> float:
    """Natural logarithm of the e-value against "each event is the specialist's with the probability of the share".

    Two-sided: for what must not depend on the arm, such as whether a report comes at all.

    >>> round(imbalance_evidence([(0.5, 50, 50)]), 1), round(imbalance_evidence([(0.5, 90, 10)]), 1)
    (-0.6, 27.8)

    Args:
        events: Of each stage the share, the specialist's events and the incumbent's.
    """
    stages = _labels(events)
    sides = [ratio_evidence(stages, 1.0, below=below) for below in (True, False)]
    return _log_mean(sides)


def shortfall_evidence(events: Sequence[tuple[float, int, int]]) -> float:
    """Natural logarithm of the e-value against "at least as many events as its share".

    One-sided, unlike `imbalance_evidence`: for what a better specialist may well have more of.

    >>> round(shortfall_evidence([(0.5, 90, 10)]), 1), round(shortfall_evidence([(0.5, 10, 90)]), 1)
    (-2.8, 28.5)
    """
    return ratio_evidence(_labels(events), 1.0, below=True)


def _labels(events: Sequence[tuple[float, int, int]]) -> list[Arms]:
    return [Arms(share, mine, theirs, 0, 0) for share, mine, theirs in events]


def ratio_estimate(stages: Sequence[Arms]) -> float | None:
    """Ratio of the specialist's rate to the incumbent's; None where the incumbent has no event.

    >>> round(ratio_estimate([Arms(0.5, 5, 10, 95, 90)]), 2)
    0.47
    """
    stages_known = [a for a in stages if a.known + a.other_known]
    mine = math.fsum(a.events * a.other_known / (a.known + a.other_known) for a in stages_known)
    theirs = math.fsum(a.other_events * a.known / (a.known + a.other_known) for a in stages_known)
    return mine / theirs if theirs else None


def difference_estimate(stages: Sequence[Arms]) -> float | None:
    """The specialist's rate less the incumbent's; None where either has no unit.

    >>> round(difference_estimate([Arms(0.5, 5, 10, 95, 90)]), 3)
    -0.058
    """
    stages_known = [a for a in stages if a.known and a.other_known]
    if not stages_known:
        return None
    moved = math.fsum(
        (a.events * a.other_known - a.other_events * a.known) / (a.known + a.other_known) for a in stages_known
    )
    return moved / math.fsum(a.known * a.other_known / (a.known + a.other_known) for a in stages_known)


def excluded(evidence: Callable[[float], float], inside: float, outside: float, alpha: float) -> float | None:
    """The value nearest to ``inside`` that an e-value of ``1/alpha`` excludes; None where not even ``outside`` is.

    ``evidence`` gives the logarithm of the e-value against a value, and grows from ``inside`` to ``outside``.
    """
    threshold = -math.log(alpha)
    if evidence(outside) < threshold:
        return None
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if evidence(middle) >= threshold else (middle, outside)
    return outside


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))
