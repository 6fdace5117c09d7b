"""Attacks on the rules themselves: policy, people, owners, and the harness's own configuration."""

from __future__ import annotations

import pytest
import yaml
from attacker import CLUSTER, CODEOWNERS, EVERYBODY, HARNESS, PEOPLE_FILE, POLICY, RUBRIC, SET, refused

from modelsmith.governance.codeowners import MAX_BYTES, MOST_RULES
from modelsmith.governance.shape import AGENT_CONTRACT
from modelsmith.operations import status
from modelsmith.repository.agent_contract import with_contract
from modelsmith.repository.tree import Revision
from modelsmith.schema.catalog import CLUSTER_DEFAULTS

SETTINGS = f"clusters/{CLUSTER}/cluster.yaml"


def edited(world, path, edit):
    """A governed YAML file with something changed in it."""
    document = yaml.safe_load(world.governed().tree.read(path))
    edit(document)
    return {path: yaml.safe_dump(document, sort_keys=False).encode()}


def closed_to_all(world, files, saying=""):
    """Refused although every owner approves; and found, with those approvals as receipts, when forced."""
    world.closed_to_everybody(world.commit(files), saying=saying)


def enrolled(world, *roles):
    """An edit of people.yaml that lets Mallory in."""
    person = {"id": "mallory", "name": "Mallory", "roles": list(roles), "keys": [{"key": world.public("mallory")}]}
    return edited(world, PEOPLE_FILE, lambda people: people["people"].append(person))


def test_governance_changes_with_its_owners_approval(fresh):
    """The control of this file: the platform changes people.yaml by a pull request of its own."""
    number = fresh.propose(enrolled(fresh, "head-of-trading"), "petra")
    with refused("approval-missing"):
        fresh.merge(number)
    fresh.approve(number, "paul")
    fresh.merge(number)
    assert fresh.holds().changes == 1


def test_governance_does_not_change_without_its_owners(fresh):
    """Neither a person of another role nor the harness lets anybody in."""
    for actor in ("oli", HARNESS):
        number = fresh.propose(enrolled(fresh, "head-of-trading"), actor, f"by-{actor}")
        for person in ("maya", "dana", "noor"):
            fresh.approve(number, person)
        with refused("approval-missing"):
            fresh.merge(number)


@pytest.mark.parametrize("path", [RUBRIC, f"{SET}/README.md", "clusters/README.md", "runbooks/x.json"])
def test_governance_mixed_with_what_it_governs_is_refused(fresh, path):
    """Whoever approves: rules first, then what they rule."""
    data = fresh.governed().tree.read(path) + b"\n" if path == RUBRIC else b"{}\n"
    closed_to_all(fresh, {**enrolled(fresh, "domain-lead"), path: data}, "never mixed")


def test_governance_mixed_with_a_promotion_is_refused(waiting):
    """The key that would approve the deployment comes along with it."""
    closed_to_all(waiting, {**waiting.next_files("customer-deployed"), **enrolled(waiting, "head-of-trading")})


# The harness wants to approve its own work.


def test_a_harness_configured_to_be_a_person_signs_as_itself(waiting):
    """``modelsmith.identity`` says Maya; the key is the harness's, and the key decides."""
    waiting.git.run("config", "modelsmith.identity", "maya")
    with refused("harness-key"):
        waiting.approve(4, HARNESS)
    signed = waiting.sign_with(HARNESS, waiting.statement("maya", 4))
    with refused("forged-event"):
        waiting.harness().forge.review(4, signed)


def test_a_harness_with_a_person_s_entry_and_role_is_still_a_harness(fresh):
    """Listed twice it is ambiguous, which is refused as a file."""
    key = {"key": fresh.public(HARNESS)}
    person = {"id": HARNESS, "name": "Smith", "roles": ["head-of-trading"], "keys": [key]}
    closed_to_all(fresh, edited(fresh, PEOPLE_FILE, lambda people: people["people"].append(person)), "are the same")


@pytest.mark.parametrize("name", ["another case of its name", "another name for its key"])
def test_a_harness_under_another_name_is_refused(fresh, name):
    """An id that differs by case only, or a person who holds the harness's key."""
    actor = HARNESS.upper() if "case" in name else "smith"
    person = {"id": actor, "name": "Smith", "roles": ["platform"], "keys": [{"key": fresh.public(HARNESS)}]}
    closed_to_all(fresh, edited(fresh, PEOPLE_FILE, lambda people: people["people"].append(person)))


def test_a_harness_named_as_owner_owns_nothing(fresh):
    """A line that only a harness could satisfy waits for ever."""
    owners = fresh.governed().tree.read(CODEOWNERS) + f"/notes.md @{HARNESS}\n".encode()
    closed_to_all(fresh, {CODEOWNERS: owners}, "is no role, person or login")


def test_a_harness_cannot_merge_what_policy_does_not_leave_to_it(fresh):
    """Its own pull request of a rubric waits for the domain lead like any other."""
    text = fresh.governed().tree.read(RUBRIC).replace(b"weight: 2", b"weight: 3", 1)
    number = fresh.propose({RUBRIC: text}, HARNESS)
    with refused("approval-missing"):
        fresh.merge(number)
    fresh.detected(fresh.force(fresh.head(number), pull=number), "approval of @domain-lead is missing")


# Rules that would let it.


LEFT_TO_HARNESS = "customer-deployed is decided by people; the policy leaves it to the harness"


def gate_to_harness(policy):
    for transition in policy["transitions"]:
        if transition["event"] == "customer-deployed":
            transition["gate"] = "harness"


def test_a_policy_that_gives_a_deployment_to_the_harness_is_refused(fresh):
    """The platform alone cannot take the decision from the head of trading."""
    closed_to_all(fresh, edited(fresh, POLICY, gate_to_harness), LEFT_TO_HARNESS)


def test_a_policy_that_gives_a_deployment_to_the_harness_is_not_followed(fresh):
    """On main by force it is found, opens no gate meanwhile, and CODEOWNERS still asks for the head of trading."""
    merged = fresh.force_honestly(edited(fresh, POLICY, gate_to_harness), "paul")
    for event in ("candidate", "eval-accepted", "artifact-exported"):
        fresh.merge(fresh.promote(event))
    number = fresh.promote("customer-deployed")
    assert LEFT_TO_HARNESS in fresh.refusals(number)
    assert fresh.gate(number).decision.waiting_for == ("@head-of-trading",)
    with refused("gate-closed"):
        fresh.merge(number)
    fresh.detected(merged, LEFT_TO_HARNESS)


def test_owners_that_no_longer_ask_the_head_of_trading_are_refused(fresh):
    """The line may not lose its owner, nor be overruled by a later one: policy and owners must agree."""
    owners = fresh.governed().tree.read(CODEOWNERS).decode()
    line = next(line for line in owners.splitlines() if "customer-deployed" in line)
    pattern = line.split()[0]
    for lines in (pattern, f"{pattern} @oncall-sre", f"{line}\n* @platform"):
        text = owners.replace(line, lines)
        with_branch = fresh.propose({CODEOWNERS: text.encode()}, "petra", f"b{len(text)}")
        fresh.approve(with_branch, "paul")
        assert "does not ask 'head-of-trading'" in fresh.refusals(with_branch)


def test_paths_given_to_the_harness_do_not_outdo_owners(fresh):
    """``harness_paths`` speaks of paths that nobody owns; an owner's line still asks."""
    fresh.force_honestly(edited(fresh, POLICY, lambda p: p.update(harness_paths=["/**"])), "paul")
    number = fresh.propose({f"{SET}/README.md": b"x\n"}, HARNESS)
    with refused("approval-missing"):
        fresh.merge(number)


def test_a_policy_of_another_repository_voids_approvals_for_the_old_one(fresh):
    """The repository's identity is in what people sign."""
    number = fresh.propose({"notes.md": b"x\n"}, "petra")
    signed = fresh.sign_with("paul", fresh.statement("paul", number))
    fresh.force_honestly(edited(fresh, POLICY, lambda p: p.update(repository="another-repository")), "paul")
    with refused("bad-event", "forged-event", "wrong-approval"):
        fresh.as_("paul").review(number, signed)
    merge = fresh.force(fresh.head(number), [fresh.review("paul", signed)], pull=number, requester="petra")
    fresh.detected(merge, "another pull request or repository")


OWNERS = {
    "more rules than are asked": lambda text: text + b"/docs/x @platform\n" * MOST_RULES,
    "more than 3 MB": lambda text: text + b"# " + b"x" * MAX_BYTES + b"\n",
    "no text": lambda text: text + b"\xff\xfe\n",
    "a line that does not parse": lambda text: text + b"/evals/[a-z]/ @domain-lead\n",
    "a negation": lambda text: text + b"!/evals/ @platform\n",
    "an owner that looks like another": lambda text: text + "/evals/ @dom\u0430in-lead\n".encode(),
    "an invisible character": lambda text: text + "/evals/ @domain\u200b-lead\n".encode(),
    "an owner whom nobody knows": lambda text: text + b"/evals/ @nobody\n",
    "a comment that makes an owner": lambda text: text + b"/evals/ #@platform @oli\n/evals/ @x[\n",
    "nothing": lambda text: b"",
}


@pytest.mark.parametrize("name", OWNERS)
def test_a_codeowners_that_cannot_be_relied_on_is_refused(fresh, name):
    """Too large, unreadable or half readable: a line that is skipped would leave its paths to an earlier one."""
    owners = OWNERS[name](fresh.governed().tree.read(CODEOWNERS))
    closed_to_all(fresh, {CODEOWNERS: owners})


@pytest.mark.parametrize("name", ["more than 3 MB", "a line that does not parse", "nothing"])
def test_a_codeowners_that_cannot_be_relied_on_opens_nothing_once_there(fresh, name):
    """On main by force it is found; and the gate gives nothing away to whoever asks meanwhile."""
    owners = OWNERS[name](fresh.governed().tree.read(CODEOWNERS))
    fresh.rewrite_on_disk("refs/heads/main", fresh.commit({CODEOWNERS: owners}))
    number = fresh.propose({f"{SET}/README.md": b"x\n"}, "oli")
    assert not fresh.gate(number).decision.open
    assert fresh.gate(number).decision.gate == "people" or fresh.gate(number).decision.refusals
    fresh.detected()


PEOPLE_LIES = {
    "a role that nobody listed": lambda p: p["people"][0].update(roles=["king"]),
    "two people of one id": lambda p: p["people"].append({**p["people"][1], "keys": []}),
    "two ids that differ by case": lambda p: p["people"].append({**p["people"][1], "id": "MAYA", "keys": []}),
    "an id that is a role": lambda p: p["people"][0].update(id="platform"),
    "an id in other letters": lambda p: p["people"][0].update(id="m\u0430ya"),
    "a key with options": lambda p: p["people"][0]["keys"][0].update(
        key='cert-authority,namespaces="x" ' + p["people"][0]["keys"][0]["key"]
    ),
    "a key with a second line": lambda p: p["people"][0]["keys"][0].update(
        key=p["people"][0]["keys"][0]["key"] + "\n* ssh-ed25519 AAAA"
    ),
    "a key by which everybody signs": lambda p: p["people"][0]["keys"][0].update(
        key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    ),
    "a trust root that is not there": lambda p: p["harness"][0].update(trust=["mallory.pem"]),
    "a trust root elsewhere": lambda p: p["harness"][0].update(trust=["../../../x.pem"]),
}


@pytest.mark.parametrize("name", PEOPLE_LIES)
def test_a_people_file_that_names_nobody_clearly_is_refused(fresh, name):
    """Whoever approves it."""
    closed_to_all(fresh, edited(fresh, PEOPLE_FILE, PEOPLE_LIES[name]), "people.yaml")


@pytest.mark.parametrize(
    ("person", "saying"),
    [
        ({"id": "other", "name": "May\u0430"}, "mixes alphabets in one word: U+0430 CYRILLIC SMALL LETTER A"),
        ({"id": "other", "name": "MAYA"}, "are the same"),
        ({"id": "other", "name": "\u039c\u0391\u03a5\u0391"}, "look alike"),
        ({"id": "other", "name": "Ma\u200bya"}, "has invisible characters"),
    ],
    ids=["a Cyrillic letter", "capitals", "Greek capitals", "an invisible character"],
)
def test_a_person_whose_name_looks_like_another_s_is_refused(fresh, person, saying):
    """A reviewer who reads receipts would take the one for the other."""
    listed = {**person, "roles": ["platform"], "keys": [{"key": fresh.public("mallory")}]}
    closed_to_all(fresh, edited(fresh, PEOPLE_FILE, lambda people: people["people"].append(listed)), saying)


@pytest.mark.parametrize(
    "person",
    [
        {"id": "rnaya", "name": "Rnaya"},
        {"id": "mall0ry", "name": "M", "logins": {"github": "petra"}},
        {"id": "p1atform", "name": "P"},
        {"id": "0li", "name": "Another"},
    ],
    ids=["rn for m", "another's id as login", "nearly a role", "0 for O"],
)
def test_a_name_that_looks_like_another_s_in_plain_letters_is_refused(fresh, person):
    """With ``rn`` for ``m``, digits for letters, or nearly a role's name."""
    listed = {**person, "roles": ["platform"], "keys": [{"key": fresh.public("mallory")}]}
    saying = "are the same" if "logins" in person else "alike"
    closed_to_all(fresh, edited(fresh, PEOPLE_FILE, lambda people: people["people"].append(listed)), saying)


def test_a_trust_root_added_beside_people_signs_nothing(fresh):
    """A key in the folder counts when people.yaml names it, and people.yaml is of the platform."""
    pem = fresh.governed().tree.read(".github/governance/trust/harness.pem")
    number = fresh.propose({".github/governance/trust/mallory.pem": pem}, "petra")
    fresh.approve(number, "paul")
    fresh.merge(number)
    assert len(fresh.governed().trusted) == 1


def test_limits_are_those_of_main(fresh):
    """A proposal does not raise the limit that it breaks."""
    raised = edited(fresh, POLICY, lambda p: p["limits"].update(changed_paths=50_000))
    files = {**raised, **{f"docs/{n}.md": b"x\n" for n in range(3000)}}
    closed_to_all(fresh, files, "the policy allows 3000")


def _moved(files):
    """The cluster's settings under another name."""
    return {SETTINGS: None, "clusters/other/cluster.yaml": files.read(SETTINGS).replace(CLUSTER.encode(), b"other")}


TAKEN = {
    "the settings": lambda files: {SETTINGS: None},
    "the settings, to another folder": _moved,
    "what all clusters share": lambda files: {CLUSTER_DEFAULTS: None},
    "the eval set": lambda files: dict.fromkeys(files.paths(SET)),
    "the evidence": lambda files: {path: None for path in files.paths("promotions") if path.endswith("evidence.json")},
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_the_gate_lets_go_can_go_without_ending_verify_or_status(deployed, what):
    """Either the gate refuses it whoever approves, or main can be read afterwards by whoever verifies and looks."""
    files = TAKEN[what](deployed.governed().tree)
    head = deployed.commit(files)
    number = deployed.open(head, "petra")
    decision = deployed.gate(number).decision
    assert ("readable-main" in {check.name for check in decision.checks}) == all(
        check.passed for check in decision.checks if check.name == "valid-files"
    )
    if decision.refusals:
        return
    for actor in EVERYBODY:
        deployed.approve(number, actor)
    assert deployed.merge(number).status == "merged"
    deployed.holds()
    status.run(deployed.workspace, status.StatusRequest())


def test_a_cluster_with_records_keeps_its_settings(waiting):
    """Without them verify and status would end for everybody, and nothing under promotions/ can be taken away."""
    waiting.closed_to_everybody(waiting.commit({f"clusters/{CLUSTER}/cluster.yaml": None}), "check-failed")


def test_the_contract_that_agents_read_tells_the_rules_and_no_others(fresh):
    """Other terms of a rollback come with a contract that says so; one that says more than the rules is refused."""
    fresh.force_honestly({AGENT_CONTRACT: with_contract(fresh.governed().tree)}, "petra")
    terms = {SETTINGS: fresh.governed().tree.read(SETTINGS).replace(b"window_minutes: 60", b"window_minutes: 90")}
    honest = with_contract(Revision(fresh.git, fresh.commit(terms)))
    for name, more in {
        "alone": {},
        "old": {AGENT_CONTRACT: fresh.governed().tree.read(AGENT_CONTRACT) + b"Our notes.\n"},
        "free": {AGENT_CONTRACT: honest.replace(b"\n## Rollback", b"- promote: nobody is asked\n\n## Rollback")},
    }.items():
        number = fresh.propose(terms | more, "petra", branch=name)
        fresh.approve(number, "paul")
        assert "the contract of agents is not what policy, owners and clusters say" in fresh.refusals(number)
    number = fresh.propose(terms | {AGENT_CONTRACT: honest}, "petra", branch="honest")
    fresh.approve(number, "paul")
    assert fresh.merge(number).status == "merged"
    fresh.holds()
