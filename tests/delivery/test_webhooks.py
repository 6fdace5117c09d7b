"""Signed webhooks: each event arrives, in order, whoever is killed; and nobody makes them go where they must not."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from happenings import happening
from hypothesis import given
from hypothesis import strategies as st
from receivers import Receiver, babbles, free_port, garbles, hangs, redirects_to, shows_off, trickles
from worlds import WARM

from modelsmith.cli.main import cli
from modelsmith.delivery import connecting, delivering, sending
from modelsmith.delivery.addresses import is_public, networks
from modelsmith.delivery.message import ATTEMPTS, LONGEST_WAIT, message, wait
from modelsmith.delivery.subscribers import Subscribers, webhooks_folder
from modelsmith.ledger.ledger import ledger_of
from modelsmith.operations import webhooks
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, ModelsmithError

COMMAND = (sys.executable, "-m", "modelsmith")


@pytest.fixture
def clone(plain_clone, monkeypatch):
    """A clone that allows receivers on this machine."""
    allow(plain_clone, "127.0.0.0/8")
    monkeypatch.setattr(delivering, "LOOK_EVERY", 0.05)
    return Workspace.find(plain_clone)


def allow(folder, network):
    subprocess.run(["git", "config", "modelsmith.webhook-allow", network], cwd=folder, check=True)


@pytest.fixture
def receive():
    """Makes receivers, and closes them."""
    made = []

    def make(*answers, **how):
        made.append(Receiver(*answers, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def append(workspace, *numbers):
    ledger_of(workspace).append(*map(happening, numbers))
    return [happening(number).identity for number in numbers]


def test_events_arrive_in_order_once_and_signed_by_the_standard(clone, receive):
    receiver = receive()
    append(clone, 0)
    secret = webhooks.add(clone, "ops", receiver.url, (), "cloudevents").secret
    ids = append(clone, 1, 2, 3)
    assert webhooks.delivered(clone, False).delivered == 3
    assert webhooks.delivered(clone, False).delivered == 0
    assert receiver.ids() == ids
    assert [one["data"] for one in receiver.verified(secret)] == [
        happening(number).model_dump(mode="json") for number in (1, 2, 3)
    ]
    assert receiver.heard[0][0]["content-type"] == "application/cloudevents+json"


def test_a_subscriber_hears_only_the_events_that_it_asked_for(clone, receive):
    receiver = receive()
    webhooks.add(clone, "ops", receiver.url, ("rollback.triggered",), "cloudevents")
    append(clone, 1, 2)
    assert webhooks.delivered(clone, False).delivered == 0
    assert (receiver.heard, webhooks.listed(clone).subscribers[0].behind) == ([], 0)


def test_two_secrets_sign_while_a_rotation_is_under_way(clone, receive):
    receiver = receive()
    old = webhooks.add(clone, "ops", receiver.url, (), "cloudevents").secret
    new = webhooks.rotate(clone, "ops", False).secret
    append(clone, 1)
    webhooks.delivered(clone, False)
    assert receiver.verified(old) == receiver.verified(new)
    with pytest.raises(InvalidInput):
        webhooks.rotate(clone, "ops", False)
    webhooks.rotate(clone, "ops", True)
    receiver.heard.clear()
    append(clone, 2)
    webhooks.delivered(clone, False)
    assert receiver.verified(new)
    with pytest.raises(Exception, match="No matching signature"):
        receiver.verified(old)


def test_a_failing_event_is_retried_then_a_dead_letter_then_redelivered(clone, receive, monkeypatch):
    monkeypatch.setattr(delivering, "wait", lambda *_: 0.0)
    receiver = receive(*[500] * ATTEMPTS, 200)
    webhooks.add(clone, "ops", receiver.url, (), "cloudevents")
    first, second = append(clone, 1, 2)
    runs = [webhooks.delivered(clone, False) for _ in range(ATTEMPTS)]
    assert [run.failed for run in runs] == [1] * (ATTEMPTS - 1) + [0]
    assert (runs[-1].dead, runs[-1].delivered) == (1, 1)
    assert receiver.ids() == [first] * ATTEMPTS + [second]
    assert webhooks.listed(clone).subscribers[0].dead == 1
    again = webhooks.redelivered(clone, "ops")
    assert (again.delivered, again.dead, receiver.ids()[-1]) == (1, 0, first)


def test_an_event_that_is_not_due_yet_is_left_and_holds_back_those_after_it(clone, receive):
    receiver = receive(503, 200)
    webhooks.add(clone, "ops", receiver.url, (), "cloudevents")
    append(clone, 1, 2)
    webhooks.delivered(clone, False)
    webhooks.delivered(clone, False)
    assert len(receiver.heard) == 1
    shown = webhooks.listed(clone).subscribers[0]
    assert (shown.behind, shown.failure) == (2, "it answered 503")


def test_a_killed_delivery_goes_on_and_loses_nothing(clone, receive):
    """SIGKILL at moments of its work: what comes again has the same id, and the order of first arrivals is kept."""
    receiver = receive()
    webhooks.add(clone, "ops", receiver.url, (), "cloudevents")
    ids = append(clone, *range(400))
    for enough in (60, 200):
        process = subprocess.Popen([*COMMAND, "webhooks", "deliver", "--follow"], cwd=clone.root)
        until = time.monotonic() + 40
        while len(receiver.heard) < enough and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    webhooks.delivered(clone, False)
    assert list(dict.fromkeys(receiver.ids())) == ids


def test_a_second_delivery_in_the_same_clone_is_kept_out(clone):
    with clone.lock("webhooks"), pytest.raises(ModelsmithError) as caught:
        webhooks.delivered(clone, False)
    assert caught.value.code == "busy"


def test_a_ledger_made_anew_is_told_from_the_first_event_by_the_same_ids(clone, receive):
    receiver = receive()
    webhooks.add(clone, "ops", receiver.url, (), "cloudevents")
    append(clone, 1, 2)
    webhooks.delivered(clone, False)
    for file in clone.private.glob("ledger.db*"):
        file.unlink()
    append(clone, 2, 3)
    webhooks.delivered(clone, False)
    assert receiver.ids() == [happening(number).identity for number in (1, 2, 2, 3)]


@pytest.mark.parametrize("behave", [hangs, trickles, garbles, shows_off], ids=lambda one: one.__name__)
def test_a_hostile_receiver_holds_up_nobody_else(clone, receive, monkeypatch, behave):
    """One that never answers, answers a byte at a time, or answers what is no HTTP."""
    monkeypatch.setattr(sending, "DEADLINE", 1.0)
    bad, good = receive(behave=behave), receive()
    webhooks.add(clone, "bad", bad.url, (), "cloudevents")
    webhooks.add(clone, "good", good.url, (), "cloudevents")
    ids = append(clone, 1, 2, 3)
    begin = time.monotonic()
    sent = webhooks.delivered(clone, False)
    assert (sent.delivered, sent.failed, good.ids()) == (3, 1, ids)
    assert time.monotonic() - begin < 4


def test_an_answer_of_gigabytes_is_not_read(clone, receive):
    receiver = receive(behave=babbles)
    webhooks.add(clone, "ops", receiver.url, (), "cloudevents")
    append(clone, 1)
    begin = time.monotonic()
    assert webhooks.delivered(clone, False).delivered == 1
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(clone, receive, status):
    """Not even to an address that is allowed: the receiver is who the operator said."""
    inside = receive()
    outside = receive(behave=redirects_to(inside.url, status))
    webhooks.add(clone, "ops", outside.url, (), "cloudevents")
    append(clone, 1)
    assert webhooks.delivered(clone, False).failed == 1
    assert inside.heard == []
    assert "redirects are not followed" in webhooks.listed(clone).subscribers[0].failure


def test_nothing_goes_to_addresses_of_this_machine_or_network_unless_allowed(plain_clone, receive):
    """However the address is written: by a name, as a number, in octal, mapped into IPv6."""
    workspace = Workspace.find(plain_clone)
    receiver = receive()
    for index, host in enumerate(
        ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]")
    ):
        webhooks.add(workspace, f"s{index}", f"http://{host}:{receiver.port}/", (), "cloudevents")
        sent = webhooks.test(workspace, f"s{index}")
        assert (sent.delivered, receiver.heard) == (0, []), host


def test_a_name_that_changes_its_address_after_the_check_leads_nowhere_else(clone, receive, monkeypatch):
    """DNS rebinding: the name is looked up once for a connection, and the address that was checked is connected to."""
    allow(clone.root, "127.0.0.2/32")
    port = free_port()
    good, bad = receive(host="127.0.0.2", port=port), receive(host="127.0.0.1", port=port)
    answers = [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["93.184.215.14"]]
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return [ipaddress.ip_address(one) for one in answers[len(asked) - 1]]

    monkeypatch.setattr(connecting, "resolve", resolve)
    webhooks.add(clone, "ops", f"http://rebinding.example:{port}/", (), "cloudevents")
    sent = [webhooks.test(clone, "ops") for _ in answers]
    assert [one.delivered for one in sent] == [1, 0, 0, 0]
    assert (len(good.heard), bad.heard) == (1, [])
    assert (asked[0], len(asked)) == ("rebinding.example", len(answers))
    assert good.heard[0][0]["Host"] == f"rebinding.example:{port}"


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_no_more_public_than_it_is_itself(inner):
    carried = [
        ipaddress.ip_address(f"::ffff:{inner}"),
        ipaddress.ip_address(int(ipaddress.ip_address("64:ff9b::")) | int(inner)),
        ipaddress.ip_address((0x2002 << 112) | (int(inner) << 80)),
    ]
    for one in carried:
        assert not is_public(one) or is_public(inner)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "10.0.0.1", "172.16.0.1",
     "192.168.0.1", "127.0.0.1", "0.0.0.0", "::1", "::", "fe80::1", "fc00::1", "224.0.0.1", "ff02::1",
     "255.255.255.255", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1"],
)  # fmt: skip
def test_addresses_of_machines_networks_and_clouds_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


def test_addresses_of_the_internet_are_public():
    """The control of the two above."""
    assert all(is_public(ipaddress.ip_address(one)) for one in ("93.184.215.14", "8.8.8.8", "2606:4700::1111"))
    assert networks(("10.0.0.0/8",))
    with pytest.raises(InvalidInput):
        networks(("10.0.0.1/8",))


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 1e9))
def test_waits_grow_and_have_an_end(attempt, draw, asked):
    assert 2.5 <= wait(attempt, draw, asked) <= LONGEST_WAIT
    assert wait(attempt + 1, 0.0) >= wait(attempt, 0.0)


def test_no_secret_and_no_address_is_in_what_is_printed_or_logged(clone, receive, monkeypatch):
    """Of a receiver that fails, whose path is a secret, as a chat's is."""
    asked = f"http://127.0.0.1:{free_port()}/services/T0/SECRETPATH?token=SECRETQUERY"
    added = subprocess.run(
        [*COMMAND, "webhooks", "add", "ops"], cwd=clone.root, input=asked, capture_output=True, text=True
    )
    secret = added.stdout.split("whsec_")[1].split()[0]
    assert "SECRET" not in added.stdout + added.stderr
    append(clone, 1)
    commands = (("test", "ops"), ("deliver",), ("list",), ("list", "--json"), ("redeliver", "ops"), ("remove", "x"))
    whole = "".join(out + err for _, out, err in (run(*words, cwd=clone.root) for words in commands))
    with pytest.raises(InvalidInput) as refused:
        webhooks.add(clone, "bad", "https://u:SECRETPATH@x/", (), "cloudevents")
    whole += str(refused.value.envelope())
    assert "ConnectError" in whole
    for word in ("SECRETPATH", "SECRETQUERY", secret):
        assert word not in whole
    kept = list(webhooks_folder(clone).glob("*"))
    assert {path.name for path in kept if secret in path.read_text()} == {"subscribers.json"}
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in (webhooks_folder(clone), *webhooks_folder(clone).glob("sub*"))
    )


def run(*words, cwd, **more):
    return WARM.run(("webhooks", *words), cwd, {**os.environ, **more})


def test_an_agent_adds_removes_and_rotates_nothing(clone):
    for words in (("add", "ops"), ("remove", "ops"), ("rotate", "ops"), ("test", "ops"), ("redeliver", "ops")):
        code, _, error = run(*words, cwd=clone.root, MODELSMITH_ROLE="operator")
        assert (code, "outside-role" in error) == (2, True)


def test_subscribers_that_others_can_read_or_a_commit_could_plant_are_refused(clone, receive):
    webhooks.add(clone, "ops", "https://receiver.example/", (), "cloudevents")
    folder = webhooks_folder(clone)
    (folder / "subscribers.json").chmod(0o644)
    with pytest.raises(IntegrityFailure) as exposed:
        webhooks.listed(clone)
    planted = clone.root / "planted"
    folder.rename(planted)
    folder.symlink_to(planted)
    with pytest.raises(IntegrityFailure) as linked:
        webhooks.listed(clone)
    assert (exposed.value.code, linked.value.code) == ("webhooks-exposed", "webhooks-in-work-tree")
    folder.unlink()
    planted.rename(folder)
    (folder / "subscribers.json").rename(clone.root / "s.json")
    (folder / "subscribers.json").symlink_to(clone.root / "s.json")
    with pytest.raises(IntegrityFailure) as file:
        Subscribers(folder).all()
    assert file.value.code == "webhooks-damaged"


@given(st.text(max_size=400))
def test_in_a_chat_words_of_others_call_nobody_and_link_nowhere(words):
    said = f"<!channel> <https://evil.example|x> [x](https://evil.example) {words}".encode("utf-8", "replace").decode()
    event = {"id": "x", "type": "rollback.triggered", "subject": "c/s", "data": {"reason": said, "cluster": "c"}}
    line = json.dumps(event)
    slack = json.loads(message(line, "slack").body)
    texts = [slack["text"], *(block["text"]["text"] for block in slack["blocks"])]
    assert all("<" not in text for text in texts)
    assert {block["text"]["type"] for block in slack["blocks"]} == {"plain_text"}
    assert all(0 < len(text) < 3000 for text in texts)
    card = json.loads(message(line, "teams").body)["attachments"][0]["content"]
    assert "](" not in card["body"][1]["facts"][0]["value"]


def test_every_verb_of_webhooks_says_what_it_does():
    group = cli.get_command(None, "webhooks")
    verbs = group.list_commands(None)
    assert verbs == ["add", "deliver", "list", "redeliver", "remove", "rotate", "test"]
    assert all(group.get_command(None, verb).help for verb in verbs)
    page = Path(__file__).parents[2] / "docs/events.md"
    assert all(f"webhooks {verb}" in page.read_text() for verb in verbs)
