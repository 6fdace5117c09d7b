"""Ask a substrate every question of a run, score the answers, and keep them.

What the run folder already holds is not asked again, nor is what the cache holds. A failed completion is kept as an
error and never scored; the run is then incomplete, and calling it again asks only for what failed. A completion whose
scoring failed is scored again, not generated again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from modelsmith.evaluation.cache import Cache, CompletionKeys, KeptCompletion, kept_completion
from modelsmith.evaluation.causes import PriorRun, cause
from modelsmith.evaluation.grading import Grader, unanswered, unjudged, unscored
from modelsmith.evaluation.judges.port import Judge
from modelsmith.evaluation.prompts import Sample, generation_digest, plan
from modelsmith.evaluation.results import RunFolder, observation_key
from modelsmith.points.check import READING
from modelsmith.schema.base import Section
from modelsmith.schema.errors import Exit, InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Cause, EngineFacts, Observation, RunRequest
from modelsmith.substrates.port import Completion, Substrate

SYNC_SECONDS = 1.0
"""Longest time for which finished completions wait to be synced to disk."""
SYNC_COMPLETIONS = 64
"""Most completions that wait to be synced to disk."""
BATCH = 4096
"""Most prompts that are handed to a substrate at once: what bounds memory."""

T = TypeVar("T")


@dataclass
class Executed:
    """Result of one call of `run_eval`."""

    keys: tuple[str, ...]
    """Every prompt of the run, in the order of the plan."""
    because: Counter[Cause] = field(default_factory=Counter)
    """Why completions were generated, counted."""


def run_request(
    governed: GovernedSet,
    engine: EngineFacts,
    *,
    cluster: str,
    model: str,
    weights: str,
    sections: Sequence[Section],
    quick: bool,
    only: Sequence[str] | None = None,
    base: str | None = None,
) -> RunRequest:
    """The request that a run folder is opened with."""
    return RunRequest(
        cluster=cluster,
        model=model,
        weights=weights,
        base=base,
        question=governed.question(),
        rubric=governed.rubric_digest,
        generation=generation_digest(governed),
        engine=engine,
        sections=tuple(sections),
        quick=quick,
        only=None if only is None else tuple(sorted(only)),
        held_out=governed.held_out_digest if "held_out" in sections else None,
        reading=READING,
    )


def run_eval(
    governed: GovernedSet,
    substrate: Substrate,
    run: RunFolder,
    *,
    judge: Judge | None = None,
    cache: Cache | None = None,
    last: Callable[[], PriorRun | None] = lambda: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    wait: Callable[[], None] = lambda: None,
) -> Executed:
    """Answer and score every prompt of the run, whose folder must be open; ``run.observations(keys)`` then has them.

    Every repeat is drawn with its own seed, ``sampling.seed`` plus the repeat. `cache` is used where the weights are
    known. `last` finds what the run is seen against when it says why something was generated. `progress` gets the
    number of answered prompts and their total. `wait` is called before the engine is asked, and between two of its
    answers; it may take its time, which no answer is charged for. Interrupted at any moment, the folder can be resumed.

    Raises:
        InvalidInput: ``nothing-to-ask``; or rubric and references do not fit, before anything is generated.
        InvalidInput: what no repetition mends of a completion or its verdict, such as ``prompt-too-long`` and
            ``judge-unclear``, with the scenario.
        InfrastructureFailure: ``eval-incomplete`` when completions failed otherwise; ``judge-unavailable``; what the
            substrate or the judge raises.
        InfrastructureFailure: ``endpoint-model-changed`` when a server, also the judge's, answers under another name
            than before in this run: answers of two models are no eval of either.
        IntegrityFailure: ``foreign-observations`` when the folder holds answers that this run never asked for.
    """
    request = run.request()
    if request is None:
        raise InfrastructureFailure(
            "run-not-open", f"Run '{run.tag}' is not open.", "Open the run folder first.", tag=run.tag
        )
    samples = {sample.key: sample for sample in plan(governed, request.sections, request.quick, request.only)}
    if not samples:
        raise InvalidInput(
            "nothing-to-ask", "The eval set has no scenario in the sections asked for.", "Ask for other sections."
        )
    grader = Grader(governed, samples, judge, lambda name: run.hold_served("judge", name))
    grader.require_gradable()
    _require_own(run.answered().keys() - samples.keys(), run)
    executed = Executed(tuple(samples))
    pinned = cache if request.engine.weights == "pinned" else None
    session = _Session(governed, request, run, samples, grader, pinned, progress, wait)
    session.grade_again()
    session.adopt()
    session.ask(substrate, last, executed.because)
    _require_complete(run, samples)
    return executed


class _Session:
    """One call of `run_eval`: what is open, and the steps that close it."""

    def __init__(
        self,
        governed: GovernedSet,
        request: RunRequest,
        run: RunFolder,
        samples: Mapping[str, Sample],
        grader: Grader,
        cache: Cache | None,
        progress: Callable[[int, int], None],
        wait: Callable[[], None],
    ) -> None:
        self._governed, self._request, self._run, self._samples = governed, request, run, samples
        self._grader, self._cache = grader, cache
        self._keys = CompletionKeys(
            request.weights, request.base, request.engine, governed.evalset.prompt.system, governed.evalset.sampling
        )
        self._done = {key for key, line in run.answered().items() if not line.failed}
        self._progress, self._wait = progress, wait
        self._report()

    def grade_again(self) -> None:
        """Grade the completions whose grading failed before."""
        for keys in _chunks(self._failed(), SYNC_COMPLETIONS):
            self._finish([observation for observation in self._run.observations(keys) if observation.finish != "error"])

    def adopt(self) -> None:
        """Take from the cache what it holds."""
        if self._cache is None:
            return
        for some in _chunks(self._open(), 4 * SYNC_COMPLETIONS):
            keys = {sample.key: self._key(sample) for sample in some}
            completions = self._cache.find(KeptCompletion, set(keys.values()))
            self._finish(
                [
                    unscored(sample, completions[keys[sample.key]], None)
                    for sample in some
                    if keys[sample.key] in completions
                ]
            )

    def ask(self, substrate: Substrate, last: Callable[[], PriorRun | None], because: Counter[Cause]) -> None:
        """Have the substrate generate the answers that neither run folder nor cache holds."""
        todo = self._open()
        before = last() if todo else None
        for some in _batches(todo):
            fresh = _Fresh()
            try:
                for answer in _answers(some, self._governed, substrate, self._wait):
                    if answer.completion.served is not None and self._request.engine.weights == "unknown":
                        self._run.hold_served("model", answer.completion.served)
                    why = cause(answer.sample, self._governed, self._request, before)
                    completion = kept_completion(answer.completion, answer.wall)
                    if completion is None:
                        observation = unanswered(answer.sample, answer.completion, answer.wall, why)
                    else:
                        because[why] += 1
                        fresh.completions[self._key(answer.sample)] = completion
                        observation = unscored(answer.sample, completion, why)
                    self._write([observation])
                    fresh.observations.append(observation)
                    if fresh.due():
                        self._settle(fresh)
                        fresh = _Fresh()
            except BaseException:
                self._keep(fresh)
                raise
            self._settle(fresh)

    def _write(self, observations: Sequence[Observation]) -> None:
        """Write at once what is known without a judge, so that a kill loses nothing."""
        if self._grader.judges:
            self._run.append([unjudged(observation) for observation in observations])
        else:
            self._note(self._grader.grade(observations))

    def _settle(self, fresh: _Fresh) -> None:
        """Ask the judge where there is one, and let disk and cache have it all."""
        self._keep(fresh)
        if self._grader.judges and fresh.observations:
            self._note(self._grader.grade(fresh.observations))
            self._run.sync()

    def _keep(self, fresh: _Fresh) -> None:
        self._run.sync()
        if self._cache is not None:
            self._cache.keep(fresh.completions)

    def _finish(self, observations: Sequence[Observation]) -> None:
        """Grade completions that were made before."""
        if observations:
            self._note(self._grader.grade(observations))
            self._run.sync()

    def _note(self, graded: Sequence[Observation]) -> None:
        self._run.append(graded)
        self._done |= {observation_key(observation) for observation in graded if observation.error is None}
        self._report()

    def _open(self) -> list[Sample]:
        """Prompts without a completion."""
        failed = self._run.observations(self._failed())
        retried = {observation_key(observation) for observation in failed if observation.finish != "error"}
        return [sample for key, sample in self._samples.items() if key not in self._done and key not in retried]

    def _failed(self) -> list[str]:
        return [key for key, line in self._run.answered().items() if line.failed]

    def _key(self, sample: Sample) -> str:
        return self._keys.key(sample.prompt(), sample.repeat)

    def _report(self) -> None:
        self._progress(len(self._done), len(self._samples))


@dataclass
class _Fresh:
    """Answers that wait to be synced to disk and kept in the cache."""

    observations: list[Observation] = field(default_factory=list)
    completions: dict[str, KeptCompletion] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether they have waited long enough."""
        return len(self.observations) >= SYNC_COMPLETIONS or time.monotonic() - self.since > SYNC_SECONDS


class _Answer(NamedTuple):
    sample: Sample
    completion: Completion
    wall: float
    """Seconds since the answer before."""


def _answers(
    samples: Sequence[Sample], governed: GovernedSet, substrate: Substrate, wait: Callable[[], None]
) -> Iterator[_Answer]:
    """Answers to prompts of one repeat, as they come."""
    sampling = governed.evalset.sampling
    settings = sampling.model_copy(update={"seed": sampling.seed + samples[0].repeat, "repeats": 1})
    waiting = {sample.key: sample for sample in samples}
    wait()
    completions = substrate.complete([sample.prompt() for sample in samples], governed.evalset.prompt.system, settings)
    started = time.perf_counter()
    for completion in completions:
        wall = time.perf_counter() - started
        sample = waiting.pop(completion.key, None)
        if sample is None:
            raise InfrastructureFailure(
                "substrate-confused",
                "The substrate answered a prompt that is not waiting for an answer.",
                "Report the substrate's version; the answers so far are kept.",
                key=completion.key,
            )
        yield _Answer(sample, completion, wall)
        wait()
        started = time.perf_counter()


def _batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    for repeat in sorted({sample.repeat for sample in samples}):
        yield from _chunks((sample for sample in samples if sample.repeat == repeat), BATCH)


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some


def _require_own(foreign: Iterable[str], run: RunFolder) -> None:
    if names := sorted(foreign):
        raise IntegrityFailure(
            "foreign-observations",
            f"Run '{run.tag}' holds {len(names)} answers that it never asked for.",
            "Run the eval again under a new tag.",
            tag=run.tag,
            keys=names[:5],
        )


def _require_complete(run: RunFolder, samples: Mapping[str, Sample]) -> None:
    answered = run.answered()
    missing = [key for key in samples if key not in answered]
    broken = [key for key, line in answered.items() if line.failed]
    lasting = [
        observation
        for observation in run.observations(broken)
        if observation.error and observation.error.get("exit") == Exit.INVALID
    ]
    if lasting:
        raise _unanswerable(lasting, len(samples))
    if missing or broken:
        first = list(run.observations(broken[:5]))
        cause = first[0].error.get("message") if first and first[0].error else None
        raise InfrastructureFailure(
            "eval-incomplete",
            f"{len(broken) + len(missing)} of {len(samples)} completions failed, so there is no verdict."
            + (f" The first one: {cause}" if cause else ""),
            "Run the same command again: only what failed is asked again.",
            failed=len(broken),
            missing=len(missing),
            total=len(samples),
            first=[{"key": observation_key(observation), "error": observation.error} for observation in first],
        )


def _unanswerable(broken: Sequence[Observation], total: int) -> InvalidInput:
    """Answers that no repetition brings: the first one's error, with the scenario that it is about."""
    first = broken[0]
    error = first.error or {}
    scenarios = list(dict.fromkeys(f"{observation.section}/{observation.id}" for observation in broken))
    others = f"; {len(scenarios) - 1} other scenarios fail as lastingly" if len(scenarios) > 1 else ""
    return InvalidInput(
        str(error["code"]),
        f"{scenarios[0]}: {error['message']}{others}",
        str(error["mend"]),
        scenario=first.id,
        scenarios=scenarios,
        failed=len(broken),
        total=total,
        codes=dict(Counter(str((observation.error or {})["code"]) for observation in broken)),
        cause=error.get("details"),
    )
