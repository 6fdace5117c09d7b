"""Attacks on the validation window: who would have their specialist pass, and who would have it back."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import attacker
import pytest
from attacker import CLUSTER, refused
from attacks.doors_of_worlds import open_door
from attacks.worlds_with_a_window import copied, ruled
from picture_rules import assert_readable

from modelsmith.cli.page import Page
from modelsmith.cli.views import render
from modelsmith.fleet.jobs import Jobs
from modelsmith.governance.drift import Drifted
from modelsmith.ledger.ledger import ledger_of
from modelsmith.live.clock import Clock
from modelsmith.live.ids import Ids
from modelsmith.live.port import Answered
from modelsmith.live.recorder import LiveRecorder
from modelsmith.loop import window
from modelsmith.loop.drifting import answer_drift
from modelsmith.loop.keeping import Keeper
from modelsmith.loop.window import live_folder, look, settle, watching
from modelsmith.operations import live, promote, rollback, status
from modelsmith.promotion.live import seal_of
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.records import next_record, routing_after
from modelsmith.promotion.rollbacks import recorded_order
from modelsmith.promotion.syncing import sync
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE, LiveEvidence
from modelsmith.schema.steps import step
from modelsmith.signing.dsse import seal, statement

KEY = bytes(32)


class Later(datetime):
    """Two minutes from now: the window of one minute is over, and clocks still agree."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(minutes=2)


@pytest.fixture(scope="module")
def watched_template(waiting_template, advanced):
    return advanced(waiting_template, "watched", lambda world: ruled(world, 600))


@pytest.fixture(scope="module")
def short_template(waiting_template, advanced):
    return advanced(waiting_template, "watched-shortly", lambda world: ruled(world, 1))


@pytest.fixture(scope="module")
def drifting_template(waiting_template, advanced):
    return advanced(waiting_template, "drifting", lambda world: ruled(world, 1, on_drift="roll-back"))


@pytest.fixture
def watched(watched_template, tmp_path):
    """Under watch for ten hours."""
    return copied(watched_template, tmp_path)


@pytest.fixture
def short(short_template, tmp_path, monkeypatch):
    """Under watch for a minute, looked at two minutes later."""
    monkeypatch.setattr(window, "datetime", Later)
    return copied(short_template, tmp_path)


@pytest.fixture
def drifting(drifting_template, tmp_path, monkeypatch):
    """As ``short``, where the contract says that a drift has its rollback proposed."""
    monkeypatch.setattr(window, "datetime", Later)
    return copied(drifting_template, tmp_path)


class Door:
    """The front door's recorder of a world, and an application that reports."""

    def __init__(self, world, key=KEY):
        self.world, self.draw = world, random.Random(7)
        self.recorder = LiveRecorder(live_folder(world.workspace), key)
        self.one = watching(world.governed())[0]
        self.recorder.follow([self.one])

    def decisions(self, number, first=0):
        return [
            self.recorder.decided(
                cluster=CLUSTER, specialist=self.one.specialist, incumbent="base", record=self.one.record,
                arm="specialist" if self.draw.random() < 0.5 else "incumbent", key=f"key-{first + n}", share=0.5,
                stage="canary",
            )
            for n in range(number)
        ]  # fmt: skip

    def tell(self, reports):
        for at in range(0, len(reports), 500):
            batch = [
                {"decision_id": i, "metric": m, "value": v, "idempotency_key": f"{i}{m}"}
                for i, m, v in reports[at : at + 500]
            ]
            self.recorder.feedback(json.dumps({"reports": batch}).encode())

    def outcomes(self, decisions, mine, theirs):
        return [
            (
                decision.id,
                "auction_win_rate",
                int(self.draw.random() < (mine if decision.arm == "specialist" else theirs)),
            )
            for decision in decisions
        ]

    def answered(self, decisions):
        for decision in decisions:
            self.recorder.answered(decision, Answered(200, 1.0, 2.0, 10, 10))

    def traffic(self, number, mine, theirs):
        decisions = self.decisions(number)
        self.answered(decisions)
        self.recorder.flush()
        self.tell(self.outcomes(decisions, mine, theirs))

    def close(self):
        self.recorder.close()


@pytest.fixture
def doors():
    opened = []

    def make(world, **more):
        opened.append(Door(world, **more))
        return opened[-1]

    yield make
    for door_opened in opened:
        door_opened.close()


def ask(world):
    return promote.run(world.workspace, promote.PromoteRequest(cluster=CLUSTER))


def test_a_loss_is_taken_back_by_itself_and_all_of_it_verifies(watched, doors):
    """Control: latch, pull request by the contract, event, hold; the next settling finds nothing to do."""
    door = doors(watched)
    door.traffic(1_500, 0.2, 0.6)
    assert door.recorder.latched(door.one.record)
    (settled_window,) = settle(watched.harness())
    assert settled_window.pull.status == "merged"
    assert settle(watched.harness()) == ()
    events = [event.event for event in ledger_of(watched.workspace).events()]
    (event,) = [event for event in events if event.name == "rollback.triggered"]
    assert "worse than the incumbent" in event.reason
    cluster = status.run(watched.workspace, status.StatusRequest()).clusters[0]
    assert [arm.specialist for arm in cluster.serving] == ["base"]
    with refused("on-hold", "nothing-to-promote"):
        ask(watched)
    watched.holds()


def test_a_sound_specialist_is_validated_by_what_was_counted(short, doors):
    """Control: confirmed, approved by a person, and it verifies in a plain clone."""
    doors(short).traffic(3_000, 0.6, 0.6)
    assert look(short.workspace, short.governed(), CLUSTER).judgement.outcome == "confirm"
    result = ask(short)
    assert (result.event, result.status) == ("production-validated", "open")
    assert ask(short).pull == result.pull, "who asks again comes to the same pull request"
    short.approve(result.pull, "maya")
    assert short.merge(result.pull).status == "merged"
    assert short.holds().approvals >= 2


def test_whoever_looks_sees_what_would_trip(watched, doors, tmp_path):
    """Control: `modelsmith live` says of each metric what is excluded, and draws it; before and after the trip."""
    door = doors(watched)
    empty = live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER))
    assert (empty.outcome, empty.counts, empty.latched) == ("inconclusive", None, False)
    door.traffic(200, 0.55, 0.6)
    view = live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER, svg=tmp_path / "window.svg"))
    assert [finding.metric for finding in view.findings] == ["auction_win_rate", "errors"]
    assert 0 < view.minutes_left <= 600
    assert view.findings[0].worse < view.trips_at
    assert_readable((tmp_path / "window.svg").read_text())
    door.tell(door.outcomes(door.decisions(1_500, first=1_000), 0.1, 0.6))
    assert live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER)).latched
    output = io.StringIO()
    render("live", live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER)), Page(output))
    assert "taken back   by the front door" in output.getvalue()
    with refused("unknown-cluster"):
        live.run(watched.workspace, live.LiveRequest(cluster="rtb-prcing"))


def test_a_window_that_has_ended_is_shown_as_main_has_it(watched, doors, tmp_path):
    """Control: after the rollback the figures are those of the evidence, also where no counts lie any more."""
    doors(watched).traffic(1_500, 0.2, 0.6)
    settle(watched.harness())
    shutil.rmtree(live_folder(watched.workspace))
    view = live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER, svg=tmp_path / "window.svg"))
    assert (view.outcome, view.ended_by, view.minutes_left) == ("roll-back", "rolled-back", 0)
    assert view.findings[0].loss > view.findings[0].allowed
    assert "worse than the incumbent" in view.reasons[0]
    assert "ended as rolled-back" in (tmp_path / "window.svg").read_text()
    assert view.next == step("rollback", {"cluster": CLUSTER}, clear_hold=True), "the cluster is on hold: who is next"


def test_a_loss_that_is_one_of_reports_is_said_to_be(watched, doors):
    """The application no longer reports of the specialist: traffic goes back, and latch, order and view say why."""
    door = doors(watched)
    decisions = door.decisions(1_000)
    door.answered(decisions)
    door.tell([report for report in door.outcomes(decisions, 0.6, 0.6) if Ids(KEY).read(report[0]).arm == "incumbent"])
    door.recorder.flush()
    missing = "reports of auction_win_rate do not come from both sides"
    ((_, latch),) = door.recorder.trips()
    assert missing in latch.reasons[-1]
    look = live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER))
    assert (look.outcome, missing in look.reasons[-1]) == ("roll-back", True)
    (settled_window,) = settle(watched.harness())
    order = recorded_order(watched.governed(), watched.governed().histories.find(door.one.specialist).records[-1])
    assert (settled_window.pull.status, missing in order.reason) == ("merged", True)
    assert missing in live.run(watched.workspace, live.LiveRequest(cluster=CLUSTER)).reasons[-1]


def test_nothing_is_validated_without_counts(short, doors):
    """An agent asks for validation a minute after the deployment, with no door, and with a door without traffic."""
    with refused("window-inconclusive"):
        ask(short)
    doors(short)
    with refused("window-inconclusive"):
        ask(short)


def test_an_agent_that_reports_only_its_wins_gets_no_validation(short, doors):
    """Wins of both arms come in, losses of the specialist alone are kept back: reports do not match the share."""
    door = doors(short)
    decisions = door.decisions(3_000)
    door.answered(decisions)
    reports = door.outcomes(decisions, 0.6, 0.6)
    mine = {decision.id for decision in decisions if decision.arm == "specialist"}
    door.tell([report for report in reports if report[0] not in mine or report[2]])
    with refused("window-inconclusive") as caught:
        ask(short)
    assert "reports of auction_win_rate do not come from both sides" in caught[0].message


def test_an_agent_that_keeps_the_incumbent_s_wins_back_gets_no_validation(short, doors):
    """Reports of the incumbent go missing, so that the specialist looks better than it is."""
    door = doors(short)
    decisions = door.decisions(3_000)
    door.answered(decisions)
    reports = door.outcomes(decisions, 0.4, 0.6)
    theirs = {decision.id for decision in decisions if decision.arm == "incumbent"}
    reports_sent = [report for report in reports if report[0] not in theirs or door.draw.random() < 0.6]
    door.tell(reports_sent)
    with refused("window-inconclusive", "window-worse") as caught:
        ask(short)
    assert caught


@pytest.mark.parametrize("instead", [Answered(499, None, 9.0, 0, 0, hung_up=True), Answered(400, None, 9.0, 0, 0)])
def test_a_specialist_that_hangs_or_blames_its_callers_gets_no_validation(short, doors, instead):
    """A third of its answers never come: callers leave before the door gives up, or are told they asked wrongly."""
    door = doors(short)
    decisions = door.decisions(3_000)
    for decision in decisions:
        none = decision.arm == "specialist" and door.draw.random() < 0.33
        door.recorder.answered(decision, instead if none else Answered(200, None, 9.0, 0, 0))
    door.recorder.flush()
    door.tell(door.outcomes(decisions, 0.6, 0.6))
    with refused("window-inconclusive") as caught:
        ask(short)
    assert "answers measured for errors do not come from both sides" in caught[0].message


def test_ids_that_an_agent_makes_itself_count_nothing(short, doors):
    """Thousands of invented wins under ids of a key of its own, and a real id with another arm in it."""
    door, own = doors(short), Door(short, key=b"\1" * 32)
    own.close()
    forged = own.decisions(500, first=10_000)
    door.tell([(decision.id, "auction_win_rate", 1) for decision in forged])
    assert door.recorder.counts(door.one) is None


def test_a_report_sent_again_and_again_counts_once(short, doors):
    """One win of the specialist, reported a thousand times under other idempotency keys."""
    door = doors(short)
    decision = next(decision for decision in door.decisions(20) if decision.arm == "specialist")
    for n in range(1_000):
        body = {"decision_id": decision.id, "metric": "auction_win_rate", "value": 1, "idempotency_key": str(n)}
        door.recorder.feedback(json.dumps(body).encode())
    door.recorder.flush()
    metric = door.recorder.counts(door.one).stages[0].metrics[0]
    assert (metric.specialist, metric.specialist_known) == (1, 1)


def test_one_customer_s_thousand_requests_count_once(short, doors):
    """A competitor, or a friend, asks under one key for an hour: one unit."""
    door = doors(short)
    many = [
        door.recorder.decided(
            cluster=CLUSTER, specialist=door.one.specialist, incumbent="base", record=door.one.record,
            arm="specialist", key="one", share=0.5, stage="canary",
        )
        for _ in range(1_000)
    ]  # fmt: skip
    door.tell([(decision.id, "auction_win_rate", 0) for decision in many])
    assert door.recorder.counts(door.one).stages[0].specialist == 1
    assert not door.recorder.latched(door.one.record)


def test_traffic_steered_to_one_arm_confirms_nothing(short, doors):
    """Somebody who can compute the hash sends easy requests under keys that are the specialist's."""
    door = doors(short)
    door.traffic(2_000, 0.6, 0.6)
    selected = [decision for decision in door.decisions(3_000, first=50_000) if decision.arm == "specialist"]
    door.recorder._waiting.clear()
    door.tell([(decision.id, "auction_win_rate", 1) for decision in selected])
    with refused("window-inconclusive") as caught:
        ask(short)
    assert "do not come from both sides" in caught[0].message  # decisions, or reports where decisions were stored first


def test_a_latch_or_counts_that_a_commit_plants_mean_nothing(watched, doors):
    """Latches and counts at every path that a commit can reach."""
    record = watching(watched.governed())[0].record
    name = record.removeprefix("sha256:")
    planted = [
        f".iterate/live/latches/{name}.json",
        f"live/latches/{name}.json",
        f"modelsmith/live/latches/{name}.json",
    ]
    for path in planted:
        place = watched.clone / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
    door = doors(watched)
    assert not door.recorder.latched(door.one.record)
    assert settle(watched.harness()) == ()


def test_a_deployment_that_was_taken_back_is_not_validated(short, doors):
    """The specialist is latched; whoever holds the harness asks for validation all the same."""
    door = doors(short)
    door.recorder._clock.now = lambda: short_now(door)
    door.traffic(1_500, 0.2, 0.6)
    assert door.recorder.latched(door.one.record)
    with refused("window-worse"):
        ask(short)


def short_now(door):
    return door.one.opens + timedelta(seconds=30)


def validated(world, files):
    """The promotion as the harness would sign it, with live evidence of the attacker's making."""
    facts = world.draft_for("production-validated")
    main = world.governed()
    evidence_files = dict(files)
    evidence_files |= packet_files(
        main, next_record(main, "production-validated", facts, evidence_files), evidence_files
    )
    record = next_record(main, "production-validated", facts, evidence_files)
    all_files = world.record_files(record, evidence_files)
    all_files[attacker.ROUTING] = routing_after(main, record)
    return world.commit(all_files)


def counted(world, door):
    view = look(world.workspace, world.governed(), CLUSTER)
    return window.evidence_files(world.harness(), world.governed(), view.watching, view.counts, view.at)


def test_whoever_holds_the_harness_cannot_sign_live_evidence(short, doors, monkeypatch):
    """Counts are invented and sealed with the harness's own key; with every approval, gate, hook and verify refuse."""
    door = doors(short)
    door.traffic(3_000, 0.6, 0.6)
    short.git.run("config", "modelsmith.doorkey", str(short.harness_keys / "harness.pem"))
    monkeypatch.setattr(window, "adopt_or_seal", lambda existing, payload, key, trusted: seal(payload, key))
    short.closed_to_everybody(validated(short, counted(short, door)), saying="live", requester=attacker.HARNESS)


def test_live_evidence_with_one_better_figure_is_refused(short, doors):
    """The door's own key signs an outcome that its counts do not come to."""
    door = doors(short)
    door.traffic(1_500, 0.35, 0.6)
    files = counted(short, door)
    stated = LiveEvidence.model_validate_json(files[LIVE_FILE])
    assert stated.outcome != "confirm"
    better = stated.model_copy(update={"outcome": "confirm"})
    due, data = seal_of(better), canonical_json(better)
    key = short.folder / "door" / "harness.pem"
    signed = seal(statement(due.name, data, due.kind, due.predicate), key)
    head = validated(short, {LIVE_FILE: data, LIVE_SIGNATURE: signed})
    short.closed_to_everybody(head, saying="another outcome than its own counts", requester=attacker.HARNESS)


def test_validation_without_live_evidence_is_refused_where_a_rule_stands(short):
    """The harness leaves the file out."""
    short.closed_to_everybody(validated(short, {}), saying="asks for live.json", requester=attacker.HARNESS)


def test_a_door_without_a_key_of_its_own_takes_it_back_all_the_same(watched, doors):
    """Control: its word signs nothing, and the contract covers the rollback without it."""
    watched.git.run("config", "--unset", "modelsmith.door")
    doors(watched).traffic(1_500, 0.2, 0.6)
    (settled_window,) = settle(watched.harness())
    assert settled_window.pull.status == "merged"
    watched.holds()


@pytest.mark.parametrize("store", [False, True], ids=["latch", "latch-and-store"])
def test_a_latch_that_somebody_damaged_still_leads_to_the_rollback(watched, doors, store):
    """The file is overwritten with nonsense: its counts are read from the store, or are lost if that is damaged too."""
    door = doors(watched)
    door.traffic(1_500, 0.2, 0.6)
    door.recorder.latches.path(door.one.record).write_bytes(b"\x00 not a latch")
    if store:
        door.close()
        for path in live_folder(watched.workspace).glob("counts.sqlite3*"):
            path.write_bytes(b"no database" * 1_000)
    assert settle(watched.harness())[0].pull.status == "merged"


@pytest.mark.parametrize("hours", [-1_000, 1])
def test_a_clock_that_was_wrong_for_a_moment_does_not_stop_the_rollback(watched, doors, hours):
    """Some decisions are dated before the approval, or ahead of the judgement: git agrees all the same."""
    door = doors(watched)
    clock = door.recorder._clock
    right = clock.wall
    clock.wall = lambda: right() + timedelta(hours=hours)
    door.decisions(10, first=10_000)
    clock.wall = right
    door.traffic(1_500, 0.2, 0.6)
    (settled_window,) = settle(watched.harness())
    assert settled_window.pull.status == "merged"
    watched.holds()


@pytest.mark.parametrize("hours", [-3, 3, 24 * 400])
def test_a_clock_that_was_wrong_for_a_moment_does_not_stop_the_validation(short, doors, hours):
    """The door's clock jumped, decisions were made, and it was set right: no decision lies after the judgement."""
    door = doors(short)
    clock = door.recorder._clock
    right = clock.wall
    clock.wall = lambda: right() + timedelta(hours=hours)
    door.decisions(10, first=10_000)
    clock.wall = right
    door.traffic(3_000, 0.6, 0.6)
    result = ask(short)
    short.approve(result.pull, "maya")
    assert short.merge(result.pull).status == "merged"
    short.holds()


def test_a_rollback_that_is_refused_holds_up_no_other(watched, doors, monkeypatch):
    """Owners of another cluster, earlier in the alphabet, reject its rollback again and again."""
    door = doors(watched)
    door.traffic(1_500, 0.2, 0.6)
    first = replace(door.one, cluster="another", record="sha256:" + "0" * 64)
    door.recorder.latches.path(first.record).write_bytes(b"damaged, and it holds")
    monkeypatch.setattr(window, "watching", lambda main: (first, *watching(main)))
    with pytest.raises(ModelsmithError, match="another"):
        settle(watched.harness())
    cluster = status.run(watched.workspace, status.StatusRequest()).clusters[0]
    assert [arm.specialist for arm in cluster.serving] == ["base"]


def test_a_forge_that_is_down_delays_git_and_not_the_traffic(watched, doors, monkeypatch):
    """The latch holds while nothing can be opened; when the forge is back, git agrees."""
    door = doors(watched)
    door.traffic(1_500, 0.2, 0.6)
    down = InfrastructureFailure("forge-unreachable", "The forge is down", "Wait.")

    def refuse(*_, **__):
        raise down

    with monkeypatch.context() as patch:
        patch.setattr(window, "sync", refuse)
        with pytest.raises(InfrastructureFailure):
            settle(watched.harness())
    assert door.recorder.latched(door.one.record)
    assert settle(watched.harness())[0].pull.status == "merged"


def test_an_open_door_makes_git_agree_by_itself(watched, doors):
    """Control: the keeper of a door latches, and its rollback is on main without anybody's doing."""
    messages = []
    keeper = Keeper(watched.workspace, messages.append)
    door = doors(watched)
    door.recorder.close()
    door.recorder = keeper.recorder
    try:
        keeper.follow(watched.main())
        door.traffic(1_500, 0.2, 0.6)
        assert keeper.recorder.latched(door.one.record)
        for _ in range(600):
            if messages:
                break
            time.sleep(0.1)
        assert "rolled back, pull request" in messages[0]
    finally:
        keeper.close()
    assert watched.governed().histories.find(door.one.specialist).records[-1].event == "rolled-back"


def served(recorder, deployment, number, rate):
    """Requests that a validated specialist answers alone, of which so many win."""
    draw, reports = random.Random(number), []
    for n in range(number):
        decision = recorder.decided(
            cluster=CLUSTER, specialist=deployment.specialist, incumbent=deployment.specialist,
            record=deployment.record, arm="incumbent", key=f"later-{n}", share=0.0, stage="full",
        )  # fmt: skip
        won = {"metric": "auction_win_rate", "value": int(draw.random() < rate), "idempotency_key": decision.id}
        reports.append({"decision_id": decision.id, **won})
    recorder.feedback(json.dumps({"reports": reports}).encode())


def until(true):
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()


def test_a_drift_proposes_a_rollback_once_and_takes_nothing_back(drifting, doors):
    """The door proposes what the contract says; the owner decides, and a restart proposes nothing again."""
    doors(drifting).traffic(3_000, 0.6, 0.6)
    result = ask(drifting)
    drifting.approve(result.pull, "maya")
    drifting.merge(result.pull)
    before = drifting.governed().tree.read(f"clusters/{CLUSTER}/routing.yaml")
    messages = []
    for _ in range(2):
        keeper = Keeper(drifting.workspace, messages.append)
        try:
            keeper.follow(drifting.governed().tree.commit)
            served(keeper.recorder, window.validated(drifting.governed())[0], 900, 0.2)
            keeper.recorder._clock = Clock(lambda: datetime.now(UTC) + timedelta(days=1, minutes=3))
            keeper._due.set()  # a day later
            until(lambda: any("its rollback is proposed" in words for words in messages))
        finally:
            keeper.close()
    (pull,) = drifting.harness().forge.list("open")
    assert pull.title.endswith("rolled back")
    assert drifting.governed().tree.read(f"clusters/{CLUSTER}/routing.yaml") == before
    with refused("approval-missing"):
        drifting.merge(pull.number)
    drifting.approve(pull.number, "oli")
    assert drifting.merge(pull.number).status == "merged"
    assert drifting.holds().approvals >= 3


def test_a_drift_that_the_forge_cannot_hear_of_is_proposed_later(drifting, doors, monkeypatch):
    """A drift is no reason to lose a proposal because the forge was down; each week that drifts asks once."""
    doors(drifting).traffic(3_000, 0.6, 0.6)
    result = ask(drifting)
    drifting.approve(result.pull, "maya")
    drifting.merge(result.pull)
    deployment = window.validated(drifting.governed())[0]
    drifts = [Drifted("auction_win_rate", 0.6, 0.2)]
    with monkeypatch.context() as down:
        down.setattr("modelsmith.loop.drifting.open_harness", forge_is_down)
        with refused("git-failed"):
            answer_drift(drifting.workspace, deployment, 0, drifts)
    assert "is proposed" in answer_drift(drifting.workspace, deployment, 0, drifts)
    assert answer_drift(drifting.workspace, deployment, 0, drifts) is None
    assert "is proposed" in answer_drift(drifting.workspace, deployment, 1, drifts), "another week asks again"
    assert len(drifting.harness().forge.list("open")) == 1


def forge_is_down(workspace):
    raise InfrastructureFailure("git-failed", "The forge is down", "Wait.")


@pytest.fixture
def settled(drifting, doors):
    """Validated in production, and what the door watches from then on."""
    doors(drifting).traffic(3_000, 0.6, 0.6)
    result = ask(drifting)
    drifting.approve(result.pull, "maya")
    drifting.merge(result.pull)
    return drifting, window.validated(drifting.governed())[0]


def drift_to(observed):
    return [Drifted("auction_win_rate", 0.6, observed)]


def test_a_drift_has_one_open_pull_request_whatever_befalls_the_door(settled):
    """Its figures move on, it is killed before it noted what it did, two doors of the clone see it at once."""
    world, deployment = settled
    answer_drift(world.workspace, deployment, 0, drift_to(0.2))
    (first,) = world.harness().forge.list("open")
    assert answer_drift(world.workspace, deployment, 1, drift_to(0.19))
    shutil.rmtree(live_folder(world.workspace) / "drift")
    assert answer_drift(world.workspace, deployment, 1, drift_to(0.18))
    with ThreadPoolExecutor(2) as doors:
        tasks = [doors.submit(answer_drift, world.workspace, deployment, 2, drift_to(0.17)) for _ in range(2)]
        outcomes = [task.exception() or task.result() for task in tasks]
    assert sum(isinstance(sentence, str) for sentence in outcomes) == 1
    assert [pull.number for pull in world.harness().forge.list("open")] == [first.number]
    assert world.harness().forge.get(first.number).head == first.head, "what its owner may have approved stays"


@pytest.fixture
def jobs(settled, monkeypatch):
    """The clone's jobs, none of which is started; a contract that has a drift answered by an iteration."""
    world, deployment = settled
    monkeypatch.setattr(Jobs, "_go_on", lambda self: ([], {}))
    return (
        world,
        replace(deployment, terms=deployment.terms.model_copy(update={"on_drift": "iterate"})),
        Jobs.of(world.workspace),
    )


def test_an_iteration_is_started_once_though_the_door_cannot_note_it(jobs, monkeypatch):
    """The disk fills up, or the door is killed, between the start and the note of it; the iteration ends, and fails."""
    world, deployment, jobs_started = jobs
    answer = partial(answer_drift, world.workspace, deployment, 0, drift_to(0.2))
    with monkeypatch.context() as full:
        full.setattr("modelsmith.loop.drifting.write_atomically", no_room)
        with pytest.raises(OSError, match="No space"):
            answer()
        assert jobs_started.count() == 0, "what could not be noted is not begun"
    with monkeypatch.context() as full:
        full.setattr("modelsmith.loop.drifting._mark_done", no_room)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                answer()
    (job,) = jobs_started.newest()
    assert (job.submitted.operation, job.submitted.arguments) == ("iterate", {"cluster": CLUSTER})
    jobs_started.end(job.submitted.id, 6, None, {"code": "x"})
    assert job.submitted.id in answer()
    assert (jobs_started.count(), answer()) == (1, None)
    quiet = replace(deployment, terms=deployment.terms.model_copy(update={"on_drift": "tell"}))
    assert answer_drift(world.workspace, quiet, 1, drift_to(0.2)) is None, "the contract says nothing of it"


def test_no_iteration_is_started_for_who_no_longer_serves(jobs):
    """It was taken back since, and the cluster is on hold: a drift that the door remembers starts nothing."""
    world, deployment, jobs_started = jobs
    number = rollback.run(world.workspace, rollback.RollbackRequest(cluster=CLUSTER, reason="It drifts.")).pull
    world.approve(number, "oli")
    world.merge(number)
    sync(world.harness())
    assert "no longer serves" in answer_drift(world.workspace, deployment, 0, drift_to(0.2))
    assert jobs_started.count() == 0
    deployment = replace(deployment, terms=deployment.terms.model_copy(update={"on_drift": "roll-back"}))
    assert "no longer serves" in answer_drift(world.workspace, deployment, 1, drift_to(0.2))
    assert world.harness().forge.list("open") == ()


def beside_another(world):
    """A second specialist is exported; the first is deployed, and its contract has a drift answered by an iteration."""
    for event in ("candidate", "eval-accepted", "artifact-exported"):
        assert world.merge(world.promote(event, 2)).status == "merged"
    return ruled(world, 1, on_drift="iterate")


@pytest.fixture(scope="module")
def two_template(waiting_template, advanced):
    return advanced(waiting_template, "drifting-beside-another", beside_another)


@pytest.fixture
def world_on_hold(two_template, doors, tmp_path, monkeypatch):
    """The first is validated and serves; the second was deployed after it and taken back: the cluster is on hold."""
    monkeypatch.setattr(window, "datetime", Later)
    monkeypatch.setattr(Jobs, "_go_on", lambda self: ([], {}))
    world = copied(two_template, tmp_path)
    doors(world).traffic(3_000, 0.6, 0.6)
    first = world.draft(1).specialist
    result = promote.run(world.workspace, promote.PromoteRequest(cluster=CLUSTER, specialist=first))
    world.approve(result.pull, "maya")
    world.merge(result.pull)
    second = world.promote("customer-deployed", 2)
    world.approve(second, "maya")
    assert world.merge(second).status == "merged"
    sync(world.harness())
    assert rollback.run(world.workspace, rollback.RollbackRequest(cluster=CLUSTER, reason="Wrong.")).status == "merged"
    sync(world.harness())
    return world


def test_a_drift_seen_by_a_real_door_waits_for_the_end_of_a_real_hold(world_on_hold):
    """Callers ask and report over HTTP; a day later the door sees the drift, and an iteration starts after the hold."""
    messages, started = [], Jobs.of(world_on_hold.workspace)

    async def asks(url):
        async with aiohttp.ClientSession() as session:

            async def ask_one():
                body = {"model": CLUSTER, "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 4}
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    assert answer.status == 200
                    return answer.headers["x-modelsmith-decision"]

            ids = [await ask_one() for _ in range(400)]
            reports = [
                {
                    "decision_id": decision_id,
                    "metric": "auction_win_rate",
                    "value": int(n % 5 == 0),
                    "idempotency_key": decision_id,
                }
                for n, decision_id in enumerate(ids)
            ]
            async with session.post(f"{url}/feedback", json={"reports": reports}) as answer:
                assert {result["result"] for result in (await answer.json())["results"]} == {"taken"}

    async def scene():
        async with open_door(world_on_hold, messages) as (keeper, url):
            await asks(url)
            keeper.recorder._clock = Clock(lambda: datetime.now(UTC) + timedelta(days=1, minutes=3))
            keeper._due.set()  # a day later
            await asyncio.to_thread(until, lambda: any("nothing follows yet (on-hold)" in words for words in messages))
            assert started.count() == 0
            clear = rollback.RollbackRequest(cluster=CLUSTER, clear_hold=True, reason="The feed is back.")
            result = await asyncio.to_thread(rollback.run, world_on_hold.workspace, clear)
            world_on_hold.approve(result.pull, "oli")
            assert world_on_hold.merge(result.pull).status == "merged"
            keeper._due.set()
            await asyncio.to_thread(until, lambda: any("an iteration is started" in words for words in messages))

    asyncio.run(scene())
    (job,) = started.newest()
    assert (job.submitted.operation, job.submitted.arguments) == ("iterate", {"cluster": CLUSTER})
    assert any("drifts: auction_win_rate is 0.2000" in words for words in messages)


def no_room(*args):
    raise OSError(errno.ENOSPC, "No space left on device")
