"""From failure clusters to training rows: declared templates, filled by plain replacement. Nothing here runs code.

Same inputs, same rows, on every machine: the only source of chance is ``random.Random`` seeded with text.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Final

from modelsmith.points.check import grade_point
from modelsmith.schema.base import Slug
from modelsmith.schema.diagnosis import FailureCluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.generator import SLOT, Generator, SlotValue, Template, Values, filled_text
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.rubric import JudgeCheck, Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.training_row import Prompt, TrainingRow

REPLAY: Final = 0.5
"""Weight that every generator has before failures are counted; its capability's failed share, 0 to 1, comes on top.

So a capability that fails entirely gets three times the rows of one that does not fail at all. The rest is replay: it
keeps skills that are there, and keeps one frequent answer from becoming the model's guess for everything."""


def generate_rows(
    governed: GovernedSet, clusters: Sequence[FailureCluster], count: int, seed: int
) -> tuple[TrainingRow, ...]:
    """``count`` training rows aimed at the clusters, in a shuffled order; none when nothing failed.

    Templates of a generator are used equally often, and no text appears twice.

    Raises:
        InvalidInput: ``no-generator`` when no generator teaches any failed point, ``generator-answer`` when a
            generator's reference does not score full marks, ``generator-slot`` when a template names a slot that
            does not exist, ``generator-exhausted`` when a generator cannot make as many different rows.
    """
    return tuple(plain(prompt) for prompt in generate_prompts(governed, clusters, count, seed))


def generate_prompts(
    governed: GovernedSet, clusters: Sequence[FailureCluster], count: int, seed: int
) -> tuple[Prompt, ...]:
    """The very rows of `generate_rows`, each with what the rubric compares an answer with. Raises as that does."""
    if not clusters or count <= 0:
        return ()
    generators = sorted(governed.generators, key=lambda generator: generator.id)
    failed = {generator.id: _failed_share(generator, clusters) for generator in generators}
    if not any(failed.values()):
        raise InvalidInput(
            "no-generator",
            "No generator teaches what failed.",
            "Add a generator for one of these capabilities, or train on all.",
            capabilities=sorted({cluster.capability for cluster in clusters}),
        )
    shares = _apportion([REPLAY + failed[generator.id] for generator in generators], count)
    return _shuffled(governed, generators, shares, seed)


def prompts_for_all(governed: GovernedSet, count: int, seed: int) -> tuple[Prompt, ...]:
    """``count`` prompts, an equal share of every generator, whatever failed. Raises as `generate_prompts`."""
    generators = sorted(governed.generators, key=lambda generator: generator.id)
    if not generators:
        raise InvalidInput("no-generator", "The eval set has no generator.", "Add one.", capabilities=[])
    return _shuffled(governed, generators, _apportion([1.0] * len(generators), count), seed)


def plain(row: TrainingRow) -> TrainingRow:
    """The row as supervised fine-tuning takes it, without what else is known of it."""
    return TrainingRow(**{name: getattr(row, name) for name in TrainingRow.model_fields})


def possible_rows(governed: GovernedSet, count: int, seed: int) -> tuple[TrainingRow, ...]:
    """All rows that generators can be asked for in a batch of ``count``: as if each one's capability failed alone.

    Raises:
        InvalidInput: as `generate_rows`, but for ``no-generator``.
    """
    generators = sorted(governed.generators, key=lambda generator: generator.id)
    return _shuffled(governed, generators, [most_asked(count, len(generators))] * len(generators), seed)


def most_asked(count: int, generators: int) -> int:
    """Rows that ``count`` rows can ask of one of so many generators: of its capability failing alone."""
    return math.ceil(count * (REPLAY + 1) / (REPLAY * generators + 1)) if generators else 0


def rows_within(possible: int, generators: int) -> int:
    """The most rows that ask no generator for more than ``possible``; the other way round."""
    return math.floor(possible * (REPLAY * generators + 1) / (REPLAY + 1))


def _shuffled(
    governed: GovernedSet, generators: Sequence[Generator], shares: Sequence[int], seed: int
) -> tuple[Prompt, ...]:
    texts_drawn: set[str] = set()
    rows = [
        row
        for generator, share in zip(generators, shares, strict=True)
        for row in _rows(governed, generator, share, seed, texts_drawn)
    ]
    random.Random(f"order {seed}").shuffle(rows)  # noqa: S311
    return tuple(rows)


def _failed_share(generator: Generator, clusters: Sequence[FailureCluster]) -> float:
    aimed = [cluster for cluster in clusters if cluster.capability == generator.capability]
    failed = sum(
        missed.cases for cluster in aimed for missed in cluster.missed if set(missed.points) & set(generator.points)
    )
    return failed / max(cluster.total_cases for cluster in aimed) if aimed else 0.0


def _apportion(weights: Sequence[float], count: int) -> list[int]:
    """Whole shares that add up to ``count`` (largest remainder; earlier ones win ties)."""
    total = math.fsum(weights)
    exact = [count * weight / total for weight in weights]
    shares = [int(value) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares


def _rows(
    governed: GovernedSet, generator: Generator, count: int, seed: int, texts_drawn: set[str]
) -> Iterator[Prompt]:
    if not count:
        return
    answers: dict[str, str] = {}
    chance = random.Random(f"{generator.id} {seed}")  # noqa: S311
    order = list(generator.templates)
    chance.shuffle(order)
    texts = {template.id: _texts(generator, template, chance) for template in order}
    count_made = 0
    while count_made < count and texts:
        for template in order:
            new = next((candidate for candidate in texts.get(template.id, ()) if candidate[0] not in texts_drawn), None)
            if new is None:
                texts.pop(template.id, None)
                continue
            text, values = new
            texts_drawn.add(text)
            count_made += 1
            yield Prompt(
                messages=(Message(role="user", content=text),),
                answer=_answer(governed.rubric, generator, values, answers),
                generator=generator.id,
                template=template.id,
                points=generator.points,
                expected=generator.filled(values),
                rubric=governed.rubric_digest,
            )
            if count_made == count:
                return
    if count_made < count:
        raise InvalidInput(
            "generator-exhausted",
            f"The generator {generator.id} can make only {count_made} different rows, and {count} are asked for.",
            "Add templates or slot values to it, or lower `training.rows`.",
            generator=generator.id,
            possible=count_made,
            asked=count,
        )


def _answer(rubric: Rubric, generator: Generator, values: Values, answers: dict[str, str]) -> str:
    """The assistant's turn. Judged points are taken as passed: the reference is what a person declared right."""
    answer, reference = generator.turn(values), generator.filled(values)
    key = json.dumps([answer, reference])
    if key in answers:
        return answer
    for point in rubric.points:
        if isinstance(point.check, JudgeCheck):
            continue
        verdict = grade_point(point, answer, reference)
        if not verdict.passed:
            raise InvalidInput(
                "generator-answer",
                f"The answer of generator {generator.id} misses the rubric point {point.id}: {verdict.reason}.",
                "Correct the generator's reference, or the rubric.",
                generator=generator.id,
                point=point.id,
            )
    answers[key] = answer
    return answer


def _texts(generator: Generator, template: Template, chance: random.Random) -> Iterator[tuple[str, Values]]:
    """The template's texts, each combination of slot values once, in a random order, and the values in each."""
    names: list[Slug] = [*dict.fromkeys(SLOT.findall(template.user))]
    for name in names:
        if name not in generator.slots:
            raise InvalidInput(
                "generator-slot",
                f"The template {template.id} of generator {generator.id} names a slot {name} that does not exist.",
                "Declare the slot's values, or correct the name.",
                generator=generator.id,
                template=template.id,
                slot=name,
            )
    values = [generator.slots[name] for name in names]
    for number in _numbers(math.prod(len(options) for options in values), chance):
        slot_values: dict[str, SlotValue] = {}
        for name, options in zip(names, values, strict=True):
            number, position = divmod(number, len(options))
            slot_values[name] = options[position]
        yield filled_text(template.user, slot_values), slot_values


def _numbers(total: int, chance: random.Random) -> Iterator[int]:
    """Every number below ``total`` once, in a random order, without listing them when they are many."""
    if total <= 10_000:
        yield from chance.sample(range(total), total)
        return
    drawn: set[int] = set()
    while len(drawn) < total:
        number = chance.randrange(total)
        if number not in drawn:
            drawn.add(number)
            yield number
