"""Webhooks: receivers, names and files that would have events, secrets or the machine itself go where they must not."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from happenings import allow, append, plain_clone, receive, telling
from hypothesis import given
from hypothesis import strategies as st
from ports import free_port
from receivers import babbles, garbles, hangs, redirects_to, shows_off, trickles
from worlds import WARM

from modelsmith.delivery import connecting, sending
from modelsmith.delivery.message import message
from modelsmith.delivery.subscribers import Subscribers, webhooks_folder
from modelsmith.operations import webhooks
from modelsmith.repository.tokens import Tokens
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import IntegrityFailure, InvalidInput

__all__ = ["plain_clone", "receive", "telling"]
COMMAND = (sys.executable, "-m", "modelsmith")


def run(*words, cwd, **more):
    return WARM.run(("webhooks", *words), cwd, {**os.environ, **more})


@pytest.mark.parametrize("behave", [hangs, trickles, garbles, shows_off], ids=lambda behaviour: behaviour.__name__)
def test_a_hostile_receiver_holds_up_nobody_else(telling, receive, monkeypatch, behave):
    """One that never answers, answers a byte at a time, or answers what is no HTTP."""
    bad, good = receive(behave=behave), receive()
    send = sending.Sender.send

    async def briefly(sender, subscriber, message):
        """Only who is hostile has one second, so that no busy machine makes others late."""
        monkeypatch.setattr(sending, "DEADLINE", 1.0 if subscriber.url == bad.url else 60.0)
        return await send(sender, subscriber, message)

    monkeypatch.setattr(sending.Sender, "send", briefly)
    webhooks.add(telling, "bad", bad.url, (), "cloudevents")
    webhooks.add(telling, "good", good.url, (), "cloudevents")
    ids = append(telling, 1, 2, 3)
    result = webhooks.delivered(telling, False)
    assert (result.delivered, result.failed, good.ids()) == (3, 1, ids)


def test_many_that_hang_hold_up_nobody_else(telling, receive, monkeypatch):
    """Prevented: connections do not run out, so whoever answers is sent its events beside any number that do not."""
    monkeypatch.setattr(sending, "DEADLINE", 100.0)
    good, in_time = receive(), []

    def hangs_until_others_are_served(request):
        end = time.monotonic() + 60
        while len(good.heard) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        in_time.append(len(good.heard) == 2)

    bad = receive(behave=hangs_until_others_are_served)
    names = [f"bad-{number}" for number in range(60)]
    for name in names:
        webhooks.add(telling, name, bad.url, (), "cloudevents")
    webhooks.add(telling, "good", good.url, (), "cloudevents")
    ids = append(telling, 1, 2)
    result = webhooks.delivered(telling, False)
    assert (result.delivered, result.failed, good.ids()) == (2, len(names), ids)
    assert in_time
    assert all(in_time)


def test_an_answer_of_gigabytes_is_not_read(telling, receive, monkeypatch):
    """Prevented: 16 KiB of an answer are read, then the connection is closed. The event counts as taken: it was 200."""
    monkeypatch.setattr(sending, "DEADLINE", 600.0)
    receiver = receive(behave=babbles)
    webhooks.add(telling, "ops", receiver.url, (), "cloudevents")
    append(telling, 1)
    begin = time.monotonic()
    assert webhooks.delivered(telling, False).delivered == 1
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(telling, receive, status):
    """Not even to an address that is allowed: the receiver is who the operator said."""
    inside = receive()
    outside = receive(behave=redirects_to(inside.url, status))
    webhooks.add(telling, "ops", outside.url, (), "cloudevents")
    append(telling, 1)
    assert webhooks.delivered(telling, False).failed == 1
    assert inside.heard == []
    assert "redirects are not followed" in webhooks.listed(telling).subscribers[0].failure


def test_nothing_goes_to_this_machine_or_its_networks_unless_allowed(plain_clone, receive):
    """However the address is written: by a name, as a number, in octal, mapped into IPv6."""
    workspace = Workspace.find(plain_clone)
    receiver = receive()
    for index, host in enumerate(
        ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]")
    ):
        webhooks.add(workspace, f"s{index}", f"http://{host}:{receiver.port}/", (), "cloudevents")
        result = webhooks.test(workspace, f"s{index}")
        assert (result.delivered, receiver.heard) == (0, []), host


def test_a_name_that_changes_its_address_leads_nowhere_else(telling, receive, monkeypatch):
    """DNS rebinding: the name is looked up once for a connection, and the address that was checked is connected to."""
    allow(telling.root, "127.0.0.2/32")
    port = free_port()
    good, bad = receive(host="127.0.0.2", port=port), receive(host="127.0.0.1", port=port)
    answers = [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["93.184.215.14"]]
    hosts = []

    async def resolve(host, port):
        hosts.append(host)
        return [ipaddress.ip_address(answer) for answer in answers[len(hosts) - 1]]

    monkeypatch.setattr(connecting, "resolve", resolve)
    webhooks.add(telling, "ops", f"http://rebinding.example:{port}/", (), "cloudevents")
    results = [webhooks.test(telling, "ops") for _ in answers]
    assert [result.delivered for result in results] == [1, 0, 0, 0]
    assert (len(good.heard), bad.heard) == (1, [])
    assert (hosts[0], len(hosts)) == ("rebinding.example", len(answers))
    assert good.heard[0][0]["Host"] == f"rebinding.example:{port}"


def test_no_secret_and_no_address_is_in_what_is_printed_or_logged(telling, receive, monkeypatch):
    """Of a receiver that fails, whose path is a secret, as a chat's is."""
    text = f"http://127.0.0.1:{free_port()}/services/T0/SECRETPATH?token=SECRETQUERY"
    added = subprocess.run(
        [*COMMAND, "webhooks", "add", "ops"], cwd=telling.root, input=text, capture_output=True, text=True
    )
    secret = added.stdout.split("whsec_")[1].split()[0]
    assert "SECRET" not in added.stdout + added.stderr
    append(telling, 1)
    commands = (("test", "ops"), ("deliver",), ("list",), ("list", "--json"), ("redeliver", "ops"), ("remove", "x"))
    whole = "".join(out + err for _, out, err in (run(*words, cwd=telling.root) for words in commands))
    with pytest.raises(InvalidInput) as refused:
        webhooks.add(telling, "bad", "https://u:SECRETPATH@x/", (), "cloudevents")
    whole += str(refused.value.envelope())
    assert "ConnectError" in whole
    for word in ("SECRETPATH", "SECRETQUERY", secret):
        assert word not in whole
    files = list(webhooks_folder(telling).glob("*"))
    assert {path.name for path in files if secret in path.read_text()} == {"subscribers.json"}
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in (webhooks_folder(telling), *webhooks_folder(telling).glob("sub*"))
    )


def test_an_agent_adds_removes_and_rotates_nothing(telling):
    """Prevented in a session with a role; no tool is made of any of these."""
    for words in (("add", "ops"), ("remove", "ops"), ("rotate", "ops"), ("test", "ops"), ("redeliver", "ops")):
        code, _, error = run(*words, cwd=telling.root, MODELSMITH_ROLE="operator")
        assert (code, "outside-role" in error) == (2, True)


def test_files_with_secrets_are_nobody_else_s_at_any_moment(telling, monkeypatch):
    """Prevented: they are made so. A kill right after the write leaves nothing that others read, or that is refused."""
    modes = {}
    replace = Path.replace

    def watched(part, target):
        modes[target.name] = part.stat().st_mode & 0o777
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", watched)
    webhooks.add(telling, "ops", "https://receiver.example/", (), "cloudevents")
    Tokens(telling.home).issue("reviewer", (), 1)
    assert (modes["subscribers.json"], modes["tokens.json"]) == (0o600, 0o600)


def test_subscribers_that_others_read_or_a_commit_plants_are_refused(telling, receive):
    """Prevented by mode, owner and place of the file; a link is not followed."""
    webhooks.add(telling, "ops", "https://receiver.example/", (), "cloudevents")
    folder = webhooks_folder(telling)
    (folder / "subscribers.json").chmod(0o644)
    with pytest.raises(IntegrityFailure) as exposed:
        webhooks.listed(telling)
    planted = telling.root / "planted"
    folder.rename(planted)
    folder.symlink_to(planted)
    with pytest.raises(IntegrityFailure) as linked:
        webhooks.listed(telling)
    assert (exposed.value.code, linked.value.code) == ("webhooks-exposed", "webhooks-in-work-tree")
    folder.unlink()
    planted.rename(folder)
    (folder / "subscribers.json").rename(telling.root / "s.json")
    (folder / "subscribers.json").symlink_to(telling.root / "s.json")
    with pytest.raises(IntegrityFailure) as file:
        Subscribers(folder).all()
    assert file.value.code == "webhooks-damaged"


@given(st.text(max_size=400))
def test_in_a_chat_words_of_others_call_nobody_and_link_nowhere(words):
    """Prevented: plain text, no angle brackets, and Markdown that is escaped."""
    output = f"<!channel> <https://evil.example|x> [x](https://evil.example) {words}".encode(
        "utf-8", "replace"
    ).decode()
    event = {"id": "x", "type": "rollback.triggered", "subject": "c/s", "data": {"reason": output, "cluster": "c"}}
    line = json.dumps(event)
    slack = json.loads(message(line, "slack").body)
    texts = [slack["text"], *(block["text"]["text"] for block in slack["blocks"])]
    assert all("<" not in text for text in texts)
    assert {block["text"]["type"] for block in slack["blocks"]} == {"plain_text"}
    assert all(0 < len(text) < 3000 for text in texts)
    card = json.loads(message(line, "teams").body)["attachments"][0]["content"]
    assert "](" not in card["body"][1]["facts"][0]["value"]
