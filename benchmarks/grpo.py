"""A step of GRPO: ours beside a bare TRL script with the same model, settings, prompts and reward.

Both train the adtech kit's base model (135 million weights) on the kit's generated prompts, each in a process of its
own, in turn. Both reward by our rubric function, so that only sampling and the pass through the model differ. Seconds a
step are of the clock and of the processor, without loading and without the first step; ours hold the greedy answers to
the prompts that are set aside.
Peak memory is the process's largest resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, WORK, Spent, machine, save, table

from modelsmith.diagnosis.generate import possible_rows
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.training import Grpo, Lora
from modelsmith.schema.training_row import Prompt
from modelsmith.substrates.base_models import ResolvedModel, resolve
from modelsmith.training.rows import read_rows, write_rows

CLUSTER = "rtb-pricing"
GOALS = {"step": 0.7, "memory": 1.0}
SUBJECTS = ("ours", "bare TRL")


def settings(steps: int) -> Grpo:
    """As FINDINGS' run: 4 prompts of 8 answers, at most 28 tokens."""
    return Grpo(
        method="grpo", steps=steps, batch_size=32, group_size=8, max_completion_tokens=28, schedule="constant",
        lora=Lora(rank=16, alpha=32), checkpoint_every=1000, watch_every=4,
    )  # fmt: skip


def governed_kit() -> tuple[GovernedSet, ResolvedModel]:
    """The kit's eval set, and its base model, converted once."""
    files = WorkTree(ROOT)
    cluster = load_cluster(files, CLUSTER)
    return load_eval_set(files, cluster.eval_set), resolve(cluster.base_model, ROOT, WORK / "models")


def prompts(governed: GovernedSet, path: Path) -> None:
    """The kit's own training prompts."""
    write_rows(path, possible_rows(governed, 96, 17)[:96])


def ours(folder: Path, steps: int) -> list[Spent]:
    """Clock and processor at the end of each step."""
    from modelsmith.fleet.folder import JOB_FILE, write_json
    from modelsmith.training import worker
    from modelsmith.training.job import Inputs, JobFile, TrainJob, place
    from modelsmith.training.signs import Signs

    ends: list[Spent] = []
    end = Signs.on_step_end

    def on_step_end(self: Signs, *words: Any, **named: Any) -> None:
        end(self, *words, **named)
        ends.append(Spent(time.monotonic(), time.process_time()))

    Signs.on_step_end = on_step_end  # type: ignore[method-assign]

    governed, base = governed_kit()
    rows = folder / "rows.jsonl"
    job = TrainJob(
        base=base.digest, parent=None, rows=file_digest(rows), system=governed.evalset.prompt.system,
        training=settings(steps), rubric=governed.rubric,
    )  # fmt: skip
    target = folder / "job"
    target.mkdir()
    write_json(target / JOB_FILE, JobFile(identity=job.identity(), job=job))
    place(target, job, Inputs(rows))
    if worker.main(target, base.folder, threading.Event()) != 0:
        raise RuntimeError((target / "error.json").read_text())
    return ends


def bare(folder: Path, steps: int) -> list[Spent]:
    """The same by TRL alone."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from modelsmith.evaluation.reward import Sampled, rewards

    governed, base = governed_kit()
    own_settings, system = settings(steps), governed.evalset.prompt.system
    rows = read_rows(folder / "rows.jsonl", Prompt)
    tokenizer = AutoTokenizer.from_pretrained(str(base.folder), padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(str(base.folder))
    ends: list[Spent] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(Spent(time.monotonic(), time.process_time()))

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return rewards(
            governed.rubric,
            [
                Sampled(completion[0]["content"], False, json.loads(due))
                for completion, due in zip(completions, answer, strict=True)
            ],
        )

    def turns(row: Prompt) -> list[dict[str, str]]:
        rows = [{"role": message.role, "content": message.content} for message in row.messages]
        return [{"role": "system", "content": system}, *rows]

    GRPOTrainer(
        model=model,
        reward_funcs=[reward],
        args=GRPOConfig(
            output_dir=str(folder / "out"), max_steps=steps, per_device_train_batch_size=own_settings.batch_size,
            num_generations=own_settings.group_size, max_completion_length=own_settings.max_completion_tokens,
            learning_rate=own_settings.learning_rate, loss_type=own_settings.loss,
            scale_rewards=own_settings.scale_rewards, beta=own_settings.beta,
            use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", report_to="none",
            logging_strategy="no", disable_tqdm=True, seed=own_settings.seed,
        ),
        train_dataset=Dataset.from_list([{"prompt": turns(row), "answer": row.answer} for row in rows]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    ).train()  # fmt: skip
    return ends


def measured(subject: str, rows: Path, steps: int) -> dict[str, Any]:
    """One side in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "rows.jsonl").write_bytes(rows.read_bytes())
        words = [sys.executable, __file__, "--alone", subject, "--folder", name, "--steps", str(steps)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return dict(json.loads((Path(name) / "found.json").read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--alone", choices=SUBJECTS)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.alone:
        ends = (ours if arguments.alone == "ours" else bare)(arguments.folder, arguments.steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        steps = len(ends) - 1
        figures = {
            "step": (ends[-1].wall - ends[0].wall) / steps,
            "cpu": (ends[-1].cpu - ends[0].cpu) / steps,
            "peak_mib": peak,
        }
        (arguments.folder / "found.json").write_text(json.dumps(figures))
        return
    facts = machine("torch", "transformers", "trl", "peft")
    rows = WORK / "grpo-rows.jsonl"
    prompts(governed_kit()[0], rows)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SUBJECTS}
    for _ in range(arguments.repeats):
        for name in SUBJECTS:
            runs[name].append(measured(name, rows, arguments.steps))
    step = {name: statistics.median(run["step"] for run in own_runs) for name, own_runs in runs.items()}
    cpu = {name: statistics.median(run["cpu"] for run in own_runs) for name, own_runs in runs.items()}
    peak = {name: max(run["peak_mib"] for run in own_runs) for name, own_runs in runs.items()}
    rows_shown = [(name, f"{step[name]:.2f}", f"{cpu[name]:.2f}", f"{peak[name]:.0f}") for name in SUBJECTS]
    print(table(("a step", "clock s", "processor s", "peak MiB"), rows_shown))
    kinds = (("step", step), ("cpu", cpu), ("memory", peak))
    ratios = {kind: round(by_side["ours"] / by_side["bare TRL"], 3) for kind, by_side in kinds}
    print(f"\nratio to bare TRL: step {ratios['step']}, processor {ratios['cpu']}, memory {ratios['memory']}")
    goal = {**GOALS, "met": all(ratios[kind] <= limit for kind, limit in GOALS.items())}
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    save(
        RESULTS / "grpo.json",
        {"machine": facts, "threads": threads, "steps": arguments.steps, "runs": runs, "ratio": ratios, "goal": goal},
    )


if __name__ == "__main__":
    main()
