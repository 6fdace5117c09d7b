"""The door obeys only a main that verifies and models that are what their records say; else all goes on as it was."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import httpx2
import openai
import pytest
from door.following import door
from doors import INCUMBENT, Backend, client, line, run, until
from ports import free_port
from worlds import CLUSTER, COMMAND

from modelsmith.door import follow
from modelsmith.door.follow import Follower, _Plan
from modelsmith.door.settings import Embedded, Settings, load_settings
from modelsmith.fleet.doors import busy_doors
from modelsmith.governance.router import Rules
from modelsmith.loop.window import watching
from modelsmith.operations import route
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.serving import Arm
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

ASKED = {"model": CLUSTER, "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 6}


def fetch(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def get(url):
    return json.loads(fetch(url))


def route_of(world, requests, *words):
    """What `modelsmith route` says of these requests."""
    path = world.folder / "requests.jsonl"
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    result = world.modelsmith("route", str(path), *words, "--json")
    return result.code, result.json


async def said_by(url, **more):
    caller = client(f"{url}/v1")
    raw = await caller.chat.completions.with_raw_response.create(**ASKED, **more)
    return raw.headers, raw.parse()


def on_main(world, files, message="Change"):
    """A commit on main that no gate has seen."""
    for name, text in files.items():
        path = world.clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    world.must("add", "--all")
    world.must("commit", "--quiet", "--message", message)


def test_a_deployed_specialist_answers_from_its_verified_main(world):
    """The tiny model through the embedded engine, whole and streamed: the same words; no prompt holds it long."""
    settings = Settings(backends={CLUSTER: Embedded(prompt_tokens=400)})

    async def scene():
        async with door(world, settings=settings) as (url, follower, recorder):
            with pytest.raises(urllib.error.HTTPError, match="503"):
                await asyncio.to_thread(get, f"{url}/readyz")
            served = await follower.start()
            ready = served.clusters[CLUSTER]
            assert [
                watched_window.record for watched_window in watching(read_governed_state(world.git, served.commit))
            ] == [ready.line.watched.record]
            assert await asyncio.to_thread(get, f"{url}/readyz") == {
                "status": "ready", "commit": world.main(), "trouble": [], "counting": True,
            }  # fmt: skip
            assert ready.line.incumbent.specialist == "base"
            assert ready.line.share == 0.1
            assert ready.line.watched.specialist.startswith("iter-001-")
            headers, whole = await said_by(url)
            assert headers["x-modelsmith-specialist"] in ("base", ready.line.watched.specialist)
            caller = client(f"{url}/v1")
            stream = await caller.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
            chunks = [chunk async for chunk in stream]
            assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens > 0
            texts = {"".join(c.choices[0].delta.content or "" for c in chunks if c.choices)}
            assert {d.arm for d in recorder.decisions} <= {"specialist", "incumbent"}
            if len({d.arm for d in recorder.decisions}) == 1:
                assert texts == {whole.choices[0].message.content}
            with pytest.raises(openai.BadRequestError, match="tools"):
                await said_by(url, tools=[])
            with pytest.raises(openai.BadRequestError, match="tokens"):
                await caller.chat.completions.create(**ASKED | {"max_tokens": 5000})
            long = [{"role": "user", "content": "Why? " * 2000}]
            with pytest.raises(openai.BadRequestError, match="at most 400"):
                await caller.chat.completions.create(**ASKED | {"messages": long})
            await until(lambda: [busy_door.answers for busy_door in busy_doors(world.home / "doors")] == [2])
        assert busy_doors(world.home / "doors") == []

    run(scene)


def test_a_main_that_does_not_verify_changes_nothing_and_is_said_loudly(world):
    """Somebody pushes an unsigned change to main; after it is gone the door says that it obeys again."""

    async def scene():
        messages = []
        async with door(world, messages) as (url, follower, _):
            served = await follower.start()
            good = world.must("rev-parse", "HEAD").strip()
            on_main(world, {"clusters/router.yaml": "rules:\n- {name: all, cluster: rtb-pricing}\n"})
            await follower.look()
            assert follower.served is served
            answer = await asyncio.to_thread(get, f"{url}/readyz")
            assert (answer["status"], answer["commit"], answer["trouble"]) == (
                "degraded",
                good,
                ["history-does-not-hold"],
            )
            assert "NOT OBEYED, main (history-does-not-hold)" in messages[-1]
            metrics = await asyncio.to_thread(fetch, f"{url}/metrics")
            assert "modelsmith_door_main_obeyed 0.0" in metrics
            assert 'modelsmith_door_trouble{code="history-does-not-hold",what="main"} 1.0' in metrics
            assert (await said_by(url))[1].choices
            world.must("reset", "--quiet", "--hard", good)
            await follower.look()
            assert messages[-1] == "main: obeyed again"
            assert (await asyncio.to_thread(get, f"{url}/readyz"))["status"] == "ready"

    run(scene)


def test_a_restart_before_a_bad_main_serves_the_last_verified_one(world):
    async def scene():
        async with door(world) as (_, follower, _):
            good = (await follower.start()).commit
        on_main(world, {"README.md": "Nobody has approved this.\n"})
        async with door(world) as (url, follower, _):
            assert (await follower.start()).commit == good
            assert (await asyncio.to_thread(get, f"{url}/readyz"))["status"] == "degraded"
        (world.private / "verified.json").unlink()
        async with door(world) as (_, follower, _):
            with pytest.raises(IntegrityFailure):
                await follower.start()

    run(scene)


def test_nothing_in_the_work_tree_is_obeyed(world):
    """Planted rules, routing and settings are there, and main stays what it is."""
    planted = {
        "clusters/router.yaml": "rules:\n- {name: all, cluster: nowhere}\n",
        f"clusters/{CLUSTER}/routing.yaml": "cluster: rtb-pricing\nserving: []\n",
        "serve.yaml": "backends: {rtb-pricing: {engine: openai, url: 'http://127.0.0.1:9/v1'}}\n",
    }

    async def scene():
        for name, text in planted.items():
            (world.clone / name).write_text(text)
        workspace = Workspace.find(world.clone)
        assert load_settings(workspace, None).backends == {}
        with pytest.raises(InvalidInput, match="work tree"):
            load_settings(workspace, world.clone / "serve.yaml")
        async with door(world) as (url, follower, _):
            assert (await follower.start()).clusters[CLUSTER].line.watched is not None
            assert (await said_by(url))[1].choices

    run(scene)


def test_an_artifact_that_is_not_the_record_s_is_not_served(world):
    async def scene():
        adapter = next(world.home.rglob("adapter_model.safetensors"))
        adapter.chmod(0o644)
        whole = adapter.read_bytes()
        async with door(world) as (url, follower, _):
            served = await follower.start()
            adapter.write_bytes(whole[:-1] + b"\xff")
            follower._seen = None
            await follower.look()
            assert list(follower.troubles) == [CLUSTER]
            assert follower.served.clusters[CLUSTER].watched is served.clusters[CLUSTER].watched
            assert (await said_by(url))[1].choices
        async with door(world) as (url, follower, recorder):
            ready = (await follower.start()).clusters[CLUSTER]
            assert (list(follower.troubles), ready.line.watched, ready.line.share) == ([CLUSTER], None, 0.0)
            for _ in range(6):
                assert (await said_by(url))[0]["x-modelsmith-specialist"] == "base", "the door answers all the same"
            assert {(decision.arm, decision.stage) for decision in recorder.decisions} == {("incumbent", "full")}
            adapter.write_bytes(whole)
            follower._again = 0.0
            await follower.look()
            assert not follower.troubles
            assert follower.served.clusters[CLUSTER].line.share == 0.1
        shutil.rmtree(world.home / "store")
        async with door(world) as (_, follower, _):
            with pytest.raises(InvalidInput, match="store"):
                await follower.start()

    run(scene)


@pytest.mark.parametrize("stands", [True, False])
def test_who_served_goes_on_for_want_of_the_next_unless_main_took_it_back(stands):
    """Main names another incumbent, whose model is not at hand: a successor, or who serves after a rollback."""
    after = replace(
        line(), incumbent=Arm("base", None, ""), standing=frozenset({INCUMBENT.specialist} if stands else ())
    )

    async def make(which, arm):
        if arm != INCUMBENT:
            raise InvalidInput("no-model-name", "Nobody knows its name", "Write one.")
        return None

    async def scene():
        follower = Follower(None, make, lambda commit: None, lambda subject, error: None)
        for commit, new_line in (("a" * 40, line()), ("b" * 40, after)):
            await follower._obey(_Plan(commit, Rules(None, [line().cluster.cluster]), {"pricing": new_line}, {}))
        assert list(follower.troubles) == ["pricing"]
        assert list(follower.served.clusters) == (["pricing"] if stands else [])
        assert follower.served.lacking == (frozenset() if stands else {"pricing"})

    asyncio.run(scene())


def test_a_start_names_what_is_wrong_with_main_and_not_what_followed(world, monkeypatch):
    """The main of the last run could not be read either, and its error took the place of the first."""

    async def scene():
        async with door(world) as (_, follower, _):
            await follower.start()
        first = IntegrityFailure("damaged-object", "An object is damaged", "Clone anew.")
        second = IntegrityFailure("git-failed", "git cat-file has ended", "Check it.")
        for name, error in (("_read", first), ("_read_remembered", second)):
            monkeypatch.setattr(follow, name, Mock(side_effect=error))
        async with door(world) as (_, follower, _):
            with pytest.raises(IntegrityFailure, match="An object is damaged"):
                await follower.start()

    run(scene)


def test_a_clone_that_pins_no_root_serves_nothing(world):
    async def scene():
        world.must("config", "--unset", "modelsmith.root")
        async with door(world) as (_, follower, _):
            with pytest.raises(InvalidInput, match="pins no governance root"):
                await follower.start()

    run(scene)


def start(world, port):
    return subprocess.Popen(
        [COMMAND, "serve", "--port", str(port)],
        cwd=world.clone, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ready(port):
    end = time.monotonic() + 100
    while time.monotonic() < end:
        try:
            return get(f"http://127.0.0.1:{port}/readyz")
        except OSError:
            time.sleep(0.1)
    raise TimeoutError


def test_doors_of_one_clone_are_killed_restarted_and_closed(world):
    """Two doors serve one clone; one is killed amid an answer and comes again; at a signal both end what they began."""
    slip = world.modelsmith("serve-key", "issue", "--cluster", "rtb-pricin", "--days", "2")
    assert (slip.code, "rtb-pricing" in slip.err) == (2, True)
    key = world.modelsmith("serve-key", "issue", "--cluster", "rtb-*", "--days", "2", "--json").json["token"]
    ports = [free_port(), free_port()]
    clients = [client(f"http://127.0.0.1:{port}/v1", key) for port in ports]
    doors = []

    async def scene():
        backend = Backend()
        backend.events, backend.pause = 60, 0.05
        async with backend.running():
            names = f"{{base: b, {world.state()['specialist']}: s}}"
            (world.home / "serve.yaml").write_text(
                f"backends: {{{CLUSTER}: {{engine: openai, url: '{backend.url}', models: {names}}}}}\n"
            )
            doors.extend(start(world, port) for port in ports)
            assert {(await asyncio.to_thread(ready, port))["status"] for port in ports} == {"ready"}
            streams = [await caller.chat.completions.create(**ASKED, stream=True) for caller in clients]
            for stream in streams:
                await anext(aiter(stream))
            doors[0].kill()
            with pytest.raises((openai.APIError, httpx2.HTTPError)):
                [chunk async for chunk in streams[0]]
            await until(lambda: len(backend.stopped) == 1)
            doors[0].wait()
            doors.append(start(world, ports[0]))
            assert (await asyncio.to_thread(ready, ports[0]))["status"] == "ready"
            assert (await clients[0].chat.completions.create(**ASKED)).choices
            last = await clients[0].chat.completions.create(**ASKED, stream=True)
            await anext(aiter(last))
            for each in doors[1:]:
                each.send_signal(signal.SIGTERM)
            assert [chunk async for chunk in last][-1].choices[0].finish_reason == "stop"
            assert [await asyncio.to_thread(each.wait, 60) for each in doors[1:]] == [0, 0]

    try:
        run(scene)
    finally:
        messages = []
        for each in doors:
            each.kill()
            messages.append(each.communicate())
    log = (world.private / "logs" / "door.jsonl").read_text()
    assert '"what": "answered"' in log
    assert key not in f"{log}{messages}"


def test_what_cannot_be_served_is_said_in_one_error(world):
    port = free_port()

    def refusal(*words, **more):
        result = world.modelsmith("serve", "--port", str(port), *words, env=world.environment() | more)
        return result.code, result.err

    assert refusal() == (2, refusal()[1])
    assert "serve-key issue" in refusal()[1]
    assert "keys-needed" in refusal("--no-keys", "--host", "0.0.0.0")[1] or "tls-needed" in refusal("--host", "::")[1]
    assert "outside-role" in refusal("--no-keys", MODELSMITH_ROLE="operator")[1]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        code, err = refusal("--no-keys")
        assert (code, "address-taken" in err) == (6, True)


def test_route_says_where_requests_go_and_what_a_change_moves(world):
    """Rules in the work tree beside those of main; a request's key says who answers; nothing of a request is shown."""
    gold = {"model": "gpt-4", "messages": [{"role": "user", "content": "PRIVATE"}], "metadata": {"tier": "gold"}}
    plain = {"model": CLUSTER, "messages": [{"role": "user", "content": "PRIVATE"}]}
    code, routed = route_of(world, [plain, gold])
    assert code == 0
    (first, second) = routed["requests"]
    assert (first["cluster"], first["rule"], first["sticky"]) == (CLUSTER, None, False)
    assert [(serving["specialist"], serving["share"]) for serving in first["answering"]] == [
        ("base", 0.9), (world.state()["specialist"], 0.1),
    ]  # fmt: skip
    assert (second["cluster"], second["answering"], routed["unrouted"]) == (None, [], 1)
    (world.clone / "clusters/router.yaml").write_text(
        "rules:\n"
        "- {name: gold, when: {metadata: {tier: gold}}, cluster: rtb-pricing, key: {header: x-user}}\n"
        "- {name: named, when: {model: [rtb-pricing], last_message: ^x}, cluster: rtb-pricing}\n"
    )
    code, routed = route_of(world, [plain, {"headers": {"X-User": "7"}, "body": gold}], "--against", "HEAD")
    assert [(request["cluster"], request["rule"], request["sticky"]) for request in routed["requests"]] == [
        (None, None, False), (CLUSTER, "gold", True),
    ]  # fmt: skip
    assert routed["requests"][0]["passed_over"] == [
        {"rule": "gold", "condition": "body /metadata/tier"}, {"rule": "named", "condition": "last_message"},
    ]  # fmt: skip
    assert [request["share"] for request in routed["requests"][1]["answering"]] == [1.0]
    assert [(move["number"], move["before"], move["after"]) for move in routed["moved"]] == [
        (1, CLUSTER, None), (2, None, CLUSTER),
    ]  # fmt: skip
    assert "PRIVATE" not in json.dumps(routed)
    for unusable in ([], [{"model": 3}], [plain | {"temperature": float("nan")}], [plain | {"user": "\ud800"}]):
        assert route_of(world, unusable)[1]["code"] == "unusable-request"


def test_a_file_of_requests_without_an_end_is_refused(monkeypatch):
    """A device says that it holds nothing: one took all memory of a machine."""
    monkeypatch.setattr(route, "LARGEST", 1 << 20)
    with pytest.raises(InvalidInput) as caught:
        list(route._read(Path("/dev/zero")))
    assert caught.value.message == "zero is larger than 1 MiB"
