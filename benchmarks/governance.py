"""Governance at 10, 100 and 1,000 promotions: gate decision, push through the hook, ``verify``; time, memory, growth.

Each repository is made with `modelsmith init` and holds whole histories of specialists, one after the other: candidate,
eval accepted, artifact exported, customer deployed, production validated. Everything is real and made by the product's
own functions: records and evidence signed by the harness's key, evidence with a verdict for each answer that the kit's
eval set asks for, signed artifact listings, approvals by a person's SSH key where policy asks for one, merges with
receipts, and the signed events of every pull request in the forge. Two things are not: the verdicts are drawn from a
seed, since no model runs here, and commits are written straight into the object database, since a push for each would
take hours. Each merge has passed `decide_tree` all the same. One more promotion is open, not merged.

The peers run in turn with it on the same repository: ``git fsck --full``, ``git log -p``, and ``ssh-keygen -Y verify``
once for each approval. They check less: objects against their ids, nothing, and signatures.

Repositories are built once and kept in ``.work/governance``; 1,000 promotions take minutes, 10,000 half an hour, and a
build that was ended goes on where its last pack ends. Of several sizes the largest is built, and the others are copies
of it whose main ends earlier.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import RESULTS, WORK, Spent, alternate, machine, modelsmith_command, save, spend, summary, table, timed
from governance_history import APPROVER, PULLS, Place, make_repository, merge_commits

from modelsmith.forges.announced import announcing_only
from modelsmith.governance.routing_chain import _folded
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.merge_decision import decide_merge
from modelsmith.repository import load
from modelsmith.repository.git import Git
from modelsmith.repository.kept_facts import GOVERNED, KeptFacts
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision, read_each
from modelsmith.schema.importing import COLLECT_AFTER
from modelsmith.schema.promotion import APPROVAL_NAMESPACE
from modelsmith.schema.pull import PullRequest
from modelsmith.signing import ssh

SIZES = (10, 100, 1000)
GOAL_PROMOTIONS, GOAL_SECONDS = 1000, 10.0
"""`verify`, cold, of so many promotions on two idle cores."""


LAUNCHER = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as out:
    json.dump([time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], out)
"""
"""Runs a command and writes its time and peak memory: a child of this large process would inherit this one's peak."""


def measured(command: Sequence[str], place: Place) -> tuple[Spent, float]:
    """Time of a process, its children included, and the peak memory in MiB of the largest of them."""
    with tempfile.NamedTemporaryFile("r") as out:
        spend([sys.executable, "-S", "-c", LAUNCHER, out.name, *command], place.clone, place.environment)
        wall, cpu, memory = json.loads(out.read())
    return Spent(wall, cpu), memory


class Subjects:
    """What is measured at one size, and the most memory that each took."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.memory: dict[str, float] = {}
        self.pull = PullRequest.model_validate_json(place.pending.read_text())

    def all(self) -> dict[str, Callable[[], Spent]]:
        """Name and one measurement of each."""
        return {
            "gate decision": self.gate,
            "push of a merge through the hook": self.push,
            "the same by plain git push": lambda: self.push(as_product=False),
            "verify, cold": lambda: self.verify("verify, cold", "--full"),
            "verify, warm": lambda: self.verify("verify, warm"),
            "git fsck --full": lambda: self.run("git fsck --full", "git", "fsck", "--full"),
            "git log -p": lambda: self.run("git log -p", "git", "log", "-p", "main"),
            "ssh-keygen -Y verify, each approval": self.signatures,
        }

    def gate(self) -> Spent:
        """One decision in a running process, as the hook takes it; of what it kept before it has what a new one has."""
        _parse_again()
        _folded.clear()

        def decide() -> None:
            with ObjectReader(self.place.forge) as git:
                facts = KeptFacts(self.place.folder / "home", GOVERNED, str(self.place.forge))
                decide_merge(read_governed_state(git, self.pull.base, facts), self.pull, datetime.now(UTC))
                facts.save()

        return timed(decide)

    def push(self, as_product: bool = True) -> Spent:
        """Merge and receipts, judged by the pre-receive hook; undone afterwards.

        ``as_product``: as `modelsmith pr merge` pushes, to which the forge does not announce every pull request.
        """
        forge, git, now = Git(self.place.forge), Git(self.place.clone), datetime.now(UTC)
        key = self.place.harness_keys / "harness-ssh"
        tip = merge_commits(
            git, self.pull, decide_merge(read_governed_state(git, self.pull.base), self.pull, now), key, now
        )[1]
        told = [announcing_only(f"{PULLS}{self.pull.number}")] if as_product else []
        command = ["git", "push", "--quiet", *told, str(self.place.forge), f"{tip}:refs/heads/main"]
        try:
            return spend(command, self.place.clone, self.place.environment)
        finally:
            forge.run("update-ref", "refs/heads/main", self.pull.base)

    def verify(self, name: str, *options: str) -> Spent:
        return self.run(name, *modelsmith_command(), "verify", "--json", *options)

    def run(self, name: str, *command: str) -> Spent:
        spent, memory = measured(command, self.place)
        self.memory[name] = max(memory, self.memory.get(name, 0.0))
        return spent

    def signatures(self) -> Spent:
        """The approvals of main, each by a process of its own; files are written before the clock starts."""
        tree = Revision(Git(self.place.clone), "main")
        names = [path for path in tree.paths("promotions") if path.endswith(f"approval-{APPROVER}.json")]
        contents, _ = read_each(tree, [name + suffix for name in names for suffix in ("", ".sig")])
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "allowed").write_text(f"{APPROVER} {ssh.public_key(self.place.approver_key)}\n")
            for number, name in enumerate(names):
                (folder / f"{number}").write_bytes(contents[name])
                (folder / f"{number}.sig").write_bytes(contents[f"{name}.sig"])
            command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", APPROVER, "-n", APPROVAL_NAMESPACE, "-s"]

            def each() -> None:
                for number in range(len(names)):
                    with (folder / f"{number}").open("rb") as signed:
                        spend([*command, f"{number}.sig"], folder, stdin=signed)

            return timed(each)


def _parse_again() -> None:
    """Forget what loaders keep of files, as a new process would not have it."""
    for value in vars(load).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def compare(place: Place, repeats: int) -> dict[str, Any]:
    """Figures of one size."""
    subjects = Subjects(place)
    runs = alternate(subjects.all(), repeats)
    counts = json.loads(
        subprocess.run(
            [*modelsmith_command(), "verify", "--json"],
            cwd=place.clone, env=place.environment, check=True, capture_output=True,
        ).stdout
    )  # fmt: skip
    return {
        "promotions": counts["promotions"],
        "approvals": counts["approvals"],
        "commits": int(Git(place.clone).text("rev-list", "--count", "main")),
        "seconds": {name: summary(repeats) for name, repeats in runs.items()},
        "peak_mib": {name: round(memory, 1) for name, memory in subjects.memory.items()},
    }


def growth(sizes: dict[int, dict[str, Any]], kind: str) -> dict[str, list[float]]:
    """By subject: how much more each size takes than the size before."""
    by_size = [sizes[size][kind] for size in sorted(sizes)]
    value = {"seconds": lambda figure: figure["median"], "peak_mib": lambda figure: figure}[kind]
    return {
        name: [round(value(more[name]) / max(value(less[name]), 1e-4), 2) for less, more in pairwise(by_size)]
        for name in (by_size[0] if by_size else {})
    }


def show(sizes: dict[int, dict[str, Any]], grown: dict[str, dict[str, list[float]]]) -> None:
    names = sorted(sizes)
    steps = [f"{more}/{less}" for less, more in pairwise(names)]
    for kind, title in (("seconds", "seconds (median)"), ("peak_mib", "peak memory (MiB)")):
        rows: list[tuple[object, ...]] = []
        for subject in sizes[names[0]][kind]:
            values = [sizes[size][kind][subject] for size in names]
            plain = [value["median"] if isinstance(value, dict) else value for value in values]
            rows.append((subject, *plain, *grown[kind][subject]))
        print(f"\n{table((title, *map(str, names), *(f'growth {step}' for step in steps)), rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="Promotions; multiples of five.")
    parser.add_argument("--rebuild", action="store_true", help="Build repositories again that are there already.")
    arguments = parser.parse_args()
    gc.set_threshold(COLLECT_AFTER)  # as in the hook, which a decision is measured for
    facts = machine("pydantic", "PyYAML", "rfc8785", "cryptography")
    facts["versions"] |= {"git": Git(Path()).text("--version").removeprefix("git version ")}
    sizes: dict[int, dict[str, Any]] = {}
    places = [Place(WORK / "governance" / str(size), size) for size in sorted(arguments.sizes)]
    missing = [place for place in places if arguments.rebuild or not place.pending.exists()]
    if missing:
        make_repository(missing[-1], missing[:-1])
    for place in places:
        sizes[place.promotions] = compare(place, arguments.repeats)
    grown = {kind: growth(sizes, kind) for kind in ("seconds", "peak_mib")}
    show(sizes, grown)
    at_goal = sizes.get(GOAL_PROMOTIONS)
    met = at_goal["seconds"]["verify, cold"]["median"] < GOAL_SECONDS if at_goal else None
    goal = {"promotions": GOAL_PROMOTIONS, "median_seconds_below": GOAL_SECONDS, "met": met}
    result = {"machine": facts, "repeats": arguments.repeats, "sizes": sizes, "growth": grown, "goal": goal}
    save(RESULTS / "governance.json", result)


if __name__ == "__main__":
    main()
