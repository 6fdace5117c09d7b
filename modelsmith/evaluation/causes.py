"""Why a completion has to be generated, seen against the run before it: what a reviewer of the bill asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from modelsmith.evaluation.prompts import Sample
from modelsmith.evaluation.results import observation_key
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Cause, Observation, RunRequest


@dataclass(frozen=True)
class PriorRun:
    """The last run of the same model in the same cluster."""

    request: RunRequest
    scenarios: Mapping[str, str]
    """Digest of each scenario that it asked, by id."""
    keys: Set[str]
    """Keys of its prompts that got an answer."""
    failed: Set[str]
    """Keys of its prompts that got none."""


def prior_run(request: RunRequest, observations: Iterable[Observation]) -> PriorRun:
    """The run that later runs are compared with."""
    scenarios: dict[str, str] = {}
    keys, failed = set(), set()
    for observation in observations:
        key = observation_key(observation)
        if observation.row is None:
            failed.add(key)
        else:
            keys.add(key)
            scenarios[observation.id] = observation.row.scenario
    return PriorRun(request, scenarios, keys, failed)


def cause(sample: Sample, governed: GovernedSet, request: RunRequest, last: PriorRun | None) -> Cause:
    """The first thing that keeps an earlier answer from serving.

    What holds for the whole run comes first (weights that nobody can pin, other weights, engine, or prompt and
    sampling), then the scenario, then the single wording or repeat. ``not-cached``: the answer was given and is gone.
    """
    if request.engine.weights == "unknown":
        return "weights-unknown"
    if last is None:
        return "first-run"
    if (last.request.weights, last.request.base) != (request.weights, request.base):
        return "weights-changed"
    if last.request.engine != request.engine:
        return "engine-changed"
    if last.request.generation != request.generation:
        return "prompt-changed"
    if sample.key in last.failed:
        return "failed-before"
    recorded = last.scenarios.get(sample.scenario.id)
    if recorded is None:
        return "scenario-new"
    if recorded != governed.digests[sample.scenario.id]:
        return "scenario-changed"
    return "not-cached" if sample.key in last.keys else "not-asked-before"
