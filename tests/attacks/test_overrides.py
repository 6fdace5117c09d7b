"""Attacks on the override of an INCONCLUSIVE: who may, of what, and what an approval of it speaks of."""

from __future__ import annotations

import attacker
import pytest
import yaml
from attacker import HARNESS, POLICY, SET, refused

from modelsmith.evidence.bundle import Governing, Run, build
from modelsmith.operations import lineage, pr_show
from modelsmith.promotion.overrides import override_of
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.pulls import open_promotion
from modelsmith.promotion.records import next_record
from modelsmith.promotion.since import since
from modelsmith.schema.canonical import canonical_json, digest, sha256
from modelsmith.schema.evidence import EVIDENCE_FILE
from modelsmith.schema.promotion import OVERRIDE_FILE, Override

REASON = "The whole year gives 40 such cases, and we have all of them."
NAMED = "override of INCONCLUSIVE"


def ruled(world, role="domain-lead", **decision):
    """The owners name who may override, and set a margin that this few cases cannot show."""
    policy = yaml.safe_load(world.governed().tree.read(POLICY))
    next(transition for transition in policy["transitions"] if transition["event"] == "eval-accepted")["override"] = (
        role
    )
    world.force_honestly({POLICY: yaml.safe_dump(policy, sort_keys=False).encode()}, "petra")
    path = f"{SET}/evalset.yaml"
    document = yaml.safe_load(world.governed().tree.read(path))
    document["decision"] |= {"margin": 0.001} | decision
    document["thresholds"] = {"composite": 0.5, "held_out": 0.5}
    world.force_honestly({path: yaml.safe_dump(document, sort_keys=False).encode()}, "dana")
    return world


def evaluated(world, wrong=1, run="run"):
    """From now on the harness's evidence is this: candidate and incumbent each miss other cases."""
    facts, cluster = world.draft(), world.cluster()
    mine = world._run(facts.specialist, facts.artifact, True)
    theirs = world._run("base", cluster.base_model.digest, True)

    def missing(evidence, first, count):
        rows = list(evidence.rows)
        for at in range(first, first + count):
            rows[at] = rows[at].model_copy(update={"points": dict.fromkeys(rows[at].points, False)})
        return Run(evidence.result.model_copy(update={"run_id": digest([run, evidence.result.model])}), tuple(rows))

    tree = world.governed().tree.folder_id(SET)
    stood = since(world.governed(), cluster, "base")
    attacker._EVIDENCE[world.main(), 1] = build(
        Governing(world.eval_set(), cluster, tree, stood), facts.specialist, missing(mine, 0, wrong),
        missing(theirs, len(theirs.rows) - 1, 1), (), world.training(), 0.5, {"torch": "2.13.0"},
    )  # fmt: skip
    return world


def overriding(world, **lie):
    """The files of ``eval-accepted`` with an override, which says ``lie`` where it differs, and what is honest else."""
    files = {name: data for name, data in world.files_for("eval-accepted").items() if name.startswith("evidence")}
    evidence = world.evidence()
    honest = {
        "run": evidence.candidate.run_id,
        "evidence": sha256(files[EVIDENCE_FILE]),
        "asked_by": HARNESS,
        "reason": REASON,
    }
    files[OVERRIDE_FILE] = canonical_json(Override(**(honest | lie)))
    facts = world.draft_for("eval-accepted")
    return files | packet_files(world.governed(), next_record(world.governed(), "eval-accepted", facts, files), files)


def ask_override(world, files=None):
    """The harness's pull request of it."""
    facts = world.draft_for("eval-accepted")
    return open_promotion(world.harness(), "eval-accepted", facts, files or overriding(world), "override", "B.").number


def headed(world, files, **lie):
    """A commit of these files with the record that is due for them, which says ``lie`` where it differs."""
    honest = next_record(world.governed(), "eval-accepted", world.draft_for("eval-accepted"), files)
    return world.commit(world.record_files(honest.model_copy(update=lie), files))


def approved(world, number, *actors):
    """Whether the gate is open after these people have approved."""
    for actor in actors:
        world.approve(number, actor)
    return world.gate(number).decision


@pytest.fixture
def unclear(candidate):
    """The candidate's eval is INCONCLUSIVE, and a domain lead may let it count."""
    return evaluated(ruled(candidate))


def test_a_person_of_the_named_role_lets_an_inconclusive_count(unclear):
    """The control: asked for loudly, approved by the role, merged, replayed, and told ever after."""
    number = ask_override(unclear)
    view = pr_show.run(unclear.workspace, pr_show.PrShowRequest(number=number))
    assert view.pull.override.reason == REASON
    assert view.proposal.packet.text.startswith("**OVERRIDE OF AN INCONCLUSIVE.**")
    assert view.proposal.packet.rendering
    need = unclear.gate(number).decision.needs[0]
    assert (need.pattern, need.owners) == (f"policy: {NAMED}", ("@domain-lead",))
    assert approved(unclear, number, "dana").open
    assert unclear.merge(number).status == "merged"
    result = unclear.holds()
    assert (result.promotions, result.approvals) == (2, 3)
    unclear.git.run("fetch", "--quiet", str(unclear.forge), "main")
    unclear.git.run("reset", "--quiet", "--hard", "FETCH_HEAD")
    shown_lineage = lineage.run(unclear.workspace, lineage.LineageRequest(id=unclear.draft().specialist))
    assert (shown_lineage.ancestors[0].override.reason, shown_lineage.ancestors[0].override.approved_by) == (
        REASON,
        ("dana",),
    )
    assert unclear.merge(unclear.promote("artifact-exported")).status == "merged"
    deployment = unclear.promote("customer-deployed")
    text = pr_show.run(unclear.workspace, pr_show.PrShowRequest(number=deployment)).proposal.packet.text
    assert text.startswith("**THIS EVAL WAS INCONCLUSIVE.** It counts because dana")


def test_who_approved_something_else_of_it_overrode_nothing(candidate):
    """Policy asks the platform about every accepted eval; Paul's approval of that is shown as nobody's override."""
    policy = yaml.safe_load(candidate.governed().tree.read(POLICY))
    next(transition for transition in policy["transitions"] if transition["event"] == "eval-accepted")["gate"] = (
        "platform"
    )
    candidate.force_honestly({POLICY: yaml.safe_dump(policy, sort_keys=False).encode()}, "petra")
    world = evaluated(ruled(candidate))
    number = ask_override(world)
    for actor in ("paul", "dana"):
        world.approve(number, actor)
    assert world.merge(number).status == "merged"
    history = world.governed().histories.find(world.draft().specialist)
    assert override_of(world.governed(), history).approved_by == ("dana",)


def test_a_harness_that_overrides_by_itself_opens_no_gate(unclear):
    """The harness adds the file, and merges: at the gate somebody is missing, past it `verify` misses them too."""
    number = ask_override(unclear)
    with refused("approval-missing") as errors:
        unclear.merge(number)
    assert errors[0].details["waiting_for"] == ["@domain-lead"]
    unclear.detected(unclear.force(unclear.head(number), pull=number), "the approval of @domain-lead is missing")


@pytest.mark.parametrize("actor", ["oli", "maya", "paul"])
def test_nobody_without_the_role_overrides(unclear, actor):
    """Somebody of another role signs the override."""
    number = ask_override(unclear)
    assert not approved(unclear, number, actor).open
    signed = unclear.review(actor, unclear.sign_with(actor, unclear.statement(actor, number)))
    unclear.detected(unclear.force(unclear.head(number), [signed], pull=number), "the approval of @domain-lead")


def test_whoever_asks_or_opens_it_does_not_approve_it(unclear):
    """Dana, who may override, opens it herself; or the harness says that she asked for it."""
    head = unclear.head(ask_override(unclear))
    opened = unclear.open(head, "dana", branch="mine")
    assert not approved(unclear, opened, "dana").open
    head = headed(unclear, overriding(unclear, asked_by="dana"), requested_by="dana")
    number = unclear.open(head, HARNESS, branch="hers")
    assert not approved(unclear, number, "dana").open


def test_an_override_where_the_policy_names_nobody_is_refused(candidate):
    """By default nobody overrides: every owner there is approves it, and the gate stays shut."""
    evaluated(ruled(candidate, role=None))
    evidence = candidate.files_for("eval-accepted")
    fields = {"run": candidate.evidence().candidate.run_id, "evidence": sha256(evidence[EVIDENCE_FILE])}
    honest = next_record(candidate.governed(), "eval-accepted", candidate.draft_for("eval-accepted"), evidence)
    evidence[OVERRIDE_FILE] = canonical_json(Override(**fields, asked_by=HARNESS, reason=REASON))
    covered = {name: sha256(data) for name, data in evidence.items()}
    record = honest.model_copy(update={"evidence": dict(sorted(covered.items())), "required_approvers": ("platform",)})
    head = candidate.commit(candidate.record_files(record, evidence))
    candidate.closed_to_everybody(head, code="override-forbidden", requester=HARNESS)


def test_nobody_overrides_a_fail(candidate):
    """The candidate misses its thresholds; the role approves, and the gate stays shut."""
    evaluated(ruled(candidate), wrong=len(candidate._run("base", "sha256:" + "1" * 64, True).rows) - 2)
    assert candidate.evidence().candidate.headline.verdict == "FAIL"
    number = ask_override(candidate)
    decision = approved(candidate, number, "dana")
    assert not decision.open
    assert "the verdict is FAIL, which nobody overrides" in candidate.refusals(number)
    head = candidate.head(number)
    candidate.closed_to_everybody(head, saying="which nobody overrides", requester=HARNESS)


def test_a_pass_is_not_dressed_up_as_an_override(candidate):
    """An override beside a PASS would have a person sign for what the rule decides."""
    ruled(candidate, margin=0.99)
    evaluated(candidate)
    assert candidate.evidence().candidate.headline.verdict == "PASS"
    number = ask_override(candidate)
    assert not approved(candidate, number, "dana").open
    assert "which needs no override" in candidate.refusals(number)


LIES = {
    "an older run": ({"run": "sha256:" + "2" * 64}, "another eval run"),
    "other evidence": ({"evidence": "sha256:" + "2" * 64}, "other evidence"),
    "another asker": ({"asked_by": "maya"}, "another asker"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_override_speaks_of_one_eval_and_one_asker(unclear, name):
    """The override names another run, other evidence or somebody else as who asked."""
    lie, saying = LIES[name]
    head = headed(unclear, overriding(unclear, **lie))
    unclear.closed_to_everybody(head, saying=saying, requester=HARNESS)


def test_an_override_approved_once_is_no_override_of_another_eval(unclear):
    """Dana approved it; then the evidence is replaced beneath it, or the same override is brought with a new run."""
    first = overriding(unclear)
    number = ask_override(unclear, first)
    assert approved(unclear, number, "dana").open
    signed = unclear.review("dana", unclear.sign_with("dana", unclear.statement("dana", number)))
    evaluated(unclear, run="another run")
    replaced = unclear.files_for("eval-accepted") | {OVERRIDE_FILE: first[OVERRIDE_FILE]}
    head = headed(unclear, replaced)
    again = unclear.open(head, HARNESS, branch="again")
    assert not approved(unclear, again, "dana").open
    assert f"{OVERRIDE_FILE} speaks of another eval run" in unclear.refusals(again)
    unclear.detected(unclear.force(head, [signed], pull=number))


def test_the_policy_is_not_changed_in_the_override_s_own_proposal(candidate):
    """A proposal names its own role for the override, or takes another one, in the same change."""
    evaluated(ruled(candidate))
    policy = yaml.safe_load(candidate.governed().tree.read(POLICY))
    next(transition for transition in policy["transitions"] if transition["event"] == "eval-accepted")["override"] = (
        "oncall-sre"
    )
    head = headed(candidate, overriding(candidate))
    both = candidate.commit({POLICY: yaml.safe_dump(policy, sort_keys=False).encode()}, parent=head)
    candidate.closed_to_everybody(both, code="mixed-change", requester=HARNESS)


@pytest.mark.parametrize("role", ["harness", "head-of-trading"])
def test_no_policy_gives_an_override_to_the_harness_or_to_another_step(candidate, role):
    """The owners of the policy let the harness override, or write the line into another transition."""
    policy = yaml.safe_load(candidate.governed().tree.read(POLICY))
    event = "eval-accepted" if role == "harness" else "customer-deployed"
    next(transition for transition in policy["transitions"] if transition["event"] == event)["override"] = role
    files = {POLICY: yaml.safe_dump(policy, sort_keys=False).encode()}
    candidate.closed_to_everybody(candidate.commit(files), saying="override")
