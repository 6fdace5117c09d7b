"""The pure parts of the endpoint substrate: waiting times, the number of requests at once, reading of answers."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from substrates.stub_server import chat, event, stream

from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.substrates.endpoint.api import Answer, StreamReader, read_answer, request_body
from modelsmith.substrates.endpoint.concurrency import AdaptiveLimit, Gate
from modelsmith.substrates.endpoint.failures import Failure, of_status
from modelsmith.substrates.endpoint.retries import MOST_ASKED_SECONDS, MOST_SECONDS, delay, retry_after

NOW = 1_700_000_000.0


# Waiting


@given(st.text(), st.integers(1, 10_000))
def test_waits_grow_to_a_limit_and_are_the_same_in_a_rerun(key: str, attempt: int) -> None:
    assert 0.25 * min(2 ** min(attempt - 1, 10), 60) <= delay(key, attempt) <= MOST_SECONDS
    assert delay(key, attempt) == delay(key, attempt)


def test_prompts_that_failed_together_do_not_come_back_together() -> None:
    waits = sorted(delay(f"core/s{i}/0/0", 1) for i in range(100))
    assert len(set(waits)) == 100
    assert max(b - a for a, b in pairwise(waits)) < 0.05


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("-5", 0.0),
        ("86400", MOST_ASKED_SECONDS),
        ("inf", MOST_ASKED_SECONDS),
        ("nan", None),
        ("", None),
        ("soon", None),
        (None, None),
        ("Tue, 14 Nov 2023 22:13:32 GMT", 12.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Tue, 14 Nov 2028 22:13:10 GMT", MOST_ASKED_SECONDS),
        ("Tue, 14 Nov 99999 22:13:10 GMT", None),
    ],
)
def test_retry_after_in_seconds_and_as_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@given(st.text())
def test_no_retry_after_header_breaks_us(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MOST_ASKED_SECONDS


# The number of requests at once


def test_a_push_back_halves_the_limit_once_for_all_that_were_under_way() -> None:
    limit = AdaptiveLimit(32)
    epoch = limit.epoch
    for _ in range(20):
        limit.pushed_back(epoch)
    assert limit.now == 16
    limit.pushed_back(limit.epoch)
    assert limit.now == 8


def test_the_limit_never_falls_below_one_and_comes_back_to_its_ceiling() -> None:
    limit = AdaptiveLimit(8)
    for _ in range(20):
        limit.pushed_back(limit.epoch)
    assert limit.now == 1
    for _ in range(200):
        limit.answered()
    assert limit.now == 8


def test_a_round_of_answers_raises_the_limit_by_one() -> None:
    limit = AdaptiveLimit(64)
    limit.pushed_back(limit.epoch)
    for _ in range(33):
        limit.answered()
    assert limit.now == 33


def test_nobody_waits_for_ever_at_the_gate() -> None:
    """Whoever gives up waiting passes the turn on."""

    async def scene() -> list[str]:
        gate, order = Gate(AdaptiveLimit(1)), []
        epoch = await gate.enter()

        async def guest(name: str) -> None:
            await gate.enter()
            order.append(name)
            gate.leave(0, answered=True, pushed_back=False)

        tasks = [asyncio.create_task(guest(name)) for name in "abc"]
        await asyncio.sleep(0)
        gate.leave(epoch, answered=True, pushed_back=False)
        tasks[0].cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        return order

    assert asyncio.run(scene()) == ["b", "c"]


def test_a_paused_gate_opens_when_the_last_pause_ends() -> None:
    async def scene() -> list[bool]:
        gate = Gate(AdaptiveLimit(4))
        gate.pause()
        gate.pause()
        guest = asyncio.create_task(gate.enter())
        recorded = []
        for _ in range(2):
            gate.resume()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            recorded.append(guest.done())
        return recorded

    assert asyncio.run(scene()) == [False, True]


# Answers


def read_pieces(pieces: list[bytes]) -> Answer | Failure:
    reader = StreamReader()
    for piece in pieces:
        reader.feed(piece)
    return reader.end()


@given(st.lists(st.text(min_size=1), min_size=1), st.lists(st.integers(0, 4000)), st.booleans())
def test_a_stream_reads_the_same_wherever_it_is_cut(texts: list[str], cuts: list[int], crlf: bool) -> None:
    whole = b": keep-alive\n\n" + b"".join(stream(*texts).pieces)
    if crlf:
        whole = whole.replace(b"\n", b"\r\n")
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    answer = read_pieces([whole[a:b] for a, b in pairwise(edges)])
    assert answer == Answer("".join(texts), "stop", 7, len(texts), "stub")


@given(st.lists(st.binary()))
def test_no_bytes_break_the_readers(pieces: list[bytes]) -> None:
    assert isinstance(read_pieces(pieces), Failure)
    assert isinstance(read_answer(b"".join(pieces)), Failure)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "delta", "finish_reason", "usage", "error", "code"]), inner
    ),
)  # fmt: skip


@given(JSON)
def test_no_json_breaks_the_readers(document: Any) -> None:
    body = json.dumps(document).encode()
    read_answer(body)
    read_pieces([event(document if isinstance(document, dict) else {"choices": [document]})])
    assert of_status(400, {}, body, model="m", key_env=None, now=NOW).error.mend


@pytest.mark.parametrize("finish", ["tool_calls", "function_call", "weird", 3, None])
def test_an_answer_that_neither_stopped_nor_ran_out_is_no_answer(finish: Any) -> None:
    assert isinstance(read_answer(chat("x", finish).body), Failure)


@pytest.mark.parametrize(
    ("finish", "meant"),
    [(word, "stop") for word in ("stop", "STOP", "eos", "eos_token", "stop_sequence", "end_turn")]
    + [(word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")],
)
def test_every_server_s_word_for_the_end_of_an_answer_is_known(finish: str, meant: str) -> None:
    for answer in (read_answer(chat("x", finish).body), read_pieces(list(stream("x", finish=finish).pieces))):
        assert isinstance(answer, Answer)
        assert answer.finish == meant


@pytest.mark.parametrize("kept_alive", [b": ping\n\n", b"data:\n\n", b"data: \n\n", b"event: ping\ndata:\n\n"])
def test_an_event_without_data_keeps_a_stream_alive(kept_alive: bytes) -> None:
    first, *rest = stream("o", "k").pieces
    answer = read_pieces([kept_alive, first, kept_alive, *rest, kept_alive])
    assert isinstance(answer, Answer)
    assert answer.text == "ok"


DELTA = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}


def read_events(*documents: Any) -> Answer | Failure:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return read_pieces([event(document) for document in (*documents, end)])


def test_what_follows_the_end_of_a_stream_is_no_part_of_the_answer() -> None:
    end = event({"choices": [DELTA | {"finish_reason": "stop"}]})
    answer = read_pieces([end, b"data: [DONE]\n\n", event({"choices": [DELTA]}), event({"error": "late"})])
    assert getattr(answer, "text", None) == "x"


def test_an_error_beside_choices_is_an_error_and_a_refusal_an_answer() -> None:
    def answer_of(message: dict[str, Any], **more: Any) -> Answer | Failure:
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return read_answer(json.dumps({"choices": [choice], **more}).encode())

    assert isinstance(answer_of({"content": "x"}, error={"message": "boom"}), Failure)
    assert getattr(answer_of({"content": "", "refusal": "No."}), "text", None) == "No."
    assert getattr(answer_of({"content": "x"}, model=""), "model", "") is None


def test_a_stream_is_read_like_an_answer_that_comes_at_once() -> None:
    """What servers do to streams: a mark before the first byte, null errors, letters cut in two, several answers."""

    def text_of(*documents: Any) -> str | None:
        return getattr(read_events(*documents), "text", None)

    whole = stream("a", "b").pieces
    assert getattr(read_pieces([b"\xef\xbb\xbf" + whole[0], *whole[1:]]), "text", None) == "ab"
    assert text_of({"choices": [DELTA], "error": None}) == "x"
    assert text_of(*({"choices": [{"delta": {"content": half}}]} for half in ("\ud83d", "\ude00"))) == "\U0001f600"
    assert text_of({"choices": [DELTA]}, {"choices": [DELTA | {"index": 1, "delta": {"content": "other"}}]}) == "x"


@pytest.mark.parametrize(
    "documents",
    [
        [{"choices": [{"delta": {"role": "assistant", "content": None}}]}],
        [{"choices": [{"delta": {"tool_calls": [{}]}}]}],
        [{"choices": [{"message": {"content": "x"}}]}],
        [],
        [{"choices": [DELTA]}, {"choices": [{"delta": {"content": [{"type": "reference"}]}}]}],
        [{"choices": [DELTA]}, {"object": "error", "message": "boom"}],
        [{"choices": [DELTA]}, {"error": {"message": "boom"}}],
        [{"choices": [DELTA]}, {"type": "error", "message": "boom"}],
        [{"choices": [DELTA], "model": "one"}, {"choices": [DELTA], "model": "two"}, {"model": "one"}],
    ],
)
def test_a_stream_without_an_answer_is_an_error_and_never_an_empty_answer(documents: list[Any]) -> None:
    assert isinstance(read_events(*documents), Failure)


TEXT, THOUGHT = {"type": "text", "text": "ok"}, {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([TEXT], "ok"),
        ([THOUGHT, TEXT, TEXT], "okok"),
        ([THOUGHT, {"type": "reasoning", "text": "hm"}], ""),
        ([], ""),
        ([TEXT, {"type": "image_url", "image_url": {"url": "x"}}], None),
        ([{"type": "text", "text": None}], None),
        (["ok"], None),
    ],
)
def test_an_answer_in_typed_parts_is_its_texts_without_the_thoughts(content: Any, text: str | None) -> None:
    whole = read_answer(chat(content).body)
    assert whole.text == text if text is not None and isinstance(whole, Answer) else isinstance(whole, Failure)
    pieces = stream(content).pieces
    assert text is None or getattr(read_pieces(list(pieces)), "text", None) == text


def test_thoughts_in_typed_parts_are_told_from_an_answer_at_the_limit() -> None:
    """``thinking: strip`` looks for thoughts only where the server has not taken them out already."""
    whole = read_answer(chat([THOUGHT, TEXT], "length").body)
    streamed = read_pieces(list(stream([THOUGHT], [TEXT], finish="length").pieces))
    for answer in (whole, streamed):
        assert isinstance(answer, Answer)
        assert (answer.text, answer.finish, answer.separated) == ("ok", "length", True)


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_without_an_answer_are_empty_however_a_server_says_so(field: str, finish: str) -> None:
    """OpenAI says it by an empty text, vLLM by null; null beside no thoughts is an answer that was lost."""
    for content in ("", None):
        message = {"content": content, field: "hm"}
        document = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
        whole = read_answer(json.dumps(document).encode())
        pieces = [{"choices": [{"index": 0, "delta": message}]}, {"choices": [{"delta": {}, "finish_reason": finish}]}]
        for answer in (whole, read_pieces([event(piece) for piece in pieces])):
            assert isinstance(answer, Answer)
            assert (answer.text, answer.finish, answer.separated) == ("", finish, True)
    lost = {"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "stop"}]}
    assert isinstance(read_answer(json.dumps(lost).encode()), Failure)


@pytest.mark.parametrize(
    ("said", "counted"),
    [(7, 7), (7.0, 7), (0, 0), (10**8, 10**8), (7.5, 0), (-1, 0), (-7.0, 0), (True, 0), ("7", 0), (None, 0), ([], 0),
     (10**8 + 1, 0), (2**53 - 1, 0), (2**63, 0), (1e300, 0), (float("inf"), 0), (float("nan"), 0)],
)  # fmt: skip
def test_a_count_of_tokens_that_no_request_has_is_no_count(said: object, counted: int) -> None:
    """Beyond 2^53 no record could be written, and a negative one would make a run cheaper."""
    answer = read_answer(chat("x", usage={"prompt_tokens": said, "completion_tokens": said}).body)
    assert isinstance(answer, Answer)
    assert (answer.prompt_tokens, answer.completion_tokens) == (counted, counted)


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (204, b"", "endpoint-malformed", "brings no chat completion"),
        (202, b"{}", "endpoint-malformed", "brings no chat completion"),
        (999, b"", "endpoint-malformed", "which HTTP does not know"),
        (400, b"", "endpoint-refused", "does not say why"),
        (400, b"<html>", "endpoint-refused", "does not say why"),
        (405, b'{"error": "no"}', "endpoint-refused", "status 405"),
        (500, b"", "endpoint-error", "failed"),
        (503, b"", "endpoint-busy", "no capacity"),
    ],
)
def test_a_status_is_called_what_it_is(status: int, body: bytes, code: str, says: str) -> None:
    """Only a server that spoke is said to dislike a setting, and only one without capacity to be overloaded."""
    error = of_status(status, {}, body, model="m", key_env=None, now=NOW).error
    assert (error.code, says in error.message) == (code, True)
    assert ("max_connections" in error.mend, "temperature" in error.mend) == (status == 503, False)


def test_a_refusal_that_says_something_may_be_about_a_setting() -> None:
    spoke = of_status(400, {}, b'{"error": {"message": "bad request"}}', model="m", key_env=None, now=NOW).error
    assert "temperature" in spoke.mend


def test_an_error_that_is_only_words_is_understood() -> None:
    failure = of_status(400, {}, b'{"error": "context length exceeded"}', model="m", key_env=None, now=NOW)
    assert failure.error.code == "prompt-too-long"


@pytest.mark.parametrize(
    "error",
    [
        {"code": "unsupported_value", "param": "temperature", "message": "no"},
        {"message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value."},
        {"message": "Unsupported parameter: 'temperature' is not supported with this model."},
        {"message": "`temperature` is deprecated for this model."},
        {"message": "temperature and top_p cannot both be specified for this model"},
        {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]},
        "temperature is not supported here",
    ],
)
def test_a_server_that_takes_only_its_temperature_says_what_to_write(error: Any) -> None:
    failure = of_status(400, {}, json.dumps({"error": error}).encode(), model="m", key_env=None, now=NOW)
    assert (failure.error.code, failure.then) == ("endpoint-refused-setting", "stop")
    assert "omit: [temperature]" in failure.error.mend
    body = json.loads(
        request_body("m", (), "s", Sampling(max_new_tokens=3), "max_tokens", stream=False, omit=("temperature", "seed"))
    )
    assert {"temperature", "top_p", "seed"} & set(body) == {"top_p"}


def test_a_model_that_spent_its_tokens_thinking_gave_an_empty_answer() -> None:
    answer = read_answer(chat(None, "length").body)
    assert isinstance(answer, Answer)
    assert (answer.text, answer.finish) == ("", "length")


@given(st.text(min_size=1))
def test_a_request_is_ascii_json_that_holds_the_text(text: str) -> None:
    body = request_body(
        "m", (Message(role="user", content=text),), "s", Sampling(max_new_tokens=3), "max_tokens", stream=True
    )
    assert body.isascii()
    assert json.loads(body)["messages"][1]["content"] == text
