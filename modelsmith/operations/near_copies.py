"""What `validate` finds only odd: scenarios of one part that tell nearly the same case."""

from __future__ import annotations

from collections.abc import Iterator

from modelsmith.evaluation.corpus.near_duplicates import Group, nearest_scenarios
from modelsmith.repository.copies import copies
from modelsmith.repository.document import Problem
from modelsmith.repository.separation import compared
from modelsmith.repository.set_files import PARTS, SetFiles
from modelsmith.schema.figures import format_apart
from modelsmith.schema.scenario import Scenario

MAX_COMPARED = 2 * 10**10
"""Letters of a group, squared, up to which `near_copies` compares: about two seconds."""


def near_copies(files: SetFiles) -> Iterator[Problem]:
    """Scenarios inside core and micro, and inside held-out, that tell nearly the same case, as what is only odd.

    Exact copies are mistakes, and no pair with one is named again. A set that takes long is left to `balance`.
    """
    if files.evalset is None:
        return
    limit = files.evalset.value.separation.held_out_to_core
    sources = {source.value.id: source for part in PARTS for source in files.scenarios[part]}
    copied = {problem.file for problem in copies(files)}
    core, micro, held_out = ([source.value for source in files.scenarios[part]] for part in PARTS)
    groups: tuple[tuple[Group, list[Scenario]], ...] = (("core", [*core, *micro]), ("held_out", held_out))
    for group, scenarios in groups:
        if compared(text for scenario in scenarios for text in scenario.user_texts()) ** 2 > MAX_COMPARED:
            continue
        near = nearest_scenarios(group, scenarios, scenarios, limit)
        for pair in near.pairs if near else ():
            first, second = sources[pair.first], sources[pair.second]
            if pair.similarity > limit and not copied & {first.path, second.path}:
                alike, allowed = format_apart(pair.similarity, limit, 2)
                yield second.problem(
                    ("messages",),
                    f"this tells nearly the same case as {first.path} (similarity {alike}, odd from {allowed})",
                    "Tell another case: two that are alike count as one case twice.",
                )
