"""A second machine repeats the eval with a real model, and the deployment waits for what it says."""

from __future__ import annotations

import shutil

import yaml
from worlds import CLUSTER

from modelsmith.artifacts.store import Store
from modelsmith.signing.keys import create_signing_key, create_ssh_key
from modelsmith.signing.ssh import public_key

PEOPLE = ".github/governance/people.yaml"
POLICY = ".github/governance/policy.yaml"


def list_observer(world):
    """Petra lists an observer and requires it of a deployment, by pull request."""
    keys = world.folder / "observer-keys"
    create_ssh_key(keys / "harness-ssh", "ci")
    pem = create_signing_key(keys / "harness.pem")
    people = yaml.safe_load((world.clone / PEOPLE).read_text())
    ssh_key = public_key(keys / "harness-ssh.pub")
    people["harness"].append({"id": "ci", "keys": [{"key": ssh_key}], "trust": ["ci.pem"], "observer": True})
    policy = yaml.safe_load((world.clone / POLICY).read_text())
    next(one for one in policy["transitions"] if one["event"] == "customer-deployed")["observers"] = 1
    files = {
        PEOPLE: yaml.safe_dump(people, sort_keys=False),
        POLICY: yaml.safe_dump(policy, sort_keys=False),
        ".github/governance/trust/ci.pem": pem.decode(),
    }
    world.commit("observers", files)
    asked = ("pr", "open", "observers", "--title", "A second observer", "--key", world.key("dana"))
    opened = world.modelsmith(*asked, "--json")
    number = str(opened.json["pull"]["number"])
    for words in (("approve", number, "--key", world.key("petra")), ("pr", "merge", number)):
        ran = world.modelsmith(*words, "--json")
        assert ran.code == 0, ran.out


def observer(world, name="observer"):
    """Another machine: a clone, a home and keys of its own; runs a command there."""
    clone, home = world.folder / name, world.folder / f"{name}-home"
    world.must("clone", "--quiet", str(world.forge), str(clone))
    for key, value in (("forge", world.forge), ("identity", "ci"), ("keys", world.folder / "observer-keys")):
        world.must("-C", str(clone), "config", f"modelsmith.{key}", str(value))
    environment = world.environment() | {"MODELSMITH_HOME": str(home)}
    return lambda *words: world.modelsmith(*words, "--json", cwd=clone, env=environment)


def test_a_deployment_waits_for_a_second_machine_that_agrees(waiting):
    specialist, artifact = waiting.state()["specialist"], waiting.state()["artifact"]
    list_observer(waiting)
    asked = waiting.modelsmith("promote", CLUSTER, "--json")
    assert (asked.code, asked.json["code"], asked.json["details"]["waiting_for"]) == (4, "unobserved", ["ci"])
    assert "modelsmith observe" in waiting.modelsmith("iterate", CLUSTER, "--json").json["reason"]
    mine = waiting.modelsmith("observe", specialist, "--json")
    assert (mine.code, mine.json["code"]) == (2, "not-an-observer")

    there = observer(waiting)
    assert there("observe", specialist).json["code"] == "weights-missing"
    fetched = waiting.folder / "fetched"
    shutil.copytree(Store(waiting.home / "store").get(artifact), fetched)
    ran = there("observe", specialist, "--artifact", str(fetched))
    assert ran.code == 0, ran.out + ran.err
    said = ran.json["agreement"]
    assert (said["agrees"], said["same_engine"], said["turned"], ran.json["status"]) == (True, True, [], "merged")
    assert "eval" in ran.phases, "nothing is taken over"
    again = there("observe", specialist)
    assert (again.code, again.json["pull"], "eval" in again.phases) == (0, None, False)

    proposed = waiting.modelsmith("iterate", CLUSTER, "--json")
    assert proposed.code == 4, proposed.out + proposed.err
    number = str(proposed.json["pull"])
    assert waiting.modelsmith("pr", "show", number, "--json").json["pull"]["gate"] == "waiting"
    for words in (("approve", number, "--key", waiting.key("maya")), ("pr", "merge", number)):
        ran = waiting.modelsmith(*words, "--json")
        assert ran.code == 0, ran.out
    found = waiting.modelsmith("verify", "--json").json
    assert [one["observer"] for one in found["observations"][specialist]] == ["ci"]
    assert "agrees" in waiting.modelsmith("verify").out
    text = there("validate").json
    assert text["kinds"]["observation"] == 1
