"""Attacks by way of decision ids in records: who would have others' failures, or none at all, staged as this door's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from attacker import CLUSTER, refused
from attacks.worlds_with_a_window import copied, ruled
from doors import opened, run

from modelsmith.door.follow import Served
from modelsmith.door.shadow import Shadows
from modelsmith.governance.router import Rules
from modelsmith.live.ids import Ids, key_of
from modelsmith.live.recorder import LiveRecorder
from modelsmith.loop.window import live_folder, watching
from modelsmith.operations import accept_scenario, capture
from modelsmith.operations.capture import CaptureRequest
from modelsmith.promotion.serving import Arm

ASKED = "Bids reach the exchange after its deadline, number {}. Why?"


@pytest.fixture(scope="module")
def deployed_template(waiting_template, advanced):
    return advanced(waiting_template, "watched", lambda world: ruled(world, 600))


@pytest.fixture
def deployed(deployed_template, tmp_path):
    """A specialist is under watch by a rule."""
    return copied(deployed_template, tmp_path)


def asked_and_told(world, outcomes):
    """A front door answers over HTTP, its application reports; the records that the application keeps."""
    window, records = watching(world.governed())[0], []

    async def scene():
        async with opened(world.folder) as door:
            recorder = LiveRecorder(live_folder(world.workspace), key_of(world.workspace.home))
            recorder.follow([window])
            was = door.door.counting
            door.door.counting = replace(was, recorder=recorder, shadows=Shadows(was.limits, recorder, was.formats))
            base, watched = Arm("base", None, ""), Arm(window.specialist, None, window.record)
            ready = door.ready(0.5, CLUSTER)
            ready = replace(ready, line=replace(ready.line, incumbent=base, watched=watched))
            door.door.follower.served = Served("c" * 40, Rules(None, [CLUSTER]), {CLUSTER: ready})
            for number, won in enumerate(outcomes):
                prompt = ASKED.format(number)
                body = {"model": CLUSTER, "messages": [{"role": "user", "content": prompt}]}
                status, headers, answer = await door.ask(body)
                assert status == 200
                decision = headers["x-modelsmith-decision"]
                text = answer["choices"][0]["message"]["content"]
                records.append({"prompt": prompt, "answer": text, "decision_id": decision, "at": "now"})
                if won is not None:
                    report = {"decision_id": decision, "metric": "auction_win_rate", "value": won}
                    url = f"http://127.0.0.1:{door.port}/v1/feedback"
                    async with door.session.post(url, json=report | {"idempotency_key": str(number)}) as response:
                        assert response.status == 200, await response.text()
            recorder.close()

    run(scene)
    return window, records


def captured(world, *records):
    path = world.folder / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return capture.run(world.workspace, CaptureRequest(file=path))


def test_what_the_door_was_told_of_failures_is_staged_and_nothing_else(deployed):
    """None: the application hands over all that it keeps; the losses are staged, with whose answer each was."""
    window, records = asked_and_told(deployed, [1, 0, None, 0, 1, 0])
    own = {"prompt": "A report by hand.", "answer": "x", "outcome": "slow"}
    result = captured(deployed, *records, own)
    assert (result.records, result.staged, result.sound) == (7, 4, 3)
    content = deployed.workspace.revision(deployed.head(result.pull.number)).read(result.path).decode()
    cases = [json.loads(text) for text in content.splitlines()]
    assert [case["messages"][0]["content"] for case in cases[:3]] == [ASKED.format(n) for n in (1, 3, 5)]
    assert {case["outcome"] for case in cases[:3]} == {"auction_win_rate: no"}
    arms = {by["by"] for case in cases[:3] for by in case["answered"]}
    assert arms <= {"base", window.specialist}
    for record, case in zip((records[1], records[3], records[5]), cases[:3], strict=True):
        assert (case["answered"][0]["by"] == "base") == (record["answer"] == "from incumbent")
    assert "answered" not in cases[3]
    assert not any(record["decision_id"][:40] in content for record in records), "an id says when, and by which key"
    deployed.approve(result.pull.number, "dana")
    deployed.merge(result.pull.number)
    fields = {
        "answer": ("cause=timeout", "action=cut_latency"),
        "pass_": "a",
        "fail": "b",
        "risk": "low",
        "lens": "sre",
    }
    request = accept_scenario.AcceptScenarioRequest(
        id=cases[0]["id"], capability="auction-timeout", outcome="lost-auctions", **fields
    )
    proposed = accept_scenario.run(deployed.workspace, request)
    whose = cases[0]["answered"][0]
    (body,) = [pull.body for pull in deployed.as_("dana").list("open") if pull.number == proposed.pull.number]
    assert f"Answered by {whose['by']} (decision {whose['decision']})." in body


def test_an_id_of_no_door_of_shadow_or_other_line_is_refused(deployed):
    """Forge an id, bend one, take another door's, a copy's or another cluster's: prevented, the line is named."""
    window, records = asked_and_told(deployed, [0])
    good = records[0]["decision_id"]
    ours = Ids(key_of(deployed.workspace.home))

    def decision_id(ids=ours, cluster=CLUSTER, specialist=window.specialist, stage="canary"):
        return ids.decision(cluster, specialist, "base", window.record, "specialist", "u", 0.5, stage, window.opens).id

    text, _, mark = good.partition(".")
    for bad in (
        f"{text[:-1]}{'A' if text[-1] != 'A' else 'B'}.{mark}", text, "x.y", "", decision_id(Ids(bytes(32))),
        decision_id(cluster="payment-fraud"), decision_id(cluster="../x"),
        decision_id(specialist="iter-009-00000009"), decision_id(stage="shadow"),
    ):  # fmt: skip
        with refused("unusable-record") as caught:
            captured(deployed, records[0], records[0] | {"decision_id": bad, "outcome": "a disaster"})
        assert (caught[0].details["line"], caught[0].details["field"]) == (2, "decision_id")
    with refused("nothing-captured"):
        captured(deployed, records[0] | {"decision_id": decision_id(), "outcome": "a disaster"})
    (live_folder(deployed.workspace) / "counts.sqlite3").unlink()
    with refused("nothing-captured") as caught:
        captured(deployed, *records)
    assert "clone of the front door" in caught[0].mend


def test_one_decision_is_the_failure_of_one_question(deployed):
    """Say one bad answer of a specialist for many questions, at once or later: prevented, the line is named."""
    _, records = asked_and_told(deployed, [0])
    other = records[0] | {"prompt": "Budgets run out before noon. Why?"}
    with refused("unusable-record") as caught:
        captured(deployed, records[0], records[0], other)
    assert (caught[0].details["line"], caught[0].details["field"]) == (3, "decision_id")
    result = captured(deployed, records[0], records[0])
    assert (result.records, result.staged) == (2, 1)
    deployed.approve(result.pull.number, "dana")
    deployed.merge(result.pull.number)
    with refused("unusable-record") as caught:
        captured(deployed, other)
    assert "answered another question, case-" in caught[0].message
