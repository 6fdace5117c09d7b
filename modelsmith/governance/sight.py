"""What a window can see at all, from the share and the traffic that a cluster states. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from modelsmith.governance.sequential import Arms, ratio_evidence
from modelsmith.governance.window import trip_evidence
from modelsmith.schema.cluster import Rollback

_STEPS: Final = 40


class Sight(NamedTuple):
    """What the contract's metric can tell by the end of a window, in about half of all windows."""

    decisions: int
    """That come in the window, each sticky key once."""
    loss: float | None
    """Smallest loss that is sent back, relative; None where not even the loss of everything is."""
    confirms: bool
    """Whether a specialist that is no worse is confirmed."""
    minutes_to_confirm: float | None
    """How long a window would have to be for that; None where even a thousand times this one would not do."""

    @property
    def sentence(self) -> str:
        """Sentence for people that says which loss the window can see."""
        visible_loss = "not even the loss of everything" if self.loss is None else f"a loss of {self.loss:.1%} or more"
        text = f"its window has some {self.decisions} decisions and can see {visible_loss}"
        if self.confirms:
            return f"{text}, and can confirm a specialist that is no worse"
        need = self.minutes_to_confirm
        duration = "" if need is None else f", which takes about {need:.0f} minutes"
        return f"{text}; it cannot confirm a specialist that is no worse{duration}"


def sight(terms: Rollback, share: float) -> Sight | None:
    """What a window with these terms and this share can see; None where the terms do not state the traffic."""
    rule = terms.rule
    if rule is None or rule.decisions_per_minute is None or rule.expected_rate is None or not 0 < share < 1:
        return None
    units, rate, higher = rule.decisions_per_minute * terms.window_minutes, rule.expected_rate, rule.better == "higher"
    trip, confirm = trip_evidence(terms) * math.log(10), -math.log(rule.error_probability)
    level = 1 - terms.max_drop if higher else 1 + terms.max_drop

    def counted(loss: float, times: float = 1.0) -> list[Arms]:
        ratio = 1 - loss if higher else 1 + loss
        mine, theirs = units * times * share, units * times * (1 - share)
        return [Arms(share, round(mine * rate * ratio), round(theirs * rate), round(mine), round(theirs))]

    def trips(loss: float) -> bool:
        return ratio_evidence(counted(loss), 1.0, below=higher) >= trip

    def confirms(times: float) -> bool:
        return ratio_evidence(counted(0.0, times), level, below=not higher) >= confirm

    enough = rule.least_decisions <= units * min(share, 1 - share)
    needed = next((times for k in range(41) if confirms(times := 1000 ** (k / 40))), None)
    return Sight(
        decisions=round(units),
        loss=max(_least(trips), terms.max_drop) if enough and trips(1.0) else None,
        confirms=enough and confirms(1.0),
        minutes_to_confirm=needed and needed * terms.window_minutes,
    )


def _least(trips: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if trips(middle) else (middle, high)
    return high
