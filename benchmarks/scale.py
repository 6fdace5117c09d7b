"""``validate`` and ``status`` with 1,000 scenarios and 1,000 promotion records, ``status`` with 10,000; bare parsing.

The repository is made in a temporary folder with `modelsmith init` and its scenarios are replaced: 600 core and 300
held-out ones with two variants each and 100 micro ones, every text put together from word lists with a fixed seed. Its
records are 250 specialists with four events each, written with the real record type, each naming the digest of the one
before and each deployment the deployment before it; the real fold is asked whether they hold before anything is timed.
They carry no signatures or evidence: neither command reads those.

The bare baseline is a process of its own that reads the same files and parses them, with PyYAML's C loader and with
``json``, and checks nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from common import RESULTS, Spent, alternate, machine, modelsmith_command, ratio, save, spend, summary, table

from modelsmith.governance.routing import render_routing, routing_yaml
from modelsmith.governance.states import SpecialistHistory, fold, record_folder, transition_for
from modelsmith.repository.load import load_cluster, load_policy
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.base import Event, State
from modelsmith.schema.canonical import canonical_json, digest, sha256
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.governance import Policy
from modelsmith.schema.promotion import Preparer, PromotionRecord, RollbackContract

SET = "evals/adtech/rtb-root-cause"
CLUSTER = "rtb-pricing"
PARTS = {"scenarios": 600, "held_out": 300, "micro": 100}
SPECIALISTS, MANY = 250, 2_500
"""Of the repository with 1,000 records and of the one with 10,000."""
EVENTS: tuple[Event, ...] = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed")
GOAL_SECONDS = {"modelsmith validate": 1.5, "modelsmith status, 10,000 records": 1.0}
"""Of processor time."""

BARE_YAML = """
import sys, yaml
from pathlib import Path
for path in sys.stdin.read().splitlines():
    yaml.load(Path(path).read_bytes(), Loader=yaml.CSafeLoader)
"""
BARE_JSON = """
import sys, json
from pathlib import Path
for path in sys.stdin.read().splitlines():
    json.loads(Path(path).read_bytes())
"""
BARE_BOTH = """
import sys, json, yaml
from pathlib import Path
for path in sys.stdin.read().splitlines():
    data = Path(path).read_bytes()
    json.loads(data) if path.endswith(".json") else yaml.load(data, Loader=yaml.CSafeLoader)
"""

SYLLABLES = "ba ber cal dor el fen gar hol in jor kel lum mar nor ol pra quin ros sal tor ul ven wes yor zan".split()  # noqa: SIM905
FRAME = (
    "since {a} the {b} on our {c} lines went from {m} to {n} percent while {d} stayed with {e}",
    "{a} reports that {b} of {c} reached {n} and {d} asks what {e} did in week {m}",
    "the {a} desk sees {n} {b} a day on {c} where {d} had {m} before {e} began",
    "after {m} days of {a} our {b} at {c} cost {n} more than {d} and {e} together",
)


def text_of(chance: random.Random, words: list[str]) -> str:
    """A sentence about things that exist nowhere, as long as the kit's texts are (about 30 words)."""
    names = {slot: chance.choice(words) for slot in "abcde"}
    frame = chance.choice(FRAME).format(**names, m=chance.randrange(2, 99), n=chance.randrange(2, 99))
    return f"{frame}, says {' '.join(chance.choice(words) for _ in range(10))}."


def write_scenarios(root: Path) -> None:
    """Replace the kit's scenarios with 1,000 of the same capabilities and references."""
    chance = random.Random("scale")
    words = ["".join(chance.sample(SYLLABLES, chance.choice((2, 3)))) for _ in range(4000)]
    folder = root / SET
    pattern = {
        path.parent.name: yaml.safe_load(path.read_bytes()) for path in sorted(folder.glob("scenarios/*/*.yaml"))
    }
    names = sorted(pattern)
    for part, count in PARTS.items():
        shutil.rmtree(folder / part)
        for number in range(count):
            capability = names[number % len(names)]
            scenario = dict(pattern[capability])
            scenario["id"] = f"{part.replace('_', '-')}-{number:04d}"
            scenario["critical"] = number % 10 == 0
            scenario["risk"] = ("low", "medium", "high")[number % 3]
            scenario["messages"] = [{"role": "user", "content": text_of(chance, words)}]
            scenario["variants"] = [] if part == "micro" else [text_of(chance, words) for _ in range(2)]
            path = folder / part / capability / f"{scenario['id']}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(scenario, sort_keys=False, width=100), encoding="utf-8")


def records(policy: Policy, terms: Rollback, specialists: int) -> Iterator[PromotionRecord]:
    """The chains of all specialists, one after the other."""
    deployed: str | None = None
    for number in range(1, specialists + 1):
        artifact = sha256(f"artifact {number}".encode())
        previous: PromotionRecord | None = None
        state: State | None = None
        for sequence, event in enumerate(EVENTS, start=1):
            transition = transition_for(policy, event, state)
            is_deployment = event == "customer-deployed"
            record = PromotionRecord(
                cluster=CLUSTER,
                specialist=f"iter-{number:03d}-{artifact.removeprefix('sha256:')[:8]}",
                sequence=sequence,
                event=event,
                from_state=state,
                to_state=transition.target,
                artifact=artifact,
                iteration=number,
                eval_run=None if event == "candidate" else sha256(f"run {number}".encode()),
                eval_tag=None if event == "candidate" else f"{CLUSTER}-iter-{number:03d}-candidate",
                composite=None if event == "candidate" else 0.7 + number / (4 * specialists),
                policy=digest(policy.model_dump(mode="json", by_alias=True)),
                evidence={name: sha256(f"{name} {number}".encode()) for name in ("evidence.json", "packet.md")},
                requested_by="operator",
                prepared_by=Preparer(id="modelsmith-harness", kind="harness"),
                expected_previous=deployed if is_deployment else None,
                required_approvers=() if transition.gate == "harness" else (transition.gate,),
                rollback=RollbackContract(
                    terms=terms, prior_specialist="base", prior_artifact=None, prior_routing=sha256(b"before")
                )
                if is_deployment
                else None,
                previous_record=digest(previous) if previous else None,
                previous_receipts={"merge.json": sha256(f"{number} {sequence}".encode())} if previous else {},
            )
            yield record
            previous, state = record, transition.target
            deployed = digest(record) if is_deployment else deployed


def write_records(root: Path, specialists: int) -> None:
    """Write the records and the routing that follows from them, once the fold has accepted them."""
    tree = WorkTree(root)
    policy, cluster = load_policy(tree), load_cluster(tree, CLUSTER)
    histories: list[SpecialistHistory] = []
    chain: list[PromotionRecord] = []
    for record in records(policy, cluster.rollback, specialists):
        chain.append(record)
        path = root / record_folder(record) / "record.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(canonical_json(record))
        if record.sequence == len(EVENTS):
            histories.append(fold(chain, policy))
            chain = []
    routing = render_routing(CLUSTER, histories, cluster.deployment.traffic_share)
    (root / "clusters" / CLUSTER / "routing.yaml").write_bytes(routing_yaml(routing))


def make_repository(root: Path, env: dict[str, str], specialists: int = SPECIALISTS) -> Path:
    """A committed promotion repository with its forge; the kit's own scenarios stay where records are many."""
    folder = root.parent
    subprocess.run([*modelsmith_command(), "init", root.name], cwd=folder, env=env, check=True, capture_output=True)
    if specialists == SPECIALISTS:
        write_scenarios(root)
    write_records(root, specialists)
    author = {
        f"GIT_{role}_{field}": "bench@bench.invalid" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
    }
    for command in (["add", "--all"], ["commit", "--quiet", "--amend", "--no-edit"]):
        subprocess.run(["git", *command], cwd=root, env={**env, **author}, check=True, capture_output=True)
    forge = folder / f"{root.name}.git"
    subprocess.run(["git", "fetch", "--quiet", str(root), "+HEAD:refs/heads/main"], cwd=forge, check=True)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="Make the repository in this folder and leave it there.")
    arguments = parser.parse_args()
    facts = machine("pydantic", "PyYAML", "rapidfuzz", "rfc8785")
    scratch = tempfile.mkdtemp(prefix="modelsmith-scale-")
    folder = arguments.keep or Path(scratch)
    env = {**os.environ, "MODELSMITH_HOME": str(folder / "home")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        root, many = folder / "repository", folder / "many"
        if not root.exists():
            make_repository(root, env)
        if not many.exists():
            make_repository(many, env, MANY)
        result = compare(root, many, env, arguments.repeats)
    finally:
        shutil.rmtree(scratch)
    save(RESULTS / "scale.json", {"machine": facts, **result})


def compare(root: Path, many: Path, env: dict[str, str], repeats: int) -> dict[str, object]:
    """Time both commands and their baselines, and print the table."""
    governed = sorted(
        str(path)
        for top in ("evals", "clusters", "promotions", ".github")
        for path in (root / top).rglob("*")
        if path.suffix in (".yaml", ".json")
    )
    recorded = [path for path in governed if path.endswith("/record.json")]
    scenarios = [path for path in governed if f"/{SET}/" in path and path.split("/")[-3] in PARTS]
    modelsmith = modelsmith_command()
    subjects = {
        "modelsmith validate": lambda: spend([*modelsmith, "validate", "--json"], root, env),
        "parse the same files": lambda: spend_listed(BARE_BOTH, governed, root),
        "modelsmith status": lambda: spend([*modelsmith, "status", "--json"], root, env),
        "modelsmith status, 10,000 records": lambda: spend([*modelsmith, "status", "--json"], many, env),
        "parse the 10,000 records": lambda: spend_listed(BARE_JSON, recorded_of(many), many),
        "parse the records": lambda: spend_listed(BARE_JSON, recorded, root),
        "parse the scenarios": lambda: spend_listed(BARE_YAML, scenarios, root),
    }
    for call in subjects.values():
        call()
    runs = alternate(subjects, repeats)
    figures = {name: summary(own_runs) for name, own_runs in runs.items()}
    ratios = {
        "validate": ratio(runs["modelsmith validate"], runs["parse the same files"]),
        "status": ratio(runs["modelsmith status"], runs["parse the records"]),
    }
    print(f"{len(scenarios)} scenarios, {len(recorded)} records, {len(governed)} governed YAML and JSON files\n")
    rows = [(name, f["median"], f["least"], f["most"], f["median_cpu"]) for name, f in figures.items()]
    print(table(("seconds", "median", "least", "most", "cpu"), rows))
    print(f"\nratio to bare parsing: validate {ratios['validate']['wall']}, status {ratios['status']['wall']}")
    return {
        "scenarios": len(scenarios),
        "records": len(recorded),
        "files": len(governed),
        "repeats": repeats,
        "seconds": figures,
        "ratio": ratios,
        "goal": {
            name: {"median_cpu_below": goal, "met": figures[name]["median_cpu"] < goal}
            for name, goal in GOAL_SECONDS.items()
        },
    }


def recorded_of(root: Path) -> list[str]:
    """Places of a repository's records."""
    return sorted(str(path) for path in (root / "promotions").rglob("record.json"))


def spend_listed(program: str, paths: list[str], root: Path) -> Spent:
    """Run a baseline; it reads the list of files from its standard input."""
    with tempfile.TemporaryFile() as listing:
        listing.write("\n".join(paths).encode())
        listing.seek(0)
        return spend([sys.executable, "-c", program], root, stdin=listing)


if __name__ == "__main__":
    main()
