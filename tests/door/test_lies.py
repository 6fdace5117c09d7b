"""A backend that says 200 and gives no answer: nobody takes it for one, and it counts against who was to answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from doors import ASKED, INCUMBENT, WATCHED, event

from modelsmith.door.upstream import Usage

ERROR = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
OLDER = b'data: {"object":"error","message":"out of memory"}\n\n'
DONE = b"data: [DONE]\n\n"
NAMED = b'event: error\ndata: {"message": "out of memory"}\n\n'
ENDING = event("", "error").replace(b'"choices"', b'"error": {"message": "out of memory"}, "choices"')
ERRORS = [ERROR, OLDER, NAMED, ENDING]
WORDS = event('data: {"error": {}}\n\ndata: {"object":"error"}\nevent: error\n"finish_reason": "error"')


def saying(*pieces: bytes, kind: str = "text/event-stream"):
    """What a backend says whatever it is asked, piece by piece."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        out = web.StreamResponse(headers={"Content-Type": kind})
        await out.prepare(request)
        for piece in pieces:
            await out.write(piece)
            await asyncio.sleep(0.05)
        return out

    return handler


@pytest.fixture
def lying(play, monkeypatch):
    """Runs a scene in which the specialist's backend says these pieces."""

    def played(scene, *pieces, **more):
        async def whole(door):
            app = web.Application()
            app.router.add_post("/v1/chat/completions", saying(*pieces, **more))
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            door.specialist.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            door.serve(1.0)
            try:
                await scene(door)
            finally:
                await runner.cleanup()

        play(whole)

    return played


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"{}", b"[]", b"null", b'{"choices": []}', b'{"error": {"message": "no"}, "choices": [{}]}'),
        *(b"[" * 100_000, b'{"choices": "x"}', b'{"choices": [1]}', b'{"choices": [{}, {"finish_reason": "error"}]}'),
    ],
)
def test_a_200_without_an_answer_is_answered_by_the_incumbent(lying, said):
    async def scene(door):
        status, headers, body = await door.ask()
        assert (status, body["choices"][0]["message"]["content"]) == (200, "from incumbent")
        assert headers["x-modelsmith-failed-over-from"] == WATCHED.specialist
        assert door.recorder.ends[0][1].failed_over

    lying(scene, said, kind="application/json")


@pytest.mark.parametrize("error", ERRORS)
def test_a_stream_that_begins_with_an_error_is_the_incumbent_s(lying, error):
    async def scene(door):
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            text = await answer.read()
        assert answer.headers["x-modelsmith-specialist"] == INCUMBENT.specialist
        assert b"out of memory" not in text
        assert text.endswith(DONE)
        assert door.recorder.ends[0][1].status == 502

    lying(scene, error, DONE)


@pytest.mark.parametrize("then", [[], [ERROR, DONE], [b": still there\n\n" * 500 + ERROR, DONE]])
def test_comments_before_an_error_are_no_beginning_of_an_answer(lying, then):
    """Some providers keep a connection open by comments: with the first of them the caller had lost the incumbent."""

    async def scene(door):
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            text = await answer.read()
        assert answer.headers["x-modelsmith-specialist"] == INCUMBENT.specialist
        assert text.endswith(DONE)
        assert door.recorder.ends[0][1].failed_over

    lying(scene, b": processing\n\n", b"\n", b": proc", b"essing\n\n", *then)


def test_comments_before_an_answer_come_with_its_first_words(lying):
    async def scene(door):
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            text = await answer.read()
        assert text == b": processing\n\n" * 2 + event("x") + event("", "stop") + DONE
        ended = door.recorder.ends[0][1]
        assert (ended.status, ended.failed_over) == (200, False)

    lying(scene, b": processing\n\n", b": processing\n\n", event("x"), event("", "stop") + DONE)


@pytest.mark.parametrize("pieces", [(event("x"), ERROR + DONE), (event("x"), ERROR[:9], ERROR[9:], DONE)])
def test_an_error_within_a_stream_ends_it_without_done(lying, pieces):
    async def scene(door):
        text = b""
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            with suppress(aiohttp.ClientPayloadError):
                async for piece in answer.content.iter_any():
                    text += piece
        assert b'"backend-down"' in text
        assert b"out of memory" not in text
        assert DONE not in text
        assert door.recorder.ends[0][1].status == 503

    lying(scene, *pieces)


def test_an_answer_about_errors_is_an_answer(lying):
    async def scene(door):
        async with door.session.post(f"{door.url}/chat/completions", json=ASKED | {"stream": True}) as answer:
            assert (await answer.read()).endswith(DONE)
        assert door.recorder.ends[0][1].status == 200

    lying(scene, WORDS, event("", "stop") + DONE)


@pytest.mark.parametrize(("said", "failed"), [(WORDS, False), *((error, True) for error in ERRORS)])
def test_an_error_is_known_wherever_the_network_cuts_it(said, failed):
    for at in range(len(said)):
        usage = Usage()
        for piece in (event("x"), said[:at], said[at:]):
            usage.saw(piece)
        assert usage.failed == failed


def test_words_of_an_answer_are_never_its_end():
    """Only a line of its own says that a stream is over, wherever the last bytes that are kept begin."""
    usage = Usage()
    usage.saw(b'data: {"content": "' + b"data: [DONE]" + b"x" * (4096 - len(b"data: [DONE]")))
    assert not usage.done
    usage.saw(b'"}\n\ndata: [DONE]\n\n')
    assert usage.done


def test_tokens_are_counted_however_the_network_cuts_a_stream():
    """Where a stream does not say, its events are counted; cut into single bytes none of them was."""
    whole = event("x") * 5 + event("", "stop") + DONE
    for size in (1, 2, 3, 7, len(whole)):
        usage = Usage()
        for at in range(0, len(whole), size):
            usage.saw(whole[at : at + size])
        assert usage.tokens == (0, 7)


def test_tokens_are_read_wherever_in_an_answer_they_stand():
    """A server that says them first, or has much to say after them, had its answers counted as free."""
    fields = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}, "prompt_logprobs": ["x" * 9_000]}
    usage = Usage()
    usage.saw_whole(json.dumps(fields).encode())
    assert usage.tokens == (7, 3)
    usage.saw_whole(json.dumps({"choices": [{"message": {"content": json.dumps(fields["usage"])}}]}).encode())
    assert usage.tokens[0] == 0, "words of an answer are no count"
