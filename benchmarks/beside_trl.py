"""Time and memory of a training's step, beside a bare TRL script: what the benchmarks of SFT and DPO share."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import RESULTS, ROOT, Spent, machine, ratio, save, summary, table

from modelsmith.diagnosis.generate import prompts_for_all
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.training import Dpo, Sft
from modelsmith.schema.training_row import Prompt
from modelsmith.substrates.base_models import resolve

SIDES = ("modelsmith", "bare TRL")


class Subject(NamedTuple):
    """What is measured."""

    name: str
    """Of the file of results, and of our module in `modelsmith.training`."""
    stage: type[Sft] | type[Dpo]
    rows: Callable[[int], Sequence[Frozen]]
    """So many rows, the same on both sides."""
    conversation: Callable[[Any, str], dict[str, list[dict[str, str]]]]
    """A row as a bare script gives it to TRL, with the system prompt."""
    bare: Callable[..., Any]
    """TRL's trainer of model, arguments, data, tokenizer, adapter and stage."""


def practice(count: int) -> tuple[Prompt, ...]:
    """Prompts of the adtech kit's generators."""
    tree = WorkTree(ROOT)
    return tuple(prompts_for_all(load_eval_set(tree, load_cluster(tree, "rtb-pricing").eval_set), count, 17))


def asked_of(row: Any, system: str) -> list[dict[str, str]]:
    """A row's conversation, system prompt first."""
    return [
        {"role": "system", "content": system},
        *({"role": message.role, "content": message.content} for message in row.messages),
    ]


def _measure(subject: Subject, side: str, stage: Any, folder: Path) -> dict[str, float]:
    """Train on one side, in this process."""
    import torch

    torch.set_num_threads(1)
    tree = WorkTree(ROOT)
    cluster = load_cluster(tree, "rtb-pricing")
    system = load_eval_set(tree, cluster.eval_set).evalset.prompt.system
    workspace = Workspace(ROOT)
    base = resolve(cluster.base_model, workspace.root, workspace.models, workspace.models_memory)
    rows = subject.rows(stage.steps * stage.batch_size)
    build = _ours if side == SIDES[0] else _bare
    trainer, begin, cpu = build(subject, stage, rows, system, base, folder)
    trainer.train()
    wall, spent = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": wall / stage.steps, "cpu": spent / stage.steps, "peak": peak}


def _ours(subject: Subject, stage: Any, rows: Sequence[Frozen], system: str, base: Any, folder: Path) -> Any:
    from modelsmith.schema.canonical import file_digest
    from modelsmith.training import run
    from modelsmith.training.job import ROWS_INPUT, TrainJob
    from modelsmith.training.rows import write_rows
    from modelsmith.training.signs import Signs
    from modelsmith.training.worker import load

    write_rows(folder / ROWS_INPUT, rows)
    digest = file_digest(folder / ROWS_INPUT)
    job = TrainJob(base=base.digest, parent=None, rows=digest, system=system, training=stage)
    bench = run._bench(folder, job, base.folder, Signs(folder, threading.Event()))
    bench.arguments["save_strategy"] = "no"
    method, _ = load(stage.method)
    begin, cpu = time.perf_counter(), time.process_time()
    return method.trainer(bench), begin, cpu


def _bare(subject: Subject, stage: Any, rows: Sequence[Frozen], system: str, base: Any, folder: Path) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modelsmith.training import loading, run

    tokenizer = AutoTokenizer.from_pretrained(str(base.folder), local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(str(base.folder), dtype=torch.float32, local_files_only=True)
    data = Dataset.from_list([subject.conversation(row, system) for row in rows])
    arguments = run._arguments(stage, folder, False) | {"save_strategy": "no"}
    begin, cpu = time.perf_counter(), time.process_time()
    lora = loading._lora(stage.lora, model)
    return subject.bare(model, arguments, data, tokenizer, lora, stage), begin, cpu


def _apart(file: str, side: str, stage: Any) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, file, "--side", side, "--steps", str(stage.steps), "--batch", str(stage.batch_size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def main(subject: Subject, file: str, about: str | None, words: Sequence[str]) -> None:
    """Measure both in turn, or with ``--side`` one here."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args(words)
    stage = subject.stage.model_validate(
        {"method": subject.name, "steps": arguments.steps, "batch_size": arguments.batch}
    )
    if arguments.side:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_measure(subject, arguments.side, stage, Path(folder))))
        return
    facts = machine("torch", "transformers", "trl", "peft")
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(arguments.repeats):
        for side in SIDES:
            runs[side].append(_apart(file, side, stage))
    spent = {side: [Spent(run["wall"], run["cpu"]) for run in side_runs] for side, side_runs in runs.items()}
    ours, bare = (spent[side] for side in SIDES)
    peaks = {side: max(run["peak"] for run in side_runs) / 2**20 for side, side_runs in runs.items()}
    rows = [[side, *(summary(spent[side])[key] for key in ("median", "least", "most", "median_cpu"))] for side in SIDES]
    print(table(["seconds a step", "median", "least", "most", "cpu"], rows))
    memory = peaks[SIDES[0]] / peaks[SIDES[1]]
    print(f"\nratio to bare TRL: {ratio(ours, bare)}; peak memory {memory:.3f} ({peaks[SIDES[0]]:.0f} MiB)")
    save(
        RESULTS / f"{subject.name}.json",
        {
            "machine": facts,
            "settings": {
                "steps": arguments.steps,
                "batch": arguments.batch,
                "threads": 1,
                "repeats": arguments.repeats,
            },
            "seconds_a_step": {side: summary(spent[side]) for side in SIDES},
            "ratio": ratio(ours, bare),
            "peak_mib": {side: round(peak, 1) for side, peak in peaks.items()},
            "peak_ratio": round(memory, 3),
        },
    )
