"""What the door does when connections are many: it keeps what it has, says so, and blames no model for it."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import subprocess
import time
import urllib.request
from dataclasses import replace
from functools import partial

import openai
import pytest
from doors import ASKED, Backend, client, run, until
from ports import free_port
from worlds import CLUSTER, COMMAND

from modelsmith.door import backends
from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.refusal import Down
from modelsmith.door.room import CODE, Room
from modelsmith.live.store import measured_of

PLENTY = 1 << 20


async def answer_of(session, url, body=None):
    async with HttpModel(session, url, "m").ask(ASKED | (body or {})) as reply:
        return reply.status


@pytest.mark.parametrize("length", [1, 1 << 17])
def test_a_backend_is_not_down_where_the_door_is_slow_to_look(play, monkeypatch, length):
    """The time for a connection is over long before the event loop has looked at what came of it."""

    async def scene(door):
        loop, busy = asyncio.get_running_loop(), True

        def hog():
            time.sleep(0.02)
            if busy:
                loop.call_soon(hog)

        monkeypatch.setattr(backends, "CONNECT_SECONDS", 0.001)
        body = {"messages": [{"role": "user", "content": "x" * length}]}
        async with backends.backends(Room(PLENTY, 512, list)) as session:
            hog()
            statuses = await asyncio.gather(*(answer_of(session, door.incumbent.url, body) for _ in range(8)))
            busy = False
        assert statuses == [200] * 8

    play(scene)


def test_a_backend_that_takes_no_connection_is_given_up(monkeypatch):
    async def scene():
        monkeypatch.setattr(backends, "CONNECT_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
            first.connect(full.getsockname())  # the one that it has room for; further ones get no answer
            async with backends.backends(Room(PLENTY, 512, list)) as session:
                with pytest.raises(Down) as down:
                    await answer_of(session, f"http://127.0.0.1:{full.getsockname()[1]}/v1")
            assert (down.value.status, down.value.reason, down.value.again) == (503, "connect", False)

    run(scene)


def test_what_the_door_has_no_room_for_is_nobody_s_error(play):
    """Nobody is asked in the specialist's place, and neither side is counted as failed."""

    async def scene(door):
        reported = []
        async with backends.backends(Room(0, 512, lambda: reported.append("full"))) as session:
            door.session, outer = session, door.session
            door.serve(1.0)
            door.session = outer
            for _ in range(3):
                status, headers, answer = await door.ask()
                assert (status, answer["error"]["code"]) == (503, CODE)
                assert "x-modelsmith-failed-over-from" not in headers
        assert reported == ["full"]
        assert [door.incumbent.asked, door.specialist.asked] == [[], []]
        ends = [end for _, end in door.recorder.ends]
        assert [end.status for end in ends] == [503] * 3
        assert all(set(measured_of(end, 800).values()) == {None} for end in ends)

    play(scene)


@pytest.mark.parametrize("lacking", ["caller", "copy"])
def test_a_request_or_copy_without_room_leaves_nothing_to_compare(play, lacking):
    async def scene(door):
        async with backends.backends(Room(0, 512, list)) as session:
            door.copied = 1.0
            door.serve(None)
            served = door.door.follower.served.clusters["pricing"]
            other = replace(served.shadow if lacking == "copy" else served.incumbent, session=session)
            changed = {"shadow": other} if lacking == "copy" else {"incumbent": other}
            door.door.follower.served.clusters["pricing"] = replace(served, **changed)
            status, _, _ = await door.ask()
            await until(lambda: door.door.counting.shadows.under_way == 0)
        assert status == (200 if lacking == "copy" else 503)
        assert [reporter for reporter, _ in door.recorder.ends if reporter.stage == "shadow"] == door.shadow.asked == []

    play(scene)


def test_callers_are_turned_away_before_backends_and_these_before_files():
    now, reported, refused = [0.0], [], []
    room = Room(1024, 512, lambda: reported.append(now[0]), lambda: now[0], refused.append)
    assert 3 < room.callers < room.backends < 1024
    assert room.takes(room.callers - 1)
    for now[0] in (0.0, 59.0, 60.0, 61.0):
        assert not room.takes(room.callers)
    assert (reported, refused) == ([0.0, 60.0], ["callers"] * 4)
    assert room.kept == room.backends - room.callers
    assert Room(64, 512, list).callers > 3


def test_a_door_without_descriptors_keeps_what_it_has(world):
    """A real door that may open few files, and callers who take all that it has for them."""
    issued = world.modelsmith("serve-key", "issue", "--days", "2")
    key, port = issued.out.split("token")[1].split()[0], free_port()
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (320, 320))
    doors, figures = [], []

    def is_open(connection):
        connection.setblocking(False)
        try:
            return connection.recv(1) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def in_time(ask):
        async with asyncio.timeout(100):
            while True:
                try:
                    return await ask()
                except (openai.APIError, OSError):  # it is not there yet, or has no room yet
                    await asyncio.sleep(0.1)

    def read_figures():
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    async def scene():
        backend = Backend()
        backend.events, backend.hold = 3, asyncio.Event()
        async with backend.running():
            names = f"{{base: b, {world.state()['specialist']}: s}}"
            (world.home / "serve.yaml").write_text(
                f"backends: {{{CLUSTER}: {{engine: openai, url: '{backend.url}', models: {names}}}}}\n"
            )
            command = [COMMAND, "serve", "--port", str(port)]
            doors.append(
                subprocess.Popen(
                    command, cwd=world.clone, env=world.environment(), preexec_fn=limit, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
            fields = {"model": CLUSTER, "messages": [{"role": "user", "content": "Why?"}]}
            caller = client(f"http://127.0.0.1:{port}/v1", key)
            await in_time(caller.models.list)
            under_way = asyncio.create_task(caller.chat.completions.create(**fields))
            await until(lambda: len(backend.asked) == 1)
            connections = [await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port)) for _ in range(400)]
            await until(lambda: not all(map(is_open, connections)))
            log = world.private / "logs" / "door.jsonl"
            await until(lambda: log.exists() and f'"code": "{CODE}"' in log.read_text())
            assert sum(map(is_open, connections)) < 320
            assert not under_way.done()
            backend.hold.set()
            assert (await under_way).choices
            for connection in connections:
                connection.close()
            assert (await in_time(partial(caller.chat.completions.create, **fields))).choices
            figures.append(await in_time(partial(asyncio.to_thread, read_figures)))
            doors[0].terminate()
            assert await asyncio.to_thread(doors[0].wait, 60) == 0

    try:
        run(scene)
    finally:
        doors[0].kill()
        text = doors[0].communicate()[1]
    lines = [json.loads(line) for line in (world.private / "logs" / "door.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines if line["what"] == "answered"] == [200, 200]
    assert "NO ROOM" in text
    refused = re.search(r'^modelsmith_door_connections_refused_total\{side="callers"\} (\S+)', figures[0], re.M)
    assert refused
    assert float(refused[1]) >= 1
