"""Programs of others: MCP's conformance suite and inspector, Claude Code and Codex, against our server and packs.

`make agent-clients` fetches them; none of them has an account here, or asks for one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from agents.conftest import one_before
from github_openapi import REQUIRED
from ports import free_port
from worlds import CLUSTER, COMMAND, World

from modelsmith.mcp.http import Listening, make_app
from modelsmith.mcp.tools import tools_of
from modelsmith.repository.tokens import Tokens

TOP = Path(__file__).parents[2]
CLIENTS = TOP / ".cache" / "agent-clients"
ANY_SERVER = {
    "2025-11-25": (
        "server-initialize", "server-session-lifecycle", "ping", "tools-list", "resources-list", "prompts-list",
        "server-sse-multiple-streams", "dns-rebinding-protection",
    ),
    "2026-07-28": (
        "tools-list", "resources-list", "prompts-list", "caching", "http-header-validation",
        "sep-2164-resource-not-found", "dns-rebinding-protection",
    ),
}  # fmt: skip
"""Scenarios for any server, by version of the protocol; the suite's others call tools of its own example."""
PATIENT = {"MCP_TIMEOUT": "120000", "MCP_TOOL_TIMEOUT": "120000"}
"""Claude Code waits this long, in ms, for a server on a busy machine."""


@pytest.fixture(scope="module")
def world(fresh_template: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A repository in which nothing has run, for readers."""
    if not (CLIENTS / "version").is_file():
        missing = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        missing("the clients of others are not at hand: `make agent-clients` fetches them where npm can")
    return fresh_template.copied_to(tmp_path_factory.mktemp("clients") / "world")


OF_TASKS = ("tasks-capability-negotiation", "tasks-request-headers", "tasks-request-state-removal")
"""The suite's scenarios of the Tasks extension that need no tool beyond a quick and a long one."""
ITS_TOOLS = {
    "greet": lambda arguments: ("modelsmith_jobs", {}),
    "slow_compute": lambda arguments: (
        "modelsmith_eval_run",
        {"cluster": CLUSTER, "quick": True, "tag": arguments["label"]},
    ),
}
"""Tools that those scenarios call, and what of ours stands for them."""


@contextmanager
def served(world, role, receiving=lambda scope, receive: (scope, receive)):
    """The server over HTTP; every request comes with a token of the role, which the suite cannot send itself."""
    tokens = Tokens(world.home)
    _, secret = tokens.issue(role, (), 1)
    port = free_port()
    app = make_app(world.clone, tokens, Listening("127.0.0.1", port))

    async def with_token(scope, receive, send):
        if scope["type"] == "http":
            scope = scope | {"headers": [*scope["headers"], (b"authorization", b"Bearer " + secret.encode())]}
            scope, receive = receiving(scope, receive)
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(with_token, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/mcp"
    server.should_exit = True
    thread.join(60)


@pytest.fixture(scope="module")
def url(world):
    """The server, for whom the token is a reviewer's."""
    with served(world, "reviewer") as address:
        yield address


def with_its_tools(scope, receive):
    """A request in which our tools stand for those of the suite's example."""
    named = dict(scope["headers"]).get(b"mcp-name", b"").decode()
    if named not in ITS_TOOLS:
        return scope, receive
    headers = [(name, rows) for name, rows in scope["headers"] if name not in (b"mcp-name", b"content-length")]

    async def instead():
        message = await receive()
        if message["type"] != "http.request":
            return message
        answer = json.loads(message["body"])
        assert not message.get("more_body")
        params = answer["params"]
        params["name"], params["arguments"] = ITS_TOOLS[named](params["arguments"])
        return message | {"body": json.dumps(answer).encode()}

    ours = ITS_TOOLS[named]({"label": ""})[0].encode()
    return scope | {"headers": [*headers, (b"mcp-name", ours)]}, instead


def run(world, program, *words, folder=None, **more):
    """One of their programs, with a home of its own and node and modelsmith at hand."""
    environment = world.environment() | PATIENT | {"CODEX_HOME": str(world.folder / "codex"), "NO_COLOR": "1"}
    environment["PATH"] = os.pathsep.join([str(CLIENTS / "node"), str(COMMAND.parent), environment["PATH"]])
    return subprocess.run(
        [CLIENTS / "node_modules/.bin" / program, *words],
        cwd=folder or world.clone, env=environment, capture_output=True, text=True, timeout=300, **more,
    )  # fmt: skip


def scenario(world, url, name, version, *more):
    """What the suite prints of one scenario."""
    return run(world, "conformance", "server", "--url", url, "--scenario", name, "--spec-version", version, *more)


@pytest.mark.parametrize("version", ANY_SERVER)
def test_the_server_conforms_to_the_protocol_by_its_own_suite(version, world, url):
    wrong = {}
    for name in ANY_SERVER[version]:
        process = scenario(world, url, name, version)
        if process.returncode or "0 failed, 0 warnings" not in process.stdout:
            wrong[name] = process.stdout + process.stderr
    assert wrong == {}
    control = scenario(world, url, "tools-call-simple-text", version)
    assert control.returncode != 0, "the suite says when a server does not do what it asks"


def test_the_server_conforms_to_the_tasks_extension_by_the_same_suite(world):
    """By those of its scenarios in which no task needs to end: one job is held at work, and the others wait."""
    with one_before(world), served(world, "operator", with_its_tools) as address:
        printed = "".join(scenario(world, address, name, "2026-07-28", "--force").stdout for name in OF_TASKS)
    errors = [line.strip() for line in printed.splitlines() if line.strip().startswith("Error:")]
    assert errors == ["Error: tool result content MUST be unaffected by the Mcp-Method header"], printed
    passed = [tuple(map(int, pair)) for pair in re.findall(r"Passed: (\d+)/(\d+)", printed)]
    assert [all_of - expected_failures for expected_failures, all_of in passed] == [0, 1, 0], (
        "one wants the words of the suite's own tool"
    )


def test_without_a_session_the_server_keeps_all_rules_that_can_be_tried(world, url):
    """Four rules of the stateless protocol need tools of the suite's own example; it says of each that it is so."""
    printed = scenario(world, url, "server-stateless", "2026-07-28").stdout
    errors = [line.strip() for line in printed.splitlines() if line.strip().startswith("Error:")]
    assert "24/28, 4 failed" in printed, printed
    assert [line for line in errors if not line.startswith("Error: Not testable")] == []
    assert len(errors) == 4


def test_the_protocols_inspector_finds_every_tools_schema_portable(world, url):
    listed = run(world, "mcp-inspector", "--cli", url, "--transport", "http", "--method", "tools/list", "--strict")
    assert listed.returncode == 0, listed.stderr
    names = {tool["name"] for tool in json.loads(listed.stdout)["tools"]}
    assert names == {tool.name for tool in tools_of("reviewer")}
    arguments = ("--method", "tools/call", "--tool-name", "modelsmith_validate")
    process = run(world, "mcp-inspector", "--cli", url, "--transport", "http", *arguments)
    assert json.loads(process.stdout)["structuredContent"]["result"]["valid"], process.stdout + process.stderr


def test_claude_code_connects_to_the_server_that_its_pack_names(world):
    assert world.modelsmith("pack", "install", "claude", "--role", "reviewer").code == 0
    waiting = run(world, "claude", "mcp", "list")
    assert "Pending approval" in waiting.stdout, "a person lets the repository's server run, once"
    (world.folder / ".claude").mkdir(exist_ok=True)
    (world.folder / ".claude/settings.json").write_text('{"enabledMcpjsonServers": ["modelsmith"]}')
    listed = run(world, "claude", "mcp", "list")
    assert "modelsmith mcp --role reviewer - ✔ Connected" in listed.stdout, listed.stdout + listed.stderr


def test_codex_lists_the_tools_of_the_role_that_its_pack_names(world):
    assert world.modelsmith("pack", "install", "codex", "--role", "promoter").code == 0
    home = world.folder / "codex"
    home.mkdir(exist_ok=True)
    text = (world.clone / ".codex/config.toml").read_text()
    (home / "config.toml").write_text(f"{text}\nstartup_timeout_sec = 120\n")
    hello = {"clientInfo": {"name": "test", "version": "0"}}
    requests = ("initialize", 1, hello), ("initialized", None, {}), ("mcpServerStatus/list", 2, {})
    lines = [json.dumps({"id": of, "method": name, "params": params}) for name, of, params in requests]
    listed = answer_to(2, world, "\n".join(lines).replace('"id": null, ', "") + "\n")
    [server] = listed["data"]
    assert set(server["tools"]) == {tool.name for tool in tools_of("promoter")}


def answer_to(of, world, lines):
    """What Codex's app server answers to the request of this id; it ends when its input does."""
    environment = world.environment() | {"CODEX_HOME": str(world.folder / "codex")}
    environment["PATH"] = os.pathsep.join([str(CLIENTS / "node"), str(COMMAND.parent), environment["PATH"]])
    with subprocess.Popen(
        [CLIENTS / "node_modules/.bin/codex", "app-server"],
        cwd=world.clone, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as server:  # fmt: skip
        server.stdin.write(lines)
        server.stdin.flush()
        answers = (json.loads(line) for line in server.stdout)
        result = next(answer["result"] for answer in answers if answer.get("id") == of)
        server.stdin.close()
        server.terminate()
    return result


@pytest.mark.parametrize("what", ["packs/modelsmith", "."], ids=["plugin", "marketplace"])
def test_claude_codes_own_validator_accepts(world, what):
    process = run(world, "claude", "plugin", "validate", "--strict", str(TOP / what))
    assert process.returncode == 0, process.stdout + process.stderr


def test_claude_codes_own_validator_refuses_a_plugin_that_is_none(world):
    broken = world.folder / "broken/.claude-plugin"
    broken.mkdir(parents=True)
    (broken / "plugin.json").write_text('{"name": "two words", "colour": "red"}')
    assert run(world, "claude", "plugin", "validate", "--strict", str(broken.parent)).returncode == 1


def test_the_protocols_inspector_waits_for_a_task_to_its_end(world):
    """By the extension's own client library, which is not ours and not the server's."""
    with served(world, "operator") as address:
        arguments = ("--method", "tools/call", "--tool-name", "modelsmith_eval_run", "--tool-arg", f"cluster={CLUSTER}")
        how = ("--transport", "http", "--protocol-era", "modern")
        process = run(world, "mcp-inspector", "--cli", address, *how, *arguments, "domain=medicine")
    assert json.loads(json.loads(process.stdout)["content"][0]["text"])["code"] == "other-domain", process.stderr
