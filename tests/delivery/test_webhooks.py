"""Signed webhooks: each event arrives, in order, whoever is killed; and nobody makes them go where they must not."""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from happenings import append, happening
from hypothesis import given
from hypothesis import strategies as st
from receivers import asks_for_time

from modelsmith.cli.main import cli
from modelsmith.delivery import delivering
from modelsmith.delivery.addresses import is_public, networks
from modelsmith.delivery.keeping import Mailbox
from modelsmith.delivery.message import ATTEMPTS, LONGEST_WAIT, wait
from modelsmith.delivery.sending import Outcome
from modelsmith.delivery.subscribers import webhooks_folder
from modelsmith.operations import webhooks
from modelsmith.schema.errors import InvalidInput, ModelsmithError

COMMAND = (sys.executable, "-m", "modelsmith")


def test_events_arrive_in_order_once_and_signed_by_the_standard(telling, receive):
    receiver = receive()
    append(telling, 0)
    secret = webhooks.add(telling, "ops", receiver.url, (), "cloudevents").secret
    ids = append(telling, 1, 2, 3)
    assert webhooks.delivered(telling, False).delivered == 3
    assert webhooks.delivered(telling, False).delivered == 0
    assert receiver.ids() == ids
    assert [event["data"] for event in receiver.verified(secret)] == [
        happening(number).model_dump(mode="json") for number in (1, 2, 3)
    ]
    assert receiver.heard[0][0]["content-type"] == "application/cloudevents+json"


def test_a_subscriber_hears_only_the_events_that_it_asked_for(telling, receive):
    receiver = receive()
    webhooks.add(telling, "ops", receiver.url, ("rollback.triggered",), "cloudevents")
    append(telling, 1, 2)
    assert webhooks.delivered(telling, False).delivered == 0
    assert (receiver.heard, webhooks.listed(telling).subscribers[0].behind) == ([], 0)


def test_two_secrets_sign_while_a_rotation_is_under_way(telling, receive):
    receiver = receive()
    old = webhooks.add(telling, "ops", receiver.url, (), "cloudevents").secret
    new = webhooks.rotate(telling, "ops", False).secret
    append(telling, 1)
    webhooks.delivered(telling, False)
    assert receiver.verified(old) == receiver.verified(new)
    with pytest.raises(InvalidInput):
        webhooks.rotate(telling, "ops", False)
    webhooks.rotate(telling, "ops", True)
    receiver.heard.clear()
    append(telling, 2)
    webhooks.delivered(telling, False)
    assert receiver.verified(new)
    with pytest.raises(Exception, match="No matching signature"):
        receiver.verified(old)


def test_a_failing_event_is_retried_then_a_dead_letter_then_redelivered(telling, receive, monkeypatch):
    monkeypatch.setattr(delivering, "wait", lambda *_: 0.0)
    receiver = receive(*[500] * ATTEMPTS, 200)
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    first, second = append(telling, 1, 2)
    runs = [webhooks.delivered(telling, False) for _ in range(ATTEMPTS)]
    assert [run.failed for run in runs] == [1] * (ATTEMPTS - 1) + [0]
    assert (runs[-1].dead, runs[-1].delivered) == (1, 1)
    assert receiver.ids() == [first] * ATTEMPTS + [second]
    assert webhooks.listed(telling).subscribers[0].dead == 1
    again = webhooks.redelivered(telling, "ops")
    assert (again.delivered, again.dead, receiver.ids()[-1]) == (1, 0, first)


def test_an_event_that_is_not_due_yet_holds_back_those_after_it(telling, receive):
    receiver = receive(503, 200)
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    append(telling, 1, 2)
    webhooks.delivered(telling, False)
    webhooks.delivered(telling, False)
    assert len(receiver.heard) == 1
    subscriber = webhooks.listed(telling).subscribers[0]
    assert (subscriber.behind, subscriber.failure) == (2, "it answered 503")


def test_an_event_that_failed_while_a_clock_was_ahead_is_sent_again(telling, receive, monkeypatch):
    receiver, right = receive(503, 200), time.time
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    append(telling, 1)
    with monkeypatch.context() as ahead:
        ahead.setattr(delivering.time, "time", lambda: right() + 400 * 86_400)
        webhooks.delivered(telling, False)
    assert webhooks.delivered(telling, False).delivered == 1


def test_a_receiver_that_asks_for_time_is_given_it(telling, receive):
    webhooks.add(telling, "ops", receive(behave=asks_for_time).url, (), "cloudevents")
    append(telling, 1)
    webhooks.delivered(telling, False)
    due = Mailbox(webhooks_folder(telling), "ops").place().due
    assert due - time.time() == pytest.approx(3000, abs=30)


def test_a_killed_delivery_goes_on_and_loses_nothing(telling, receive):
    """SIGKILL at moments of its work: what comes again has the same id, and the order of first arrivals is kept."""
    receiver = receive()
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    ids = append(telling, *range(400))
    for enough in (60, 200):
        process = subprocess.Popen([*COMMAND, "webhooks", "deliver", "--follow"], cwd=telling.root)
        until = time.monotonic() + 40
        while len(receiver.heard) < enough and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    webhooks.delivered(telling, False)
    assert list(dict.fromkeys(receiver.ids())) == ids


def test_adding_a_name_that_is_taken_is_refused_and_moves_no_cursor(telling, receive):
    receiver = receive()
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    ids = append(telling, 1, 2)
    with pytest.raises(InvalidInput) as refused:
        webhooks.add(telling, "ops", "https://other.example/", (), "cloudevents")
    assert refused.value.code == "subscriber-exists"
    webhooks.delivered(telling, False)
    assert receiver.ids() == ids


def test_a_name_added_anew_in_the_midst_of_an_attempt_begins_anew(telling):
    """As when a wrong address hangs, and its subscriber is removed and added with the right one."""
    sent_messages = []

    class Sends:
        async def send(self, subscriber, message):
            sent_messages.append((subscriber.url, message.id))
            if len(sent_messages) == 1:
                webhooks.remove(telling, "ops")
                webhooks.add(telling, "ops", "https://right.example/", (), "cloudevents")
                append(telling, 2)
                return Outcome(False, "no answer", retry_after=3000.0)
            over.set()
            return Outcome(True)

    async def deliver():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delivering.Delivery(telling, follow=True).run, Sends())
            with anyio.move_on_after(60):
                await over.wait()
            tasks.cancel_scope.cancel()

    webhooks.add(telling, "ops", "https://wrong.example/", (), "cloudevents")
    first = append(telling, 1)
    over = anyio.Event()
    anyio.run(deliver)
    assert sent_messages == [("https://wrong.example/", *first), ("https://right.example/", happening(2).identity)]


def test_a_second_delivery_in_the_same_clone_is_kept_out(telling):
    with telling.lock("webhooks"), pytest.raises(ModelsmithError) as caught:
        webhooks.delivered(telling, False)
    assert caught.value.code == "busy"


def test_a_ledger_made_anew_is_told_from_the_first_event_by_the_same_ids(telling, receive):
    receiver = receive()
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    append(telling, 1, 2)
    webhooks.delivered(telling, False)
    for file in telling.private.glob("ledger.db*"):
        file.unlink()
    append(telling, 2, 3)
    webhooks.delivered(telling, False)
    assert receiver.ids() == [happening(number).identity for number in (1, 2, 2, 3)]


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_no_more_public_than_it_is_itself(inner):
    carried = [
        ipaddress.ip_address(f"::ffff:{inner}"),
        ipaddress.ip_address(int(ipaddress.ip_address("64:ff9b::")) | int(inner)),
        ipaddress.ip_address((0x2002 << 112) | (int(inner) << 80)),
    ]
    for address in carried:
        assert not is_public(address) or is_public(inner)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "10.0.0.1", "172.16.0.1",
     "192.168.0.1", "127.0.0.1", "0.0.0.0", "::1", "::", "fe80::1", "fc00::1", "224.0.0.1", "ff02::1",
     "255.255.255.255", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1",
     "::ffff:0:7f00:1", "fec0::2", "5f00::1", "4000::1"],
)  # fmt: skip
def test_addresses_of_machines_networks_and_clouds_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


def test_addresses_of_the_internet_are_public():
    """The control of the two above."""
    assert all(is_public(ipaddress.ip_address(text)) for text in ("93.184.215.14", "8.8.8.8", "2606:4700::1111"))
    assert networks(("10.0.0.0/8",))
    with pytest.raises(InvalidInput):
        networks(("10.0.0.1/8",))


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 1e9))
def test_waits_grow_and_have_an_end(attempt, draw, asked):
    assert 2.5 <= wait(attempt, draw, asked) <= LONGEST_WAIT
    assert wait(attempt + 1, 0.0) >= wait(attempt, 0.0)


def test_every_verb_of_webhooks_says_what_it_does():
    group = cli.get_command(None, "webhooks")
    verbs = group.list_commands(None)
    assert verbs == ["add", "deliver", "list", "redeliver", "remove", "rotate", "test"]
    assert all(group.get_command(None, verb).help for verb in verbs)
    page = Path(__file__).parents[2] / "docs/events.md"
    assert all(f"webhooks {verb}" in page.read_text() for verb in verbs)
