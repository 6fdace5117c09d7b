"""Scenarios a second of the evaluation engine against a server that costs nothing, beside inspect_ai.

Both ask one and the same stub, a process of its own, about 1,000 scenarios, score the answers and keep them on disk.
Then comes a stub that takes 50 ms, with 32 connections: the ideal is 640 a second. "Substrate alone" asks without
scoring and keeping; "sockets alone" only sends and receives, and shows what stub and machine let through. Without
inspect_ai and openai, here or in the environment whose Python ``--inspect-python`` names, its rows are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chat_stub import RESPONSE, stub
from common import RESULTS, ROOT, machine, save, table

from modelsmith.evaluation.engine import run_eval, run_request
from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.results import RunFolder
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.importing import COLLECT_AFTER
from modelsmith.schema.source import Endpoint
from modelsmith.substrates.endpoint.api import request_body
from modelsmith.substrates.endpoint.substrate import EndpointSubstrate

SCENARIOS = 1000
CONNECTIONS = 128
DELAY, DELAYED_CONNECTIONS = 0.050, 32
GOAL_TIMES, GOAL_SHARE = 10.0, 0.9


def large_set() -> GovernedSet:
    """The kit's core scenarios again and again until there are enough, each with a name and a text of its own."""
    governed = load_eval_set(WorkTree(ROOT), "adtech/rtb-root-cause")
    core = []
    for number in range(SCENARIOS):
        scenario = governed.core[number % len(governed.core)]
        words = scenario.messages[0].model_copy(update={"content": f"{scenario.messages[0].content} (case {number})"})
        core.append(scenario.model_copy(update={"id": f"case-{number:04}", "messages": (words,), "variants": ()}))
    return replace(governed, core=tuple(core))


def ours(governed: GovernedSet, url: str, connections: int) -> float:
    """Scenarios a second through the real engine, run folder and scoring included."""
    substrate = EndpointSubstrate(Endpoint(url=url, model="stub", max_connections=connections))
    request = run_request(
        governed, substrate.facts, cluster="bench", model="base", weights="sha256:" + "0" * 64, sections=("core",),
        quick=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with RunFolder(Path(folder), "bench", "run").opened(request) as run:
            keys = run_eval(governed, substrate, run).keys
        seconds = time.perf_counter() - begin
    substrate.close()
    assert len(keys) == SCENARIOS
    return SCENARIOS / seconds


def substrate_alone(governed: GovernedSet, url: str, connections: int) -> float:
    """Answers a second of the substrate, with nothing done to them."""
    substrate = EndpointSubstrate(Endpoint(url=url, model="stub", max_connections=connections))
    prompts = [sample.prompt() for sample in plan(governed, ("core",), quick=False)]
    begin = time.perf_counter()
    completions = list(substrate.complete(prompts, governed.evalset.prompt.system, governed.evalset.sampling))
    seconds = time.perf_counter() - begin
    substrate.close()
    assert len(completions) == SCENARIOS
    return SCENARIOS / seconds


def bare(governed: GovernedSet, url: str, connections: int) -> float:
    """The same requests over plain sockets, answers thrown away: what stub and machine let through."""
    parts = urlsplit(url)
    requests = []
    for sample in plan(governed, ("core",), quick=False):
        sampling = governed.evalset.sampling
        body = request_body(
            "stub", sample.prompt().messages, governed.evalset.prompt.system, sampling, "max_tokens", stream=False
        )
        requests.append(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def connection(waiting: Any) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for request in waiting:
            writer.write(request)
            await reader.readexactly(len(RESPONSE))
        writer.close()

    async def everyone() -> None:
        waiting = iter(requests)
        await asyncio.gather(*(connection(waiting) for _ in range(connections)))

    begin = time.perf_counter()
    asyncio.run(everyone())
    return SCENARIOS / (time.perf_counter() - begin)


def inspects(governed: GovernedSet, url: str, python: str, *, tuned: bool) -> float:
    """Samples a second of inspect_ai's ``eval``."""
    samples = plan(governed, ("core",), quick=False)
    request = {
        "system": governed.evalset.prompt.system,
        "prompts": [{"text": a.prompt().messages[0].content, "reference": a.scenario.reference} for a in samples],
    }
    process = subprocess.run(
        [python, str(Path(__file__).with_name("harness_inspect.py")), url, str(CONNECTIONS), str(int(tuned))],
        input=json.dumps(request), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if process.returncode:
        raise SystemExit(f"inspect_ai failed:\n{process.stdout[-500:]}{process.stderr[-2000:]}")
    return SCENARIOS / float(json.loads(process.stdout.splitlines()[-1])["seconds"])


def version_of_inspect(python: str) -> str | None:
    program = "import importlib.metadata as m; m.version('openai'); print(m.version('inspect-ai'))"
    process = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return process.stdout.strip() if process.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--inspect-python", default=sys.executable, help="Python of an environment with inspect_ai and openai."
    )
    arguments = parser.parse_args()
    gc.set_threshold(COLLECT_AFTER)  # as the command does
    facts = machine("aiohttp")
    governed = large_set()
    peer = version_of_inspect(arguments.inspect_python)
    facts["versions"]["inspect-ai"] = peer or "not installed"
    with stub(0.0) as instant, stub(DELAY) as delayed:
        subjects: dict[str, Callable[[], float]] = {
            "modelsmith": lambda: ours(governed, instant, CONNECTIONS),
            "modelsmith, substrate alone": lambda: substrate_alone(governed, instant, CONNECTIONS),
            "sockets alone": lambda: bare(governed, instant, CONNECTIONS),
        }
        if peer:
            subjects["inspect_ai, tuned"] = lambda: inspects(governed, instant, arguments.inspect_python, tuned=True)
            subjects["inspect_ai"] = lambda: inspects(governed, instant, arguments.inspect_python, tuned=False)
        subjects["modelsmith, 50 ms"] = lambda: ours(governed, delayed, DELAYED_CONNECTIONS)
        subjects["substrate alone, 50 ms"] = lambda: substrate_alone(governed, delayed, DELAYED_CONNECTIONS)
        subjects["sockets alone, 50 ms"] = lambda: bare(governed, delayed, DELAYED_CONNECTIONS)
        speeds: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(arguments.repeats):
            for name, call in subjects.items():
                speeds[name].append(call())
    report(facts, speeds)


def report(facts: dict[str, Any], speeds: dict[str, list[float]]) -> None:
    """Print the table and write the result file."""
    median = {name: statistics.median(runs) for name, runs in speeds.items()}
    ideal = DELAYED_CONNECTIONS / DELAY
    share = median["modelsmith, 50 ms"] / ideal
    tuned = median.get("inspect_ai, tuned")
    times = median["modelsmith"] / tuned if tuned else None
    result = {
        "machine": facts,
        "scenarios": SCENARIOS,
        "scenarios_per_second": {
            name: {"median": round(median[name], 1), "runs": [round(run, 1) for run in runs]}
            for name, runs in speeds.items()
        },
        "times_inspect_tuned": round(times, 1) if times else None,
        "share_of_ideal": round(share, 3),
        "substrate_share_of_ideal": round(median["substrate alone, 50 ms"] / ideal, 3),
        "sockets_share_of_ideal": round(median["sockets alone, 50 ms"] / ideal, 3),
        "goal": {
            "times_at_least": GOAL_TIMES,
            "share_at_least": GOAL_SHARE,
            "met": times is not None and times >= GOAL_TIMES and share >= GOAL_SHARE,
        },
    }
    save(RESULTS / "harness.json", result)
    rows = [
        (name, round(median[name], 1), *(round(edge(runs), 1) for edge in (min, max))) for name, runs in speeds.items()
    ]
    print(table((f"{SCENARIOS} scenarios, a second", "median", "least", "most"), rows))
    print(
        f"\n50 ms: {share:.3f} of the ideal {ideal:.0f} a second"
        + (f"; {times:.1f} times inspect_ai tuned" if times else "")
    )


if __name__ == "__main__":
    main()
