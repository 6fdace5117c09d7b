"""A second machine that observes: listed by pull request, with a clone, a home and keys of its own."""

from __future__ import annotations

import shutil

import yaml

from modelsmith.artifacts.store import Store
from modelsmith.signing.keys import create_signing_key, create_ssh_key
from modelsmith.signing.ssh import public_key

PEOPLE = ".github/governance/people.yaml"
POLICY = ".github/governance/policy.yaml"


def list_observer(world, **more):
    """Petra lists an observer and requires it of a deployment, by pull request."""
    keys = world.folder / "observer-keys"
    create_ssh_key(keys / "harness-ssh", "ci")
    pem = create_signing_key(keys / "harness.pem")
    people = yaml.safe_load((world.clone / PEOPLE).read_text())
    ssh_key = public_key(keys / "harness-ssh.pub")
    people["harness"].append({"id": "ci", "keys": [{"key": ssh_key}], "trust": ["ci.pem"], "observer": True})
    policy = yaml.safe_load((world.clone / POLICY).read_text())
    next(transition for transition in policy["transitions"] if transition["event"] == "customer-deployed").update(
        observers=1, **more
    )
    files = {
        PEOPLE: yaml.safe_dump(people, sort_keys=False),
        POLICY: yaml.safe_dump(policy, sort_keys=False),
        ".github/governance/trust/ci.pem": pem.decode(),
    }
    put_on_main(world, "observers", files)


def put_on_main(world, branch, files):
    """Dana proposes these files, and Petra approves."""
    world.commit(branch, files)
    opened = world.modelsmith("pr", "open", branch, "--title", branch, "--key", world.key("dana"), "--json")
    number = str(opened.json["pull"]["number"])
    for words in (("approve", number, "--key", world.key("petra")), ("pr", "merge", number)):
        result = world.modelsmith(*words, "--json")
        assert result.code == 0, result.out


def observer(world, name="observer"):
    """Another machine: a clone, a home and keys of its own; runs a command there."""
    clone, home = world.folder / name, world.folder / f"{name}-home"
    world.must("clone", "--quiet", str(world.forge), str(clone))
    for key, value in (("forge", world.forge), ("identity", "ci"), ("keys", world.folder / "observer-keys")):
        world.must("-C", str(clone), "config", f"modelsmith.{key}", str(value))
    environment = world.environment() | {"MODELSMITH_HOME": str(home)}
    return lambda *words: world.modelsmith(*words, "--json", cwd=clone, env=environment)


def fetched(world, artifact):
    """A copy of the sealed artifact, as somebody carries it over."""
    folder = world.folder / "fetched" / artifact.removeprefix("sha256:")
    shutil.copytree(Store(world.home / "store").get(artifact), folder)
    return str(folder)
