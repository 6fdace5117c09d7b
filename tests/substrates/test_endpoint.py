"""Any OpenAI-compatible endpoint: what comes back, what is sent, and what becomes of every kind of trouble.

Waiting between attempts takes no time here: the substrate is given a sleep that only writes down how long it was to be.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from substrates.stub_server import Reply, Seen, StubServer, chat, echo, event, refusal, stream

import modelsmith
from modelsmith.loop.engines import Target
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat, Endpoint
from modelsmith.substrates.endpoint.client import LARGEST_ANSWER
from modelsmith.substrates.endpoint.substrate import IN_A_ROW, EndpointSubstrate
from modelsmith.substrates.port import Completion, Prompt

SYSTEM = "Name the cause."
SAMPLING = Sampling(max_new_tokens=16)
KEY = "sk-secret-0123456789"


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{i}", (Message(role="user", content=f"note {i}"),)) for i in range(count)]


class Asleep:
    """A sleep that takes no time."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer() as server:
        yield server


@pytest.fixture
def asleep() -> Asleep:
    return Asleep()


@pytest.fixture
def connect(
    stub: StubServer, asleep: Asleep, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., EndpointSubstrate]]:
    """Makes substrates for the stub, whose first requests come all at once, and closes them."""
    monkeypatch.setattr("modelsmith.substrates.endpoint.substrate.SPREAD_SECONDS", 0.0)
    substrates: list[EndpointSubstrate] = []

    def make(**changes: Any) -> EndpointSubstrate:
        settings = {"url": stub.url, "model": "stub", "key_env": "STUB_KEY", "max_connections": 4} | changes
        substrates.append(EndpointSubstrate(Endpoint(**settings), environment={"STUB_KEY": KEY}, sleep=asleep))
        return substrates[-1]

    yield make
    for substrate in substrates:
        substrate.close()


def answers(substrate: EndpointSubstrate, count: int, sampling: Sampling = SAMPLING) -> dict[str, Completion]:
    return {completion.key: completion for completion in substrate.complete(prompts(count), SYSTEM, sampling)}


def stopped_by(
    substrate: EndpointSubstrate, count: int, after: int = -1, action: Callable[[], None] = lambda: None
) -> tuple[list[Completion], ModelsmithError]:
    """The completions that came before the batch was stopped, and why it was; `action` happens after so many."""
    completions: list[Completion] = []
    try:
        for completion in substrate.complete(prompts(count), SYSTEM, SAMPLING):
            completions.append(completion)
            if len(completions) == after:
                action()
    except ModelsmithError as error:
        return completions, error
    pytest.fail("nothing stopped the batch")


def first(count: int, reply: Reply) -> Callable[[Seen], Reply]:
    """This reply to the first requests, then good answers."""
    return lambda request: reply if request.number < count else echo(request)


# What is sent, and what comes back


def test_every_prompt_is_answered_with_text_tokens_and_time(connect: Any) -> None:
    completions = answers(connect(), 50)
    assert {key: completion.text for key, completion in completions.items()} == {
        f"p{i}": f"answer to note {i}" for i in range(50)
    }
    completion = completions["p7"]
    assert (completion.finish, completion.prompt_tokens, completion.completion_tokens, completion.error) == (
        "stop",
        7,
        3,
        None,
    )
    assert completion.seconds > 0
    assert completion.first_token_seconds is None


def test_the_request_carries_prompt_sampling_and_key(connect: Any, stub: StubServer) -> None:
    answers(connect(model="org/model"), 1, Sampling(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=3))
    (request,) = stub.seen
    assert request.body == {
        "model": "org/model",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "note 0"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_without_the_name_of_a_key_none_is_sent(connect: Any, stub: StubServer) -> None:
    answers(connect(key_env=None), 1)
    assert "Authorization" not in stub.seen[0].headers


def test_a_server_that_wants_the_newer_name_of_the_limit_gets_it(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: (
        refusal(400, "unsupported_parameter", "Use 'max_completion_tokens' instead.")
        if "max_tokens" in request.body
        else echo(request)
    )
    completions = answers(connect(max_connections=1, max_attempts=1), 3)
    assert all(completion.error is None for completion in completions.values())
    assert [request.body.get("max_completion_tokens") for request in stub.seen] == [None, 16, 16, 16]


def test_the_facts_name_the_model_and_neither_host_nor_key(connect: Any) -> None:
    facts = connect().facts
    assert facts.model_dump() == {
        "substrate": "openai", "version": "stub", "dtype": "unknown", "device": "remote", "weights": "unknown",
        "omitted": (), "chat": Chat().model_dump(),
    }  # fmt: skip


def test_no_more_requests_are_under_way_than_allowed(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: Reply(echo(request).body, after=0.005)
    answers(connect(max_connections=3), 40)
    assert stub.most_at_once == 3


def test_prompts_wait_while_nobody_reads(connect: Any, stub: StubServer) -> None:
    reading = connect(max_connections=2).complete(prompts(200), SYSTEM, SAMPLING)
    next(reading)
    threading.Event().wait(0.3)
    assert len(stub.seen) <= 1 + 2 * 2 + 2 + 1
    assert len(list(reading)) == 199


def test_a_stream_is_put_together_and_its_first_token_timed(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: stream("the ", "floor ", "was ☃ raised")
    (completion,) = answers(connect(stream=True), 1).values()
    assert (completion.text, completion.finish, completion.prompt_tokens, completion.completion_tokens) == (
        "the floor was ☃ raised",
        "stop",
        7,
        3,
    )
    assert 0 < completion.first_token_seconds <= completion.seconds
    assert stub.seen[0].body["stream_options"] == {"include_usage": True}


def test_a_server_that_ignores_the_wish_for_a_stream_is_read_all_the_same(connect: Any) -> None:
    (completion,) = answers(connect(stream=True), 1).values()
    assert (completion.text, completion.first_token_seconds) == ("answer to note 0", None)


def test_an_answer_cut_by_the_limit_says_so(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: chat("half a", "length")
    assert answers(connect(), 1)["p0"].finish == "length"


def test_a_server_that_counts_no_tokens_counts_as_zero(connect: Any, stub: StubServer) -> None:
    odd = [..., None, "many", {"prompt_tokens": -1, "completion_tokens": True}]
    stub.script = lambda request: chat("x", usage=odd[request.number])
    for answer in answers(connect(max_connections=1), 4).values():
        assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("x", 0, 0)


def test_a_refusal_is_the_models_answer(connect: Any, stub: StubServer) -> None:
    choice = {"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}
    stub.script = lambda request: chat(None, choices=[choice])
    assert answers(connect(), 1)["p0"].text == "I cannot."


def test_a_completion_of_a_megabyte_passes(connect: Any, stub: StubServer) -> None:
    text = "a☃" * 2**19
    stub.script = lambda request: chat(text)
    completions = answers(connect(), 3)
    assert all(completion.text == text for completion in completions.values())


@pytest.mark.parametrize("streaming", [False, True])
def test_an_endless_answer_is_not_read_to_its_end(connect: Any, stub: StubServer, streaming: bool) -> None:
    big = b" " * (LARGEST_ANSWER // 4)
    kind = "text/event-stream" if streaming else "application/json"
    stub.script = lambda request: Reply(pieces=(big,) * 64, content_type=kind)
    completion = answers(connect(stream=streaming), 1)["p0"]
    assert completion.error is not None
    assert completion.error.code == "endpoint-answer-too-large"
    assert len(stub.seen) == 1


def test_unicode_and_control_characters_go_there_and_come_back(connect: Any, stub: StubServer) -> None:
    text = "\x00\x07 tab\t \u202e \U0001f600 \u2028 'quotes\" \\ \r\n end"
    stub.script = lambda request: chat(request.text)
    prompt = Prompt("p", (Message(role="user", content=text),))
    (completion,) = connect().complete([prompt], SYSTEM, SAMPLING)
    assert completion.text == text


def test_half_a_surrogate_pair_becomes_a_replacement_character(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: chat("a\ud83d b")
    completion = answers(connect(), 1)["p0"]
    completion.text.encode()
    assert (completion.text[0], completion.text[-1], "\ufffd" in completion.text) == ("a", "b", True)


# Trouble that passes


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refusal(500), id="500"),
        pytest.param(refusal(502), id="502"),
        pytest.param(refusal(503), id="503"),
        pytest.param(refusal(429, "rate_limit_exceeded"), id="429"),
        pytest.param(refusal(408), id="408"),
        pytest.param(Reply(b'{"choices": [{"mess'), id="malformed JSON"),
        pytest.param(Reply(b"<html>busy</html>", content_type="text/html"), id="a page"),
        pytest.param(Reply(b"[" * 100_000), id="JSON nested without end"),
        pytest.param(Reply(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), id="no UTF-8"),
        pytest.param(Reply(b"null"), id="null"),
        pytest.param(chat("x", choices=[]), id="empty choices"),
        pytest.param(chat("x", choices=...), id="no choices"),
        pytest.param(chat("x", choices=[None]), id="a null choice"),
        pytest.param(chat("x", choices=[{"finish_reason": "stop"}]), id="no message"),
        pytest.param(chat(None), id="no text"),
        pytest.param(chat("x", finish=None), id="no finish"),
        pytest.param(Reply(echo(Seen(0, {}, {"messages": [{"content": ""}]})).body, cut=40), id="a cut body"),
        pytest.param(stream("half", finish=None, with_end=False), id="a stream without an end"),
        pytest.param(stream("half", finish=None), id="a stream that ends without a reason"),
        pytest.param(
            Reply(pieces=(event("{oops"), event("[DONE]")), content_type="text/event-stream"), id="a stream of rubbish"
        ),
        pytest.param(
            Reply(pieces=(event({"error": {"message": "oom"}}),), content_type="text/event-stream"),
            id="a stream that reports an error",
        ),
    ],
)
def test_trouble_that_passes_costs_attempts_and_no_answer(
    connect: Any, stub: StubServer, asleep: Asleep, trouble: Reply
) -> None:
    stub.script = first(6, trouble)
    completions = answers(connect(), 12)
    assert {key: completion.text for key, completion in completions.items()} == {
        f"p{i}": f"answer to note {i}" for i in range(12)
    }
    assert len(stub.seen) == 18
    assert len(asleep.asked) >= 6


@pytest.mark.parametrize("trouble", [refusal(500), Reply(b"{}"), stream("half", finish=None, with_end=False)])
def test_a_prompt_that_fails_for_good_is_an_error_and_others_are_answered(
    connect: Any, stub: StubServer, trouble: Reply
) -> None:
    stub.script = lambda request: trouble if request.text == "note 3" else echo(request)
    completions = answers(connect(max_attempts=3), 12)
    assert [key for key, completion in completions.items() if completion.error is not None] == ["p3"]
    assert (completions["p3"].finish, completions["p3"].text) == ("error", "")
    assert sum(request.text == "note 3" for request in stub.seen) == 3


def test_the_server_is_down_at_first_and_then_comes_up(connect: Any, stub: StubServer) -> None:
    stub.stop()
    substrate = connect()
    slept: list[float] = []
    started = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            await asyncio.get_running_loop().run_in_executor(None, stub.start)
            started.set()
        if len(slept) > 4:  # the wait of a request takes no time, the start of a server does
            await started.wait()

    substrate._client._sleep = sleep
    assert all(answer.error is None for answer in answers(substrate, 8).values())
    assert len(slept) >= 4


def test_the_server_goes_away_in_the_middle_and_comes_back(connect: Any, stub: StubServer) -> None:
    substrate = connect(max_attempts=20)
    stopped, started = threading.Event(), threading.Event()
    restarts = iter([stub.start])

    def start_again() -> None:
        assert stopped.wait(30)
        for start in restarts:
            start()
            started.set()
        assert started.wait(30)

    async def sleep(seconds: float) -> None:
        await asyncio.get_running_loop().run_in_executor(None, start_again)

    substrate._client._sleep = sleep
    completions: list[Completion] = []
    for completion in substrate.complete(prompts(60), SYSTEM, SAMPLING):
        completions.append(completion)
        if len(completions) == 20:
            stub.stop()
            stopped.set()
    assert started.is_set()
    assert len(completions) == 60
    assert all(completion.error is None for completion in completions)


def test_a_storm_of_429_lowers_the_number_of_requests_at_once(connect: Any, stub: StubServer) -> None:
    """A server that has room for three refuses whatever comes beyond."""
    stub.script = lambda request: refusal(429) if stub._at_once > 3 else Reply(echo(request).body, after=0.002)
    completions = answers(connect(max_connections=32, max_attempts=20), 300)
    assert all(completion.error is None for completion in completions.values())
    refused = len(stub.seen) - 300
    assert refused < 300


def test_a_wait_that_the_server_asks_for_is_kept_by_everyone(connect: Any, stub: StubServer) -> None:
    stub.script = first(1, refusal(429, Retry_After="7"))
    substrate = connect(max_connections=8)
    while_waiting: list[int] = []

    async def sleep(seconds: float) -> None:
        if seconds == 7.0:
            while substrate._client._gate._inside:
                await asyncio.sleep(0.01)
            while_waiting.append(len(stub.seen))

    substrate._client._sleep = sleep
    assert len(answers(substrate, 200)) == 200
    assert while_waiting[0] < 100


def test_an_answer_that_takes_too_long_is_asked_for_again(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: Reply(echo(request).body, after=30.0 if request.number == 0 else 0.0)
    assert answers(connect(timeout_seconds=0.5, max_attempts=20), 1)["p0"].text == "answer to note 0"
    assert len(stub.seen) >= 2


def test_a_server_that_never_answers_in_time_is_named_a_timeout(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: Reply(after=30.0)
    completion = answers(connect(timeout_seconds=0.2, max_attempts=2), 1)["p0"]
    assert completion.error is not None
    assert completion.error.code == "endpoint-timeout"


# Trouble that stays: said once


def test_a_server_that_is_not_there_is_said_once(connect: Any, stub: StubServer) -> None:
    stub.stop()
    completions, error = stopped_by(connect(), 1000)
    assert (completions, error.code) == ([], "endpoint-down")
    assert isinstance(error, InfrastructureFailure)
    assert error.mend


def test_a_server_that_goes_away_for_good_ends_the_batch_with_what_came(connect: Any, stub: StubServer) -> None:
    completions, error = stopped_by(connect(), 1000, after=20, action=stub.stop)
    assert error.code == "endpoint-down"
    assert sum(completion.error is None for completion in completions) >= 20
    assert 0 < sum(completion.error is not None for completion in completions) < IN_A_ROW


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_said_once_and_not_for_each_of_1000_prompts(connect: Any, stub: StubServer, status: int) -> None:
    stub.script = lambda request: refusal(status, "invalid_api_key", f"Incorrect API key provided: {KEY}")
    completions, error = stopped_by(connect(max_connections=8), 1000)
    assert (completions, error.code) == ([], "endpoint-key")
    assert isinstance(error, InvalidInput)
    assert "STUB_KEY" in error.mend
    assert len(stub.seen) <= 8


def test_a_server_that_wants_a_key_where_none_is_named_says_so(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: refusal(401)
    _, error = stopped_by(connect(key_env=None), 3)
    assert "key_env" in error.mend


def test_an_unknown_model_is_said_once(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: refusal(404, "model_not_found")
    completions, error = stopped_by(connect(model="nobody"), 1000)
    assert (completions, error.code) == ([], "endpoint-unknown-model")
    assert "nobody" in error.message
    assert len(stub.seen) <= 4


@pytest.mark.parametrize("reply", [refusal(402), refusal(429, "insufficient_quota")])
def test_an_empty_account_is_said_once(connect: Any, stub: StubServer, reply: Reply) -> None:
    stub.script = lambda request: reply
    assert stopped_by(connect(), 1000)[1].code == "endpoint-quota"
    assert len(stub.seen) <= 4


def test_the_key_does_not_follow_a_redirect(connect: Any, stub: StubServer) -> None:
    with StubServer() as other:
        stub.script = lambda request: Reply(status=307, headers={"Location": f"{other.url}/chat/completions"})
        _, error = stopped_by(connect(), 10)
        assert error.code == "endpoint-redirect"
        assert other.seen == []


@pytest.mark.parametrize("whose", ["the teacher mentor", "the baseline frontier"])
def test_an_error_says_whose_endpoint_it_is(stub: StubServer, asleep: Asleep, tmp_path: Path, whose: str) -> None:
    """An iteration asks several: the teacher's was once told as a baseline's, and one that keeps failing not at all."""
    stub.script = lambda request: refusal(400, "unsupported_value")
    endpoint = Endpoint(url=stub.url, model="stub")
    target = Target(whose.removeprefix("the baseline "), "unknown", endpoint=endpoint)
    substrate = EndpointSubstrate(endpoint, name=target.of_endpoint, sleep=asleep)
    _, error = stopped_by(substrate, 1000)
    substrate.close()
    assert f"to the endpoint of {whose} failed" in error.message


def test_prompts_that_fail_one_after_the_other_stop_the_batch(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: refusal(400, "unsupported_value")
    completions, error = stopped_by(connect(), 1000)
    assert error.code == "endpoint-failing"
    assert "to the endpoint of stub failed for good" in error.message
    assert error.details["failed"] == IN_A_ROW
    assert error.details["last"]["code"] == "endpoint-refused"
    assert len(completions) < IN_A_ROW
    assert len(stub.seen) < IN_A_ROW + 4


def test_prompts_that_are_too_long_stop_nobody(connect: Any, stub: StubServer) -> None:
    message = "This model's maximum context length is 512 tokens."
    stub.script = lambda request: refusal(400, None, message) if int(request.text.split()[1]) < 30 else echo(request)
    completions = answers(connect(), 40)
    codes = [completion.error.code for completion in completions.values() if completion.error is not None]
    assert codes == ["prompt-too-long"] * 30
    assert len(stub.seen) == 40


def test_a_filtered_answer_is_an_error_and_not_an_empty_answer(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: chat("", "content_filter")
    completion = answers(connect(), 1)["p0"]
    assert completion.error is not None
    assert completion.error.code == "endpoint-withheld"
    assert len(stub.seen) == 1


def test_answers_of_two_models_are_no_eval_of_either(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: chat("x", model="v1" if request.number < 5 else "v2")
    completions, error = stopped_by(connect(max_connections=1), 20)
    assert error.code == "endpoint-model-changed"
    assert len(completions) == 5


# Keys and addresses


def test_a_missing_key_names_its_variable(stub: StubServer) -> None:
    endpoint = Endpoint(url=stub.url, model="stub", key_env="NOBODY_KEY")
    for environment in ({}, {"NOBODY_KEY": "  "}):
        with pytest.raises(InvalidInput) as caught:
            EndpointSubstrate(endpoint, environment=environment)
        assert caught.value.code == "key-missing"
        assert "NOBODY_KEY" in caught.value.message


def test_a_key_that_cannot_stand_in_a_header_is_refused_and_not_shown() -> None:
    endpoint = Endpoint(url="http://127.0.0.1:9/v1", model="stub", key_env="STUB_KEY")
    with pytest.raises(InvalidInput) as caught:
        EndpointSubstrate(endpoint, environment={"STUB_KEY": f"{KEY}\nX-Evil: 1"})
    assert caught.value.code == "key-unusable"
    assert KEY not in json.dumps(caught.value.envelope())


@pytest.mark.parametrize(
    "script",
    [
        lambda request: refusal(401, f"bad {KEY}", f"Incorrect API key provided: {KEY} at 127.0.0.1"),
        lambda request: refusal(404, KEY, f"http://127.0.0.1/{KEY}"),
        lambda request: refusal(400, None, f"bad prompt 'note 0' for {KEY} at 127.0.0.1"),
        lambda request: refusal(500, f"http://127.0.0.1/{KEY}", KEY),
        lambda request: Reply(status=307, headers={"Location": f"http://127.0.0.1/{KEY}"}),
        lambda request: Reply(KEY.encode()),
        None,
    ],
)
def test_neither_key_nor_host_nor_prompt_stands_in_an_error_or_a_log(
    connect: Any, stub: StubServer, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    substrate = connect(max_attempts=2, max_connections=1)
    if script is None:
        stub.stop()
    else:
        stub.script = script
    try:
        errors = [completion.error for completion in substrate.complete(prompts(1), SYSTEM, SAMPLING)]
    except ModelsmithError as error:
        errors = [error]
    assert errors[0] is not None
    text = (
        "".join(traceback.format_exception(errors[0])) + repr(errors) + json.dumps([e.envelope() for e in errors if e])
    )
    for secret in (KEY, "127.0.0.1", "note 0"):
        assert secret not in text
        assert secret not in caplog.text
    assert KEY not in repr(substrate) + repr(substrate._client) + repr(substrate.facts)


def test_without_aiohttp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(InfrastructureFailure) as caught:
        EndpointSubstrate(Endpoint(url="http://127.0.0.1:9/v1", model="stub"))
    assert caught.value.code == "extra-missing"
    assert "modelsmith[endpoint]" in caught.value.mend


def test_a_companys_proxy_is_used_and_this_machine_is_reached_directly(
    connect: Any, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", stub.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "inside.invalid")
    assert answers(connect(), 1)["p0"].error is None
    assert connect(url="http://outside.invalid/v1")._client._proxy == stub.url.removesuffix("/v1")
    assert connect(url="http://inside.invalid/v1")._client._proxy is None


# Beginning and end


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("modelsmith-endpoint")]


def test_closing_leaves_no_thread_and_may_be_done_again(connect: Any) -> None:
    substrate = connect()
    answers(substrate, 3)
    assert threads()
    substrate.close()
    substrate.close()
    assert threads() == []


def test_a_closed_substrate_may_be_used_again(connect: Any) -> None:
    substrate = connect()
    answers(substrate, 2)
    substrate.close()
    assert len(answers(substrate, 2)) == 2


def test_no_prompts_need_neither_thread_nor_server(connect: Any, stub: StubServer) -> None:
    stub.stop()
    assert answers(connect(), 0) == {}
    assert threads() == []


def test_a_reader_who_stops_ends_the_requests(connect: Any, stub: StubServer) -> None:
    stub.script = lambda request: Reply(echo(request).body, after=0.0 if request.number == 0 else 60.0)
    substrate = connect()
    reading = substrate.complete(prompts(100), SYSTEM, SAMPLING)
    next(reading)
    reading.close()
    assert len(stub.seen) <= 5
    substrate.close()
    assert threads() == []


def test_closing_in_the_middle_ends_what_is_under_way(
    connect: Any, stub: StubServer, caplog: pytest.LogCaptureFixture
) -> None:
    stub.script = lambda request: Reply(echo(request).body, after=0.0 if request.number == 0 else 60.0)
    substrate = connect()
    reading = substrate.complete(prompts(100), SYSTEM, SAMPLING)
    next(reading)
    substrate.close()
    assert threads() == []
    assert substrate._client._session is None
    gc.collect()
    assert caplog.text == ""


def test_ctrl_c_ends_a_batch_that_waits_for_an_answer(stub: StubServer) -> None:
    requested = threading.Event()

    def script(request: Seen) -> Reply:
        requested.set()
        return Reply(after=600.0)

    stub.script = script
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from modelsmith.schema.evalset import Sampling; from modelsmith.schema.scenario import Message\n"
        "from modelsmith.schema.source import Endpoint; from modelsmith.substrates.port import Prompt\n"
        "from modelsmith.substrates.endpoint.substrate import EndpointSubstrate\n"
        "substrate = EndpointSubstrate(Endpoint(url=sys.argv[1], model='stub', timeout_seconds=600.0))\n"
        "prompts = [Prompt(str(i), (Message(role='user', content='x'),)) for i in range(100)]\n"
        "try:\n"
        "    list(substrate.complete(prompts, 's', Sampling(max_new_tokens=4)))\n"
        "except KeyboardInterrupt:\n"
        "    substrate.close(); print('interrupted')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(modelsmith.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", program, stub.url], stdout=subprocess.PIPE, env=environment)
    assert requested.wait(120)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert (out, process.returncode) == (b"interrupted\n", 0)
