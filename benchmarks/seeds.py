"""Does training teach the task, for any seed, and only from true labels?

Five adapters are trained as the loop trains them: rows drawn from the kit's generators for the failures of the base
model, kept apart from every scored text, then supervised fine-tuning, then the governed eval with the base model as
incumbent, judged by the registered gate. Seed N sets both the rows and the training. One more adapter is trained on the
first seed's rows with their answers permuted over all rows, across generators: same texts, same answers, no meaning. It
must fail. Nothing is sealed or promoted.

A run that is finished is not run again; one that was interrupted goes on from its last checkpoint or answer. The work
lies under ``benchmarks/.work/seeds/``, in a folder named by everything that shapes it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, WORK, machine, save, table

from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.firewall import scored_texts, separate
from modelsmith.diagnosis.generate import generate_rows
from modelsmith.evaluation.engine import run_eval, run_request
from modelsmith.evaluation.headline import headline
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.fleet.executor import LocalExecutor
from modelsmith.fleet.folder import listing
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import digest, file_digest
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Headline, Observation
from modelsmith.schema.training_row import TrainingRow
from modelsmith.substrates.base_models import ResolvedModel, resolve
from modelsmith.training.job import Heartbeat, Inputs, TrainJob
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import WORKER, TrainOutcome, train

CLUSTER = "rtb-pricing"
SEEDS = 5
SHUFFLED = "shuffled"
SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Bench:
    """What every run shares."""

    cluster: Cluster
    governed: GovernedSet
    model: ResolvedModel
    work: Path
    """Folder of these inputs."""

    @property
    def names(self) -> list[str]:
        """Runs: the seeds, then the shuffled one."""
        return [*(str(self.cluster.stages[0].seed + i) for i in range(SEEDS)), SHUFFLED]

    def result(self, name: str) -> dict[str, Any] | None:
        """A finished run's figures."""
        try:
            document: dict[str, Any] = json.loads((self.work / name / "run.json").read_bytes())
        except FileNotFoundError:
            return None
        return document


def open_bench(repository: Path, work: Path) -> Bench:
    """Read the governed files and find the base model."""
    tree = WorkTree(repository)
    cluster = load_cluster(tree, CLUSTER)
    governed = load_eval_set(tree, cluster.eval_set)
    identity = digest(
        {
            "question": governed.question().model_dump(mode="json"),
            "rule": effective_rule(governed, cluster).model_dump(mode="json"),
            "generators": [digest(generator) for generator in governed.generators],
            "separation": governed.evalset.separation.training_to_scored,
            "training": cluster.stages[0].model_dump(mode="json"),
            "base": cluster.base_model.digest,
        }
    )
    model = resolve(cluster.base_model, repository, Workspace(repository).models)
    return Bench(cluster, governed, model, work / identity.removeprefix("sha256:")[:12])


def answers(bench: Bench, tag: str, adapter: Path | None) -> tuple[list[Observation], float]:
    """The whole eval of one model, resumed where it stopped, and the seconds of generation."""
    from modelsmith.substrates.local import TransformersSubstrate

    substrate = TransformersSubstrate(bench.model.folder, adapter)
    try:
        weights = digest(listing(adapter)) if adapter else bench.cluster.base_model.digest
        request = run_request(
            bench.governed,
            substrate.facts,
            cluster=CLUSTER,
            model=tag,
            weights=weights,
            sections=SECTIONS,
            quick=False,
        )
        with RunFolder(bench.work / "evals", CLUSTER, tag).opened(request) as folder:
            executed = run_eval(
                bench.governed,
                substrate,
                folder,
                progress=lambda count, total: say(f"{tag}: {count} of {total} answers") if count % 32 == 0 else None,
            )
            observations = list(folder.observations(executed.keys))
    finally:
        substrate.close()
    return observations, sum(observation.wall_seconds for observation in observations)


def rows_for(bench: Bench, base: Sequence[Observation], name: str) -> tuple[tuple[TrainingRow, ...], float]:
    """Training rows of a run, and how near the nearest comes to a scored text."""
    seed = bench.cluster.stages[0].seed if name == SHUFFLED else int(name)
    failures = failure_clusters(
        bench.governed, [observation for observation in base if observation.section != "held_out"]
    )
    rows = generate_rows(bench.governed, failures, bench.cluster.stages[0].rows, seed)
    separation = separate(rows, scored_texts(bench.governed), bench.governed.evalset.separation.training_to_scored)
    return (permuted(separation.rows) if name == SHUFFLED else separation.rows), separation.nearest


def permuted(rows: Sequence[TrainingRow]) -> tuple[TrainingRow, ...]:
    """The same rows with their answers dealt out anew."""
    dealt = [row.answer for row in rows]
    random.Random(SHUFFLE_SEED).shuffle(dealt)
    return tuple(row.model_copy(update={"answer": answer}) for row, answer in zip(rows, dealt, strict=True))


def run(bench: Bench, name: str) -> dict[str, Any]:
    """Train, evaluate and judge one adapter, unless that was done before."""
    earlier = bench.result(name)
    if earlier is not None:
        return earlier
    begin = time.monotonic()
    base, _ = answers(bench, "base", None)
    rows, nearest = rows_for(bench, base, name)
    path = bench.work / name / "rows.jsonl"
    write_rows(path, rows)
    training = bench.cluster.stages[0]
    if name != SHUFFLED:
        training = training.model_copy(update={"seed": int(name)})
    job = TrainJob(
        base=bench.model.digest,
        parent=None,
        rows=file_digest(path),
        system=bench.governed.evalset.prompt.system,
        training=training,
    )

    def beat(step: Heartbeat) -> None:
        say(f"{name}: step {step.step} of {step.steps}, loss {step.loss:.3f}, about {round(step.eta)} s left")

    outcome = train(path.parent / "job", job, Inputs(path), LocalExecutor(WORKER, bench.model.folder), beat)
    observations, generated = answers(bench, name, outcome.adapter)
    verdict = headline(verdict_rows(observations), verdict_rows(base), effective_rule(bench.governed, bench.cluster))
    result = {**figures(name, rows, nearest, outcome, verdict), "eval_seconds": round(generated, 1)}
    result["eval_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["this_call_seconds"] = round(time.monotonic() - begin, 1)
    save(path.with_name("run.json"), result)
    return result


def figures(
    name: str, rows: Sequence[TrainingRow], nearest: float, outcome: TrainOutcome, verdict: Headline
) -> dict[str, Any]:
    """What is reported of one run."""
    return {
        "run": name,
        "shuffled": name == SHUFFLED,
        "rows": len(rows),
        "nearest_to_scored": round(nearest, 4),
        "steps": outcome.steps,
        "final_loss": round(outcome.final_loss, 4),
        "train_seconds": round(outcome.seconds, 1),
        "train_peak_bytes": outcome.peak_bytes,
        "restarts": outcome.restarts,
        "versions": outcome.versions,
        "composite": verdict.composite.model_dump(mode="json"),
        "held_out": verdict.held_out.model_dump(mode="json"),
        "sections": {section.section: round(section.score.value, 4) for section in verdict.sections},
        "regressions": len(verdict.regressions),
        "compared": verdict.compared,
        "difference": verdict.difference.model_dump(mode="json") if verdict.difference else None,
        "checks": {check.name: check.outcome for check in verdict.checks},
        "verdict": verdict.verdict,
    }


def report(bench: Bench, path: Path, facts: dict[str, Any]) -> None:
    """Print the table of the finished runs and write the result file."""
    runs = [result for name in bench.names if (result := bench.result(name))]
    seeds = [result for result in runs if not result["shuffled"]]
    passed = sum(result["verdict"] == "PASS" for result in seeds)
    control = next((result["verdict"] for result in runs if result["shuffled"]), "not run")
    line = f"{passed} of {SEEDS} seeds pass; shuffled labels: {control}"
    if len(seeds) < SEEDS:
        line += f" ({SEEDS - len(seeds)} seeds not run yet)"
    rule = effective_rule(bench.governed, bench.cluster)
    save(
        path,
        {
            "machine": facts,
            "base_model": bench.cluster.base_model.name,
            "eval_set": f"{bench.cluster.eval_set} {bench.governed.evalset.version}",
            "training": bench.cluster.stages[0].model_dump(mode="json"),
            "rule": {**rule.thresholds.model_dump(mode="json"), **rule.decision.model_dump(mode="json")},
            "runs": runs,
            "summary": line,
        },
    )
    rows = [
        (
            result["run"],
            with_interval(result["composite"]),
            with_interval(result["held_out"]),
            f"{result['regressions']} of {result['compared']}",
            result["verdict"],
            result["train_seconds"],
            result["eval_seconds"],
            f"{max(result['train_peak_bytes'], result['eval_peak_bytes']) / 2**30:.2f}",
        )
        for result in runs
    ]
    header = ("seed", "composite", "held-out", "regressions", "verdict", "train s", "eval s", "peak GiB")
    print(table(header, rows))
    print(f"\n{line}")


def with_interval(estimate: dict[str, float]) -> str:
    """A point estimate with its interval."""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f}-{estimate['high']:.3f})"


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--seed", type=int, help="Run this seed only.")
    only.add_argument("--shuffled", action="store_true", help="Run the shuffled labels only.")
    only.add_argument("--report", action="store_true", help="Run nothing; print what is finished.")
    parser.add_argument("--repository", type=Path, default=ROOT, help="Folder with the governed files.")
    parser.add_argument("--work", type=Path, default=WORK / "seeds", help="Folder for what survives between calls.")
    parser.add_argument("--results", type=Path, default=RESULTS / "seeds.json", help="Result file.")
    arguments = parser.parse_args()
    facts = machine("torch", "transformers", "trl", "peft")
    bench = open_bench(arguments.repository.resolve(), arguments.work.resolve())
    if arguments.seed is not None and str(arguments.seed) not in bench.names:
        parser.error(f"--seed: choose one of {', '.join(bench.names[:-1])}")
    if arguments.seed is not None or arguments.shuffled:
        run(bench, SHUFFLED if arguments.shuffled else str(arguments.seed))
    elif not arguments.report:
        places = ["--repository", arguments.repository, "--work", arguments.work, "--results", arguments.results]
        for name in bench.names:
            if bench.result(name) is None:
                which = ["--shuffled"] if name == SHUFFLED else ["--seed", name]
                command = [sys.executable, __file__, *which, *places]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report(bench, arguments.results, facts)


if __name__ == "__main__":
    main()
