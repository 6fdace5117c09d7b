"""Time and memory of a DPO step, beside a bare TRL script with the same base model, settings, pairs and order of pairs.

Each side is a process of its own. A step counts what the side needs before the first one, too: the reference that ours
computes once, TRL's tokenising. The pairs are made of the adtech kit's generators: the right answer, and as rejected
the right answer to another generator's row. The bare script gives TRL conversations and lets it do the rest; where
ours goes on from a parent's adapter, so does the script.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, Spent, machine, ratio, save, summary, table

from modelsmith.diagnosis.generate import prompts_for_all
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.training import Dpo
from modelsmith.schema.training_row import PreferencePair
from modelsmith.substrates.base_models import resolve

SIDES = ("modelsmith", "bare TRL")


def pairs(count: int) -> list[PreferencePair]:
    """The same pairs on both sides."""
    tree = WorkTree(ROOT)
    governed = load_eval_set(tree, load_cluster(tree, "rtb-pricing").eval_set)
    prompts = prompts_for_all(governed, count, 17)
    others = {one.generator: one.answer for one in prompts}
    return [
        PreferencePair(
            messages=one.messages,
            chosen=one.answer,
            rejected=next(answer for name, answer in others.items() if name != one.generator),
            source="generator",
            generator=one.generator,
            points=one.points,
            rubric=one.rubric,
        )
        for one in prompts
    ]


def measure(side: str, stage: Dpo, folder: Path) -> dict[str, float]:
    """Train on one side, in this process."""
    import torch

    from modelsmith.training import run as training_run

    torch.set_num_threads(1)
    tree = WorkTree(ROOT)
    cluster = load_cluster(tree, "rtb-pricing")
    system = load_eval_set(tree, cluster.eval_set).evalset.prompt.system
    workspace = Workspace(ROOT)
    base = resolve(cluster.base_model, workspace.root, workspace.models, workspace.models_memory)
    rows = pairs(stage.steps * stage.batch_size)
    build = _ours if side == SIDES[0] else _bare
    trainer, begin, cpu = build(stage, rows, system, base, folder, training_run)
    trainer.train()
    wall, spent = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": wall / stage.steps, "cpu": spent / stage.steps, "peak": peak}


def _ours(stage: Dpo, rows: list[PreferencePair], system: str, base: Any, folder: Path, run: Any) -> Any:
    from modelsmith.schema.canonical import file_digest
    from modelsmith.training import dpo
    from modelsmith.training.job import ROWS_INPUT, TrainJob
    from modelsmith.training.rows import write_rows
    from modelsmith.training.signs import Signs

    write_rows(folder / ROWS_INPUT, rows)
    digest = file_digest(folder / ROWS_INPUT)
    job = TrainJob(base=base.digest, parent=None, rows=digest, system=system, training=stage)
    bench = run._bench(folder, job, base.folder, Signs(folder, threading.Event()))
    bench.arguments["save_strategy"] = "no"
    begin, cpu = time.perf_counter(), time.process_time()
    return dpo.trainer(bench), begin, cpu


def _bare(stage: Dpo, rows: list[PreferencePair], system: str, base: Any, folder: Path, run: Any) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(str(base.folder), local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(str(base.folder), dtype=torch.float32, local_files_only=True)
    data = Dataset.from_list(
        [
            {
                "prompt": [
                    {"role": "system", "content": system},
                    *({"role": one.role, "content": one.content} for one in row.messages),
                ],
                "chosen": [{"role": "assistant", "content": row.chosen}],
                "rejected": [{"role": "assistant", "content": row.rejected}],
            }
            for row in rows
        ]
    )
    arguments = run._arguments(stage, folder, False) | {"save_strategy": "no"}
    config = DPOConfig(**arguments, max_length=None, beta=stage.beta, loss_type=[stage.loss])
    begin, cpu = time.perf_counter(), time.process_time()
    lora = run._lora(stage.lora, model)
    trainer = DPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=lora)
    return trainer, begin, cpu


def apart(side: str, stage: Dpo) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(stage.steps), "--batch", str(stage.batch_size)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def main(words: Sequence[str]) -> None:
    """Measure both in turn, or with ``--side`` one here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args(words)
    stage = Dpo(method="dpo", steps=asked.steps, batch_size=asked.batch)
    if asked.side:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(asked.side, stage, Path(folder))))
        return
    facts = machine("torch", "transformers", "trl", "peft")
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(asked.repeats):
        for side in SIDES:
            runs[side].append(apart(side, stage))
    spent = {side: [Spent(one["wall"], one["cpu"]) for one in found] for side, found in runs.items()}
    ours, bare = (spent[side] for side in SIDES)
    peaks = {side: max(one["peak"] for one in found) / 2**20 for side, found in runs.items()}
    rows = [[side, *(summary(spent[side])[key] for key in ("median", "least", "most", "median_cpu"))] for side in SIDES]
    print(table(["seconds a step", "median", "least", "most", "cpu"], rows))
    memory = peaks[SIDES[0]] / peaks[SIDES[1]]
    print(f"\nratio to bare TRL: {ratio(ours, bare)}; peak memory {memory:.3f} ({peaks[SIDES[0]]:.0f} MiB)")
    save(
        RESULTS / "dpo.json",
        {
            "machine": facts,
            "settings": {"steps": asked.steps, "batch": asked.batch, "threads": 1, "repeats": asked.repeats},
            "seconds_a_step": {side: summary(spent[side]) for side in SIDES},
            "ratio": ratio(ours, bare),
            "peak_mib": {side: round(peak, 1) for side, peak in peaks.items()},
            "peak_ratio": round(memory, 3),
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:])
