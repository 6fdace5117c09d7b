"""What an enemy sends: to be answered as another, to be counted as another, or to stop the door for everybody."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from contextlib import suppress

import pytest
from doors import ASKED, CLUSTER, WATCHED, event, until

from modelsmith.door.settings import Limits
from modelsmith.repository.tokens import callers
from modelsmith.schema.router import Router, Rule, When

BODY = json.dumps(ASKED).encode()
LENGTH = len(BODY)
SMALL = Limits(body_bytes=4096, at_once=2, waiting=1, wait_seconds=90.0)
BRIEF = Limits(body_bytes=4096, body_seconds=1.0, at_once=2, waiting=1)


async def raw(door, data, *, wait=True):
    """What comes back for bytes as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(data)
    await writer.drain()
    if not wait:
        return reader, writer
    try:
        async with asyncio.timeout(60):
            return await reader.read(65536)
    finally:
        writer.close()


def head(*lines, host=None, length=LENGTH):
    host_line = [f"Host: {host}"] if host else []
    host_line += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join(
        ["POST /v1/chat/completions HTTP/1.1", *host_line, "Content-Type: application/json", *lines, "", ""]
    ).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad-json"),
        (b"[]", "bad-json"),
        (b"[" * 3000, "bad-json"),
        (b'{"a":' * 600 + b"1" + b"}" * 600, "bad-json"),
        (BODY[:-1] + b', "model": "other"}', "bad-json"),
        (BODY[:-1] + b', "metadata": {"tier": "x", "tier": "gold"}}', "bad-json"),
        (BODY[:-1] + b', "temperature": NaN}', "bad-json"),
        (BODY[:-1] + b', "temperature": 1e999}', "bad-json"),
        (BODY[:-1] + b', "seed": ' + b"9" * 2000 + b"}", "bad-json"),
        (b"\xff\xfe" + BODY, "bad-json"),
        (BODY.decode().encode("utf-16"), "bad-json"),
        (BODY[:-1] + b', "x": [' + b"[]," * 30_000 + b"1]}", "bad-json"),
        (BODY[:-1] + b', "x": {' + b",".join(b'"%d":0' % n for n in range(21_000)) + b"}}", "bad-json"),
        (BODY[:-1] + b', "x": "' + b'\\"[' * 60_000, "bad-json"),
        (BODY.replace(b"Why?", b"\\ud800"), "bad-json"),
        (BODY.replace(b"Why?", b"\\uDFFF\\uD800"), "bad-json"),
        (BODY.replace(b"Why?", b"\xed\xa0\x80"), "bad-json"),
        (BODY[:-1] + b', "metadata": {"\\uD83D": 1}}', "bad-json"),
        (b'{"model": "pricing"}', "bad-request"),
        (b'{"model": ["pricing"], "messages": [{}]}', "bad-request"),
        (b'{"model": "pricing", "messages": ["x"]}', "bad-request"),
        (b'{"model": "pricing", "messages": [{}], "stream": "yes"}', "bad-request"),
        (b'{"model": "../../etc/passwd", "messages": [{}]}', "no-route"),
        (b'{"model": "pricing/../pricing", "messages": [{}]}', "no-route"),
        (b'{"model": "iter-002-0000000b", "messages": [{}]}', "no-route"),
        (b'{"model": "base", "messages": [{}]}', "no-route"),
    ],
)
def test_a_body_that_two_readers_could_read_differently_is_refused(play, body, code):
    async def scene(door):
        status, _, answer = await door.ask(body)
        assert (status in (400, 404), answer["error"]["code"]) == (True, code)
        assert answer["error"]["message"]
        assert door.specialist.asked == door.incumbent.asked == door.recorder.decisions == []

    play(scene)


def test_a_long_text_is_no_more_than_one_value(play):
    async def scene(door):
        for text in ('1,2,[3];{4}\\" ' * 30_000, "a\u0301\u0316" * 50_000):
            assert (await door.ask({"messages": [{"role": "user", "content": text}]}))[0] == 200

    play(scene)


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\u0f71\u0f72\u0f39"])
def test_marks_in_bad_order_do_not_stop_the_door_for_everybody(play, marks):
    """In a request that a rule looks at; it took minutes, in which nobody else was answered."""
    rule = Rule(name="words", when=When(last_message="never said"), cluster=CLUSTER)

    async def scene(door):
        door.serve(1.0, Router(rules=(rule,)))
        begin = time.process_time()
        status, _, answer = await door.ask({"messages": [{"role": "user", "content": "a" + marks * 150_000}]})
        assert (status, answer["error"]["code"]) == (404, "no-route")
        assert time.process_time() - begin < 10

    play(scene, limits=Limits(body_bytes=8 << 20))


def test_no_more_of_a_body_is_taken_than_allowed(play):
    async def scene(door):
        for data in (b" " * 5000 + BODY, b"x" * (8 << 20)):
            status, _, answer = await door.ask(data)
            assert (status, answer["error"]["code"]) == (413, "body-too-large")
        bomb = gzip.compress(b" " * (64 << 20))
        status, _, answer = await door.ask(bomb, **{"Content-Encoding": "gzip"})
        assert status in (413, 415)
        assert (await door.ask())[0] == 200

    play(scene, limits=SMALL)


def test_the_rest_of_a_body_is_not_waited_for_for_ever(play):
    async def scene(door):
        answer = await raw(door, head(host=f"127.0.0.1:{door.port}", length=2000) + b"{")
        assert b" 408 " in answer.splitlines()[0]

    play(scene, limits=BRIEF)


def test_requests_cannot_be_smuggled_past_each_other(play):
    """Two lengths, a length beside chunks, two hosts, a folded header: one answer at most, and it is no."""
    rule = Rule(name="vip", when=When(headers={"x-tier": "gold"}), cluster=CLUSTER)

    async def scene(door):
        door.serve(1.0, Router(rules=(rule,)))
        host = f"127.0.0.1:{door.port}"
        hidden = head("X-Tier: gold", host=host) + BODY
        for lines in (
            (f"Content-Length: {len(BODY) + len(hidden)}",),
            ("Transfer-Encoding: chunked",),
            ("Transfer-Encoding: xchunked",),
            ("X-Tier: silver", "X-Tier: gold"),
            ("X-Tier: gold", "X-Tier: gold"),
            ("X-Tier : gold",),
            ("X-A: 1\n X-Tier: gold",),
            ("Host: elsewhere",),
        ):
            answer = await raw(door, head(*lines, "Connection: close", host=host) + BODY)
            assert answer.count(b"HTTP/1.1") <= 1
            assert b" 200 " not in answer.splitlines()[0], lines
        assert door.specialist.asked == []
        for body in (BODY, BODY.replace(b"{", b'{"x-tier": "gold", "headers": {"x-tier": "gold"}, ', 1)):
            assert (await door.ask(body))[0] == 404
        assert (await door.ask(**{"X-TIER": "gold"}))[0] == 200

    play(scene)


@pytest.mark.parametrize(
    "broken",
    [
        b"SECRET\r\n\r\n",
        b"\x16\x03\x01SECRET",
        b"GET /SECRET\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"SECRET" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nSECRET : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"SECRET" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"SECRET: 1\r\n" * 3000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: SECRET\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: SECRET\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_come_back_and_are_logged_nowhere(play, broken, caplog, capfd):
    """Whoever reaches the port sends them, without a key; a key that a client wrote wrongly may be among them."""

    async def scene(door):
        answer = await raw(door, broken)
        start, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 " in start.splitlines()[0]
        assert b"Server: modelsmith" in start
        assert json.loads(body)["error"]["code"] == "bad-http"
        assert b"SECRET" not in answer
        assert (await door.ask())[0] == 200

    play(scene)
    printed = capfd.readouterr()
    assert "SECRET" not in caplog.text + printed.out + printed.err
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/nope", "/healthz"])
def test_a_body_that_claims_to_be_compressed_is_never_unpacked(play, path, caplog, capfd):
    """What is none is no fault of the door's, whose log anybody could else fill without a key."""

    async def scene(door):
        for _ in range(2):
            request = head("Content-Encoding: gzip", host=f"127.0.0.1:{door.port}", length=6)
            answer = await raw(door, request.replace(b"/v1/chat/completions", path.encode(), 1) + b"SECRET")
            assert answer.split()[1] in (b"415", b"404", b"405")
        assert (await door.ask())[0] == 200

    play(scene)
    printed = capfd.readouterr()
    assert "SECRET" not in caplog.text + printed.out + printed.err
    assert caplog.records == []


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"-1\r\n"])
def test_a_body_in_broken_chunks_is_the_caller_s_fault(play, chunks):
    async def scene(door):
        request = head("Transfer-Encoding: chunked", host=f"127.0.0.1:{door.port}", length=None)
        assert b" 400 " in (await raw(door, request + chunks)).splitlines()[0]
        assert door.specialist.asked == []

    play(scene)


def test_nothing_of_a_caller_s_headers_reaches_a_backend(play):
    async def scene(door):
        arguments = {
            "Authorization": "Bearer stolen", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "Proxy-Authorization": "x",
            "x-modelsmith-decision": "forged", "Accept-Encoding": "br", "Connection": "keep-alive, X-Secret",
            "X-Secret": "s",
        }  # fmt: skip
        _, headers, _ = await door.ask(**arguments)
        assert headers["x-modelsmith-decision"] == "d1"
        assert door.specialist.headers[0].keys() == {
            "host", "content-type", "accept-encoding", "accept", "user-agent", "content-length",
        }  # fmt: skip

    play(scene)


def test_a_backend_cannot_speak_in_the_door_s_name(play):
    """Headers of its own that look like ours, cookies, redirects and other kinds of content: none of them comes out."""
    lies = {
        "x-modelsmith-decision": "forged", "X-Modelsmith-Specialist": "base", "x-modelsmith-record": "sha256:0",
        "Set-Cookie": "a=b", "Location": "http://evil.invalid", "X-Other": "1", "Retry-After": "9999",
    }  # fmt: skip

    async def scene(door):
        door.specialist.answer_headers = lies
        for more in ({}, {"stream": True}):
            async with door.session.post(f"{door.url}/chat/completions", json=ASKED | more) as answer:
                await answer.read()
                mine = {name.lower() for name in answer.headers}
                assert answer.headers.getall("x-modelsmith-specialist") == [WATCHED.specialist]
                assert not mine & {"set-cookie", "location", "x-other", "retry-after"}
        door.specialist.answer_headers = {"Content-Type": "text/html"}
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert answer.headers["x-modelsmith-failed-over-from"] == WATCHED.specialist

    play(scene)


def test_without_keys_no_page_in_a_browser_is_heard(play):
    async def scene(door):
        status, _, answer = await door.ask(Origin="https://evil.invalid")
        assert (status, answer["error"]["code"]) == (403, "no-browsers")
        status, _, answer = await door.ask(Host=f"rebound.invalid:{door.port}")
        assert (status, answer["error"]["code"]) == (421, "wrong-host")
        assert (await door.ask(**{"Content-Type": "text/plain"}))[0] == 415

    play(scene)


def test_a_key_opens_its_clusters_until_it_is_revoked(play, tmp_path):
    keys = callers(tmp_path)
    token, good = keys.issue("caller", ("pri*",), 1)
    _, other = keys.issue("caller", ("traffic-1",), 1)
    rotated = keys.issue("caller", ("pricing",), 1)[1]
    whole = keys.issue("caller", (), 1)[1]

    async def scene(door):
        for bad in ("", "Bearer", "Bearer x", f"Basic {good}", "Bearer " + "x" * 4000):
            status, headers, answer = await door.ask(Authorization=bad)
            assert (status, answer["error"]["code"]) == (401, "no-key")
            assert headers["WWW-Authenticate"] == "Bearer"
        assert (await door.ask(Authorization=f"Bearer {other}"))[0] == 403
        assert (await door.ask(Authorization=f"Bearer {good}"))[0] == 200
        keys.revoke(token.id)
        assert (await door.ask(Authorization=f"Bearer {good}"))[0] == 401
        assert (await door.ask(Authorization=f"Bearer {rotated}"))[0] == 200
        for path, status in (
            ("/v1/models", 401),
            ("/v1/models/pricing", 401),
            ("/metrics", 401),
            ("/v1/feedback", 401),
            ("/healthz", 200),
        ):
            method = "POST" if path == "/v1/feedback" else "GET"
            async with door.session.request(method, f"http://127.0.0.1:{door.port}{path}") as answer:
                assert answer.status == status
        for key, status in ((rotated, 403), (other, 403), (whole, 200)):
            url, headers = f"http://127.0.0.1:{door.port}/metrics", {"Authorization": f"Bearer {key}"}
            async with door.session.get(url, headers=headers) as answer:
                assert answer.status == status, "figures name every cluster and specialist"
        async with door.session.get(f"http://127.0.0.1:{door.port}/readyz") as answer:
            assert "commit" not in await answer.json(), "who has no key learns that there is a door"
        report = {"json": {"decision_id": "d1"}, "headers": {"Authorization": f"Bearer {rotated}"}}
        async with door.session.post(f"http://127.0.0.1:{door.port}/v1/feedback", **report) as answer:
            assert (await answer.json())["may"] == ["pricing"], "a key reports of its own clusters only"
        assert good not in (tmp_path / "callers.json").read_text()

    play(scene, keys=keys)


def test_who_waits_with_a_body_is_refused_before_it_is_sent(play, tmp_path):
    keys = callers(tmp_path)
    good = keys.issue("caller", (), 1)[1]
    body = json.dumps(ASKED).encode()

    async def ask_raw(door, key, length, expected="100-continue", path="chat/completions", method="POST"):
        """The first thing that is said to a caller who waits, and what is said when the body has come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        head = f"{method} /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: {expected}\r\n"
        writer.write(f"{head}Authorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n".encode())
        first = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        then = None
        if first == 100:
            writer.write(body)
            then = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.close()
        return first, then

    async def scene(door):
        assert await ask_raw(door, "bad", len(body)) == (401, None)
        assert await ask_raw(door, "bad", len(body), path="feedback") == (401, None)
        assert await ask_raw(door, good, 1 << 30) == (413, None)
        assert await ask_raw(door, good, len(body), expected="a miracle") == (417, None)
        for method, path, status in (
            ("GET", "models", 200), ("GET", "chat/completions", 405), ("POST", "nothing", 404), ("POST", "models", 405),
            ("DELETE", "../metrics", 404), ("GET", "../healthz", 404), ("PUT", "", 404),
        ):  # fmt: skip
            for key, status_wanted in (("bad", 401), (good, status)):
                assert await ask_raw(door, key, len(body), path=path, method=method) == (status_wanted, None), (
                    method,
                    path,
                )
        assert door.specialist.asked == []
        assert await ask_raw(door, good, len(body)) == (100, 200)

    play(scene, keys=keys)


def test_a_damaged_file_of_keys_opens_nothing_and_is_said(play, tmp_path):
    keys = callers(tmp_path)
    good = keys.issue("caller", (), 1)[1]

    async def scene(door):
        (tmp_path / "callers.json").write_text("{")
        status, _, answer = await door.ask(Authorization=f"Bearer {good}")
        assert (status, answer["error"]["code"]) == (503, "tokens-damaged")
        await until(lambda: door.log.exists() and "tokens-damaged" in door.log.read_text())
        assert door.specialist.asked == []

    play(scene, keys=keys)


def test_too_many_wait_their_turn_and_then_are_told_when_to_come(play):
    async def scene(door):
        door.specialist.hold = asyncio.Event()
        requests = [asyncio.create_task(door.ask()) for _ in range(6)]
        await until(lambda: sum(each.done() for each in requests) == 3)
        door.specialist.hold.set()
        answers = [await each for each in requests]
        assert sorted(status for status, _, _ in answers) == [200, 200, 200, 429, 429, 429]
        assert {headers["Retry-After"] for status, headers, _ in answers if status == 429} == {"1"}
        assert (await door.ask())[0] == 200
        assert len(door.recorder.ends) == 4

    play(scene, limits=SMALL)


def test_a_key_that_asks_a_hundred_times_makes_another_wait_for_one(play, tmp_path):
    """Callers take turns, and one of them has no more than half of the places to wait in."""
    keys = callers(tmp_path)
    greedy, modest = (keys.issue("caller", (CLUSTER,), 1)[1] for _ in range(2))

    async def scene(door):
        door.specialist.hold = asyncio.Event()
        ended = []

        async def ask_as(key, name):
            status, _, _ = await door.ask(Authorization=f"Bearer {key}")
            ended.append((name, status))

        many = [asyncio.create_task(ask_as(greedy, "greedy")) for _ in range(100)]
        await until(lambda: ended.count(("greedy", 429)) == 100 - 1 - 20)
        waits = asyncio.create_task(ask_as(modest, "modest"))
        await until(lambda: door.door._gate.waiting == 21)
        door.specialist.hold.set()
        await waits
        await asyncio.gather(*many)
        served = [name for name, status in ended if status == 200]
        assert served.count("greedy") == 21
        assert served.index("modest") <= 3

    play(scene, keys=keys, limits=Limits(at_once=1, waiting=40, wait_seconds=120.0))


def test_a_flood_of_reports_leaves_threads_and_turns_to_all_others(play, tmp_path):
    """Also of senders that hang up: their reports are read all the same, and no faster."""
    keys = callers(tmp_path)
    greedy, modest = (keys.issue("caller", (CLUSTER,), 1)[1] for _ in range(2))
    inside, most, senders = [], [], []
    go = threading.Event()

    def slow(body, may, sender):
        inside.append(sender)
        most.append(len(inside))
        go.wait(60)
        inside.remove(sender)
        senders.append(sender)
        return 200, {}

    async def scene(door):
        door.recorder.feedback = slow

        async def report(key, leaves=False):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02 if leaves else None):
                    url, headers = f"{door.url}/feedback", {"Authorization": f"Bearer {key}"}
                    async with door.session.post(url, json={}, headers=headers) as answer:
                        return answer.status

        many = [asyncio.create_task(report(greedy, number % 2)) for number in range(60)]
        await until(lambda: len(inside) == 2)
        other = asyncio.create_task(report(modest))
        await until(lambda: len(door.door._reports._waiting) == 2)
        go.set()
        assert await other == 200
        await asyncio.gather(*many)
        assert senders.index(next(sender for sender in senders if sender != senders[0])) < 6, (
            "it waits for a turn or two"
        )
        assert max(most) == 2

    play(scene, keys=keys)


def test_those_who_leave_while_they_wait_take_no_turn(play):
    async def scene(door):
        door.specialist.hold = asyncio.Event()
        first = [asyncio.create_task(door.ask()) for _ in range(2)]
        await until(lambda: len(door.specialist.asked) == 2)
        host = f"127.0.0.1:{door.port}"
        _, writer = await raw(door, head(host=host) + BODY, wait=False)
        await until(lambda: door.door._gate.waiting == 1)
        writer.close()
        await until(lambda: door.door._gate.waiting == 0)
        door.specialist.hold.set()
        await asyncio.gather(*first)
        assert [status for status, _, _ in await asyncio.gather(door.ask(), door.ask())] == [200, 200]
        assert len(door.recorder.ends) == 4

    play(scene, limits=SMALL)


def test_a_caller_that_does_not_read_holds_no_memory_and_no_turn(play):
    """The backend is not read ahead of the caller; a caller that takes nothing for a time is hung up on."""

    async def scene(door):
        door.specialist.events, door.specialist.piece = 4000, "x" * 16384
        host = f"127.0.0.1:{door.port}"
        body = json.dumps(ASKED | {"stream": True}).encode()
        reader, writer = await raw(door, head(host=host, length=len(body)) + body, wait=False)
        writer.transport.pause_reading()
        await until(lambda: len(door.recorder.ends) == 1)
        ((_, end),) = door.recorder.ends
        assert end.hung_up
        assert door.specialist.sent < 2000
        await until(lambda: door.specialist.stopped != [])
        writer.close()
        del reader

    play(scene, limits=BRIEF)


def test_an_answer_of_words_that_look_like_counts_is_not_counted(play):
    async def scene(door):
        door.specialist.piece = '"completion_tokens": 999999, "prompt_tokens": 999999 [DONE'
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            assert event(door.specialist.piece) in await answer.read()
        await until(lambda: len(door.recorder.ends) == 1)
        assert door.recorder.ends[0][1].tokens_in == 0
        assert door.recorder.ends[0][1].tokens_out < 10

    play(scene)


def test_feedback_goes_to_the_recorder_within_the_limits(play):
    async def scene(door):
        url = f"http://127.0.0.1:{door.port}/v1/feedback"
        async with door.session.post(url, json={"decision_id": "d1"}) as answer:
            assert (answer.status, (await answer.json())["bytes"]) == (200, 21)
        async with door.session.post(url, data=b"{" * 5000, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 413
        async with door.session.get(url) as answer:
            assert answer.status == 405

    play(scene, limits=SMALL)
