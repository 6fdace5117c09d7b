"""What the server for agents costs, beside a bare server of the same SDK that does the same work.

Calls: the operation ``status`` by our tool, and by a tool of the bare server that calls the same function and answers
its JSON. Start: from the command to the first answer, both on standard input and output.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from agents_bare import TOOL, bare
from common import RESULTS, Spent, machine, modelsmith_command, ratio, save, spend, summary, table
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from modelsmith.mcp.calls import Session
from modelsmith.mcp.server import make_server
from modelsmith.mcp.watching import Watch

GOAL_RATIO = 1.1


def parameters(command: list[str], folder: Path, home: Path) -> StdioServerParameters:
    env = {**os.environ, "MODELSMITH_HOME": str(home)}
    return StdioServerParameters(command=command[0], args=command[1:], cwd=folder, env=env)


async def calls(servers: dict[str, Any], repeats: int) -> dict[str, list[Spent]]:
    """Calls to each server in turn; the first of each is not counted."""
    found: dict[str, list[Spent]] = {name: [] for name in servers}
    for name, server in servers.items():
        async with Client(server) as client:
            await client.call_tool(TOOL, {})
            for _ in range(repeats):
                begin, cpu = time.perf_counter(), time.process_time()
                await client.call_tool(TOOL, {})
                found[name].append(Spent(time.perf_counter() - begin, time.process_time() - cpu))
    return found


async def starts(servers: dict[str, StdioServerParameters], repeats: int) -> dict[str, list[Spent]]:
    """From the command to the end of the handshake, in turn."""
    found: dict[str, list[Spent]] = {name: [] for name in servers}
    for _ in range(repeats):
        for name, server in servers.items():
            begin = time.perf_counter()
            async with Client(server, mode="legacy"):
                spent = time.perf_counter() - begin
            found[name].append(Spent(spent, spent))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--starts", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, clone = Path(folder) / "home", Path(folder) / "clone"
        os.environ["MODELSMITH_HOME"] = str(home)
        spend([*modelsmith_command(), "init", str(clone), "--kit", "adtech"], Path(folder))
        ours = parameters([*modelsmith_command(), "mcp", "--role", "operator"], clone, home)
        plain = parameters([sys.executable, str(Path(__file__).with_name("agents_bare.py")), str(clone)], clone, home)
        session = Session(clone, "operator")
        memory = {"in memory, ours": make_server(lambda: session, Watch(clone)), "in memory, bare": bare(clone)}
        found = anyio.run(calls, memory | {"stdio, ours": ours, "stdio, bare": plain}, asked.repeats)
        found |= anyio.run(starts, {"start, ours": ours, "start, bare": plain}, asked.starts)
    figures = {name: summary(runs) for name, runs in found.items()}
    ratios = {
        what: ratio(found[f"{what}, ours"], found[f"{what}, bare"])["wall"] for what in ("in memory", "stdio", "start")
    }
    goal = {"ratio_at_most": GOAL_RATIO, "met": {what: value <= GOAL_RATIO for what, value in ratios.items()}}
    result = {"machine": machine("mcp"), "repeats": asked.repeats, "seconds": figures, "ratio": ratios, "goal": goal}
    save(RESULTS / "agents.json", result)
    rows = [(name, one["median"], one["least"], one["most"]) for name, one in figures.items()]
    print(table(("seconds", "median", "least", "most"), rows))
    print("\nratio to the bare server: " + ", ".join(f"{what} {value}" for what, value in ratios.items()))


if __name__ == "__main__":
    main()
