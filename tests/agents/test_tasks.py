"""Long work as tasks, for clients that have the extension: the task is the job, and its id opens it for one holder.

What is said here is said as bytes on the wire, so that no library of the protocol stands between.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import Literal

import anyio
import jsonschema
import mcp_types as types
from agents.conftest import jobs_of, one_before
from mcp import Client
from mcp.client import ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from worlds import CLUSTER, COMMAND

from modelsmith.repository.workspace import Workspace

EXTENSION = "io.modelcontextprotocol/tasks"
TAG = {"cluster": CLUSTER, "quick": True, "tag": "by-agent"}
MODERN = "2026-07-28"


def envelope(extensions=(EXTENSION,)):
    """What a client of the stateless protocol says of itself with each request."""
    has = {"extensions": {name: {} for name in extensions}}
    meta = {"protocolVersion": MODERN, "clientInfo": {"name": "raw", "version": "1"}, "clientCapabilities": has}
    return {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}


class Handle(types.Result):
    """What the official client is told to wait for."""

    result_type: Literal["task"]
    task_id: str


class Named(types.RequestParams):
    task_id: str


class GetTask(types.Request[Named, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    name_param = "taskId"


class State(types.Result):
    status: str
    result: dict[str, object] | None = None


class Waits(ClientExtension):
    """The extension as a user of the official SDK writes it; the SDK has the place for it."""

    identifier = EXTENSION

    def claims(self):
        return [ResultClaim(result_type="task", model=Handle, resolve=self.resolve)]

    async def resolve(self, handle, ctx):
        while True:
            task = GetTask(params=Named(task_id=handle.task_id))
            if (state := await ctx.session.send_request(task, State)).status != "working":
                return types.CallToolResult.model_validate(state.result)
            await anyio.sleep(0.5)


class Wire:
    """A server on standard input and output, and what it answers to lines."""

    def __init__(self, process):
        self._process, self._count = process, 0

    def ask(self, method, meta=None, **params):
        """The whole answer to one request."""
        self._count += 1
        params = params | ({"_meta": meta} if meta else {})
        line = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}
        self.tell(line)
        while True:
            answer = json.loads(self._process.stdout.readline())
            if answer.get("id") == self._count:
                return answer

    def tell(self, line):
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def modern(self, method, **params):
        return self.ask(method, envelope(), **params)

    def to_the_end(self, task, seconds=400):
        """The task, once it is over."""
        end = time.monotonic() + seconds
        while (state := self.modern("tasks/get", taskId=task)["result"])["status"] == "working":
            assert time.monotonic() < end, state
            time.sleep(0.5)
        return state


@contextmanager
def wire(world, role="operator"):
    command = [COMMAND, "mcp", "--role", role]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=world.clone, env=world.environment(), **streams) as process:
        yield Wire(process)
        process.stdin.close()
        process.wait(30)


def test_long_work_is_a_task_that_is_polled_to_what_the_tool_answers(fresh):
    with wire(fresh) as server:
        capabilities = server.modern("server/discover")["result"]["capabilities"]
        assert (capabilities["extensions"], "tasks" in capabilities) == ({EXTENSION: {}}, False)
        listed = {tool["name"]: tool for tool in server.modern("tools/list")["result"]["tools"]}
        task = server.modern("tools/call", name="modelsmith_eval_run", arguments=TAG)["result"]
        assert (task["resultType"], task["status"], task["ttlMs"]) == ("task", "working", None)
        assert not {"result", "error", "content", "task"} & set(task)
        again = server.modern("tools/call", name="modelsmith_eval_run", arguments=TAG)["result"]
        assert again["taskId"] == task["taskId"], "the same request is the same task"
        wrong = {"cluster": CLUSTER, "domain": "medicine"}
        failing = server.modern("tools/call", name="modelsmith_eval_run", arguments=wrong)["result"]["taskId"]
    with wire(fresh) as server:  # the client was started again, and kept the id
        ended = server.to_the_end(task["taskId"])
        assert (ended["resultType"], ended["status"]) == ("complete", "completed")
        assert ended["createdAt"] <= ended["lastUpdatedAt"]
        answer = ended["result"]["structuredContent"]
        assert (answer["exit"], answer["result"]["run"]["tag"]) == (3, "by-agent")
        jsonschema.validate(answer, listed["modelsmith_eval_run"]["outputSchema"])
        assert json.loads(ended["result"]["content"][0]["text"]) == answer
        failed = server.to_the_end(failing)
        assert (failed["status"], failed["result"]["isError"]) == ("completed", True), "what a tool says, good or bad"
        assert json.loads(failed["result"]["content"][0]["text"])["code"] == "other-domain"
        assert server.modern("tasks/cancel", taskId=task["taskId"])["result"].keys() == {"resultType", "_meta"}
        still = server.to_the_end(task["taskId"])
        assert (still["status"], still["lastUpdatedAt"]) == ("completed", ended["lastUpdatedAt"])
        for method_name in ("tasks/result", "tasks/list"):
            assert server.modern(method_name, taskId=task["taskId"])["error"]["code"] == -32601
    with wire(fresh, "reviewer") as server:
        refused = server.modern("tasks/get", taskId=task["taskId"])["error"]
        assert (refused["code"], refused["data"]["code"]) == (-32602, "unknown-task"), "it is the operator's"


def test_the_official_client_waits_for_a_task_as_for_any_answer(fresh, served):
    url, tokens = served
    secret = tokens.issue("operator", (), 1)[1]

    async def visit():
        http = create_mcp_http_client(headers={"Authorization": f"Bearer {secret}"})
        client = Client(streamable_http_client(url, http_client=http), mode=MODERN, extensions=[Waits()])
        async with http, client:
            await client.list_tools()  # from now on it holds answers against the schema that was listed
            return await client.call_tool("modelsmith_eval_run", {"cluster": CLUSTER, "domain": "medicine"})

    reply = anyio.run(visit)
    assert (reply.is_error, json.loads(reply.content[0].text)["code"]) == (True, "other-domain")


def test_a_client_without_the_extension_is_given_a_job_s_id(fresh):
    """Of this version of the protocol, or of an older one, whatever an older one says that it has."""
    long = {"name": "modelsmith_eval_run", "arguments": TAG}
    with one_before(fresh):
        with wire(fresh) as server:
            plain = server.ask("tools/call", envelope(()), **long)["result"]
            assert (plain["resultType"], plain["structuredContent"]["result"]["status"]) == ("complete", "queued")
            for method in ("tasks/get", "tasks/update", "tasks/cancel"):
                refused = server.ask(method, envelope(()), taskId="x", inputResponses={})["error"]
                assert refused["code"] == -32021
                assert refused["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            answer = server.ask("subscriptions/listen", envelope(()), notifications={"taskIds": ["x"]})
            assert answer["error"]["code"] == -32021
        with wire(fresh) as server:
            has = {"extensions": {EXTENSION: {}}}
            hello_params = {
                "protocolVersion": "2025-11-25",
                "clientInfo": {"name": "raw", "version": "1"},
                "capabilities": has,
            }
            hello = server.ask("initialize", **hello_params)["result"]
            server.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
            assert not {"extensions", "tasks"} & set(hello["capabilities"])
            older = server.ask("tools/call", task={"ttl": 60_000}, **long)["result"]
            assert older["structuredContent"]["result"]["jobId"] == plain["structuredContent"]["result"]["jobId"]
            assert server.ask("tasks/get", taskId="x")["error"]["code"] == -32601


def post(url, secret, method, label=None, **params):
    """What a bare request of the stateless protocol is answered: a result, an error, or the status."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": envelope()}}
    name = label or params.get("taskId") or params.get("name", "")
    headers = {
        "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {secret}", "MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Mcp-Name": name,
    }  # fmt: skip
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["result"]
    except urllib.error.HTTPError as error:
        text = error.read()
        return json.loads(text)["error"] if error.code == 400 else error.code


def test_a_task_s_id_opens_it_for_its_holder_and_for_nobody_else(fresh, served):
    url, tokens = served
    mine, secret = tokens.issue("operator", (), 1)
    others = [tokens.issue(role, (), 1)[1] for role in ("operator", "reviewer", "promoter")]
    long = {"name": "modelsmith_eval_run", "arguments": TAG}
    with one_before(fresh):
        task = post(url, secret, "tools/call", **long)["taskId"]
        assert post(url, secret, "tasks/get", taskId=task)["status"] == "working"
        assert post(url, others[0], "tools/call", **long)["taskId"] != task, "one job, and a ticket for each"
        job, turn, mark = task.split("-")
        forged = [job, f"{job}-{turn}-{'0' * 32}", f"{job}-1-{mark}", f"00000000-{turn}-{mark}", task.upper(), "-", "x"]
        forged += [f"{task[:-1]}{'0' if task[-1] != '0' else '1'}", "../../etc/passwd", f"{job}-{turn}-{mark}-"]
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            tried = [post(url, other, method, taskId=task, inputResponses={}) for other in others]
            tried += [post(url, secret, method, taskId=forged_id, inputResponses={}) for forged_id in forged]
            assert {error["code"] for error in tried} == {-32602}, method
            unknown = [error for error in tried if error["data"]["code"] == "unknown-task"]
            assert len(unknown) == len(tried) - (2 if method == "tasks/cancel" else 1), "others have no such tool"
            assert len({error["message"] for error in unknown}) == 1, "nobody learns whose it is"
            assert post(url, secret, method, "another", taskId=task, inputResponses={})["code"] == -32020
        assert post(url, secret, "tasks/get", taskId="x" * 5000)["code"] == -32602
        assert post(url, secret, "tasks/update", taskId=task, inputResponses={"x": {}})["resultType"] == "complete"
        assert post(url, secret, "tasks/cancel", taskId=task)["resultType"] == "complete"
        assert post(url, secret, "tasks/get", taskId=task)["status"] == "cancelled"
        jobs_of(fresh).resume(Workspace.find(fresh.clone), job)
        old = post(url, secret, "tasks/get", taskId=task)
        assert (old["status"], old["error"]["data"]["code"]) == ("failed", "task-interrupted"), "it is over for good"
        assert post(url, secret, "tasks/cancel", taskId=task)["resultType"] == "complete"
        assert jobs_of(fresh).find(job).state == "queued", "a ticket of an earlier turn ends nothing"
        tokens.revoke(mine.id)
        assert post(url, secret, "tasks/get", taskId=task) == 401


def test_a_task_gives_no_right_that_the_token_s_tools_do_not_give(fresh, served):
    url, tokens = served
    blind = tokens.issue("operator", ("modelsmith_eval_run",), 1)[1]
    sees = tokens.issue("operator", ("modelsmith_eval_run", "modelsmith_train_status"), 1)[1]
    long = {"name": "modelsmith_eval_run", "arguments": TAG}
    with one_before(fresh):
        assert post(url, blind, "tools/call", **long)["structuredContent"]["result"]["status"] == "queued"
        assert "extensions" not in post(url, blind, "server/discover")["capabilities"]
        task = post(url, sees, "tools/call", **long)["taskId"]
        for secret, method in ((sees, "tasks/cancel"), (blind, "tasks/get")):
            assert post(url, secret, method, taskId=task)["data"]["code"] == "outside-role"
        assert post(url, sees, "tasks/get", taskId=task)["status"] == "working"


def test_a_task_whose_process_is_gone_says_so_and_goes_on_as_another(fresh):
    long = {"name": "modelsmith_eval_run", "arguments": TAG}
    with one_before(fresh), wire(fresh) as server:
        task = server.modern("tools/call", **long)["result"]["taskId"]
        jobs_of(fresh)._records.begin(task[:8], os.getpid())  # as a machine that lost its power leaves it
        state = server.modern("tasks/get", taskId=task)["result"]
        assert (state["status"], state["error"]["data"]["code"]) == ("failed", "task-interrupted")
        again = server.modern("tools/call", **long)["result"]["taskId"]
        assert (again[:8] == task[:8], again == task) == (True, False)
        assert server.modern("tasks/get", taskId=again)["result"]["status"] == "working"
