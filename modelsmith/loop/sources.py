"""Rows from other sources than the generators: drawn from the model, written by a teacher, read from data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modelsmith.diagnosis.firewall import ScoredText, most_alike
from modelsmith.diagnosis.sources import (
    Offer,
    asked_first,
    joined,
    own_samples,
    screened,
    taught,
    within_room,
    without_failed,
)
from modelsmith.loop.answers import draw
from modelsmith.loop.datasets import offer_of
from modelsmith.loop.engines import Target
from modelsmith.loop.recipe import Recipe
from modelsmith.loop.rows_judge import rows_judge
from modelsmith.schema.dataset import Dataset
from modelsmith.schema.diagnosis import FailureCluster, Offered
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.progress import Progress
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Datasets, OwnSamples, Sft, Sources, Teacher
from modelsmith.schema.training_row import Prompt, TrainingRow
from modelsmith.substrates.endpoint.facts import unknown_weights
from modelsmith.training.judging import require_rows_judge

TRIES: Final = 2
"""How many prompts a source is asked for each row that it has room for, and rows that a data set brings."""
WRITE: Final = (
    "You write practice notes for a model that is being trained. Reply with one note and nothing else: no heading, no "
    "explanation, and not the answer."
)
"""System prompt under which a teacher writes."""


def with_sources(
    recipe: Recipe,
    folder: Path,
    stage: Sft,
    prompts: Sequence[Prompt],
    clusters: Sequence[FailureCluster],
    model: Target,
    scored: Sequence[ScoredText],
) -> tuple[tuple[TrainingRow, ...], tuple[Offered, ...]]:
    """The generators' rows, joined by what the stage's other sources give; and what each of them gave.

    Whoever writes a row is shown training prompts and never a scored text.

    Args:
        recipe: Whose sources they are.
        folder: The stage's, where answers are kept.
        stage: Its settings.
        prompts: The generators', past the firewall.
        clusters: What the batch aims at.
        model: Whose own answers are sampled.
        scored: What no row may be near to.

    Raises:
        InvalidInput: as `require_rows_judge`; ``unknown-dataset``; as `offer_of`, `rows_judge` and `open_substrate`.
        InfrastructureFailure: as the engine.
    """
    sources, governed = stage.sources, recipe.governed
    assert sources
    require_rows_judge(governed.rubric, governed.evalset.judge, stage, recipe.cluster.base_model.digest)
    capability = {generator.id: generator.capability for generator in governed.generators}
    offers = _offers(recipe, folder, stage, sources, prompts, clusters, model)
    beside: list[TrainingRow] = list(prompts)
    needed = Counter(capability[prompt.generator] for prompt in prompts)
    with rows_judge(recipe.workspace, governed, folder, stage.judge_calls) as judged:
        for offer in offers:
            limit = most_alike(governed, recipe.policy)
            screened(offer, beside, scored, limit, sources.most_alike, recipe.meaning)
            share = sources.shares[offer.source]
            within_room(offer, {name: TRIES * int(share * each) for name, each in needed.items()})
            without_failed(offer, judged)
            beside += offer.rows if offer.source != "own-sample" else []
    rows = joined(prompts, offers, sources.shares, capability)
    told_offers = tuple(offer.counts() for offer in offers)
    for offered in told_offers:
        reasons = ", ".join(f"{count} {reason}" for reason, count in offered.rejected.items()) or "none"
        text = f"{offered.source} {offered.name}: {offered.kept} rows of {offered.offered} offered; rejected: {reasons}"
        recipe.workspace.notify(Progress("diagnose", text))
        for note in offered.notes:
            recipe.workspace.notify(Progress("diagnose", note))
    return rows, told_offers


def _offers(
    recipe: Recipe,
    folder: Path,
    stage: Sft,
    sources: Sources,
    prompts: Sequence[Prompt],
    clusters: Sequence[FailureCluster],
    model: Target,
) -> list[Offer]:
    offers: list[Offer] = []
    if sources.datasets:
        offers += _datasets(recipe, stage, sources.datasets)
    if sources.teacher:
        offers.append(_teacher(recipe, folder, stage, sources.teacher, prompts, clusters))
    if sources.own_samples:
        offers.append(_own(recipe, folder, stage, sources.own_samples, prompts, clusters, model))
    return offers


def _datasets(recipe: Recipe, stage: Sft, settings: Datasets) -> list[Offer]:
    today = datetime.now(UTC).date()
    most = TRIES * max(1, int(settings.share * stage.rows))
    return [
        offer_of(recipe.workspace, recipe.governed, _named(recipe, name), most, stage.seed, today)
        for name in settings.names
    ]


def _named(recipe: Recipe, name: str) -> Dataset:
    datasets = {dataset.id: dataset for dataset in recipe.governed.datasets}
    if name not in datasets:
        raise InvalidInput(
            "unknown-dataset",
            f"The training of {recipe.cluster.cluster} names the data set {name}, which its eval set does not have",
            f"Add {recipe.governed.folder}/datasets/{name}.yaml, or correct the name.",
            dataset=name,
            known=sorted(datasets),
        )
    return datasets[name]


def _own(
    recipe: Recipe,
    folder: Path,
    stage: Sft,
    settings: OwnSamples,
    prompts: Sequence[Prompt],
    clusters: Sequence[FailureCluster],
    model: Target,
) -> Offer:
    asked_prompts = _prompts_to_ask(recipe, prompts, settings.share)
    system, sampling = recipe.governed.evalset.prompt.system, recipe.governed.evalset.sampling
    drawn = Sampling(
        max_new_tokens=sampling.max_new_tokens,
        temperature=settings.temperature,
        repeats=settings.samples,
        seed=stage.seed,
    )
    answers = draw(recipe.workspace, recipe.cluster, model, asked_prompts, system, drawn, folder)
    return own_samples(recipe.governed, asked_prompts, answers, model.weights, clusters)


def _teacher(
    recipe: Recipe,
    folder: Path,
    stage: Sft,
    settings: Teacher,
    prompts: Sequence[Prompt],
    clusters: Sequence[FailureCluster],
) -> Offer:
    """Two calls that know nothing of each other: a note is written for an answer, and the note alone is answered.

    So a note that does not say what its answer needs is found out (round-trip consistency: Alberti et al., 2019).
    """
    target = _target(settings)
    asked_prompts = _prompts_to_ask(recipe, prompts, settings.share)
    orders = [
        prompt.model_copy(update={"messages": (Message(role="user", content=_order(prompt)),)})
        for prompt in asked_prompts
    ]
    writing = Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=stage.seed)
    completions = draw(recipe.workspace, recipe.cluster, target, orders, WRITE, writing, folder)
    notes = [
        prompt.model_copy(update={"messages": (Message(role="user", content=samples[0].text.strip()),)})
        for prompt, samples in zip(asked_prompts, completions, strict=True)
        if samples and samples[0].text.strip() and not samples[0].cut_off
    ]
    answering = Sampling(max_new_tokens=recipe.governed.evalset.sampling.max_new_tokens)
    system = recipe.governed.evalset.prompt.system
    answers = draw(recipe.workspace, recipe.cluster, target, notes, system, answering, folder)
    offer = taught(recipe.governed, settings.name, notes, answers, target.weights, clusters)
    silent = len(asked_prompts) - len(notes)
    offer.offered += silent
    offer.rejected["no-answer"] += silent
    return offer


def _order(prompt: Prompt) -> str:
    example = "\n".join(message.content for message in prompt.messages)
    return (
        f"This is the right answer to the note to write:\n{prompt.answer}\n\n"
        f"This is another note with the same answer:\n{example}\n\n"
        "Write a note about a different case, in words of your own, to which the right answer is exactly the one above."
    )


def _target(teacher: Teacher) -> Target:
    if teacher.base_model:
        return Target(f"the teacher {teacher.name}", teacher.base_model.digest, teacher.base_model)
    assert teacher.endpoint
    return Target(f"the teacher {teacher.name}", unknown_weights(teacher.endpoint), endpoint=teacher.endpoint)


def _prompts_to_ask(recipe: Recipe, prompts: Sequence[Prompt], share: float) -> tuple[Prompt, ...]:
    capability = {generator.id: generator.capability for generator in recipe.governed.generators}
    return asked_first(prompts, share, TRIES, lambda prompt: capability[prompt.generator])
