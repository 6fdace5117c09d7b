"""Worlds whose deployment is watched by a registered rule."""

from __future__ import annotations

import yaml
from attacker import CLUSTER, PEOPLE_FILE

from modelsmith.signing.keys import create_signing_key

CLUSTER_FILE = f"clusters/{CLUSTER}/cluster.yaml"


def ruled(world, minutes, **more):
    """The owners list the door and register a rule; the deployment is approved with it."""
    document = yaml.safe_load(world.governed().tree.read(PEOPLE_FILE))
    document["harness"].append({"id": "front-door", "trust": ["front-door.pem"], "observer": True})
    key = world.folder / "door" / "harness.pem"
    cluster = yaml.safe_load(world.governed().tree.read(CLUSTER_FILE))
    cluster["rollback"] |= {
        "max_drop": 0.3, "window_minutes": minutes,
        "rule": {"least_decisions": 100, "errors": {"max_rise": 0.05}}, **more,
    }  # fmt: skip
    cluster["deployment"] = {"traffic_share": 0.5}
    files = {
        PEOPLE_FILE: yaml.safe_dump(document, sort_keys=False).encode(),
        ".github/governance/trust/front-door.pem": create_signing_key(key),
    }
    world.force_honestly(files, "petra")
    world.force_honestly({CLUSTER_FILE: yaml.safe_dump(cluster, sort_keys=False).encode()}, "maya")
    for name, value in (("door", "front-door"), ("doorkey", str(key))):
        world.git.run("config", f"modelsmith.{name}", value)
    number = world.promote("customer-deployed")
    world.approve(number, "maya")
    assert world.merge(number).status == "merged"
    return world


def copied(template, tmp_path):
    world = template.copied_to(tmp_path / "world")
    world.git.run("config", "modelsmith.doorkey", str(world.folder / "door" / "harness.pem"))
    world.hook(False)
    return world
