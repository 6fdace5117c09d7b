"""What the server for agents costs, beside a bare server of the same SDK with the same tool.

Calls: the operation ``status`` by our tool, and by a tool of the bare server that is declared alike, calls the same
function and answers an object of the same form. What ours does besides: role and arguments, cutting to length, held-out
lines, places of the machine, marks. Start: from the command to the end of the handshake, both on standard input and
output.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
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
HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}  # fmt: skip


def parameters(command: list[str], folder: Path, home: Path) -> StdioServerParameters:
    env = {**os.environ, "MODELSMITH_HOME": str(home)}
    return StdioServerParameters(command=command[0], args=command[1:], cwd=folder, env=env)


async def calls(servers: dict[str, Any], repeats: int) -> dict[str, list[Spent]]:
    """Calls to each server in turn, one after the other, so that a busy machine is busy for all; the first is not
    counted."""
    runs: dict[str, list[Spent]] = {name: [] for name in servers}
    async with AsyncExitStack() as open_:
        clients = {name: await open_.enter_async_context(Client(server)) for name, server in servers.items()}
        for number in range(repeats + 1):
            for name, client in clients.items():
                begin, cpu = time.perf_counter(), time.process_time()
                reply = await client.call_tool(TOOL, {})
                spent = Spent(time.perf_counter() - begin, time.process_time() - cpu)
                assert not reply.is_error, reply
                runs[name] += [spent] if number else []
    return runs


def starts(servers: dict[str, StdioServerParameters], repeats: int) -> dict[str, list[Spent]]:
    """From the command to the server's answer to `initialize`, in turn; processor time is the server's own."""
    runs: dict[str, list[Spent]] = {name: [] for name in servers}
    for _ in range(repeats):
        for name, server in servers.items():
            begin = time.perf_counter()
            with subprocess.Popen(
                [server.command, *server.args], cwd=server.cwd, env=server.env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            ) as process:  # fmt: skip
                assert process.stdin
                assert process.stdout
                process.stdin.write(json.dumps(HELLO).encode() + b"\n")
                process.stdin.flush()
                assert b"serverInfo" in process.stdout.readline()
                wall = time.perf_counter() - begin
                fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                runs[name].append(Spent(wall, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")))
                process.kill()
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, clone = Path(folder) / "home", Path(folder) / "clone"
        os.environ["MODELSMITH_HOME"] = str(home)
        spend([*modelsmith_command(), "init", str(clone), "--kit", "adtech"], Path(folder))
        ours = parameters([*modelsmith_command(), "mcp", "--role", "operator"], clone, home)
        plain = parameters([sys.executable, str(Path(__file__).with_name("agents_bare.py")), str(clone)], clone, home)
        session = Session(clone, "operator")
        memory = {"in memory, ours": make_server(lambda: session, Watch(clone)), "in memory, bare": bare(clone)}
        runs_by_name = anyio.run(calls, memory, arguments.repeats)
        runs_by_name |= anyio.run(calls, {"stdio, ours": ours, "stdio, bare": plain}, arguments.repeats)
        runs_by_name |= starts({"start, ours": ours, "start, bare": plain}, arguments.starts)
    figures = {name: summary(runs) for name, runs in runs_by_name.items()}
    ratios = {
        f"{action}, {by}": ratio(runs_by_name[f"{action}, ours"], runs_by_name[f"{action}, bare"])[by]
        for action, by in (
            ("in memory", "wall"),
            ("in memory", "cpu"),
            ("stdio", "wall"),
            ("start", "wall"),
            ("start", "cpu"),
        )
    }
    goal = {"ratio_at_most": GOAL_RATIO, "met": {action: value <= GOAL_RATIO for action, value in ratios.items()}}
    result = {
        "machine": machine("mcp"),
        "repeats": arguments.repeats,
        "seconds": figures,
        "ratio": ratios,
        "goal": goal,
    }
    save(RESULTS / "agents.json", result)
    rows = [
        (name, figure["median"], figure["least"], figure["most"], figure["median_cpu"])
        for name, figure in figures.items()
    ]
    print(table(("seconds", "median", "least", "most", "median cpu"), rows))
    print("\nratio to the bare server: " + ", ".join(f"{action} {value}" for action, value in ratios.items()))


if __name__ == "__main__":
    main()
