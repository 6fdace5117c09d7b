"""What an eval costs the second time: 1,000 scenarios unchanged, one edited; and the memory of 10,000 with 4 wordings.

The repository is made in a temporary folder with `modelsmith init`; its scenarios are replaced by 1,000 core ones, and
its base model by a Llama of a few thousand random weights, so that the first run takes seconds and the rest is ours.
Every command is a process of its own, start-up included. How many completions were generated is read from the
command's own JSON and, for the unchanged rerun, proven: the model's folder is gone while it runs. The peer is Python
importing the libraries that the command cannot do without (click, pydantic, PyYAML) and reading the same files.

Memory is the peak of a process that runs the engine over invented answers of about 1 KB each; the substrate is a
generator, so the figure is the engine's own. Beside it the size of the observations that were written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from common import RESULTS, ROOT, Spent, alternate, machine, modelsmith_command, save, spend, summary, table

sys.path.append(str(ROOT / "tests"))
from tiny import write_tiny_model

SET = "evals/adtech/rtb-root-cause"
CLUSTER = "rtb-pricing"
SCENARIOS = 1000
LARGE, WORDINGS = 10_000, 4
GOAL_SECONDS = 1.0
BARE = """
import sys, click, pydantic, yaml
from pathlib import Path
for path in sys.stdin.read().splitlines():
    Path(path).read_bytes()
"""


def make_repository(folder: Path, env: Mapping[str, str]) -> Path:
    """A promotion repository with 1,000 core scenarios for the small model."""
    root = folder / "clone"
    subprocess.run([*modelsmith_command(), "init", str(root)], cwd=folder, env=env, check=True, capture_output=True)
    pattern = yaml.safe_load(next((root / SET).glob("scenarios/auction-timeout/*.yaml")).read_bytes())
    for part in ("scenarios", "micro", "held_out", "generators"):
        shutil.rmtree(root / SET / part)
    for number in range(SCENARIOS):
        scenario = pattern | {"id": f"case-{number:04}", "variants": [], "critical": False}
        scenario["messages"] = [{"role": "user", "content": f"Case {number}: {number * 7919 % 10_007} of what we sent"}]
        path = root / SET / "scenarios" / scenario["capability"] / f"{scenario['id']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    _edit(
        root / SET / "evalset.yaml",
        sampling={"max_new_tokens": 4},
        composite={"core": 1.0, "robustness": 0.0, "micro": 0.0},
    )
    digest = write_tiny_model(folder / "model")
    model = {"name": "tiny", "uri": f"file://{folder / 'model'}", "digest": digest, "license": "Apache-2.0"}
    _edit(root / "clusters" / CLUSTER / "cluster.yaml", base_model=model)
    return root


def _edit(path: Path, **values: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


def evaluate(root: Path, env: Mapping[str, str], tag: str) -> dict[str, Any]:
    """One eval of the core part; its result."""
    command = [*modelsmith_command(), "eval", "--cluster", CLUSTER, "--type", "core", "--tag", tag, "--json"]
    process = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert process.returncode in (0, 3), process.stdout[-2000:]
    run: dict[str, Any] = json.loads(process.stdout)["run"]
    return run


def again(root: Path, env: Mapping[str, str], tag: str) -> Spent:
    """The time of one eval; FAIL or INCONCLUSIVE is no error here."""
    command = [*modelsmith_command(), "eval", "--cluster", CLUSTER, "--type", "core", "--tag", tag, "--json"]
    return spend(["sh", "-c", '"$@" || test $? -eq 3', "sh", *command], root, env)


def rerun(folder: Path, repeats: int) -> dict[str, Any]:
    """The first run, the second, one under another tag, and one with an edited scenario."""
    env = {**os.environ, "MODELSMITH_HOME": str(folder / "home")}
    root = make_repository(folder, env)
    first = evaluate(root, env, "first")
    assert first["executed"] == SCENARIOS
    files = "\n".join(str(path) for path in (root / SET).rglob("*.yaml"))
    listing = folder / "files"
    listing.write_text(files)

    def bare() -> Spent:
        with listing.open("rb") as stdin:
            return spend([sys.executable, "-c", BARE], root, stdin=stdin)

    hidden = (folder / "model").rename(folder / "away")
    tags = iter(f"again-{number}" for number in range(repeats))
    runs = alternate(
        {
            "unchanged, same tag": partial(again, root, env, "first"),
            "unchanged, another tag": lambda: again(root, env, next(tags)),
            "import and read": bare,
        },
        repeats,
    )
    unchanged = evaluate(root, env, "first")["executed"]
    hidden.rename(folder / "model")
    edited = next((root / SET).glob("scenarios/*/case-0500.yaml"))
    edited.write_text(edited.read_text().replace("Case 500", "The case 500"))
    change = evaluate(root, env, "edited")
    figures = {name: summary(own_runs) for name, own_runs in runs.items()}
    print(table(("seconds", "median", "least", "most", "cpu"), [
        (name, f["median"], f["least"], f["most"], f["median_cpu"]) for name, f in figures.items()
    ]))  # fmt: skip
    print(f"\nmodel calls: first {first['executed']}, unchanged {unchanged}, one edited {change['executed']}")
    met = figures["unchanged, same tag"]["median"] < GOAL_SECONDS and unchanged == 0 and change["executed"] == 1
    return {
        "scenarios": SCENARIOS,
        "seconds": figures,
        "model_calls": {"first": first["executed"], "unchanged": unchanged, "one edited": change["executed"]},
        "goal": {"median_seconds_below": GOAL_SECONDS, "met": met},
    }


def memory(scenarios: int) -> dict[str, Any]:
    """Peak memory of the engine in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--engine", str(scenarios), folder]
        process = subprocess.run(command, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(process.stdout)
    return document


def engine(scenarios: int, folder: Path) -> None:
    """Run the engine over invented answers and print the process's peak memory."""
    import time
    from dataclasses import replace

    from modelsmith.evaluation.cache import Cache
    from modelsmith.evaluation.engine import run_eval, run_request
    from modelsmith.evaluation.headline import headline
    from modelsmith.evaluation.results import RunFolder
    from modelsmith.evaluation.rows import verdict_rows
    from modelsmith.evaluation.summary import cost, run_id
    from modelsmith.promotion.rule import effective_rule
    from modelsmith.repository.load import load_cluster, load_eval_set
    from modelsmith.repository.tree import WorkTree
    from modelsmith.schema.run import EngineFacts
    from modelsmith.substrates.port import Completion

    class Invented:
        facts = EngineFacts(substrate="invented", version="1", dtype="unknown", device="cpu")

        def complete(self, prompts: Any, system: str, sampling: Any) -> Any:
            for prompt in prompts:
                yield Completion(prompt.key, f"{prompt.key} {'because ' * 128}", "stop", 100, 200, 0.1)

        def close(self) -> None:
            pass

    tree = WorkTree(ROOT)
    governed, cluster = load_eval_set(tree, SET.removeprefix("evals/")), load_cluster(tree, CLUSTER)
    scenario = governed.core[0]
    texts = tuple(f"Wording {number} of the question" for number in range(1, WORDINGS))
    core = tuple(scenario.model_copy(update={"id": f"case-{n:05}", "variants": texts}) for n in range(scenarios))
    governed = replace(governed, core=core, micro=(), held_out=())
    before = peak_mib()
    begin = time.perf_counter()
    request = run_request(
        governed, Invented.facts, cluster="bench", model="base", weights="sha256:" + "0" * 64,
        sections=("core", "robustness"), quick=False,
    )  # fmt: skip
    with RunFolder(folder, "bench", "run").opened(request) as run:
        executed = run_eval(governed, Invented(), run, cache=Cache(folder))
        rows = verdict_rows(run.observations())
        headline(rows, None, effective_rule(governed, cluster))
        run_id(governed.question(), request.weights, None, Invented.facts, run.observations())
        cost(run.observations(), cluster.prices)
    print(
        json.dumps(
            {
                "completions": len(executed.keys),
                "seconds": round(time.perf_counter() - begin, 1),
                "before_mib": before,
                "peak_mib": peak_mib(),
                "written_mib": round((run.path / "observations.jsonl").stat().st_size / 2**20),
            }
        )
    )


def peak_mib() -> int:
    """Peak memory of this process; unlike ``ru_maxrss`` it does not remember who started it."""
    status = Path("/proc/self/status").read_text()
    return round(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        engine(int(arguments.engine[0]), Path(arguments.engine[1]))
        return
    facts = machine("pydantic", "PyYAML", "rfc8785")
    with tempfile.TemporaryDirectory(prefix="modelsmith-rerun-") as folder:
        result = rerun(Path(folder), arguments.repeats)
    sizes = {str(count): memory(count) for count in (LARGE // 10, LARGE)}
    print()
    fields = ("completions", "seconds", "before_mib", "peak_mib", "written_mib")
    rows = [(name, *(size_figures[field] for field in fields)) for name, size_figures in sizes.items()]
    print(table(("scenarios x 4", "completions", "seconds", "MiB before", "MiB peak", "MiB written"), rows))
    save(RESULTS / "rerun.json", {"machine": facts, **result, "memory": sizes})


if __name__ == "__main__":
    main()
