"""The bytes on both sides of the door: backends that speak odd HTTP, callers of an older one, and waits that end."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from doors import ASKED, WATCHED, run, until

from modelsmith.door.deadlines import Deadlines
from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.portions import PORTION
from modelsmith.door.posting import MOST
from modelsmith.door.refusal import Down

SAID = {"choices": [{"index": 0, "message": {"content": "from raw"}, "finish_reason": "stop"}]}
BODY = json.dumps(SAID).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def kept_at(door):
    """Connections to the specialist's backend that the next request would go over."""
    port = int(door.specialist.url.removesuffix("/v1").rpartition(":")[2])
    connections = door.session.connector._conns.items()
    return [
        connection
        for key, some in connections
        if key.port == port
        for connection, _ in some
        if connection.is_connected()
    ]


@pytest.fixture
def raw(play):
    """Runs a scene in which the specialist's backend says these bytes to each request, and may then hang up.

    Or it says ``more``.
    """

    def played(scene, response, closes=False, more=None):
        async def whole(door):
            requests = []

            async def serve(reader, writer):
                try:
                    while True:
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                        requests.append((head, await reader.readexactly(length)))
                        writer.write(response)
                        if closes:
                            return
                        if more:
                            await writer.drain()
                            await more(writer)
                except (asyncio.IncompleteReadError, ConnectionError):
                    pass
                finally:
                    writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
            door.specialist.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            door.serve(1.0)
            try:
                await scene(door, requests)
            finally:
                server.close()

        play(whole)

    return played


@pytest.mark.parametrize(
    ("said", "closes"),
    [
        *((WHOLE, False), (WHOLE, True), (CHUNKED, False), (HEAD + b"\r\n" + BODY, True)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + WHOLE, False),
        (WHOLE.replace(b"application/json", b"Application/JSON; charset=utf-8"), False),
    ],
)
def test_every_way_of_http_to_end_an_answer_is_understood(raw, said, closes):
    """Three times, as a connection that is kept, or that its server has closed, is met by the next request."""

    async def scene(door, requests):
        for turn in range(3):
            status, headers, body = await door.ask()
            assert (status, body) == (200, SAID)
            assert "x-modelsmith-failed-over-from" not in headers
            assert len(requests) == turn + 1
            await until(lambda: not closes or not kept_at(door))

    raw(scene, said, closes)


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"no HTTP at all\r\n\r\n", WHOLE[:-5], CHUNKED[:-7], CHUNKED.replace(b"\r\n\r\n", b"\r\n\r\nx", 1)),
        *(WHOLE.replace(b"OK\r\n", b"OK\r\nContent-Length: 3\r\n"), b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n" + BODY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000 + WHOLE,
    ],
)
def test_bytes_that_are_no_answer_are_the_incumbent_s_to_answer(raw, said):
    async def scene(door, requests):
        status, headers, body = await door.ask()
        assert (status, body["choices"][0]["message"]["content"]) == (200, "from incumbent")
        assert headers["x-modelsmith-failed-over-from"] == WATCHED.specialist
        assert [len(door.recorder.ends), len(requests)] == [1, 1]

    raw(scene, said, closes=True)


def test_what_follows_an_answer_is_no_answer_to_the_next(raw):
    """A backend that says two answers at once: else the second would go to another caller."""

    async def scene(door, requests):
        for _ in range(3):
            status, _, body = await door.ask()
            assert (status, body) == (200, SAID)
        assert len(requests) == 3

    raw(scene, WHOLE + WHOLE.replace(b"from raw", b"from odd"))


def test_what_comes_unasked_is_no_answer_to_the_next(raw):
    """A backend that says something more, later, to a caller who has left: the next one gets an answer of its own."""
    hint = asyncio.Event()

    async def late(writer):
        await hint.wait()
        hint.clear()
        writer.write(WHOLE.replace(b"from raw", b"from odd"))

    async def scene(door, requests):
        for turn in range(3):
            status, _, body = await door.ask()
            assert (status, body, len(requests)) == (200, SAID, turn + 1)
            assert len(kept_at(door)) == 1
            hint.set()
            await until(lambda: not kept_at(door))

    raw(scene, WHOLE, more=late)


@pytest.mark.parametrize("length", [1, MOST + 1])
def test_interim_answers_without_end_are_the_incumbent_s_to_answer(raw, length):
    async def flood(writer):
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
            await writer.drain()

    async def scene(door, requests):
        status, headers, body = await door.ask({"messages": [{"role": "user", "content": "x" * length}]})
        assert (status, body["choices"][0]["message"]["content"]) == (200, "from incumbent")
        assert headers["x-modelsmith-failed-over-from"] == WATCHED.specialist

    raw(scene, b"", more=flood)


@pytest.mark.parametrize("length", [1, MOST + 1])
def test_an_interim_answer_is_no_end_of_the_wait_for_one(raw, length):
    """A backend that hints and then says nothing."""

    async def silent(writer):
        await asyncio.Event().wait()

    async def scene(door, requests):
        door.silence_seconds = 0.3
        door.serve(1.0)
        status, headers, _ = await door.ask({"messages": [{"role": "user", "content": "x" * length}]})
        assert status == 200
        assert headers["x-modelsmith-failed-over-from"] == WATCHED.specialist

    raw(scene, b"HTTP/1.1 103 Early Hints\r\n\r\n", more=silent)


def test_no_turn_of_the_loop_is_spent_on_one_backend_s_tiny_pieces(raw):
    """An answer cut into chunks of one byte: it comes whole, and others are looked at between."""
    answer = json.dumps(SAID | {"padding": "x" * 200_000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in answer)
    most = 0

    def counted(receive):
        def reading(self, data):
            nonlocal most
            most = max(most, len(data))
            return receive(self, data)

        return reading

    async def scene(door, requests):
        for _ in range(2):
            status, headers, body = await door.ask()
            assert (status, body) == (200, json.loads(answer))
            assert "x-modelsmith-failed-over-from" not in headers
        assert 0 < most <= PORTION
        assert len(kept_at(door)) == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResponseHandler, "data_received", counted(ResponseHandler.data_received))
        raw(scene, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")


@pytest.mark.parametrize("length", [1, MOST + 1])
def test_a_backend_gets_the_whole_request_however_long_it_is(raw, length):
    async def scene(door, requests):
        text = "x" * length
        status, _, _ = await door.ask({"messages": [{"role": "user", "content": text}]})
        head, body = requests[0]
        assert status == 200
        assert json.loads(body)["messages"][-1]["content"] == text
        assert head.lower().count(b"\r\nhost: 127.0.0.1:") == head.count(b"\r\n\r\n") == 1

    raw(scene, WHOLE)


@pytest.mark.parametrize("stream", [False, True])
def test_a_backend_that_says_nothing_more_is_given_up(raw, stream):
    head = HEAD.replace(b"application/json", b"text/event-stream") if stream else HEAD

    async def scene(door, requests):
        door.silence_seconds = 0.5
        door.serve(1.0)
        _, headers, _ = await door.ask({"stream": False})
        assert headers["x-modelsmith-failed-over-from"] == WATCHED.specialist
        await until(lambda: len(door.recorder.ends) == 1)
        assert door.recorder.ends[0][1].status == (502 if stream else 504)

    raw(scene, head + b"Content-Length: 999\r\n\r\n{")


@pytest.mark.parametrize(
    ("request_line", "more", "kept"),
    [
        *(("1.1", "", True), ("1.1", "Connection: close\r\n", False)),
        *(("1.0", "", False), ("1.0", "Connection: keep-alive\r\n", True)),
    ],
)
def test_a_caller_is_told_whether_its_connection_stays(play, request_line, more, kept):
    async def scene(door):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        body = json.dumps(ASKED).encode()
        head = f"POST /v1/chat/completions HTTP/{request_line}\r\nHost: 127.0.0.1:{door.port}\r\n{more}"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(2 if kept else 1):
            writer.write(head.encode() + body)
            response = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert response.startswith(f"http/{request_line} 200 ok\r\n".encode())
            assert response.count(b"\r\nserver: modelsmith\r\n") == response.count(b"\r\ndate: ") == 1
            assert (b"\r\nconnection: close\r\n" in response) == (not kept)
            length = int(response.split(b"content-length:")[1].split(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["model"]
        if not kept:
            assert await reader.read() == b""
        writer.close()

    play(scene)


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"model": "unknown"}, {"messages": 3}])
def test_every_answer_to_a_chat_names_the_door_as_its_server(play, asked):
    async def scene(door):
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | asked) as answer:
            assert answer.headers.getall("Server") == ["modelsmith"]

    play(scene)


def test_what_was_answered_is_noted_when_the_caller_has_it(play):
    """Whoever has its answer finds it counted with the next thing that it asks."""

    async def scene(door):
        for turn in range(20):
            await door.ask()
            assert len(door.recorder.ends) == turn + 1

    play(scene)


def test_a_key_that_would_end_a_header_goes_nowhere(play):
    async def scene(door):
        model = HttpModel(door.session, door.incumbent.url, "m", key="a\r\nX-Other: b")
        with pytest.raises(Down):
            async with model.ask(ASKED):
                pass
        assert door.incumbent.asked == []

    play(scene)


def test_waits_that_are_too_long_are_told_once_in_their_order():
    async def scene():
        reported = []
        waits = Deadlines(0.05)
        numbers = [waits.begin(lambda number=number: reported.append(number)) for number in range(4)]
        waits.end(numbers[0])
        waits.end(numbers[2])
        await until(lambda: len(reported) == 2)
        late = waits.begin(lambda: reported.append("later"))
        await until(lambda: len(reported) == 3)
        waits.end(late)
        assert reported == [1, 3, "later"]

    run(scene)


def test_a_session_that_is_closed_is_a_backend_that_is_down(play):
    async def scene(door):
        async with aiohttp.ClientSession() as session:
            model = HttpModel(session, door.incumbent.url, "m")
        with pytest.raises(Down):
            async with model.ask(ASKED):
                pass

    play(scene)
