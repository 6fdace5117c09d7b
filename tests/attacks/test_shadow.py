"""Attacks on the shadow before a deployment: policy asks that the door saw a specialist hold on copies of requests."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import attacker
import pytest
import yaml
from attacker import CLUSTER, PEOPLE_FILE, refused
from ports import free_port

from modelsmith.artifacts.store import Store
from modelsmith.door import server
from modelsmith.door.settings import Settings
from modelsmith.live.clock import Clock
from modelsmith.live.port import Answered
from modelsmith.live.recorder import LiveRecorder
from modelsmith.loop import window
from modelsmith.loop.keeping import Keeper
from modelsmith.loop.shadow import look_at_shadow, shadowing
from modelsmith.loop.window import live_folder, sealed_evidence
from modelsmith.operations import live, promote
from modelsmith.promotion.live import seal_of
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.records import next_record, routing_after
from modelsmith.promotion.syncing import sync
from modelsmith.repository.listening import Listening
from modelsmith.repository.load import load_cluster
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE, LiveEvidence
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.keys import create_signing_key
from modelsmith.substrates.port import Completion

CLUSTER_FILE = f"clusters/{CLUSTER}/cluster.yaml"
POLICY_FILE = ".github/governance/policy.yaml"


def asked_for(world):
    """Policy asks for a shadow, the owners list the door, and the cluster file has copies made."""
    people = yaml.safe_load(world.governed().tree.read(PEOPLE_FILE))
    people["harness"].append({"id": "front-door", "trust": ["front-door.pem"], "observer": True})
    policy = yaml.safe_load(world.governed().tree.read(POLICY_FILE))
    next(transition for transition in policy["transitions"] if transition["event"] == "customer-deployed")["shadow"] = (
        True
    )
    cluster = yaml.safe_load(world.governed().tree.read(CLUSTER_FILE))
    cluster["rollback"]["rule"] = {"least_decisions": 100, "errors": {"max_rise": 0.05}, "format": {"max_rise": 0.05}}
    cluster["deployment"] = {"traffic_share": 0.1, "shadow_share": 1.0}
    key = world.folder / "door" / "harness.pem"
    files = {
        PEOPLE_FILE: yaml.safe_dump(people, sort_keys=False).encode(),
        POLICY_FILE: yaml.safe_dump(policy, sort_keys=False).encode(),
        ".github/governance/trust/front-door.pem": create_signing_key(key),
    }
    world.force_honestly(files, "petra")
    world.force_honestly({CLUSTER_FILE: yaml.safe_dump(cluster, sort_keys=False).encode()}, "maya")
    world.git.run("config", "modelsmith.door", "front-door")
    sync(world.harness())
    return world


@pytest.fixture(scope="module")
def shadowed_template(waiting_template, advanced):
    return advanced(waiting_template, "shadowed", asked_for)


@pytest.fixture
def world(shadowed_template, tmp_path):
    world_copy = shadowed_template.copied_to(tmp_path / "world")
    world_copy.git.run("config", "modelsmith.doorkey", str(world_copy.folder / "door" / "harness.pem"))
    world_copy.hook(False)
    return world_copy


def copies(world, number, broken, first=0, hours=0):
    """The door's copies of so many requests, so long ago, of which such a share of its answers breaks the format."""
    then = datetime.now(UTC) - timedelta(hours=hours)
    clock, draw = Clock(lambda: then, lambda: 0.0), random.Random(3)
    recorder = LiveRecorder(live_folder(world.workspace), bytes(32), clock=clock)
    (shadow,) = shadowing(world.governed())
    recorder.follow([], [], [shadow])
    for n in range(first, first + number):
        for arm in ("incumbent", "specialist"):
            decision = recorder.decided(
                cluster=CLUSTER, specialist=shadow.specialist, incumbent="base", record=shadow.counted_as, arm=arm,
                key=f"{arm} {n}", share=0.5, stage="shadow",
            )  # fmt: skip
            is_sound = arm == "incumbent" or draw.random() >= broken
            differs = None if arm == "incumbent" else draw.random() < 0.25
            recorder.answered(decision, Answered(200, 1.0, 2.0, 10, 10, format_ok=is_sound, differs=differs))
    recorder.close()


def ask(world):
    return promote.run(world.workspace, promote.PromoteRequest(cluster=CLUSTER))


def counted(world):
    view = look_at_shadow(world.workspace, world.governed(), CLUSTER)
    return sealed_evidence(world.harness(), world.governed(), view.shadowed, view.counts, view.at, view.judgement)


def deployed(world, files):
    """The deployment as the harness would sign it, with live evidence of the attacker's making."""
    facts, main, evidence_files = world.draft_for("customer-deployed"), world.governed(), dict(files)
    evidence_files |= packet_files(main, next_record(main, "customer-deployed", facts, evidence_files), evidence_files)
    record = next_record(main, "customer-deployed", facts, evidence_files)
    all_files = world.record_files(record, evidence_files)
    all_files[attacker.ROUTING] = routing_after(main, record)
    return world.commit(all_files)


def changed(world, files, **facts):
    """Evidence with other facts, signed by the door's own key."""
    stated = LiveEvidence.model_validate_json(files[LIVE_FILE]).model_copy(update=facts)
    due, data = seal_of(stated), canonical_json(stated)
    signed = seal(statement(due.name, data, due.kind, due.predicate), world.folder / "door" / "harness.pem")
    return {LIVE_FILE: data, LIVE_SIGNATURE: signed}


class NextYear(datetime):
    """When somebody verifies what was merged today."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(days=400)


def test_a_specialist_that_holds_in_the_shadow_is_deployed(world, monkeypatch):
    """Control: copies show it, the packet tells it, a person approves, and a plain clone verifies, next year, too."""
    copies(world, 900, broken=0.0)
    result = live.run(world.workspace, live.LiveRequest(cluster=CLUSTER, shadow=True))
    assert (result.stage, result.outcome, result.compared) == ("shadow", "confirm", 900)
    assert 150 < result.differing < 300
    assert [finding.metric for finding in result.findings] == ["errors", "format"]
    deployment = ask(world)
    assert (deployment.event, deployment.status) == ("customer-deployed", "open")
    assert ask(world).pull == deployment.pull, "who asks again comes to the same pull request"
    assert "### What the shadow showed" in world.harness().forge.get(deployment.pull).body
    world.approve(deployment.pull, "maya")
    assert world.merge(deployment.pull).status == "merged"
    world.holds()
    monkeypatch.setattr("modelsmith.promotion.judging.datetime", NextYear)
    world.verify(full=True)
    with refused("no-shadow"):
        live.run(world.workspace, live.LiveRequest(cluster=CLUSTER, shadow=True))


def test_nothing_is_deployed_without_a_shadow_that_policy_asks_for(world):
    """An agent asks before any copy was made, after too few, and leaves the file out of what it signs."""
    with refused("unshadowed"):
        ask(world)
    copies(world, 40, broken=0.0)
    with refused("unshadowed"):
        ask(world)
    world.closed_to_everybody(deployed(world, {}), saying="policy asks for live.json", requester=attacker.HARNESS)


def test_a_specialist_that_breaks_the_format_in_the_shadow_is_refused(world):
    """What is worse in the shadow is refused, and its evidence opens no gate."""
    copies(world, 900, broken=0.4)
    with refused("window-worse"):
        ask(world)
    files = counted(world)
    world.closed_to_everybody(deployed(world, files), saying="is roll-back", requester=attacker.HARNESS)


def test_a_specialist_that_got_worse_is_told_of_before_its_deployment(world):
    """It holds, its deployment is proposed on that, and then it breaks: the evidence stays true, and the door says."""
    copies(world, 900, broken=0.0)
    assert ask(world).status == "open"
    messages = []
    keeper = Keeper(world.workspace, messages.append)
    try:
        keeper.follow(world.governed().tree.commit)
        copies(world, 900, broken=0.6, first=900)
        keeper._due.set()
        for _ in range(1200):
            if messages:
                break
            time.sleep(0.05)
    finally:
        keeper.close()
    (words,) = messages
    assert "is worse in the shadow, so approve no deployment" in words
    with refused("window-worse"):
        ask(world)


def test_shadow_evidence_of_another_making_is_refused(world, monkeypatch):
    """Its outcome is better than its counts, its record another, its terms softer, or the harness signs it."""
    copies(world, 900, broken=0.0)
    files = counted(world)
    true = LiveEvidence.model_validate_json(files[LIVE_FILE])
    softer = true.terms.model_copy(update={"max_drop": 0.5})
    other = "sha256:" + "d" * 64
    for facts, saying in (
        ({"terms": softer}, "not those that are to be approved"),
        ({"deployment": other}, "before the specialist's last record"),
        ({"routing": other}, "another routing"),
        ({"findings": true.findings[:1]}, "another outcome than its own counts"),
    ):
        head = deployed(world, changed(world, files, **facts))
        world.closed_to_everybody(head, saying=saying, requester=attacker.HARNESS)
    world.git.run("config", "modelsmith.doorkey", str(world.harness_keys / "harness.pem"))
    monkeypatch.setattr(window, "adopt_or_seal", lambda existing, payload, key, trusted: seal(payload, key))
    world.closed_to_everybody(deployed(world, counted(world)), saying="live", requester=attacker.HARNESS)


def test_old_shadow_evidence_is_refused_whatever_its_signature_is_dated(world):
    """True evidence of last week; signed again today; with one copy of today, so that its last decision is new."""
    copies(world, 900, broken=0.0)
    files = counted(world)
    true = LiveEvidence.model_validate_json(files[LIVE_FILE])
    then = true.counts.began - timedelta(hours=200)
    week_ago = true.counts.model_copy(update={"began": then, "ended": then})
    refreshed = true.counts.model_copy(update={"began": then})
    for facts in ({"counts": week_ago, "at": then}, {"counts": week_ago}, {"counts": refreshed}):
        head = deployed(world, changed(world, files, **facts))
        world.closed_to_everybody(head, saying="over 168 hours before", requester=attacker.HARNESS)
    for beside in (None, "sha256:" + "d" * 64):
        head = deployed(world, changed(world, files, beside=beside))
        world.closed_to_everybody(head, saying="main asks", requester=attacker.HARNESS)


def test_copies_of_long_ago_are_no_evidence_and_newer_ones_are(world):
    """Nobody is promoted on last week's copies. Those of the day before count, and so does that it was worse then."""
    copies(world, 900, broken=0.0, hours=170)
    with refused("unshadowed"):
        ask(world)
    copies(world, 900, broken=0.0, hours=84)
    result = ask(world)
    assert result.status == "open"
    copies(world, 900, broken=0.4)
    with refused("window-worse"):
        ask(world)


def test_an_open_deployment_whose_evidence_got_old_is_asked_for_anew(world):
    """The owner lowers the age after the pull request was opened: whoever asks again comes to newer evidence."""
    copies(world, 900, broken=0.0, hours=3)
    before = ask(world)
    policy = yaml.safe_load(world.governed().tree.read(POLICY_FILE))
    next(transition for transition in policy["transitions"] if transition["event"] == "customer-deployed")[
        "shadow_hours"
    ] = 2
    world.force_honestly({POLICY_FILE: yaml.safe_dump(policy, sort_keys=False).encode()}, "petra")
    sync(world.harness())
    copies(world, 900, broken=0.0)
    after = ask(world)
    began = [
        LiveEvidence.model_validate_json(
            world.workspace.revision(world.harness().forge.get(ended.pull).head).read(f"{ended.directory}/{LIVE_FILE}")
        ).counts.began
        for ended in (before, after)
    ]
    assert began[1] - began[0] > timedelta(hours=2)


def test_a_rule_without_guards_lets_nothing_through(world):
    """The cluster file drops what the shadow is judged by; counts are there, and nothing speaks against them."""
    copies(world, 900, broken=0.4)
    files = counted(world)
    cluster = yaml.safe_load(world.governed().tree.read(CLUSTER_FILE))
    cluster["rollback"]["rule"], cluster["deployment"] = {"least_decisions": 100}, {"traffic_share": 0.1}
    world.force_honestly({CLUSTER_FILE: yaml.safe_dump(cluster, sort_keys=False).encode()}, "maya")
    terms = load_cluster(world.governed().tree, CLUSTER).rollback
    head = deployed(world, changed(world, files, terms=terms, findings=(), outcome="confirm"))
    world.closed_to_everybody(head, saying="the rule has no guard", requester=attacker.HARNESS)


def test_no_outcome_is_taken_for_a_copy(world):
    """Somebody gets hold of the ids of copies and reports wins for them."""
    recorder = LiveRecorder(live_folder(world.workspace), bytes(32))
    (shadow,) = shadowing(world.governed())
    recorder.follow([], [], [shadow])
    decision = recorder.decided(
        cluster=CLUSTER, specialist=shadow.specialist, incumbent="base", record=shadow.counted_as,
        arm="specialist", key="k", share=0.5, stage="shadow",
    )  # fmt: skip
    report = {"decision_id": decision.id, "metric": "auction_win_rate", "value": 1, "idempotency_key": "a"}
    assert recorder.feedback(json.dumps(report).encode())[0] == 422
    recorder.close()
    counts = look_at_shadow(world.workspace, world.governed(), CLUSTER).counts
    assert counts is None or not any(metric.specialist_known for stage in counts.stages for metric in stage.metrics)


def budget(world, milliseconds):
    """The owner approves another budget for slow answers."""
    cluster = yaml.safe_load(world.governed().tree.read(CLUSTER_FILE))
    cluster["rollback"]["rule"]["slow"] = {"max_rise": 0.05, "milliseconds": milliseconds}
    world.force_honestly({CLUSTER_FILE: yaml.safe_dump(cluster, sort_keys=False).encode()}, "maya")
    sync(world.harness())


def test_counts_by_one_rule_are_no_evidence_for_another(world):
    """A budget that everybody keeps is approved, and after the counting one that nobody was held against."""
    budget(world, 1000)
    copies(world, 900, broken=0.0)
    before = ask(world)
    budget(world, 3)
    with refused("unshadowed"):
        ask(world)
    copies(world, 1000, broken=0.0)
    after = ask(world)
    assert after.status == "open"
    tree = world.workspace.revision(world.harness().forge.get(after.pull).head)
    evidence = LiveEvidence.model_validate_json(tree.read(f"{after.directory}/{LIVE_FILE}"))
    assert evidence.terms.rule.slow.milliseconds == 3
    slow = next(metric for stage in evidence.counts.stages for metric in stage.metrics if metric.metric == "slow")
    assert (slow.specialist_known, slow.incumbent_known) == (1000, 1000), "those by the budget that is to be approved"
    assert before.directory == after.directory


class Speaker:
    """Stands for a loaded model."""

    def speak(self, prompt, *words):
        return Completion(prompt.key, "{}", "stop", 3, 1, 0.0)


@asynccontextmanager
async def opened(world):
    """A real door of this world, and its address."""
    listening = Listening("127.0.0.1", free_port())
    keeper = Keeper(world.workspace, lambda words: None)
    try:
        async with (
            server.opened(world.workspace, Settings(), listening, keeper, None, lambda words: None) as follower,
            asyncio.timeout(120),
        ):
            await follower.start()
            yield follower, f"http://127.0.0.1:{listening.port}/v1/chat/completions"
    finally:
        await asyncio.to_thread(keeper.close)


async def asks(url, number):
    body = {"model": CLUSTER, "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 4}
    async with aiohttp.ClientSession() as session:
        for _ in range(number):
            async with session.post(url, json=body) as answer:
                assert (answer.status, answer.headers["x-modelsmith-specialist"]) == (200, "base")


def test_copies_of_a_real_door_are_what_whoever_looks_counts(world, monkeypatch):
    """Control: the specialist is loaded beside the base model; then its weights are changed on disk."""
    monkeypatch.setattr("modelsmith.door.models._load", lambda *of: Speaker())

    def counted_errors():
        stages = look_at_shadow(world.workspace, world.governed(), CLUSTER).counts.stages
        return sum(metric.specialist_known for stage in stages for metric in stage.metrics if metric.metric == "errors")

    async def sound():
        async with opened(world) as (follower, url):
            while follower.served.clusters[CLUSTER].shadow is None:
                assert not follower.troubles
                await asyncio.sleep(0.05)
            await asks(url, 3)
            while await asyncio.to_thread(counted_errors) < 3:  # a copy still under way ends with the door
                await asyncio.sleep(0.05)

    async def damaged():
        async with opened(world) as (follower, url):
            while not follower.troubles:
                await asyncio.sleep(0.05)
            await asks(url, 2)
            while await asyncio.to_thread(counted_errors) < 5:
                await asyncio.sleep(0.05)
            return {name: error.code for name, error in follower.troubles.items()}

    asyncio.run(sound())
    (stage,) = look_at_shadow(world.workspace, world.governed(), CLUSTER).counts.stages
    assert (stage.specialist, stage.incumbent) == (3, 3)
    history = world.governed().histories.find(shadowing(world.governed())[0].specialist)
    folder = Store(world.workspace.store(load_cluster(world.governed().tree, CLUSTER).store)).get(history.artifact)
    (weights,) = folder.glob("*.safetensors")
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert asyncio.run(damaged()) == {f"shadow of {CLUSTER}": "file-changed"}
    view = look_at_shadow(world.workspace, world.governed(), CLUSTER)
    errors = next(metric for metric in view.counts.stages[0].metrics if metric.metric == "errors")
    assert (errors.specialist, errors.incumbent, errors.specialist_known) == (2, 0, 5)
    assert "the front door:" in view.judgement.reasons[-1]
