"""A candidate trained once, or once for each of several seeds: then the best on prompts that were set aside goes on.

All tries are trained on the same rows, but for pairs, which each draws from its own model. What is set aside comes from
generators, like the rows, and has passed the firewall: no scored text is asked, so the choice costs the gate nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from modelsmith.evaluation.reward import Sampled, scores
from modelsmith.loop.answers import draw
from modelsmith.loop.context import IterationContext
from modelsmith.loop.engines import Target
from modelsmith.loop.iteration import BegunIteration
from modelsmith.loop.recipe import Recipe, StageRun, begins_with, last_trained, run_stages, seeded, stage_folder
from modelsmith.loop.rows_judge import judge_of, rows_judge
from modelsmith.loop.setting_apart import held_in_prompts
from modelsmith.loop.training import ROWS_FILE, parent_of, seal_adapter, try_folder
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.progress import Progress
from modelsmith.schema.training import Dpo, Stage
from modelsmith.schema.training_row import Prompt
from modelsmith.schema.tries import SeedTries, SeedTry, best_of
from modelsmith.signing.files import write_atomically
from modelsmith.training.rows import rows_digest, write_rows

SEALED: Final = "trained"
"""Folder of a try's sealed adapter, in the try's own."""
CHOICE: Final = "choice"
"""Folder of what the judge was asked about a try's answers, in the try's own."""


@dataclass(frozen=True)
class Trained:
    """Stages that go on from a training, and the tries that they were chosen from."""

    stages: tuple[StageRun, ...]
    folder: Path
    """Where the jobs of these stages lie."""
    tries: SeedTries | None = None
    """None where there was one training only."""

    @property
    def chosen(self) -> str:
        """Which try it is, in words; empty where there was one."""
        number = best_of(self.tries) if self.tries else None
        if self.tries is None or number is None:
            return ""
        score = self.tries.each[number - 1].held_in
        return f"the best of {len(self.tries.each)} tries is number {number}, held in {score:.3f}"


@dataclass(frozen=True)
class _Tried:
    seed_try: SeedTry
    stages: tuple[StageRun, ...] = ()
    tripped: InvalidInput | None = None


def train_tries(context: IterationContext, iteration: BegunIteration) -> Trained:
    """Run the iteration's stages, once for each seed, from the model that serves or the base model (see `parent_of`).

    Jobs that were finished before are adopted. A try that a tripwire ends, or that finds no pairs, is not chosen.

    Raises:
        InvalidInput: ``training-tripped`` where no try is left; ``held-in-unanswered``.
        InfrastructureFailure: a worker failed for good.
        KeyboardInterrupt: interrupted; the worker has stopped and the next call resumes from its checkpoint.
    """
    recipe = Recipe(context.workspace, context.cluster, context.governed, context.meaning, context.policy)
    parent, folder = context.target(parent_of(context, iteration)), context.folder(iteration)
    count, due = context.cluster.loop.seeds, context.stages(iteration)
    if count == 1:
        return Trained(
            run_stages(recipe, folder, [seeded(planned, iteration.number) for planned in due], parent), folder
        )
    prompts = held_in_prompts(folder)
    tried: list[_Tried] = []
    for number in range(1, count + 1):
        stages = [seeded(planned, iteration.number, number) for planned in due]
        tried.append(_try(recipe, folder, stages, number, count, parent, prompts))
        _tell(recipe, tried, count)
    judges = [judge_of(try_folder(folder, number) / CHOICE) for number in range(1, count + 1)]
    tries = SeedTries(
        asked=len(prompts),
        asked_digest=rows_digest(prompts),
        judge=next((judge for judge in judges if judge), None),
        each=tuple(attempt.seed_try for attempt in tried),
    )
    best = best_of(tries)
    if best is None:
        for attempt in tried:
            if attempt.tripped:
                raise attempt.tripped
        return Trained(tried[0].stages, try_folder(folder, 1))
    best_stages = tried[best - 1].stages
    for number, stage in enumerate(best_stages, start=1):
        if isinstance(stage.stage, Dpo):
            write_rows(stage_folder(folder, number) / ROWS_FILE, stage.rows)
    return Trained(best_stages, try_folder(folder, best), tries)


def _try(
    recipe: Recipe, folder: Path, stages: Sequence[Stage], number: int, count: int, parent: Target,
    prompts: Sequence[Prompt],
) -> _Tried:  # fmt: skip
    own, seed = try_folder(folder, number), stages[0].seed
    for place, stage in enumerate(stages, start=1):
        first_file = begins_with(stage_folder(folder, place), stage)[0]
        copied = begins_with(stage_folder(own, place), stage)[0]
        copied.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(copied, read_plain(first_file))
    try:
        stage_runs = run_stages(recipe, own, stages, parent, name=f"try {number} of {count}")
    except InvalidInput as error:
        if error.code != "training-tripped":
            raise
        return _Tried(SeedTry(seed=seed, held_in=None, artifact=None, ended="tripped"), tripped=error)
    last = last_trained(stage_runs)
    if last is None:
        return _Tried(SeedTry(seed=seed, held_in=None, artifact=None, ended="no-pairs"), stage_runs)
    source = recipe.cluster.base_model
    artifact = seal_adapter(last[1].adapter, own / SEALED, source)
    target = Target(f"try {number}", artifact, source, artifact, own / SEALED)
    return _Tried(SeedTry(seed=seed, held_in=_score(recipe, own, target, prompts), artifact=artifact), stage_runs)


def _score(recipe: Recipe, folder: Path, target: Target, prompts: Sequence[Prompt]) -> float:
    """Mean of what greedy answers to the prompts would score in an eval."""
    evalset = recipe.governed.evalset
    sampling = Sampling(max_new_tokens=evalset.sampling.max_new_tokens)
    answers = draw(recipe.workspace, recipe.cluster, target, prompts, evalset.prompt.system, sampling, folder)
    silent = sum(not samples for samples in answers)
    if silent:
        raise InvalidInput(
            "held-in-unanswered",
            f"{target.name} could not be asked {silent} of the {len(prompts)} prompts set aside, so the tries cannot "
            "be compared.",
            "Make the generators' prompts short enough for the model, or write `loop.seeds: 1`.",
            prompts=len(prompts),
            unanswered=silent,
        )
    samples = [
        Sampled(samples[0].text, samples[0].cut_off, prompt.expected, prompt.messages)
        for prompt, samples in zip(prompts, answers, strict=True)
    ]
    calls = recipe.cluster.loop.judge_calls
    with rows_judge(recipe.workspace, recipe.governed, folder / CHOICE, calls) as judged:
        return fmean(scores(recipe.governed.rubric, samples, judged))


def _tell(recipe: Recipe, tried: Sequence[_Tried], count: int) -> None:
    """What the try came to, and how long those that are left will take by what the others took; once."""
    outcomes = [stage.outcome for stage in tried[-1].stages if stage.outcome]
    if outcomes and all(outcome.adopted for outcome in outcomes):
        return
    last_try, finished = tried[-1].seed_try, len(tried)
    result = f"held in {last_try.held_in:.3f}" if last_try.held_in is not None else f"ended: {last_try.ended}"
    spent = [sum(stage.outcome.seconds for stage in attempt.stages if stage.outcome) for attempt in tried]
    remaining = (
        f"; about {round((count - finished) * sum(spent) / finished)}s for the {count - finished} left"
        if finished < count
        else ""
    )
    recipe.workspace.notify(Progress("train", f"try {finished} of {count}, seed {last_try.seed}: {result}{remaining}"))
