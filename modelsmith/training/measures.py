"""What is watched while answers are rewarded, and what ends a training that goes wrong. Pure.

A reward that rises says little: sampling may only have become sharper, or the answers longer. So each step also says
how much the model still varies, how far it has moved, and what it scores greedily on prompts that it is not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from modelsmith.schema.base import Frozen
from modelsmith.schema.training import Tripwires

WINDOW = 4
"""Steps whose mean counts: a single step's sample says little."""
SOLVED = 0.95
"""A mean reward from which on nothing is left to explore: low entropy and equal groups are then what success is."""
Share = Annotated[float, Field(ge=0, le=1)]


class Measures(Frozen):
    """Of one step of GRPO; of the model as it was before the step, unless said otherwise."""

    reward: Share
    """Mean reward of the sampled answers."""
    content: Share | None = None
    """Mean of the same by the points of content alone, those that no answer passes by its form. None where the rubric
    does not have both kinds."""
    length: Annotated[float, Field(ge=0)]
    """Mean tokens of an answer."""
    cut_off: Share
    """Share of answers that reached the limit of tokens."""
    entropy: Annotated[float, Field(ge=0)]
    """Mean over the answers' tokens, in nats."""
    equal_groups: Share
    """Share of prompts whose answers all earned the same: they teach nothing."""
    kl: float | None = None
    """Nats a token from the model that the stage began with, on the sampled answers (Schulman's k3 estimator)."""
    held_in: Share | None = None
    """Mean score of greedy answers to the prompts set aside, after the step."""
    held_in_before: Share | None = None
    """The same when the stage began; of its first step."""
    unclear: Share | None = None
    """Share of the sampled answers on which the judge came to no verdict; they take no part in the step. None where no
    judge rewards answers."""


def without_verdicts(scores: Sequence[float | None], group: int) -> list[float]:
    """Rewards in which an answer without a score (None) takes no part: it gets the mean of its group's others.

    Its advantage is then zero, and that of the others is what it were without it. A group without any score gets the
    mean of all others, so that it moves no mean.

    Args:
        scores: Of whole groups, one after the other; one of them at least is known.
        group: Answers of a group.
    """
    overall = fmean(score for score in scores if score is not None)
    filled: list[float] = []
    for start in range(0, len(scores), group):
        some = scores[start : start + group]
        scored = [score for score in some if score is not None]
        mean = fmean(scored) if scored else overall
        filled += [mean if score is None else score for score in some]
    return filled


def too_unclear(history: Mapping[int, Measures], wires: Tripwires) -> str | None:
    """Why the judge cannot reward this training, by the last `WINDOW` steps, in one sentence; None where it can."""
    last = [history[step].unclear or 0.0 for step in sorted(history)[-WINDOW:]]
    if len(last) < WINDOW or fmean(last) <= wires.most_unclear:
        return None
    return f"On {fmean(last):.0%} of the answers of {WINDOW} steps; the limit is {wires.most_unclear:.0%}."


class Tripped(NamedTuple):
    """Why a training must end."""

    reason: str
    """What was seen, as one sentence without its full stop."""
    mend: str
    """The advice that helps against it."""


_MOVE_LESS: Final = "Take fewer training.steps or a lower learning_rate, or a beta above 0: the model then moves less."
_LEARN_FORM_FIRST: Final = "Give points of form less weight, or train by sft first until answers keep their form."
_NOTHING_RIGHT: Final = (
    "Train by sft first, until some answers earn something; see that max_completion_tokens lets a right answer end."
)
_ALL_ALIKE: Final = (
    "Raise group_size, draw prompts that are right now and wrong then, or end here: what is left is not learned by "
    "reward."
)
_TOO_LONG: Final = (
    "See which point of the rubric longer answers earn, and set max_completion_tokens a little above your longest "
    "right answer; where right answers are longer than the first ones were, train by sft first, or raise "
    "tripwires.most_growth."
)


def tripped(history: Mapping[int, Measures], wires: Tripwires) -> Tripped | None:
    """Why training must end here; None where it may go on. ``history``: measures by step."""
    steps = [history[step] for step in sorted(history)]
    if not steps:
        return None
    last, first = steps[-WINDOW:], steps[:WINDOW]
    reward, start = fmean(measure.reward for measure in last), fmean(measure.reward for measure in first)
    kl = steps[-1].kl
    if kl is not None and kl > wires.most_kl:
        moved = f"the model moved {kl:.2f} nats a token from where the stage began; the limit is {wires.most_kl:g}"
        return Tripped(moved, _MOVE_LESS)
    if len(steps) < 2 * WINDOW:
        return None
    entropy, at_first = fmean(measure.entropy for measure in last), fmean(measure.entropy for measure in first)
    if reward < SOLVED and entropy < wires.least_entropy * at_first:
        fell = f"entropy fell from {at_first:.3f} to {entropy:.3f} nats a token: answers are almost always the same"
        return Tripped(fell, _MOVE_LESS)
    length, before = fmean(measure.length for measure in last), fmean(measure.length for measure in first)
    if length > wires.most_growth * before:
        return Tripped(f"answers grew from {before:.0f} to {length:.0f} tokens", _TOO_LONG)
    equal = steps[-wires.equal_steps :]
    if reward < SOLVED and len(equal) == wires.equal_steps and all(measure.equal_groups == 1 for measure in equal):
        same = f"for {wires.equal_steps} steps all answers to a prompt earned the same ({reward:.2f} on average)"
        return Tripped(f"{same}, which teaches nothing", _ALL_ALIKE if reward else _NOTHING_RIGHT)
    form = _of_form_alone(steps, wires)
    if form:
        return Tripped(form, _LEARN_FORM_FIRST)
    checks = [score for step in steps for score in (step.held_in_before, step.held_in) if score is not None]
    if len(checks) > 2 and reward > start and max(checks[-2:]) < checks[0] - wires.held_in_loss:
        return Tripped(
            f"the reward rose from {start:.2f} to {reward:.2f}, and the greedy score on the prompts set aside fell "
            f"from {checks[0]:.2f} to {checks[-1]:.2f}",
            _MOVE_LESS,
        )
    return None


def _of_form_alone(steps: Sequence[Measures], wires: Tripwires) -> str | None:
    """Whether the reward has risen since the first steps, and what answers say has not become right more often.

    The mean over all of ``form_steps`` counts: form is learned before content, and may be for a while.
    """
    if len(steps) < WINDOW + wires.form_steps:
        return None
    first, last = steps[:WINDOW], steps[-wires.form_steps :]
    content = [[measure.content for measure in some if measure.content is not None] for some in (first, last)]
    if [len(some) for some in content] != [WINDOW, wires.form_steps]:
        return None
    start, reward = (fmean(measure.reward for measure in some) for some in (first, last))
    before, now = map(fmean, content)
    if reward - start < wires.form_gain or now >= SOLVED or now - before > wires.least_content * (reward - start):
        return None
    return (
        f"the reward rose from {start:.2f} to {reward:.2f}, and the points of content went from {before:.2f} to "
        f"{now:.2f}: only the form of answers has become better"
    )
