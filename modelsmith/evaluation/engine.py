"""Ask a substrate every question of a run, score the answers, and keep them.

What the run folder already holds is not asked again; what earlier runs of the same weights hold may be adopted. A
failed completion is kept as an error and never scored; the run is then incomplete, and calling it again asks only for
what failed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from modelsmith.evaluation.prompts import Ask, generation_digest, plan
from modelsmith.evaluation.results import RunFolder, observation_key
from modelsmith.evaluation.scoring import score_completion
from modelsmith.evaluation.statistics import percentile
from modelsmith.repository.load import GovernedSet, scenario_digest
from modelsmith.schema.base import Section
from modelsmith.schema.canonical import digest, sha256
from modelsmith.schema.cluster import Prices
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.evalset import Question
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.run import Cost, EngineFacts, Observation, RunRequest, VerdictRow
from modelsmith.substrates.port import Completion, Substrate

SYNC_SECONDS = 1.0
"""Longest time for which finished completions wait to be synced to disk."""
SYNC_COMPLETIONS = 64
"""Most completions that wait to be synced to disk."""


def run_request(
    governed: GovernedSet,
    engine: EngineFacts,
    *,
    cluster: str,
    model: str,
    weights: str,
    sections: Sequence[Section],
    quick: bool,
) -> RunRequest:
    """What a run folder is opened with."""
    return RunRequest(
        cluster=cluster,
        model=model,
        weights=weights,
        question=governed.question(),
        rubric=governed.rubric_digest,
        generation=generation_digest(governed),
        engine=engine,
        sections=tuple(sections),
        quick=quick,
    )


def run_eval(
    governed: GovernedSet,
    substrate: Substrate,
    *,
    sections: Sequence[Section],
    quick: bool,
    run: RunFolder,
    earlier: Iterable[RunFolder] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Observation]:
    """All observations of the run, in the order of the plan; the run folder must be open.

    Every repeat is drawn with its own seed, ``sampling.seed`` plus the repeat. Answers of `earlier` runs by the same
    weights, engine and generation settings are adopted where the scenario is unchanged, and scored anew. `progress`
    gets the number of answered prompts and their total. Interrupted at any moment, the folder can be resumed.

    Raises:
        InvalidInput: ``nothing-to-ask``; or rubric and references do not fit, before anything is generated.
        InfrastructureFailure: ``eval-incomplete`` when completions failed; ``judge-unavailable``; what the substrate
            raises.
        IntegrityFailure: ``foreign-observations`` when the folder holds answers that this run never asked for.
    """
    asks = {ask.key: ask for ask in plan(governed, sections, quick)}
    _require_askable(asks, governed.rubric)
    kept = run.observations()
    _require_own(kept.keys() - asks.keys(), run)
    done = {key for key, observation in kept.items() if observation.error is None}
    adopted = _adopted([ask for key, ask in asks.items() if key not in done], governed.rubric, run, earlier)
    run.append(adopted)
    done |= set(map(observation_key, adopted))
    report = progress or (lambda _done, _total: None)
    report(len(done), len(asks))
    waiting: list[Observation] = []
    synced = time.monotonic()
    try:
        for observation in _ask([ask for key, ask in asks.items() if key not in done], governed, substrate):
            waiting.append(observation)
            if observation.error is None:
                run.executed += 1
                done.add(observation_key(observation))
            if len(waiting) >= SYNC_COMPLETIONS or time.monotonic() - synced > SYNC_SECONDS:
                run.append(waiting)
                waiting = []
                synced = time.monotonic()
            report(len(done), len(asks))
    finally:
        run.append(waiting)
    return _complete(run.observations(), asks)


def run_id(question: Question, weights: str, engine: EngineFacts, observations: Iterable[Observation]) -> str:
    """Identity of a run: digest of question, weights, engine, verdicts and the digests of the completions.

    Tokens, times and the order of the observations do not enter.
    """
    facts = sorted(
        [observation_key(one), one.row.scenario, dict(one.row.points), sha256(one.completion.encode())]
        for one in observations
        if one.row is not None
    )
    return digest(
        {
            "question": question.model_dump(mode="json"),
            "weights": weights,
            "engine": engine.model_dump(mode="json"),
            "observations": facts,
        }
    )


def cost(observations: Sequence[Observation], prices: Prices) -> Cost:
    """What answering cost: percentiles of request times, tokens, and the machine's price for the time of generation.

    Raises:
        InvalidInput: ``no-rows``.
    """
    if not observations:
        raise InvalidInput("no-rows", "There is not one completion to reckon with.", "Run the eval first.")
    seconds = [one.seconds for one in observations]
    wall = sum(one.wall_seconds for one in observations)
    completion_tokens = sum(one.completion_tokens for one in observations)
    return Cost(
        p50_seconds=percentile(seconds, 0.50),
        p95_seconds=percentile(seconds, 0.95),
        prompt_tokens=sum(one.prompt_tokens for one in observations),
        completion_tokens=completion_tokens,
        tokens_per_second=completion_tokens / wall if wall > 0 else 0.0,
        cost_per_decision=prices.compute_per_hour * wall / 3600 / len(observations),
        currency=prices.currency,
    )


def _require_askable(asks: Mapping[str, Ask], rubric: Rubric) -> None:
    """Find what is wrong with rubric or references before a token is paid for: checks look at those first."""
    if not asks:
        raise InvalidInput(
            "nothing-to-ask", "The eval set has no scenario in the sections asked for.", "Ask for other sections."
        )
    for scenario in {ask.scenario.id: ask.scenario for ask in asks.values()}.values():
        try:
            score_completion(rubric, scenario, "")
        except ModelsmithError as error:
            error.details.setdefault("scenario", scenario.id)
            raise


def _require_own(foreign: Iterable[str], run: RunFolder) -> None:
    if names := sorted(foreign):
        raise IntegrityFailure(
            "foreign-observations",
            f"Run '{run.tag}' holds {len(names)} answers that it never asked for.",
            "Run the eval again under a new tag.",
            tag=run.tag,
            keys=names[:5],
        )


def _adopted(asks: Sequence[Ask], rubric: Rubric, run: RunFolder, earlier: Iterable[RunFolder]) -> list[Observation]:
    """Answers of earlier runs to unchanged questions; a folder that cannot be read is passed over."""
    folders = [folder for folder in earlier if folder.path != run.path]
    if not folders:
        return []
    wanted = {(ask.section, scenario_digest(ask.scenario), ask.wording, ask.repeat): ask for ask in asks}
    adopted: list[Observation] = []
    request = run.request()
    for folder in folders:
        try:
            other = folder.request()
            if request is None or other is None or _generation(other) != _generation(request):
                continue
            observations = folder.observations().values()
        except IntegrityFailure:
            continue
        for one in observations:
            if one.row is None:
                continue
            ask = wanted.pop((one.section, one.row.scenario, one.wording, one.repeat), None)
            if ask is not None:
                adopted.append(_scored(one, ask, rubric))
    return adopted


def _generation(request: RunRequest) -> tuple[str, str, EngineFacts]:
    return request.weights, request.generation, request.engine


def _ask(asks: Sequence[Ask], governed: GovernedSet, substrate: Substrate) -> Iterator[Observation]:
    sampling = governed.evalset.sampling
    for repeat in sorted({ask.repeat for ask in asks}):
        waiting = {ask.key: ask for ask in asks if ask.repeat == repeat}
        settings = sampling.model_copy(update={"seed": sampling.seed + repeat, "repeats": 1})
        completions = substrate.complete(
            [ask.prompt() for ask in waiting.values()], governed.evalset.prompt.system, settings
        )
        started = time.perf_counter()
        for completion in completions:
            wall = time.perf_counter() - started
            ask = waiting.pop(completion.key, None)
            if ask is None:
                raise InfrastructureFailure(
                    "substrate-confused",
                    "The substrate answered a prompt that is not waiting for an answer.",
                    "Report the substrate's version; the answers so far are kept.",
                    key=completion.key,
                )
            yield _observation(ask, completion, wall, governed.rubric)
            started = time.perf_counter()


def _observation(ask: Ask, completion: Completion, wall: float, rubric: Rubric) -> Observation:
    observation = Observation(
        row=None,
        section=ask.section,
        id=ask.scenario.id,
        wording=ask.wording,
        repeat=ask.repeat,
        completion=completion.text.encode("utf-8", "replace").decode(),
        finish=completion.finish,
        reasons={},
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        wall_seconds=wall,
    )
    if completion.error is not None:
        return _failed(observation, completion.error)
    if completion.finish == "error":
        return _failed(
            observation, InfrastructureFailure("no-completion", "The substrate gave no answer.", "Run again.")
        )
    try:
        return _scored(observation, ask, rubric)
    except ModelsmithError as error:
        return _failed(observation, error)


def _scored(observation: Observation, ask: Ask, rubric: Rubric) -> Observation:
    points, reasons = score_completion(rubric, ask.scenario, observation.completion)
    row = VerdictRow(
        section=ask.section,
        scenario=scenario_digest(ask.scenario),
        id=ask.scenario.id,
        capability=ask.scenario.capability,
        critical=ask.scenario.critical,
        wording=ask.wording,
        repeat=ask.repeat,
        points=points,
    )
    return observation.model_copy(update={"row": row, "id": ask.scenario.id, "reasons": reasons})


def _failed(observation: Observation, error: ModelsmithError) -> Observation:
    envelope = json.loads(json.dumps(error.envelope(), default=str))
    return observation.model_copy(update={"finish": "error", "error": envelope})


def _complete(observations: Mapping[str, Observation], asks: Mapping[str, Ask]) -> list[Observation]:
    missing = [key for key in asks if key not in observations]
    failed = [one for one in observations.values() if one.error is not None]
    if missing or failed:
        raise InfrastructureFailure(
            "eval-incomplete",
            f"{len(failed) + len(missing)} of {len(asks)} completions failed, so there is no verdict.",
            "Run the same command again: only the failed completions are asked again.",
            failed=len(failed),
            missing=len(missing),
            total=len(asks),
            first=[{"key": observation_key(one), "error": one.error} for one in failed[:5]],
        )
    return [observations[key] for key in asks]
