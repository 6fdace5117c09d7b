"""Live evidence at the gate: an observer's word about this deployment that recomputes and comes to what is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelsmith.governance.window import judge
from modelsmith.promotion.authors import Authorship
from modelsmith.promotion.checks import promotion_checks
from modelsmith.promotion.live import check_live, needs_live, seal_of
from modelsmith.promotion.merge_decision import decide_tree
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.records import next_record
from modelsmith.promotion.rollbacks import deployment_of, order_for
from modelsmith.schema.canonical import canonical_json, digest, parse_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.live import Counts, Metric, StageCounts
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE, LiveEvidence
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.keys import create_signing_key

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
OVER = AT + timedelta(minutes=61)
EXPORT = ("candidate", "eval-accepted", "artifact-exported")
RULE = b"""  rule:
    least_decisions: 100
    errors: {max_rise: 0.02}
"""


@dataclass
class World:
    """A repository whose deployment is watched by a rule, and the key of its door."""

    here: object
    key: Path

    @property
    def main(self):
        return self.here.main

    @property
    def specialist(self):
        return self.here.draft().specialist

    def live(self, mine=400, at=OVER, key=None, **other):
        """Live evidence as the door signs it; ``other`` is changed before."""
        deployment = deployment_of(self.main, self.specialist)
        terms = deployment.contract.terms
        metrics = (
            Metric(metric="auction_win_rate", specialist=mine, incumbent=1_600, specialist_known=2_000,
                   incumbent_known=8_000),
            Metric(metric="errors", specialist=4, incumbent=16, specialist_known=2_000, incumbent_known=8_000),
        )  # fmt: skip
        stage = StageCounts(share=0.2, specialist=2_000, incumbent=8_000, metrics=metrics)
        counts = Counts(began=AT + timedelta(minutes=1), ended=AT + timedelta(minutes=30), stages=(stage,))
        judged = judge(terms, counts, ended=at >= AT + timedelta(minutes=60))
        facts = {
            "cluster": "rtb-pricing", "specialist": self.specialist, "observer": "front-door",
            "deployment": digest(deployment.record), "terms": terms, "counts": counts, "at": at,
            "routing": sha256(self.main.tree.read("clusters/rtb-pricing/routing.yaml")),
            "outcome": judged.outcome, "findings": judged.findings,
        }  # fmt: skip
        live = LiveEvidence(**(facts | other))
        due, data = seal_of(live), canonical_json(live)
        signed = seal(statement(due.name, data, due.kind, due.predicate), key or self.key)
        return {LIVE_FILE: data, LIVE_SIGNATURE: signed}

    def check(self, files, event="production-validated", now=None):
        record = next_record(self.main, event, self.here.draft(), files)
        return check_live(self.main, record, files, now, AT)

    def refused(self, files, **other):
        with pytest.raises(IntegrityFailure) as caught:
            self.check(files, **other)
        return caught.value


@pytest.fixture(scope="module")
def world(repository, tmp_path_factory):
    key = tmp_path_factory.mktemp("door") / "harness.pem"
    public = create_signing_key(key)
    tree = repository.main.tree
    cluster = tree.read("clusters/rtb-pricing/cluster.yaml").replace(b"max_drop: 0.04", b"max_drop: 0.2")
    people = tree.read(".github/governance/people.yaml")
    deployed = repository.commit(
        {
            "clusters/rtb-pricing/cluster.yaml": cluster.rstrip() + b"\n" + RULE,
            ".github/governance/people.yaml": people.rstrip()
            + b"\n- id: front-door\n  observer: true\n  trust:\n  - front-door.pem\n",
            ".github/governance/trust/front-door.pem": public,
        }
    )
    return World(deployed.after(*EXPORT).after("customer-deployed", approved=AT), key)


def test_what_the_door_counted_lets_production_validate(world):
    assert needs_live(world.main, world.specialist)
    sentence = world.check(world.live(), now=OVER)
    assert sentence.startswith("by front-door: auction_win_rate is")


@pytest.mark.parametrize(("minutes", "told"), [(6, False), (7, True), (29, True)])
def test_who_approves_is_told_that_counting_began_late(world, minutes, told):
    """A store that was put away, so that the door counts anew until it confirms: what is missing is no secret."""
    counts = parse_canonical(LIVE_FILE, world.live()[LIVE_FILE], LiveEvidence).counts
    late = counts.model_copy(update={"began": AT + timedelta(minutes=minutes)})
    sentence = world.check(world.live(counts=late), now=OVER)
    assert (f"its counts begin {minutes} minutes after the approval" in sentence) is told


def test_without_it_nothing_is_validated(world):
    error = world.refused({})
    assert "asks for live.json" in error.message


def test_a_contract_without_a_rule_asks_for_none(repository):
    deployed = repository.after(*EXPORT).after("customer-deployed", approved=AT)
    assert not needs_live(deployed.main, deployed.draft().specialist)
    record = next_record(deployed.main, "production-validated", deployed.draft(), {})
    proposed, change = deployed.proposed(deployed.files_of(record, {}))
    assert "live" not in {check.name for check in promotion_checks(deployed.main, proposed, change)}


def test_a_validation_before_any_deployment_is_refused_in_words(world, repository):
    exported = repository.after(*EXPORT)
    record = next_record(world.main, "production-validated", world.here.draft(), {})
    proposed, change = exported.proposed(world.here.files_of(record, {}))
    assert "life" in {check.name for check in promotion_checks(exported.main, proposed, change) if not check.passed}


def test_a_window_that_cannot_tell_is_a_person_s_to_prolong(world):
    error = world.refused(world.live(mine=330))
    assert error.details["verdict"] == "INCONCLUSIVE"
    assert "is not excluded" in error.message


def test_a_window_that_is_still_open_validates_nothing(world):
    error = world.refused(world.live(at=AT + timedelta(minutes=45)))
    assert "the window is still open" in error.message


def test_a_lost_window_validates_nothing(world):
    assert world.refused(world.live(mine=200)).details["verdict"] == "FAIL"


def edited(live, **changes):
    counts = live.counts.stages[0].model_copy(update=changes)
    return live.counts.model_copy(update={"stages": (counts,)})


def test_every_figure_recomputes_from_the_counts(world):
    good = LiveEvidence.model_validate_json(world.live()[LIVE_FILE])
    better = tuple(finding.model_copy(update={"held": finding.held + 1}) for finding in good.findings)
    for changed in (
        {"findings": better}, {"findings": good.findings[:1]}, {"outcome": "inconclusive"},
        {"counts": edited(good, specialist=2_001)},
    ):  # fmt: skip
        assert "another outcome than its own counts" in world.refused(world.live(**changed)).message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cluster": "other"}, "it is about"),
        ({"deployment": "sha256:" + "0" * 64}, "another deployment"),
        ({"routing": "sha256:" + "0" * 64}, "another routing"),
    ],
)
def test_it_is_about_this_deployment(world, changed, words):
    assert words in world.refused(world.live(**changed)).message


def test_its_rule_is_the_one_that_was_approved(world):
    terms = deployment_of(world.main, world.specialist).contract.terms
    for other in (
        terms.model_copy(update={"max_drop": 0.9}), terms.model_copy(update={"rule": None}),
        terms.model_copy(update={"rule": terms.rule.model_copy(update={"errors": None})}),
    ):  # fmt: skip
        assert "not those that were approved" in world.refused(world.live(terms=other)).message


@pytest.mark.parametrize(
    "times",
    [
        {"began": AT - timedelta(hours=2)},
        {"ended": OVER + timedelta(hours=2)},
        {"began": AT + timedelta(minutes=40), "ended": AT + timedelta(minutes=10)},
    ],
)
def test_its_times_lie_between_approval_and_judgement(world, times):
    counts = LiveEvidence.model_validate_json(world.live()[LIVE_FILE]).counts.model_copy(update=times)
    assert "times do not follow" in world.refused(world.live(counts=counts)).message


def test_no_window_ends_before_its_time_by_a_date_of_tomorrow(world):
    files = world.live(at=OVER)
    assert "in the future" in world.refused(files, now=AT + timedelta(minutes=20)).message


def test_only_an_observers_key_speaks(world, tmp_path):
    stranger = tmp_path / "harness.pem"
    create_signing_key(stranger)
    assert world.refused(world.live(key=stranger)).code == "untrusted-key"
    assert world.refused(world.live(key=world.here.key)).code == "untrusted-key"
    assert world.refused(world.live(observer="nobody")).code == "no-observer"
    assert world.refused(world.live() | {LIVE_SIGNATURE: b"{}"}).code != "check-failed"


def test_a_signature_of_other_counts_is_none(world):
    other = world.live(mine=390)[LIVE_SIGNATURE]
    assert world.refused(world.live() | {LIVE_SIGNATURE: other}).code != "check-failed"


def rolled_back(world, files, at=AT + timedelta(minutes=31), **other):
    repository = world.here
    order = order_for(repository.main, repository.draft(), "", at, None, sha256(files[LIVE_FILE]))
    evidence = {"rollback.json": canonical_json(order.model_copy(update=other)), **files}
    evidence |= packet_files(
        repository.main, next_record(repository.main, "rolled-back", repository.draft(), evidence), evidence
    )
    record = next_record(repository.main, "rolled-back", repository.draft(), evidence)
    return repository.files_of(record, evidence), evidence


def decided(world, files, now):
    repository = world.here
    proposed, _ = repository.proposed(files)
    tree = repository.git.text("rev-parse", f"{proposed.commit}^{{tree}}")
    return decide_tree(
        repository.git, repository.main, tree, reviews=[],
        requester="modelsmith-harness", preparer="modelsmith-harness",
        authorship=Authorship(frozenset(), frozenset()), latest_signed=AT, now=now,
    ).decision  # fmt: skip


def test_a_loss_that_the_door_counted_opens_the_gate_by_the_contract(world):
    at = AT + timedelta(minutes=31)
    files, evidence = rolled_back(world, world.live(mine=200, at=at), at)
    decision = decided(world, files, at)
    assert decision.open, decision.refusals
    packet = evidence["packet.md"].decode()
    assert "auction_win_rate is 50.0% worse than the incumbent" in packet
    assert "0.1000 (200 of 2000)" in packet


@pytest.mark.parametrize("mine", [400, 330])
def test_counts_that_show_no_loss_open_nothing(world, mine):
    at = AT + timedelta(minutes=31)
    decision = decided(world, rolled_back(world, world.live(mine=mine, at=at), at)[0], at)
    assert not decision.open
    assert "live" in {check.name for check in decision.checks if not check.passed}


def test_after_the_window_a_person_decides_whatever_the_door_counted(world):
    at = AT + timedelta(minutes=90)
    decision = decided(world, rolled_back(world, world.live(mine=200, at=at), at)[0], at)
    assert not decision.open
    assert all(check.passed for check in decision.checks), "nothing is wrong with it"


def test_an_order_names_the_evidence_that_lies_beside_it(world):
    at = AT + timedelta(minutes=31)
    files, _ = rolled_back(world, world.live(mine=200, at=at), at, live="sha256:" + "0" * 64)
    decision = decided(world, files, at)
    assert any("another live.json than lies beside it" in check.sentence for check in decision.checks)


def test_figures_of_another_mathematical_library_are_the_same(world):
    good = LiveEvidence.model_validate_json(world.live()[LIVE_FILE])
    nearly = tuple(finding.model_copy(update={"held": finding.held * (1 + 1e-6)}) for finding in good.findings)
    assert world.check(world.live(findings=nearly), now=OVER)
