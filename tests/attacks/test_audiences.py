"""Attacks on who may see what: by policy, by a proposal's own policy, and by what a promotion commits."""

from __future__ import annotations

import json

import pytest
import yaml
from attacker import POLICY, plain_git, refused

from modelsmith.evidence.bundle import evidence_bytes
from modelsmith.evidence.packet import packet
from modelsmith.operations import lineage, pr_show
from modelsmith.promotion.records import next_record
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence
from modelsmith.schema.run import Cost

KEPT = {"RunResult.cost": "operator", "Evidence.environment": "operator", "TrainingFacts.toolkit": "operator"}


def saying(world, audiences):
    """Policy with these audiences."""
    document = yaml.safe_load(world.governed().tree.read(POLICY))
    return {POLICY: yaml.safe_dump(document | {"audiences": audiences}, sort_keys=False).encode()}


def keep_for_operators(world, **more):
    """The platform keeps cost, environment and toolkit for operators; main says so from now on."""
    number = world.propose(saying(world, KEPT | more), "petra", branch="audiences")
    world.approve(number, "paul")
    assert world.merge(number).status == "merged"


def accepted(world, edit, packet_of=None):
    """Files of ``eval-accepted`` with edited evidence, and the packet of that or of other evidence."""
    evidence = json.loads(evidence_bytes(world.evidence()))
    edit(evidence)
    files = world.files_for("eval-accepted", evidence=canonical_json(evidence))
    stated = Evidence.model_validate_json(canonical_json(packet_of or evidence))
    files["packet.md"] = packet(stated, world.cluster()).encode()
    record = next_record(world.governed(), "eval-accepted", world.draft_for("eval-accepted"), files)
    return world.record_files(record, files)


WIDENED = {
    "an answer for reviewers": ({"Observation.completion": "reviewer"}, "nobody but the operator"),
    "an answer for everybody": ({"Observation.completion": "public"}, "audiences.Observation.completion: "),
    "who ran it for reviewers": ({"RunResult.started_at": "reviewer"}, "never widens"),
    "verdicts kept from reviewers": ({"RunEvidence.rows": "operator"}, "`verify` recomputes the verdict from"),
    "the headline kept from reviewers": ({"RunResult.headline": "operator"}, "cannot be kept from reviewers"),
    "a type that is none": ({"Secrets.all": "operator"}, "there is no record type 'Secrets'"),
    "a field that is none": ({"RunResult.costs": "operator"}, "RunResult has no field 'costs'"),
}


@pytest.mark.parametrize("name", WIDENED)
def test_a_policy_that_shows_more_or_hides_what_is_needed_is_refused(fresh, name):
    """Refused with file, line and field although every owner approves, and found when forced onto main."""
    audiences, words = WIDENED[name]
    files = saying(fresh, audiences)
    field = next(iter(audiences))
    line = next(n for n, text in enumerate(files[POLICY].decode().splitlines(), start=1) if field in text)
    fresh.closed_to_everybody(fresh.commit(files), saying=f"{POLICY}:{line}: audiences.{field}: ")
    fresh.closed_to_everybody(fresh.commit(files), saying=words)


def test_the_platform_keeps_cost_for_operators_unseen_by_reviewers(candidate):
    """Control: evidence and packet go without, the gate and a plain clone still hold, and the verdict recomputes."""
    keep_for_operators(candidate)
    number = candidate.open(candidate.commit(accepted(candidate, without)), branch="promote")
    assert candidate.gate(number).decision.open, candidate.refusals(number)
    assert candidate.merge(number).status == "merged"
    assert candidate.holds().promotions == 2
    clone = candidate.plain_clone()
    path = next(clone.glob(f"promotions/*/*/02-*/{EVIDENCE_FILE}"))
    assert json.loads(path.read_bytes())["candidate"]["cost"] is None
    assert json.loads(path.read_bytes())["environment"] == {}
    packet = path.with_name("packet.md").read_text()
    assert "### Speed and cost\n\nkept for operators by policy." in packet
    assert "per decision" not in packet
    view = pr_show.run(candidate.workspace, pr_show.PrShowRequest(number=number))
    assert view.proposal.packet.rendering
    assert "per decision" not in view.proposal.packet.text


def without(evidence):
    for run in (evidence["candidate"], evidence["incumbent"]):
        run["cost"] = None
    evidence["environment"] = {}
    evidence["training"]["toolkit"] = None


PARTS = {
    "cost": lambda e: e["candidate"].update(cost=COST),
    "a baseline's cost": lambda e: e["incumbent"].update(cost=COST),
    "versions": lambda e: e.update(environment={"torch": "2.13.0"}),
    "the toolkit": lambda e: e["training"].update(toolkit="modelsmith 0.1.0"),
}
COST = Cost(
    p50_seconds=0.1, p95_seconds=0.2, prompt_tokens=1, completion_tokens=1, tokens_per_second=1.0,
    cost_per_decision=0.1, currency="USD",
).model_dump(mode="json")  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_evidence_that_shows_reviewers_what_operators_keep_is_found(candidate, name):
    """However little of it: refused by the check `evidence`, and found once on main."""
    keep_for_operators(candidate)

    def changed(evidence):
        without(evidence)
        PARTS[name](evidence)

    merge = candidate.force(candidate.commit(accepted(candidate, changed)), pull=9)
    candidate.detected(merge, "evidence.json shows what policy keeps for operators")


def test_a_packet_that_tells_what_policy_keeps_for_operators_is_refused(candidate):
    """Evidence without it, and a packet rendered from evidence with it."""
    keep_for_operators(candidate)
    answer = json.loads(evidence_bytes(candidate.evidence()))
    number = candidate.open(candidate.commit(accepted(candidate, without, answer)), branch="told")
    with refused("gate-closed") as errors:
        candidate.merge(number)
    assert "packet.md says something else than the evidence does" in errors[0].message


def test_the_proposal_s_own_policy_decides_nothing(candidate):
    """A proposal that brings a policy under which its evidence may tell is refused: mixed, and judged by main's."""
    keep_for_operators(candidate)
    files = accepted(candidate, lambda evidence: None)
    head = candidate.commit({**files, **saying(candidate, {})})
    candidate.closed_to_everybody(head, saying="shows what policy keeps for operators")
    candidate.closed_to_everybody(head, saying="never mixed")


def test_what_an_operator_keeps_is_not_in_lineage_though_history_has_it(candidate):
    """`training.json` was committed before the policy; lineage shows what today's policy shows."""
    keep_for_operators(candidate)
    plain_git("merge", "--quiet", "--ff-only", candidate.main(), folder=candidate.clone)
    specialist = candidate.draft().specialist
    result = lineage.run(candidate.workspace, lineage.LineageRequest(id=specialist))
    assert result.ancestors[0].training.toolkit is None
    assert result.ancestors[0].training.seed == 17
