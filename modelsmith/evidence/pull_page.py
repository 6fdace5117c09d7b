"""A pull request as its reader at a forge sees it: what decides on top, the rest in folds. Pure.

Words of others have been made safe by whoever rendered the parts (`markdown.safe`); nothing is made safe here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from modelsmith.evidence.lineage_section import CURVE
from modelsmith.evidence.markdown import folded, safe, table
from modelsmith.evidence.packet import CHART
from modelsmith.schema.change import Effect, SetChange
from modelsmith.schema.run import Estimate, Headline

LONGEST: Final = 60_000
"""Letters of a page. GitHub takes 65,536 of a description or comment; the rest is for what a forge adds."""
_OPEN: Final = frozenset(
    {"The registered rule", "Regressions", "Critical scenarios", "Open risk", "Required approvers", "Rollback"}
    | {"What happens next", "Speed and cost", "Why", "What happened", "What changes"}
)
"""Sections that a reader with ten minutes reads; the others are opened by who wants them."""
_SECTION: Final = re.compile(r"(?m)^### ")
_SHOWN: Final = 20
"""Flips and changes that are listed; the rest is counted."""


class ChangeEvaluated(NamedTuple):
    """The eval of one model on an eval set that changes."""

    cluster: str
    model: str
    headline: Headline | None
    """Headline of the whole set; None where it is not known."""
    sentence: str
    """What the verdict rests on, or why there is none; without a stop."""
    change: SetChange | None
    """What differs in the set; None where it could not be read."""
    effects: Sequence[Effect]
    """What that does to each specialist that was accepted."""
    lost: Sequence[str]
    """Specialists that would no longer clear their gate."""


def promotion_page(packet: str, folder: str, number: int) -> str:
    """The packet of a promotion, with its details folded, its pictures by their places, and how to verify it.

    Args:
        packet: As the toolkit renders it from evidence and records; somebody else's words are not for here.
        folder: Of the promotion, ``promotions/<cluster>/<specialist>/<NN>-<event>``.
        number: Of the pull request.
    """
    for name in (CHART, CURVE):
        packet = packet.replace(f"]({name})", f"](/{folder}/{name})")
    top, *sections = _SECTION.split(packet.rstrip("\n"))
    parts = [top.rstrip("\n"), *(_part(section.rstrip("\n")) for section in sections)]
    return _cut([*parts, _verify(number)], _shows_all(number))


def rubric_page(cluster: str, change: SetChange, effects: Sequence[Effect], lost: Sequence[str], number: int) -> str:
    """What a change of rubric or scenarios does, before its text: gates that would be lost, verdicts that flip.

    Args:
        cluster: Whose eval set it is.
        change: What differs.
        effects: What it does to each specialist that was accepted.
        lost: Specialists that would no longer clear their gate.
        number: Of the pull request.
    """
    parts = _difference(cluster, change, effects, lost)
    return _cut([*parts, _verify(number)], _shows_all(number))


def eval_page(evals: Sequence[ChangeEvaluated]) -> str:
    """What models are worth on the eval sets as they are proposed: verdicts first, then each cluster.

    Args:
        evals: One for each model that was asked, those of a cluster together.
    """
    if not evals:
        return "**Nothing to evaluate**: no eval set and no cluster's settings change here.\n"
    rows = [["cluster", "model", "verdict", "composite", "held-out", "regressions"], *map(_eval_row, evals)]
    parts = ["**The governed eval of this change**", table(rows, "lllrrr")]
    for at, evaluated in enumerate(evals):
        parts.append(
            f"### {safe(evaluated.cluster)}, {safe(evaluated.model)}\n\n{safe(evaluated.sentence.rstrip('.'))}."
        )
        if evaluated.headline:
            checks = "\n".join(f"- {check.outcome}: {safe(check.sentence)}" for check in evaluated.headline.checks)
            parts.append(folded("The registered rule", checks))
        last = at + 1 == len(evals) or evals[at + 1].cluster != evaluated.cluster
        if last and evaluated.change is not None:
            parts += _difference(evaluated.cluster, evaluated.change, evaluated.effects, evaluated.lost)
    return _cut(parts, "`modelsmith eval-changes --json`")


def _eval_row(change: ChangeEvaluated) -> list[str]:
    if change.headline is None:
        return [safe(change.cluster), safe(change.model), "**not known**", "", "", ""]

    def score(estimate: Estimate) -> str:
        return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"

    lost = f"{len(change.headline.regressions)} of {change.headline.compared}"
    verdict = change.headline.verdict
    verdict_text = verdict if verdict == "PASS" else f"**{verdict}**"
    return [
        safe(change.cluster),
        safe(change.model),
        verdict_text,
        score(change.headline.composite),
        score(change.headline.held_out),
        lost,
    ]


def _difference(cluster: str, change: SetChange, effects: Sequence[Effect], lost: Sequence[str]) -> list[str]:
    """The parts of a page that say what a change of a set does to who was accepted on it."""
    if lost:
        head = f"**{len(lost)} of {len(effects)} specialists of {cluster} would no longer clear their gate**: "
        head += f"{', '.join(safe(name) for name in lost)}."
    elif effects:
        head = f"**Every specialist of {cluster} would stand where it stands**, as far as verdicts are known."
    else:
        head = f"**No specialist of {cluster} was accepted yet**, so no verdict can flip."
    parts = [head]
    if effects:
        rows = [["specialist", "state", "verdict", "composite", "held-out", "flips"], *map(_effect_row, effects)]
        parts.append(table(rows, "lllrrr"))
        parts += [_picture(cluster, effects), *(_flips(effect) for effect in effects if effect.flips)]
    parts.append(folded("What changes", "\n".join(_changes(change)) or "Nothing that is asked or scored."))
    return parts


def _shows_all(number: int) -> str:
    return f"`modelsmith pr show {number}`"


def _part(section: str) -> str:
    title, _, body = section.partition("\n")
    return f"### {section}" if title in _OPEN else folded(title, body.strip("\n"))


def _verify(number: int) -> str:
    commands = [
        f"modelsmith pr show {number}",
        f"modelsmith check --pr {number}",
        "modelsmith verify --root FINGERPRINT",
    ]
    text = "Everything above follows from files of the proposal. In a clone, without asking this forge:"
    return folded("Verify it yourself, offline", "\n".join([text, "", "```sh", *commands, "```"]))


def _cut(parts: Sequence[str], elsewhere: str) -> str:
    """As many parts, whole, as there is room for; what is left out is said, and which command shows it."""
    room = LONGEST - 200
    page_parts: list[str] = []
    for part in parts:
        room -= len(part) + 2
        if room < 0:
            page_parts.append(
                f"**{len(parts) - len(page_parts)} parts are left out**: this is as long as a forge takes. "
                f"{elsewhere} shows all of it."
            )
            break
        page_parts.append(part)
    return "\n\n".join(page_parts) + "\n"


def _effect_row(effect: Effect) -> list[str]:
    def moved(pair: tuple[object, object]) -> str:
        before, after = (getattr(side, "value", None) for side in pair)
        return f"{before:.3f} to {after:.3f}" if after is not None else f"{before:.3f} to unknown"

    verdict = f"{effect.before} to {effect.after or 'unknown'}"
    bold = f"**{verdict}**" if effect.before == "PASS" and effect.after not in ("PASS", None) else verdict
    name = safe(effect.specialist)
    return [name, effect.state, bold, moved(effect.composite), moved(effect.held_out), str(len(effect.flips))]


def _picture(cluster: str, effects: Sequence[Effect]) -> str:
    """Composites before and after, as a picture that a forge draws from text: nothing is fetched from anywhere."""
    scored = [(effect, effect.composite[1]) for effect in effects if effect.composite[1] is not None]
    if not scored:
        return ""
    names = ", ".join(f'"{effect.specialist}"' for effect, _ in scored)
    before = ", ".join(f"{effect.composite[0].value:.3f}" for effect, _ in scored)
    after = ", ".join(f"{now.value:.3f}" for _, now in scored)
    lines = [
        "xychart-beta", f'  title "{cluster}: composite before (bars) and after (line)"', f"  x-axis [{names}]",
        '  y-axis "composite" 0 --> 1', f"  bar [{before}]", f"  line [{after}]",
    ]  # fmt: skip
    return "\n".join(["```mermaid", *lines, "```"])


def _flips(effect: Effect) -> str:
    lines = [
        f"- {flip.direction}: `{flip.id}` ({flip.section.replace('_', '-')}){' **critical**' if flip.critical else ''}"
        for flip in effect.flips[:_SHOWN]
    ]
    if len(effect.flips) > _SHOWN:
        lines.append(f"- and {len(effect.flips) - _SHOWN} more")
    return "\n".join([f"### What flips for {safe(effect.specialist)}", "", *lines])


def _changes(change: SetChange) -> list[str]:
    lines = [f"- point `{point.point}` {point.kind}: {safe('; '.join(point.sentences))}" for point in change.points]
    lines += [f"- {safe(sentence)}" for sentence in (*change.settings, *change.gate, *change.labels)]
    for scenario in change.scenarios:
        fields = f": {safe(', '.join(scenario.fields))}" if scenario.fields else ""
        lines.append(f"- {scenario.part.replace('_', '-')} `{scenario.id}` {scenario.kind}{fields}")
    rest = len(lines) - 5 * _SHOWN
    return lines if rest <= 0 else [*lines[: 5 * _SHOWN], f"- and {rest} more"]
