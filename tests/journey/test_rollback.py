"""A bad deployment: traffic goes back at once, nothing new is deployed until a person says so, and it all verifies."""

from __future__ import annotations

import json
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from modelsmith.forges.local import LocalForge
from modelsmith.forges.port import ForgeIdentity, Proposal
from modelsmith.ledger.ledger import Ledger
from modelsmith.loop.iterate import Loop
from modelsmith.loop.state import Pointer
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.git import Ident
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.promotion import RECORD_TYPE, PromotionRecord
from modelsmith.signing.dsse import seal, statement

CLUSTER = "rtb-pricing"
ROUTING = f"clusters/{CLUSTER}/routing.yaml"
HARNESS = "modelsmith-harness"
PUSH = "modelsmith.forges.local:LocalForge._push"
BASE_ALONE = [{"specialist": "base", "share": 1.0}]


def must(world, code, *words):
    result = world.modelsmith(*words, "--json")
    assert result.code == code, result.out + result.err
    return result.json


def decide(world, number, person):
    must(world, 0, "approve", str(number), "--key", world.key(person))
    return must(world, 0, "pr", "merge", str(number))


def events_named(world, name):
    """Events of a name, without what the clock of their record decides."""
    events = [event.event for event in Ledger(world.private / "ledger.db").events()]
    return [event.model_dump(mode="json", exclude={"record"}) for event in events if event.name == name]


def status(world):
    return must(world, 0, "status")["clusters"][0]


@pytest.fixture(scope="module")
def served(first_iterate, tmp_path_factory):
    """The first specialist was approved a moment ago, so the window of its contract is open."""
    world = first_iterate[0].copied_to(tmp_path_factory.mktemp("served") / "world")
    decide(world, 4, "maya")
    return world


@pytest.fixture(scope="module")
def rolled(served, tmp_path_factory):
    """`modelsmith rollback` in the window, and what it printed."""
    world = served.copied_to(tmp_path_factory.mktemp("rolled") / "world")
    return world, must(world, 0, "rollback", CLUSTER, "--reason", "auction win rate fell")


def test_in_the_window_traffic_is_back_without_asking_anyone(served, rolled):
    world, rollback = rolled
    specialist = served.state()["specialist"]
    assert (rollback["event"], rollback["status"], rollback["specialist"]) == ("rolled-back", "merged", specialist)
    assert rollback["serving"] == BASE_ALONE
    assert rollback["decision"] == "within the contract that was approved with the deployment"
    assert "kept ready for 48 hours" in rollback["readiness"]
    assert rollback["next"] == {"operation": "rollback", "arguments": {"cluster": CLUSTER, "clear_hold": True}}
    assert "base" in (world.clone / ROUTING).read_text()
    assert specialist not in (world.clone / ROUTING).read_text()
    receipt = json.loads((world.folder_of("rolled-back") / "receipts" / "merge.json").read_bytes())
    assert (receipt["gate"], receipt["approvals"]) == ("contract", {})
    contract = json.loads((world.folder_of("customer-deployed") / "record.json").read_bytes())["rollback"]
    assert sha256((world.clone / ROUTING).read_bytes()) == contract["prior_routing"]
    verified = must(world, 0, "verify")
    assert (verified["promotions"], verified["approvals"]) == (5, 1)


def test_the_pull_request_says_first_what_one_needs_to_know_at_night(rolled):
    world, rollback = rolled
    body = must(world, 0, "pr", "show", str(rollback["pull"]))["proposal"]["packet"]["text"]
    first = body.split("\n\n### Details")[0].splitlines()
    assert len(first) <= 10
    for words in (
        "ROLLBACK",
        "Serves now: base 90%",
        "Will serve: base 100%",
        "auction win rate fell",
        "minute",
        "hold",
    ):
        assert any(words in line for line in first), (words, first)


def test_counts_of_the_live_metric_are_a_reason_of_their_own(served, copies, tmp_path):
    world, now = copies(served), datetime.now(UTC)
    fields = {
        "metric": "auction_win_rate",
        "began": (now - timedelta(seconds=1)).isoformat(),
        "ended": now.isoformat(),
        "specialist": {"decisions": 4200, "good": 1050},
        "incumbent": {"decisions": 37800, "good": 9450},
    }
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps(fields))
    refused = must(world, 2, "rollback", CLUSTER, "--window", str(counts))
    assert (refused["code"], "no drop beyond" in refused["message"]) == ("no-loss", True)
    counts.write_text(json.dumps(fields | {"specialist": {"decisions": 4200, "good": 4201}}))
    assert "specialist" in must(world, 2, "rollback", CLUSTER, "--window", str(counts))["message"]
    counts.write_text(json.dumps(fields | {"specialist": {"decisions": 4200, "good": 882}}))
    answer = must(world, 0, "rollback", CLUSTER, "--window", str(counts))
    assert (answer["status"], answer["serving"]) == ("merged", BASE_ALONE)
    assert must(world, 0, "rollback", CLUSTER) == answer
    must(world, 0, "verify")


def test_run_again_it_undoes_nothing_else(rolled, copies):
    world, rollback = rolled
    again = copies(world)
    assert must(again, 0, "rollback", CLUSTER) == rollback
    late = must(again, 2, "rollback", CLUSTER, "--reason", "margins fell, too")
    assert (late["code"], late["details"]["reason"]) == ("rolled-back-already", "auction win rate fell")
    assert again.pulls() == world.pulls()
    assert again.main() == world.main()


def test_the_event_names_specialist_reason_and_window_once(rolled):
    world, rollback = rolled
    assert events_named(world, "rollback.triggered") == [
        {
            "name": "rollback.triggered",
            "cluster": CLUSTER,
            "specialist": rollback["specialist"],
            "reason": "auction win rate fell",
            "metric_window": {"metric": "auction_win_rate", "window_minutes": 60},
        }
    ]
    assert events_named(world, "promotion.advanced")[-1]["to_state"] == "artifact-exported"


def test_on_hold_nothing_is_deployed_until_oncall_clears_it(rolled, copies):
    world, rollback = copies(rolled[0]), rolled[1]
    state = status(world)
    assert state["hold"] == {"specialist": rollback["specialist"], "waiting_for": ["@oncall-sre"]}
    assert state["next"] == {"operation": "rollback", "arguments": {"cluster": CLUSTER, "clear_hold": True}}
    said_to_people = world.modelsmith("status").out
    assert "on hold" in said_to_people
    assert f"modelsmith rollback {CLUSTER} --clear-hold" in said_to_people

    before = world.pulls()
    refused = must(world, 4, "promote", CLUSTER)
    assert (refused["code"], refused["next"]) == ("on-hold", state["next"])
    assert f"`modelsmith rollback {CLUSTER} --clear-hold`" in refused["mend"]
    assert world.pulls() == before

    clearing = must(world, 4, "rollback", CLUSTER, "--clear-hold", "--reason", "feed was broken, not the model")
    assert (clearing["event"], clearing["waiting_for"]) == ("hold-cleared", ["@oncall-sre"])
    number = str(clearing["pull"])
    assert must(world, 4, "rollback", CLUSTER, "--clear-hold", "--reason", "feed was broken, not the model") == clearing
    assert must(world, 4, "rollback", CLUSTER, "--clear-hold") == clearing, "its reason stands where none is given"
    assert status(world)["next"] == {"operation": "pr show", "arguments": {"number": int(number)}}
    body = must(world, 0, "pr", "show", number)["proposal"]["packet"]["text"]
    assert len(body.splitlines()) <= 10
    assert "feed was broken" in body
    wrong = must(world, 4, "approve", number, "--key", world.key("maya"))
    assert (wrong["counts"], wrong["because"]) == (False, "maya is none of its owners, which are @oncall-sre")
    assert must(world, 4, "pr", "merge", number)["code"] == "approval-missing"
    must(world, 0, "approve", number, "--key", world.key("oli"))
    cleared = must(world, 0, "rollback", CLUSTER, "--clear-hold", "--reason", "feed was broken, not the model")
    assert (cleared["status"], cleared["decision"]) == ("merged", "approved by oli")
    assert status(world)["hold"] is None
    assert must(world, 2, "rollback", CLUSTER, "--clear-hold")["code"] == "no-hold"

    deployment = must(world, 4, "promote", CLUSTER)
    assert deployment["event"] == "customer-deployed"
    decide(world, deployment["pull"], "maya")
    assert [arm["share"] for arm in status(world)["serving"]] == [0.9, 0.1]
    assert must(world, 0, "verify")["approvals"] == 3
    events = [event["event"] for event in must(world, 0, "lineage", rollback["specialist"])["ancestors"][0]["events"]]
    assert events[3:] == ["customer-deployed", "rolled-back", "hold-cleared", "customer-deployed"]


def test_another_reason_to_clear_a_hold_says_what_it_replaces(rolled, copies):
    world = copies(rolled[0])
    first = must(world, 4, "rollback", CLUSTER, "--clear-hold", "--reason", "the feed is back")
    assert first["replaces"] is None
    must(world, 0, "approve", str(first["pull"]), "--key", world.key("oli"))
    second = must(world, 4, "rollback", CLUSTER, "--clear-hold", "--reason", "the feed is back, and was tested")
    assert (second["replaces"], second["status"]) == (first["pull"], "open")
    view = world.modelsmith("rollback", CLUSTER, "--clear-hold", "--reason", "the feed is back")
    assert f"{second['pull']}, which is closed now" in view.out
    still_open = [pull["number"] for pull in must(world, 0, "pr", "list")["pulls"]]
    assert not {first["pull"], second["pull"]} & set(still_open)


def test_iterate_on_hold_goes_as_far_as_it_may_and_says_who_is_next(rolled, copies):
    world = copies(rolled[0])
    answer = must(world, 4, "iterate", CLUSTER)
    assert (answer["phase"], answer["pull"], answer["waiting_for"]) == ("waiting", None, ["@oncall-sre"])
    assert "on hold" in answer["reason"]
    clear = {"operation": "rollback", "arguments": {"cluster": CLUSTER, "clear_hold": True}}
    assert answer["next"] == {"clear": clear}
    steps = {title.partition(": ")[2] for title in world.pulls().values() if answer["specialist"] in title}
    assert steps == {"candidate", "eval accepted", "artifact exported"}
    assert must(world, 4, "iterate", CLUSTER)["pull"] is None

    decide(world, must(world, 4, "rollback", CLUSTER, "--clear-hold")["pull"], "oli")
    opened = must(world, 4, "iterate", CLUSTER)
    assert (opened["specialist"], opened["waiting_for"]) == (answer["specialist"], ["@head-of-trading"])
    assert world.pulls()[opened["pull"]].endswith("customer deployed")


@pytest.mark.parametrize(
    ("point", "when"),
    [
        (f"{PUSH} 1 after SIGKILL", "the pull request is open"),
        (f"{PUSH} 2 after SIGKILL", "main has moved, the forge's log and the clone do not know"),
        ("modelsmith.operations.rollback:note_advances 2 before SIGKILL", "merged, and the ledger does not know"),
    ],
)
def test_killed_and_run_again_it_ends_in_the_same_decisions(served, rolled, copies, point, when):
    calm, rollback = rolled
    world = copies(served)
    command = ("rollback", CLUSTER, "--reason", "auction win rate fell", "--json")
    assert world.stop_at(point, *command).code == -signal.SIGKILL, when
    same = ("event", "specialist", "pull", "status", "decision", "serving", "next")
    again = must(world, 0, *command[:-1])
    assert {name: again[name] for name in same} == {name: rollback[name] for name in same}
    assert world.pulls() == calm.pulls()
    for name in ("rollback.triggered", "promotion.advanced", "promotion.pending_approval"):
        assert Counter(map(str, events_named(world, name))) == Counter(map(str, events_named(calm, name)))
    must(world, 0, "verify")


def test_with_nothing_deployed_there_is_nothing_to_roll_back(waiting):
    assert must(waiting, 2, "rollback", CLUSTER)["code"] == "nothing-to-roll-back"
    assert must(waiting, 2, "rollback", CLUSTER, "--clear-hold")["code"] == "no-hold"
    assert must(waiting, 2, "rollback", CLUSTER, "--reason", "see https://grafana.corp.net/x")["code"] in (
        "nothing-to-roll-back",
        "private-reason",
    )


def test_after_validation_oncall_is_asked_and_decides(served, copies):
    world = copies(served)
    decide(world, must(world, 4, "promote", CLUSTER, "--to", "production-validated")["pull"], "noor")
    assert must(world, 2, "rollback", CLUSTER)["code"] == "no-reason"
    rollback_asked = must(world, 4, "rollback", CLUSTER, "--reason", "margins fell")
    assert (rollback_asked["status"], rollback_asked["waiting_for"]) == ("open", ["@oncall-sre"])
    assert "is production-validated since" in rollback_asked["decision"]
    assert [arm["share"] for arm in rollback_asked["serving"]] == [1.0]
    must(world, 0, "reject", str(rollback_asked["pull"]), "--key", world.key("oli"), "--reason", "wait for the hour")
    assert must(world, 3, "rollback", CLUSTER)["code"] == "gate-closed"
    must(world, 0, "approve", str(rollback_asked["pull"]), "--key", world.key("oli"))
    merged_rollback = must(world, 0, "rollback", CLUSTER)
    assert (merged_rollback["pull"], merged_rollback["decision"], merged_rollback["serving"]) == (
        rollback_asked["pull"],
        "approved by oli",
        BASE_ALONE,
    )
    assert events_named(world, "rollback.triggered")[-1]["reason"] == "margins fell"
    assert must(world, 0, "verify")["approvals"] == 3


def forged_rollback(world, rolled_world, decided_at):
    """A pull request with the very files that the harness made elsewhere, dated by whoever holds the harness's key."""
    folder = rolled_world.folder_of("rolled-back")
    name = folder.relative_to(rolled_world.clone).as_posix()
    files = {f"{name}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    order = json.loads(files[f"{name}/rollback.json"]) | {"decided_at": f"{decided_at:%Y-%m-%dT%H:%M:%SZ}"}
    files[f"{name}/rollback.json"] = canonical_json(order)
    record = json.loads(files[f"{name}/record.json"])
    record["evidence"]["rollback.json"] = sha256(files[f"{name}/rollback.json"])
    fields = {"rollback.json": files[f"{name}/rollback.json"]}
    main = read_governed_state(world.git, world.main())
    for packet, text in packet_files(main, PromotionRecord.model_validate_json(json.dumps(record)), fields).items():
        files[f"{name}/{packet}"] = text
        record["evidence"][packet] = sha256(text)
    data = files[f"{name}/record.json"] = canonical_json(record)
    signed = seal(statement("record.json", data, RECORD_TYPE, {}), world.harness_keys / "harness.pem")
    files[f"{name}/record.sigstore.json"] = signed
    files[ROUTING] = (rolled_world.clone / ROUTING).read_bytes()
    author = Ident("mallory", "mallory@example.org", datetime.now(UTC))
    main = world.main()
    head = world.git.commit_files(main, files, "Roll back\n", author)
    forge = LocalForge(world.forge, world.git, ForgeIdentity(HARNESS, world.harness_keys / "harness-ssh"))
    pull = forge.open(Proposal(branch="forged", title="Forged", body="", head=head, base=main, requester=HARNESS))
    return pull.number, world.git.commit_tree(world.git.merge_tree(main, head), [main, head], "Merge\n", author)


def test_a_rollback_that_is_not_dated_now_asks_oncall_at_merge_and_forge(served, rolled, copies):
    world = copies(served)
    number, merge = forged_rollback(world, rolled[0], datetime.now(UTC) + timedelta(minutes=20))
    waits = must(world, 4, "pr", "merge", str(number))
    assert waits["details"]["waiting_for"] == ["@oncall-sre"]
    pushed = world.git_command("push", "origin", f"{merge}:refs/heads/main")
    assert pushed.code != 0
    assert "approval-missing" in pushed.err
    decide(world, number, "oli")
    assert must(world, 0, "verify")["approvals"] == 2


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("receipts/merge.json", lambda data: data.replace(b'"gate":"contract"', b'"gate":"people"')),
        ("rollback.json", lambda data: data.replace(b"auction win rate fell", b"no reason at all to")),
    ],
)
def test_verify_finds_a_changed_rollback_and_a_changed_receipt(rolled, name, edit):
    world, _ = rolled
    path = world.folder_of("rolled-back") / name
    data = edit(path.read_bytes())
    assert data != path.read_bytes()
    author = Ident("mallory", "mallory@example.org", datetime(2026, 1, 1, tzinfo=UTC))
    merge, tip = world.git.first_parent_log("main")[-2:]
    relative = path.relative_to(world.clone).as_posix()
    if name.startswith("receipts"):
        forged = world.git.commit_files(merge.id, {relative: data}, tip.subject, author)
        where = merge.id
    else:
        forged = where = world.git.commit_files(tip.id, {relative: data}, "Quiet\n", author)
    result = world.modelsmith("verify", "--revision", forged, "--json")
    assert (result.code, result.json["details"]["commit"]) == (5, where)


def test_a_retired_specialist_serves_nothing_and_stays_addressable(served, copies):
    world = copies(served)
    specialist = world.state()["specialist"]
    assert must(world, 2, "promote", CLUSTER, "--to", "deprecated")["code"] == "name-it"
    retirement = must(world, 4, "promote", CLUSTER, specialist, "--to", "deprecated")
    assert (retirement["event"], retirement["waiting_for"]) == ("deprecated", ["@head-of-trading"])
    body = must(world, 0, "pr", "show", str(retirement["pull"]))["proposal"]["packet"]["text"]
    assert "**this moves live traffic**" in body
    decide(world, retirement["pull"], "noor")

    state = status(world)
    assert (state["serving"], state["hold"]) == (BASE_ALONE, None)
    assert state["specialists"][0]["state"] == "deprecated"
    assert must(world, 0, "verify")["weights"] == {specialist: "checked"}
    assert must(world, 0, "lineage", specialist)["ancestors"][0]["state"] == "deprecated"
    must(world, 0, "compare", f"{CLUSTER}-iter-001-base", f"{CLUSTER}-iter-001-candidate")
    pointer = Pointer.model_validate_json(json.dumps(world.state() | {"phase": "train", "reference": specialist}))
    harness = open_harness(Workspace(world.clone, world.home))
    resumed = Loop(harness, CLUSTER, latest := MainReader(harness))._resume(pointer.iteration(), latest.read())
    assert (resumed.number, resumed.phase, resumed.reference) == (2, "eval", "base"), "nothing is trained from it"
    for words, code in ((("promote", CLUSTER), "nothing-to-promote"), (("rollback", CLUSTER), "nothing-to-roll-back")):
        assert must(world, 2, *words)["code"] == code
    assert must(world, 2, "promote", CLUSTER, specialist, "--to", "customer-deployed")["code"] == "bad-transition"
