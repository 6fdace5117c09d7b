"""What the front door adds, beside a bare pass-through of the same server library, and beside nothing.

All three stand before one stub that answers at once (`chat_stub`), each in a process of its own, and are asked over
kept connections in turn. The bare one reads the JSON, renames the model, writes it anew and passes the answer on. The
door has its key, rules, share, decision, figures and log; the specialist is under watch by a rule with guards, so every
decision and answer goes to the store and is judged, and the format of answers is checked. With ``--litellm PROGRAM``
(``pip install 'litellm[proxy]'`` in an environment of its own) its proxy stands there, too, with a key and one model.
The bare one and the door are measured on Python's own event loop and on uvloop, which the door uses where it is
installed; LiteLLM brings its own loop.

Streams: so many at once, whose tokens come as events of their own, all in the same step: how many tokens come through
in a second, and what processor time each takes. And so many that have begun and say nothing more, and what each costs
the door in memory.

Rules: 1,000 of them, each with a condition of its own; a request that only the last one takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from chat_stub import stub
from common import RESULTS, machine, save, table
from door_callers import ask, ask_streams, hold_streams
from door_subjects import CLUSTER, LOOPS, litellm, subject

from modelsmith.door.room import raise_limit
from modelsmith.governance.router import RequestParts, Rules
from modelsmith.repository.tokens import callers
from modelsmith.schema.router import Router, Rule, When

DOOR = "door on uvloop"
"""As it comes."""
GOAL_RATIO = 1.3
GOAL_RULES_MICROSECONDS = 50
FILES = 500
"""Open files of the door beside two for each stream: those that warm it, and all that it keeps room for."""


def stream_memory(folder: Path, key: str, number: int) -> dict[str, float]:
    """KiB of the door for each of so many streams that say nothing."""

    async def measured(url: str, door: psutil.Process) -> dict[str, float]:
        warm, _ = await hold_streams(url, key, 50)
        before = door.memory_info().rss
        writers, seconds = await hold_streams(url, key, number)
        used = door.memory_info().rss - before
        for writer in (*warm, *writers):
            writer.close()
        return {"streams": number, "kib_each": used / 1024 / number, "seconds_to_begin": seconds}

    with subject("quiet", "", folder) as (behind, _), subject("door", behind, folder) as before:
        return asyncio.run(measured(*before))


def stream_tokens(
    subjects: Mapping[str, tuple[str, psutil.Process | None]], key: str, streams: int, tokens: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Tokens a second through each subject, and its microseconds of processor time for each; medians."""
    rates: dict[str, list[float]] = {subject_name: [] for subject_name in subjects}
    spent: dict[str, list[float]] = {subject_name: [] for subject_name in subjects}
    for _ in range(repeats):
        for subject_name, (url, process) in subjects.items():
            before = process and sum(process.cpu_times()[:2])
            rates[subject_name].append(asyncio.run(ask_streams(url, key, streams, tokens)))
            used = sum(process.cpu_times()[:2]) - before if process else 0.0
            spent[subject_name].append(used * 1e6 / (streams * tokens))
    return {
        subject_name: {
            "tokens_per_second": statistics.median(rates[subject_name]),
            "cpu_us": statistics.median(spent[subject_name]),
        }
        for subject_name in subjects
    }


def rules_microseconds() -> float:
    """One request against 1,000 rules, of which the last takes it."""
    rules = [
        Rule(name=f"r{n}", when=When(metadata={"tenant": f"t{n}"}, last_message="bid|price"), cluster=CLUSTER)
        for n in range(1000)
    ]
    rules_tried = Rules(Router(rules=tuple(rules)), [CLUSTER])
    body = {"messages": [{"role": "user", "content": "the price of a bid"}], "metadata": {"tenant": "t999"}}
    parts = RequestParts("m", {}, body)
    assert (rules_tried.route(parts) or parts)[1] == "r999"
    times = []
    for _ in range(2000):
        begin = time.perf_counter()
        rules_tried.route(parts)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def _named(subject_name: str, loop: str) -> str:
    return f"{subject_name} on {loop}"


def _beside_bare(results: dict[str, Any], loop: str, connections: int, unit: str) -> float:
    mine, bare = (results[f"{_named(subject_name, loop)}, {connections}"][unit] for subject_name in ("door", "bare"))
    return float(mine / bare)


def _added(results: dict[str, Any], subject_name: str, connections: int) -> float:
    """Milliseconds that a subject adds at the median."""
    return float(
        results[f"{subject_name}, {connections}"]["p50_ms"] - results[f"nothing between, {connections}"]["p50_ms"]
    )


def main() -> None:
    """Measure in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32, 512])
    parser.add_argument("--litellm", metavar="PROGRAM")
    parser.add_argument("--tokens", type=int, nargs=2, default=[64, 400], metavar=("STREAMS", "TOKENS"))
    parser.add_argument("--streams", type=int, default=9_000)
    arguments = parser.parse_args()
    limit = raise_limit()
    facts = machine("aiohttp", "prometheus-client", "google-re2", "uvloop")
    load_before = os.getloadavg()[0]
    rows: list[tuple[object, ...]] = []
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, stub(0) as url, contextlib.ExitStack() as stack:
        folder = Path(name)
        key = callers(folder).issue("caller", (CLUSTER,), 1)[1]
        subjects: dict[str, tuple[str, psutil.Process | None]] = {"nothing between": (url, None)}
        for loop in LOOPS:
            for subject_name in ("bare", "door"):
                own = folder / f"{subject_name}-{loop}"
                shutil.copytree(folder, own, ignore=shutil.ignore_patterns("*-*"))
                subjects[_named(subject_name, loop)] = stack.enter_context(subject(subject_name, url, own, loop))
        if arguments.litellm:
            subjects["litellm"] = stack.enter_context(litellm(arguments.litellm, url, folder, key))
        for connections in arguments.connections:
            latencies: dict[str, list[list[float]]] = {subject_name: [] for subject_name in subjects}
            rates: dict[str, list[float]] = {subject_name: [] for subject_name in subjects}
            spent = dict.fromkeys(subjects, 0.0)
            for _ in range(arguments.repeats):
                for subject_name, (where, process) in subjects.items():
                    before = process and sum(process.cpu_times()[:2])
                    run, rate = asyncio.run(ask(where, key, connections, arguments.seconds))
                    latencies[subject_name].append(run)
                    rates[subject_name].append(rate)
                    spent[subject_name] += sum(process.cpu_times()[:2]) - before if process else 0.0
            for subject_name, runs in latencies.items():
                p50, p99 = (
                    statistics.median(sorted(run)[int(len(run) * part)] for run in runs) for part in (0.5, 0.99)
                )
                rate = statistics.median(rates[subject_name])
                cpu = spent[subject_name] * 1000 / sum(map(len, runs))
                rows.append(
                    (f"{subject_name}, {connections} at once", round(p50, 3), round(p99, 2), round(rate), round(cpu, 2))
                )
                measured = {"p50_ms": p50, "p99_ms": p99, "per_second": rate, "cpu_ms": cpu}
                results[f"{subject_name}, {connections}"] = measured
        streams_at_once, tokens_each = arguments.tokens
        streamed = stream_tokens(subjects, key, streams_at_once, tokens_each, arguments.repeats)
    ratios, cpus = (
        {loop: {n: _beside_bare(results, loop, n, unit) for n in arguments.connections} for loop in LOOPS}
        for unit in ("p50_ms", "cpu_ms")
    )
    micro = rules_microseconds()
    goals = {
        "p50_ratio_at_most": GOAL_RATIO,
        "p50_met": max(max(some.values()) for some in ratios.values()) <= GOAL_RATIO,
        "rules_microseconds_at_most": GOAL_RULES_MICROSECONDS,
        "rules_met": micro <= GOAL_RULES_MICROSECONDS,
    }
    beside = {
        str(n): {
            "added_p50": _added(results, "litellm", n) / _added(results, DOOR, n),
            "rate": results[f"{DOOR}, {n}"]["per_second"] / results[f"litellm, {n}"]["per_second"],
            "cpu": results[f"litellm, {n}"]["cpu_ms"] / results[f"{DOOR}, {n}"]["cpu_ms"],
        }
        for n in arguments.connections
        if f"litellm, {n}" in results
    }
    figures = {
        "times_litellm": beside,
        "milliseconds": results,
        "p50_ratio": ratios,
        "cpu_ratio": cpus,
        "rules_1000_microseconds": micro,
        "stream_tokens": streamed,
    }
    print(table(("milliseconds", "p50", "p99", "a second", "cpu each"), rows))
    print(f"\nload of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after")
    for loop in LOOPS:
        for subject_name, some in (("p50", ratios[loop]), ("processor time", cpus[loop])):
            print(f"{loop}: ratio of {subject_name} to bare: {', '.join(f'{r:.2f} at {n}' for n, r in some.items())}")
    for n, compared in beside.items():
        print(
            f"LiteLLM at {n}: {compared['added_p50']:.1f} times the added p50, "
            f"{compared['rate']:.1f} times fewer a second, "
            f"{compared['cpu']:.1f} times the processor time"
        )
    print(f"1,000 rules: {micro:.1f} us\n")
    stream_rows = [
        (subject_name, round(figures["tokens_per_second"]), round(figures["cpu_us"], 1))
        for subject_name, figures in streamed.items()
    ]
    named = f"{streams_at_once} streams of {tokens_each} tokens"
    print(table((named, "tokens a second", "us each"), stream_rows), flush=True)
    streams = None
    if limit < (needed := 2 * arguments.streams + FILES):
        print(
            f"{arguments.streams:,} quiet streams need a limit of {needed:,} open files (`ulimit -Hn`); it is {limit:,}"
        )
    else:
        with tempfile.TemporaryDirectory() as name:
            key = callers(Path(name)).issue("caller", (CLUSTER,), 1)[1]
            streams = stream_memory(Path(name), key, arguments.streams)
        print(f"{arguments.streams:,} quiet streams: {streams['kib_each']:.0f} KiB each")
    save(RESULTS / "door.json", {"machine": facts, **figures, "streams": streams, "goal": goals})


if __name__ == "__main__":
    main()
