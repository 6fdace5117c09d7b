"""The repository that the tour lays down: the first kit, cut down to a model of a few thousand random weights.

`tiny`, which makes that model, is the tests'; the Makefile puts their folder on the path.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import tiny
import yaml
from transformers.utils.logging import disable_progress_bar

from modelsmith.repository.kits import kit_files
from modelsmith.signing.keys import create_signing_key

CLUSTER = "rtb-pricing"
METRIC = "auction_win_rate"
PEOPLE = {"hana": ("head-of-trading", "domain-lead", "oncall-sre"), "pia": ("platform",)}
DOOR = "front-door"
RULE = {
    "metric": METRIC,
    "max_drop": 0.5,
    "window_minutes": 1,
    "manual_hours": 48,
    "rule": {"better": "higher", "least_decisions": 100, "errors": {"max_rise": 0.1}, "late_minutes": 1},
}
"""So lenient and short that a minute of traffic tells; docs/window.md has one that a team would write. The successor
gets a longer window, so that a busy machine, too, finds the loss before it ends."""


def write_kit(folder: Path) -> Path:
    """The kit, its model and its rule, as a folder that ``modelsmith init --kit`` takes."""
    kit = folder / "kit"
    for name, data in kit_files("adtech", folder).items():
        path = kit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    disable_progress_bar()
    model = folder / "model"
    tiny.shrink(kit, model, tiny.write_tiny_model(model))
    file = kit / f"clusters/{CLUSTER}/cluster.yaml"
    cluster = yaml.safe_load(file.read_text())
    cluster["deployment"]["traffic_share"] = 0.5
    cluster["rollback"] = RULE
    file.write_text(yaml.safe_dump(cluster, sort_keys=False))
    return kit


def write_person(folder: Path, name: str) -> None:
    """Somebody's SSH key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)


def propose_door(clone: Path, key: Path, branch: str) -> None:
    """Commit, on a branch, that the door is an observer, whose signature main believes about what it counted."""
    governance = clone / ".github/governance"
    people = governance / "people.yaml"
    listed = yaml.safe_load(people.read_text())
    listed["harness"].append({"id": DOOR, "observer": True, "trust": [f"{DOOR}.pem"]})
    trust = governance / f"trust/{DOOR}.pem"
    _propose(
        clone,
        branch,
        "The front door is an observer",
        {trust: create_signing_key(key), people: yaml.safe_dump(listed, sort_keys=False).encode()},
    )


def propose_window(clone: Path, minutes: int, branch: str) -> None:
    """Commit, on a branch, that the next deployment is watched for so long."""
    file = clone / f"clusters/{CLUSTER}/cluster.yaml"
    cluster = yaml.safe_load(file.read_text())
    cluster["rollback"]["window_minutes"] = minutes
    _propose(
        clone,
        branch,
        f"Watch the next deployment for {minutes} minutes",
        {file: yaml.safe_dump(cluster, sort_keys=False).encode()},
    )


def _propose(clone: Path, branch: str, message: str, files: Mapping[Path, bytes]) -> None:
    git = ["git", "-C", str(clone), "-c", "user.name=hana", "-c", "user.email=hana@example.org"]
    subprocess.run([*git, "checkout", "--quiet", "-b", branch], check=True)
    for path, data in files.items():
        path.write_bytes(data)
    subprocess.run([sys.executable, "-m", "modelsmith", "agents-md"], cwd=clone, check=True, capture_output=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", message], check=True)
    subprocess.run([*git, "checkout", "--quiet", "main"], check=True)
