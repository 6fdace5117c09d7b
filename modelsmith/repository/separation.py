"""Whether held-out texts stay apart from core and micro texts, within a budget. Pure.

Who compared nearly the same texts before hands in what came of it (`Apart`): then only pairs with a new text are
compared, and what is found is the same. Whoever compares the same texts again in one process compares none: a gate
judges the sets of main and of what is proposed, which are mostly one and the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from modelsmith.repository.bounded import Bounded
from modelsmith.repository.document import Location, Problem
from modelsmith.repository.set_files import Apart, NearestPair, Part, SetFiles, Spent
from modelsmith.schema.figures import format_apart
from modelsmith.schema.scenario import Scenario
from modelsmith.texts.similarity import Index

MAX_WORDINGS = 1024 * 1024
"""Letters of all wordings of a scenario together; each variant repeats the conversation before it."""

MAX_COMPARED = 4 * 10**11
"""Letters of held-out texts times letters of core texts that one check of a repository compares: about 20 seconds."""
LEAST_COMPARED = 80
"""Letters that a text counts for at least, since many short ones take as long as fewer long ones: each pair costs."""

_compared_before = Bounded[bytes, Sequence[tuple[float, int]]](50_000)
"""What `_nearest_of_each` gave, by digest of what it was given; each costs as many as it has held-out texts."""
_lock = Lock()


def too_near(files: SetFiles, limit: float, spent: Spent) -> Iterator[Problem]:
    """Held-out texts that are more alike to a core or micro text than ``limit``; ``files.nearest`` is the nearest pair.

    Texts that are too many, or too long, are refused before they are compared. ``files.apart`` is what an earlier
    comparison found, and afterwards what this one did.
    """
    before, files.apart = files.apart, None
    held_out, core_cases, micro = (
        [source for source in files.scenarios[part] if is_comparable(source.value)] for part in _COMPARED
    )
    open_cases = [*core_cases, *micro]
    closed = [(source, i, text) for source in held_out for i, text in enumerate(source.value.user_texts())]
    core = [(source, text) for source in open_cases for text in source.value.user_texts()]
    if not closed or not core:
        return
    spent.compared += compared(text for *_, text in closed) * compared(text for _, text in core)
    if spent.compared > MAX_COMPARED:
        yield Problem(
            files.folder,
            None,
            "",
            "its held-out texts and its core texts are too many, or too long, to be compared with each other",
            "Make either fewer or shorter.",
        )
        return
    held_texts, core_texts = [text for *_, text in closed], [text for _, text in core]
    best = _nearest_again(held_texts, core_texts, limit, before) if before else None
    nearest: Sequence[tuple[float, int]] = ()
    if best is None:
        nearest = _nearest_of_each(held_texts, core_texts, limit)
        first = max(range(len(closed)), key=lambda place: nearest[place][0])
        best = (nearest[first][0], first, nearest[first][1])
    score, i, j = best
    files.nearest = NearestPair(score, limit, closed[i][0].value.id, core[j][0].value.id)
    if score <= limit:
        files.apart = Apart(_digests(held_texts), _digests(core_texts), best)
        return
    for (source, wording, _), (score, j) in zip(closed, nearest, strict=True):
        if score > limit:
            alike, allowed = format_apart(score, limit, 2)
            last: Location = ("messages", len(source.value.messages) - 1, "content")
            yield source.problem(
                ("variants", wording - 1) if wording else last,
                f"this held-out text is too near to {core[j][0].path} (similarity {alike}, allowed {allowed})",
                "Tell another case, or move the scenario out of held_out/.",
            )


def _nearest_of_each(closed: Sequence[str], core: Sequence[str], limit: float) -> Sequence[tuple[float, int]]:
    """For each held-out text similarity and position of the nearest core text; ``(0.0, -1)`` where another is nearer.

    So the nearest pair is among them, and each that is above ``limit``.
    """
    key = hashlib.sha256(repr((_digests(closed), _digests(core), limit)).encode()).digest()
    with _lock:
        remembered = _compared_before.get(key)
    if remembered is not None:
        return remembered
    nearest: list[tuple[float, int]] = []
    least = 0.0
    for search in Index(core).searches(closed):
        nearest.append(search.nearest(least))
        least = max(least, min(limit, nearest[-1][0]))
    with _lock:
        return _compared_before.keep(key, tuple(nearest), len(nearest))


def _nearest_again(
    closed: Sequence[str], core: Sequence[str], limit: float, before: Apart
) -> tuple[float, int, int] | None:
    """The nearest pair: the one found before, or one with a new text. None where all have to be compared.

    That is where the pair found before is gone, where texts changed their order (which decides between pairs that are
    equally near), where most pairs are new, and where a pair is too near, so that each such pair has to be named.
    """
    still_held, still_core = _common_places(before.held_out, closed), _common_places(before.core, core)
    score, i, j = before.nearest
    if still_held is None or still_core is None or i not in still_held or j not in still_core or score > limit:
        return None
    new_held = sorted({*range(len(closed))} - {*still_held.values()})
    new_core = sorted({*range(len(core))} - {*still_core.values()})
    if 2 * (len(new_held) * len(core) + len(still_held) * len(new_core)) > len(closed) * len(core):
        return None
    best = (score, -still_held[i], -still_core[j])
    for some, others in ((sorted(still_held.values()), new_core), (new_held, range(len(core)))):
        if some and others:
            index = Index(core[place] for place in others)
            for place, search in zip(some, index.searches([closed[place] for place in some]), strict=True):
                near, at = search.nearest(best[0])
                best = max(best, (near, -place, -others[at])) if at >= 0 else best
    return None if best[0] > limit else (best[0], -best[1], -best[2])


def _common_places(before: Sequence[str], texts: Sequence[str]) -> dict[int, int] | None:
    """Where each text that is still there stood, and where it stands; None unless they kept their order."""
    now = _digests(texts)
    were, are = {*before}, {*now}
    old = [place for place, text in enumerate(before) if text in are]
    new = [place for place, text in enumerate(now) if text in were]
    if [before[place] for place in old] != [now[place] for place in new]:
        return None
    return dict(zip(old, new, strict=True))


def _digests(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts)


def compared(texts: Iterable[str]) -> int:
    """What comparing these texts costs, in letters: times the same of those they are compared with."""
    return sum(LEAST_COMPARED + len(text) for text in texts)


_COMPARED: tuple[Part, ...] = ("held_out", "scenarios", "micro")


def is_comparable(scenario: Scenario) -> bool:
    """Whether all wordings can be laid side by side."""
    *before, last = (len(message.content) for message in scenario.messages)
    return (1 + len(scenario.variants)) * sum(before) + last + sum(map(len, scenario.variants)) <= MAX_WORDINGS
