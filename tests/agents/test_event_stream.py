"""Whoever follows the events over HTTP or MCP hears each of them, in order, and holds nothing up."""

from __future__ import annotations

import json
import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace

import anyio
import httpx2
import pytest
import uvicorn
from happenings import happening
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from ports import free_port

from modelsmith.ledger.ledger import ledger_of
from modelsmith.mcp import resources
from modelsmith.mcp.calls import Session, call
from modelsmith.mcp.http import Listening, make_app
from modelsmith.mcp.subscriptions import Subscriptions
from modelsmith.mcp.watching import Watch
from modelsmith.repository.tokens import Tokens
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import digest
from modelsmith.schema.events import EvalRegression, schema_id

EVENTS = "modelsmith://events"


class Served:
    """A clone's server over HTTP."""

    def __init__(self, clone, port):
        self.url = f"http://127.0.0.1:{port}"
        self.tokens = Tokens(clone.parent / "home")
        self.ledger = ledger_of(Workspace.find(clone))
        self.token = self.tokens.issue("reviewer", (), 1)[1]

    @contextmanager
    def follow(self, cursor=None, token=None, query="", **headers):
        """The answer, and its lines as they come."""
        fields = {"Authorization": f"Bearer {token or self.token}", **headers}
        if cursor is not None:
            fields["Last-Event-ID"] = cursor
        with httpx2.stream("GET", f"{self.url}/events{query}", headers=fields, timeout=60) as answer:
            yield answer, answer.iter_lines()


@pytest.fixture
def served(plain_clone):
    """A clone's server, listening."""
    port = free_port()
    served_app = Served(plain_clone, port)
    app = make_app(plain_clone, served_app.tokens, Listening("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield served_app
    server.should_exit = server.force_exit = True
    thread.join(60)


def next_events(lines, count):
    """The next events of a stream, each as its fields; comments are left out."""
    frames = []
    fields = {}
    for line in lines:
        if not line and fields:
            frames.append(fields)
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        if len(frames) == count:
            return frames
    raise AssertionError("the stream ended")


def test_a_reader_hears_what_was_and_what_comes_after_its_cursor(served):
    served.ledger.append(happening(1), happening(2))
    with served.follow() as (answer, stream):
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = next_events(stream, 2)
        served.ledger.append(happening(3))
        late = next_events(stream, 1)
    document = json.loads(first[0]["data"])
    assert (first[0]["event"], document["type"]) == ("training.complete", "training.complete")
    assert document["dataschema"] == schema_id("training.complete")
    assert document["data"] == happening(1).model_dump(mode="json")
    assert document["source"].startswith("urn:modelsmith:repository:")
    assert str(served.ledger.path.parent.parent.parent) not in first[0]["data"]
    with served.follow(first[1]["id"]) as (_, stream):
        assert next_events(stream, 1) == late
    with served.follow(query=f"?since={first[0]['id']}") as (_, stream):
        assert [event["id"] for event in next_events(stream, 2)] == [first[1]["id"], late[0]["id"]]


@pytest.mark.parametrize("cursor", ["7-0123456789abcdef", "1-0123456789abcdef", "x" * 500, "1 OR 1=1", "0"])
def test_a_forged_cursor_is_told_to_begin_anew_and_hears_all(served, cursor):
    served.ledger.append(happening(1))
    with served.follow(cursor) as (_, stream):
        reset, event = next_events(stream, 2)
    assert (reset["event"], reset["id"], json.loads(reset["data"])["code"]) == ("unknown-cursor", "", "unknown-cursor")
    assert json.loads(event["data"])["id"] == happening(1).identity


def test_a_ledger_made_anew_under_a_reader_says_so(served):
    served.ledger.append(happening(1), happening(2))
    with served.follow() as (_, stream):
        next_events(stream, 2)
        for file in served.ledger.path.parent.glob("ledger.db*"):
            file.unlink()
        served.ledger.append(happening(3))
        assert [event["event"] for event in next_events(stream, 2)] == ["unknown-cursor", "training.complete"]


def test_nobody_reads_events_without_the_right_to_them(served):
    narrow = served.tokens.issue("operator", ("promote",), 1)[1]
    mover = served.tokens.issue("promoter", (), 1)[1]
    for headers, token, code in (
        ({}, "x", 401),
        ({"Host": "evil.example"}, None, 421),
        ({"Origin": "https://evil.example"}, None, 403),
        ({}, narrow, 403),
        ({}, mover, 403),
    ):
        with served.follow(token=token, **headers) as (answer, _):
            assert answer.status_code == code


def test_a_stream_ends_when_its_token_is_revoked(served, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.stream.RECHECK", 0.2)
    token_record, token = served.tokens.issue("reviewer", (), 1)
    served.ledger.append(happening(1))
    with served.follow(token=token) as (_, stream):
        next_events(stream, 1)
        served.tokens.revoke(token_record.id)
        served.ledger.append(happening(2))
        assert "".join(stream) == ""


def test_more_readers_than_the_server_takes_are_told_so(served, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.stream.MOST", 2)
    served.ledger.append(happening(1))
    with served.follow() as (_, first_stream), served.follow() as (_, two):
        next_events(first_stream, 1), next_events(two, 1)
        with served.follow() as (answer, _):
            assert (answer.status_code, json.loads(answer.read())["code"]) == (503, "too-many-readers")
    end, ended = time.monotonic() + 60, False
    while not ended:
        assert time.monotonic() < end, "the others have left"
        with served.follow() as (answer, three):
            ended = answer.status_code == 200 and bool(next_events(three, 1))


def test_one_token_takes_no_other_s_place(served, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.stream.MOST_OF_ONE", 1)
    monkeypatch.setattr("modelsmith.mcp.subscriptions.MOST_OF_ONE", 1)
    served.ledger.append(happening(1))
    other = served.tokens.issue("reviewer", (), 1)[1]
    with served.follow() as (_, first_stream), served.follow(token=other) as (_, two):
        next_events(first_stream, 1), next_events(two, 1)
        with served.follow() as (answer, _):
            assert answer.status_code == 503

    async def visit():
        async with (
            listener(served, "auto") as first,
            listener(served, "auto", other) as second,
            first.listen(resource_subscriptions=[EVENTS]),
        ):
            with pytest.raises(MCPError, match="limit reached"):
                async with first.listen(resource_subscriptions=[EVENTS]):
                    pass
            async with second.listen(resource_subscriptions=[EVENTS]) as changes:
                assert changes.honored.resource_subscriptions == [EVENTS]

    anyio.run(visit)


@asynccontextmanager
async def listener(served, mode, token=None, notifications=None):
    """A client that is told, over HTTP."""

    async def message(notification):
        if notifications is not None:
            notifications.append(type(notification).__name__)

    http = create_mcp_http_client(headers={"Authorization": f"Bearer {token or served.token}"})
    transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
    async with http, Client(transport, mode=mode, message_handler=message) as client:
        yield client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_whose_token_is_revoked_hears_nothing_more(served, mode):
    token_record, token = served.tokens.issue("reviewer", (), 1)
    notifications, others = [], []

    async def visit():
        with anyio.fail_after(120):
            async with (
                listener(served, mode, token, notifications) as revoked_client,
                listener(served, mode, None, others) as stays,
            ):
                if mode == "legacy":
                    await revoked_client.subscribe_resource(EVENTS)
                    await stays.subscribe_resource(EVENTS)
                    await anyio.sleep(0.7)
                    notifications.clear(), others.clear()
                    served.tokens.revoke(token_record.id)
                    served.ledger.append(happening(2))
                    while not others:
                        await anyio.sleep(0.1)
                    await anyio.sleep(0.3)
                    assert notifications == []
                    return
                async with (
                    revoked_client.listen(resource_subscriptions=[EVENTS]) as mine,
                    stays.listen(resource_subscriptions=[EVENTS]) as theirs,
                ):
                    served.tokens.revoke(token_record.id)
                    served.ledger.append(happening(2))
                    assert (await anext(theirs)).uri == EVENTS
                    with pytest.raises(SubscriptionLost):
                        await anext(mine)

    anyio.run(visit)


def test_a_damaged_file_of_tokens_ends_streams_and_not_the_server(served, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.subscriptions.RECHECK", 0.2)
    original = served.tokens._path.read_bytes()

    async def visit():
        with anyio.fail_after(120):
            async with listener(served, "auto") as client, client.listen(resource_subscriptions=[EVENTS]) as changes:
                served.tokens._path.write_text("{")
                with pytest.raises(SubscriptionLost):
                    await anext(changes)
            served.tokens._path.write_bytes(original)
            async with listener(served, "auto") as client, client.listen(resource_subscriptions=[EVENTS]) as changes:
                served.ledger.append(happening(3))
                assert (await anext(changes)).uri == EVENTS

    anyio.run(visit)


def test_subscribing_again_and_again_costs_what_once_does(served, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.subscriptions.MOST_OF_ONE", 1)

    async def visit():
        async with listener(served, "legacy") as client:
            for _ in range(50):
                await client.subscribe_resource(EVENTS)
                await client.subscribe_resource(EVENTS)
                await client.unsubscribe_resource(EVENTS)
                await client.unsubscribe_resource(EVENTS)

    anyio.run(visit)


def test_silence_is_broken_by_a_heartbeat(served, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.stream.HEARTBEAT", 0.2)
    with served.follow() as (_, stream):
        assert next(stream).startswith(": ping")


def test_a_slow_reader_holds_up_nobody_and_misses_nothing(served):
    served.ledger.append(*(happening(number) for number in range(1500)))
    with served.follow() as (_, slow):
        with served.follow() as (_, quick):
            assert len(next_events(quick, 1500)) == 1500
        ids = [event["id"] for event in next_events(slow, 1500)]
    assert ids == [event.cursor for event in served.ledger.events()]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_clients_of_both_eras_are_told_when_there_is_more(served, mode):
    """`subscriptions/listen` of 2026-07-28, `resources/subscribe` before."""
    served.ledger.append(happening(1))
    notifications = []

    async def message(notification):
        notifications.append(type(notification).__name__)

    async def read(client, cursor):
        resource = await client.read_resource(f"{EVENTS}/{cursor}")
        return [event["event"]["adapter_sha"] for event in json.loads(resource.contents[0].text)["result"]["events"]]

    async def visit():
        http = create_mcp_http_client(headers={"Authorization": f"Bearer {served.token}"})
        cursor = served.ledger.end()
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        with anyio.fail_after(120):
            async with http, Client(transport, mode=mode, message_handler=message) as client:
                if mode == "legacy":
                    await client.subscribe_resource(EVENTS)
                    await anyio.sleep(1.2)
                    notifications.clear()
                    served.ledger.append(happening(2))
                    while not notifications:
                        await anyio.sleep(0.1)
                    await client.unsubscribe_resource(EVENTS)
                else:
                    async with client.listen(resource_subscriptions=[EVENTS, "modelsmith://status"]) as changes:
                        assert changes.honored.resource_subscriptions == [EVENTS]
                        served.ledger.append(happening(2))
                        assert (await anext(changes)).uri == EVENTS
                return await read(client, cursor)

    assert anyio.run(visit) == [happening(2).adapter_sha]


def regression(number):
    """An event that is long: it names a thousand scenarios."""
    failing = tuple(f"bid-timeout-core-{number:04d}-{index:04d}" for index in range(1000))
    return EvalRegression(
        cluster="rtb-pricing",
        tag=f"run-{number}",
        run_id=digest(f"run {number}"),
        failing_scenarios=failing,
        prior_pass=digest("before"),
    )


@pytest.mark.parametrize("by", ["tool", "tool in detail", "resource"])
def test_an_agent_that_follows_the_cursor_passes_over_no_event(plain_clone, by):
    """Also where an answer is cut because it is long: the cursor stands behind the last event that is shown."""
    ledger = ledger_of(Workspace.find(plain_clone))
    ledger.append(*(regression(number) if number % 3 else happening(number) for number in range(120)))
    session, cursor, cursors, more = Session(plain_clone, "reviewer"), None, [], 1
    while more:
        if by == "resource":
            reply = resources.read(session, f"{EVENTS}/{cursor}" if cursor else EVENTS)
        else:
            arguments = {"since": cursor} if cursor else {}
            reply = call(session, "events", arguments | {"detail": by == "tool in detail"})
        page = reply.body["result"]
        cursors += [event["cursor"] for event in page["events"]]
        cursor, more = page["cursor"], page["more"]
        assert cursor == cursors[-1]
    assert cursors == [event.cursor for event in ledger.events()]


def test_what_comes_while_nobody_takes_a_notice_is_one_notice(plain_clone, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.watching.EVERY", 0.02)
    ledger, watch = ledger_of(Workspace.find(plain_clone)), Watch(plain_clone)

    async def visit():
        with anyio.fail_after(120), watch.listening():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.run)
                news = watch.news()
                for number in range(5):
                    ledger.append(happening(number))
                    while watch._last_end != ledger.end():
                        await anyio.sleep(0.01)
                await anext(news)
                with anyio.move_on_after(0.3) as nothing:
                    await anext(news)
                assert nothing.cancelled_caught
                tasks.cancel_scope.cancel()

    anyio.run(visit)


def test_a_connection_that_takes_no_notice_keeps_none_from_another(plain_clone, monkeypatch):
    monkeypatch.setattr("modelsmith.mcp.watching.EVERY", 0.02)
    session = Session(plain_clone, "reviewer", holder="one")
    subscriptions = Subscriptions(Watch(plain_clone), lambda: session)
    ledger = ledger_of(Workspace.find(plain_clone))
    reported = []

    class Deaf(SimpleNamespace):
        __hash__ = object.__hash__

        async def send_resource_updated(self, uri):
            await anyio.sleep_forever()

    class Hearing(Deaf):
        async def send_resource_updated(self, uri):
            reported.append(uri)

    async def visit():
        namespace = SimpleNamespace(uri=EVENTS)
        with anyio.fail_after(120):
            async with AsyncExitStack() as stack, subscriptions.lifespan(None):
                for kind in (Deaf, Deaf, Hearing):
                    connection = kind(exit_stack=stack)
                    await subscriptions.subscribe(
                        SimpleNamespace(session=SimpleNamespace(_connection=connection)), namespace
                    )
                for number in range(3):
                    ledger.append(happening(number))
                    while len(reported) <= number:
                        await anyio.sleep(0.01)

    anyio.run(visit)
    assert reported == [EVENTS] * 3


def test_ten_subscribers_hear_every_event_in_order_while_more_come(served):
    count = 1500

    async def follow():
        cursors, cursor = [], None
        async with listener(served, "auto") as client, client.listen(resource_subscriptions=[EVENTS]) as changes:
            while len(cursors) < count:
                resource = await client.read_resource(f"{EVENTS}/{cursor}" if cursor else EVENTS)
                page = json.loads(resource.contents[0].text)["result"]
                cursors += [event["cursor"] for event in page["events"]]
                cursor = page["cursor"]
                if not page["more"]:
                    with anyio.move_on_after(1):
                        await anext(changes)
        return cursors

    async def visit():
        cursors = []

        async def one():
            cursors.append(await follow())

        with anyio.fail_after(200):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(one)
                for begin in range(0, count, 100):
                    events = [happening(number) for number in range(begin, begin + 100)]
                    await anyio.to_thread.run_sync(lambda events=events: served.ledger.append(*events))
                    await anyio.sleep(0.05)
        return cursors

    cursors = anyio.run(visit)
    assert cursors == [[event.cursor for event in served.ledger.events()]] * 10
