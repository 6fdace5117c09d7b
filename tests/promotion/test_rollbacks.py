"""Rolled-back records against main: the contract opens the gate for the exact inverse in time, and for nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from modelsmith.governance.states import record_folder
from modelsmith.promotion.authors import Authorship
from modelsmith.promotion.checks import promotion_checks
from modelsmith.promotion.merge_decision import decide_tree
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.records import next_record, routing_after
from modelsmith.promotion.rollbacks import deployment_of, order_for, read_order, rollback_decision
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, WaitingForPerson
from modelsmith.schema.live import Counted, LiveWindow

EXPORT = ("candidate", "eval-accepted", "artifact-exported")
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SOON = AT + timedelta(minutes=5)
ROUTING = "clusters/rtb-pricing/routing.yaml"
SUBSTANCE = {"record", "signature", "life", "files", "limits", "routing", "inverse", "contract", "names"}
AT_THE_MERGE = {"packet", "leaks", "plain", "readable-main"}


@pytest.fixture(scope="module")
def deployed(repository):
    return repository.after(*EXPORT).after("customer-deployed", approved=AT)


def rollback(repository, number=1, at=SOON, **other):
    """Record and files of a rollback as the harness makes them; ``other`` is changed before it signs."""
    order = order_for(repository.main, repository.draft(number), "win rate fell", at).model_copy(update=other)
    evidence = {"rollback.json": canonical_json(order)}
    record = next_record(repository.main, "rolled-back", repository.draft(number), evidence)
    evidence |= packet_files(repository.main, record, evidence)
    record = next_record(repository.main, "rolled-back", repository.draft(number), evidence)
    return record, repository.files_of(record, evidence)


NOBODY = Authorship(frozenset(), frozenset())


def order_in(files):
    return {"rollback.json": next(data for path, data in files.items() if path.endswith("rollback.json"))}


def rolled_back(repository):
    """The repository after the rollback of its first specialist."""
    return repository.after("rolled-back", evidence=order_in(rollback(repository)[1]))


def judged(repository, files, now=None, latest_signed=AT):
    proposed, _ = repository.proposed(files)
    return decide_tree(
        repository.git, repository.main, repository.git.text("rev-parse", f"{proposed.commit}^{{tree}}"), reviews=[],
        requester="modelsmith-harness", preparer="modelsmith-harness", authorship=NOBODY, latest_signed=latest_signed,
        now=now,
    ).decision  # fmt: skip


def failures(repository, files):
    proposed, change = repository.proposed(files)
    return {c.name: c.sentence for c in promotion_checks(repository.main, proposed, change) if not c.passed}


def test_the_contract_holds_the_routing_s_digest_before_the_deployment(repository, deployed):
    record, contract, approved_at = deployment_of(deployed.main, deployed.draft().specialist)
    assert approved_at == AT
    rolled, files = rollback(deployed)
    assert sha256(files[ROUTING]) == contract.prior_routing == sha256(routing_after(deployed.main, rolled))
    assert b"base" in files[ROUTING]
    assert record.specialist.encode() not in files[ROUTING]


@pytest.mark.parametrize("now", [None, SOON, SOON + timedelta(minutes=10), SOON - timedelta(minutes=10)])
def test_within_the_window_the_gate_is_open_without_anyone(deployed, now):
    _, files = rollback(deployed)
    decision = judged(deployed, files, now)
    assert (decision.open, decision.gate, decision.approvers) == (True, "contract", ())
    assert {check.name for check in decision.checks} == SUBSTANCE | (AT_THE_MERGE if now else set())
    sentence = next(check.sentence for check in decision.checks if check.name == "contract")
    assert "minute 5 of the 60" in sentence


def test_outside_the_window_oncall_is_asked_and_told_why(deployed):
    _, files = rollback(deployed, at=AT + timedelta(minutes=61))
    decision = judged(deployed, files)
    assert (decision.open, decision.gate, decision.waiting_for) == (False, "people", ("@oncall-sre",))
    assert not decision.refusals
    assert any("ended 1 minute ago" in check.sentence for check in decision.checks)


@pytest.mark.parametrize("minutes", [11, 300, -11])
def test_a_rollback_dated_into_the_window_after_the_fact_asks_oncall(deployed, minutes):
    _, files = rollback(deployed)
    decision = judged(deployed, files, SOON + timedelta(minutes=minutes))
    assert (decision.open, decision.waiting_for) == (False, ("@oncall-sre",))
    assert any("asked for at 2026-05-01 12:05 UTC, which is not now" in check.sentence for check in decision.checks)


@pytest.mark.parametrize(("minutes", "gate"), [(0, "contract"), (20, "contract"), (21, "people"), (600, "people")])
def test_a_rollback_dated_before_a_signature_of_main_asks_in_a_replay(deployed, minutes, gate):
    _, files = rollback(deployed)
    decision = judged(deployed, files, latest_signed=SOON + timedelta(minutes=minutes))
    assert (decision.open, decision.gate) == (gate == "contract", gate)
    is_told = any("12:05 UTC, but something that was signed at" in check.sentence for check in decision.checks)
    assert is_told == (gate == "people")


def test_a_date_changed_after_signing_is_refused(deployed):
    record, files = rollback(deployed, at=AT + timedelta(hours=3))
    path = f"{record_folder(record)}/rollback.json"
    assert b"2026-05-01T15:00:00Z" in files[path]
    moved = files | {path: files[path].replace(b"2026-05-01T15:00:00Z", b"2026-05-01T12:05:00Z")}
    assert "evidence" in failures(deployed, moved)["life"]
    assert not judged(deployed, moved).open


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"undoes": sha256(b"x")}, "another record than the specialist's latest deployment"),
        ({"prior_specialist": "iter-009-00000000"}, "a return to another specialist than base"),
        ({"prior_artifact": sha256(b"x")}, "another artifact than that of base"),
    ],
)
def test_an_order_that_does_not_follow_from_main_is_refused_though_signed(deployed, changed, words):
    _, files = rollback(deployed, **changed)
    assert words in failures(deployed, files)["inverse"]
    assert not judged(deployed, files).open


def test_an_order_must_be_there_and_canonical(deployed):
    record = next_record(deployed.main, "rolled-back", deployed.draft(), {})
    assert failures(deployed, deployed.files_of(record))["files"] == "packet.md, rollback.json missing"
    _, files = rollback(deployed)
    data = next(content for path, content in files.items() if path.endswith("rollback.json"))
    loose = {"rollback.json": data.replace(b'":', b'": ', 1)}
    record = next_record(deployed.main, "rolled-back", deployed.draft(), loose)
    assert "canonical" in failures(deployed, deployed.files_of(record, loose))["inverse"]
    with pytest.raises(IntegrityFailure) as refused:
        read_order({})
    assert refused.value.code == "bad-rollback"


def test_routing_that_changed_since_makes_it_a_person_s_decision(deployed):
    path = "clusters/rtb-pricing/cluster.yaml"
    wider = deployed.after(*EXPORT, number=2).after("customer-deployed", number=2, approved=AT)
    record, files = rollback(wider, number=1)
    assert "routing changed since" in rollback_decision(wider.main, record, read_order_of(files)).sentence
    record, files = rollback(wider, number=2)
    assert rollback_decision(wider.main, record, read_order_of(files)).automatic
    text = wider.main.tree.read(path).replace(b"traffic_share: 0.1", b"traffic_share: 0.2")
    assert text != wider.main.tree.read(path)
    shared = wider.commit({path: text})
    record, files = rollback(shared, number=2)
    assert "routing changed since" in rollback_decision(shared.main, record, read_order_of(files)).sentence


def read_order_of(files):
    return read_order(order_in(files))


def test_after_validation_a_rollback_is_a_person_s_decision(deployed):
    validated = deployed.after("production-validated", approved=AT)
    record, files = rollback(validated)
    assert "is production-validated since" in rollback_decision(validated.main, record, read_order_of(files)).sentence
    assert judged(validated, files).waiting_for == ("@oncall-sre",)


def test_a_deployment_without_a_person_s_approval_has_no_contract(repository):
    deployed_alone = repository.after(*EXPORT, "customer-deployed")
    _, files = rollback(deployed_alone)
    assert judged(deployed_alone, files).waiting_for == ("@oncall-sre",)


def test_the_window_of_a_second_deployment_is_its_own(deployed):
    later = AT + timedelta(days=2)
    redeployed = rolled_back(deployed).after("hold-cleared", approved=later).after("customer-deployed", approved=later)
    _, soon = rollback(redeployed, at=later + timedelta(minutes=1))
    assert judged(redeployed, soon).gate == "contract"
    _, old = rollback(redeployed, at=SOON)
    assert not judged(redeployed, old).open


def test_nothing_is_rolled_back_twice_or_before_it_is_deployed(deployed, repository):
    _, files = rollback(deployed)
    back = rolled_back(deployed)
    with pytest.raises(InvalidInput):
        rollback(back)
    again = {path.replace("05-rolled-back", "06-rolled-back"): data for path, data in files.items()}
    assert failures(back, again).keys() == {"record"}
    exported = repository.after(*EXPORT)
    with pytest.raises(InvalidInput, match="does not allow rolled-back"):
        order_for(exported.main, exported.draft(), "", SOON)
    with pytest.raises(InvalidInput, match="never deployed"):
        deployment_of(exported.main, exported.draft().specialist)


def test_a_rollback_and_a_validation_prepared_at_once_collide(deployed):
    _, files = rollback(deployed)
    validation = next_record(deployed.main, "production-validated", deployed.draft(), {})
    late = deployed.files_of(validation)
    assert "life" in failures(rolled_back(deployed), late)
    assert "life" in failures(deployed.after("production-validated"), files)


def test_on_hold_no_deployment_passes_its_checks_whoever_prepared_it(deployed):
    both = deployed.after(*EXPORT, number=2)
    early = both.files_of(next_record(both.main, "customer-deployed", both.draft(2), {}))
    on_hold = rolled_back(both)
    assert "on hold" in failures(on_hold, early)["life"]
    for number in (1, 2):
        with pytest.raises(WaitingForPerson) as refused:
            next_record(on_hold.main, "customer-deployed", on_hold.draft(number), {})
        assert refused.value.code == "on-hold"
    cleared = on_hold.after("hold-cleared", approved=AT)
    assert "life" in failures(cleared, early), "it was prepared against another past"
    fresh = cleared.files_of(next_record(cleared.main, "customer-deployed", cleared.draft(2), {}))
    assert not {"life", "routing"} & failures(cleared, fresh).keys()


def test_clearing_a_hold_is_oncall_s_and_touches_no_routing(deployed, repository):
    on_hold = rolled_back(deployed)
    record = next_record(on_hold.main, "hold-cleared", on_hold.draft(), {})
    packet = packet_files(on_hold.main, record, {})
    record = next_record(on_hold.main, "hold-cleared", on_hold.draft(), packet)
    files = on_hold.files_of(record, packet)
    assert ROUTING not in files
    assert failures(on_hold, files) == {}
    assert judged(on_hold, files).waiting_for == ("@oncall-sre",)
    assert failures(on_hold, files | {ROUTING: b"x"})["routing"] == "hold-cleared does not change routing"
    exported = repository.after(*EXPORT)
    with pytest.raises(InvalidInput, match="not on hold"):
        next_record(exported.main, "hold-cleared", exported.draft(), {})


def live(**other):
    counts = {"specialist": Counted(decisions=4200, good=882), "incumbent": Counted(decisions=37800, good=9450)}
    times = {"began": AT, "ended": AT + timedelta(minutes=4)}
    return LiveWindow(**({"metric": "auction_win_rate"} | times | counts | other))


def test_a_rollback_by_the_live_metric_is_judged_by_its_counts(deployed):
    _, files = rollback(deployed, trigger="metric", window=live())
    decision = judged(deployed, files, SOON)
    assert (decision.open, decision.gate) == (True, "contract")
    packet = next(data for path, data in files.items() if path.endswith("packet.md")).decode()
    assert "0.2100 (882 of 4200) against 0.2500 (9450 of 37800), 16.0% lower" in packet


@pytest.mark.parametrize(
    "other",
    [
        {"specialist": Counted(decisions=4200, good=1050)},
        {"metric": "margin"},
        {"began": AT - timedelta(days=1)},
        {"ended": SOON + timedelta(hours=1)},
    ],
)
def test_counts_that_do_not_show_the_contracts_loss_close_the_gate(deployed, other):
    _, files = rollback(deployed, trigger="metric", window=live(**other))
    for now in (SOON, None):
        decision = judged(deployed, files, now)
        assert not decision.open
        assert "bad-rollback" in str(decision) or "rollback.json" in str(decision)
