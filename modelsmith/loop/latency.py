"""How long one request takes: candidate and incumbent side by side, where the times of an eval say little.

An eval answers in batches, on a machine that may do other things; its times compare nothing. Here each model gets one
request at a time, the two in turn, so that whatever else the machine does, it does to both.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.statistics import percentile
from modelsmith.loop.engines import Target, open_substrate
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.progress import Progress
from modelsmith.schema.run import Latency, Timing
from modelsmith.signing.files import write_atomically
from modelsmith.substrates.port import Prompt, Substrate

REQUESTS = 12
"""Requests to each model that are timed."""
WARM_UP = 2
"""Requests to each model before, which are not."""


def measured(
    workspace: Workspace, cluster: Cluster, governed: GovernedSet, pair: tuple[Target, Target], file: Path
) -> Latency | None:
    """Latency of candidate and incumbent, measured once and then read from `file`.

    None where both cannot be loaded at once: on a vLLM server, which takes the whole device, or without memory enough.
    """
    try:
        return Latency.model_validate_json(read_plain(file))
    except (OSError, ValidationError):
        pass
    if cluster.engine == "vllm":
        return None
    activity = f"times single requests: {pair[0].name} and {pair[1].name} in turn"
    workspace.notify(Progress("promote", activity))

    def progress(done: int, total: int) -> None:
        workspace.notify(Progress("promote", activity, done, total))

    try:
        with contextlib.ExitStack() as closing:
            substrates = [open_substrate(workspace, cluster, target, None) for target in pair]
            for substrate in substrates:
                closing.callback(substrate.close)
            latency = in_turn(governed, substrates[0], substrates[1], progress)
    except InfrastructureFailure as error:
        workspace.notify(Progress("promote", f"latency was not measured: {error.message}"))
        return None
    write_atomically(file, canonical_json(latency))
    return latency


def in_turn(
    governed: GovernedSet, candidate: Substrate, incumbent: Substrate, progress: Callable[[int, int], None]
) -> Latency:
    """Time the same prompts on both, one request at a time; each goes first every other time.

    ``progress`` hears between two requests how many of how many are done.

    Raises:
        InfrastructureFailure: ``latency-unknown`` when a request fails, or what an engine raises.
    """
    samples = plan(governed, ("core",), quick=False)
    prompts = [sample.prompt() for sample in samples[:: max(1, len(samples) // REQUESTS)][:REQUESTS]]
    seconds: tuple[list[float], list[float]] = ([], [])
    rounds = [*prompts[:WARM_UP], *prompts]
    for number, prompt in enumerate(rounds):
        progress(2 * number, 2 * len(rounds))
        for which in (0, 1) if number % 2 else (1, 0):
            took = _timed(governed, (candidate, incumbent)[which], prompt)
            if number >= min(WARM_UP, len(prompts)):
                seconds[which].append(took)
    return Latency(
        requests=len(prompts),
        warm_up=min(WARM_UP, len(prompts)),
        candidate=_timing(seconds[0]),
        incumbent=_timing(seconds[1]),
    )


def _timed(governed: GovernedSet, substrate: Substrate, prompt: Prompt) -> float:
    sampling = governed.evalset.sampling.model_copy(update={"repeats": 1})
    begin = time.perf_counter()
    answers = list(substrate.complete([prompt], governed.evalset.prompt.system, sampling))
    took = time.perf_counter() - begin
    if len(answers) != 1 or answers[0].error is not None:
        raise InfrastructureFailure("latency-unknown", "A request failed while it was timed.", "Iterate again.")
    return took


def _timing(seconds: list[float]) -> Timing:
    return Timing(p50_seconds=percentile(seconds, 0.50), p95_seconds=percentile(seconds, 0.95))
