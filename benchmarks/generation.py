"""Tokens a second of the evaluation's own engine, beside a bare transformers ``generate`` loop at its best batch size.

Both answer the same prompts of the adtech eval set with the cluster's base model: greedily, in float32 on a CPU, with
the same limit of new tokens. The bare loop pads to the left, sorts by length as ours does, and runs at batches of 8, 16
and 32; the fastest counts. Tokens are counted up to and with the end token. Loading is not measured, and each side
answers a few prompts before the clock runs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from common import RESULTS, ROOT, Spent, machine, save, table, timed

from modelsmith.evaluation.prompts import plan
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.source import Chat
from modelsmith.substrates.base_models import resolve
from modelsmith.substrates.chat import prompt_ids
from modelsmith.substrates.local import TransformersSubstrate
from modelsmith.substrates.port import Prompt

CLUSTER = "rtb-pricing"
BATCHES = (8, 16, 32)


class Answers(NamedTuple):
    """What one side made of all prompts."""

    spent: Spent
    tokens: int
    texts: dict[str, str]

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.spent.wall


class Bare:
    """The loop that anyone writes with transformers."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
        self.model = model.eval()
        configured = model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.ends = {*ends, self.tokenizer.eos_token_id} - {None}

    def answer(
        self, prompts: Sequence[Prompt], system: str, sampling: Sampling, batch: int
    ) -> tuple[int, dict[str, str]]:
        """Tokens written, and the text for each prompt."""
        encoded = [(prompt_ids(self.tokenizer, prompt.messages, system, Chat()), prompt.key) for prompt in prompts]
        encoded.sort(key=lambda pair: -len(pair[0]))
        tokens, texts = 0, {}
        for start in range(0, len(encoded), batch):
            part = encoded[start : start + batch]
            inputs = self.tokenizer.pad({"input_ids": [ids for ids, _ in part]}, return_tensors="pt")
            with self.torch.inference_mode():
                output = self.model.generate(
                    **inputs,
                    max_new_tokens=sampling.max_new_tokens,
                    do_sample=False,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=sorted(self.ends),
                )
            for (_, key), row in zip(part, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                end = next((i for i, token in enumerate(row) if token in self.ends), len(row))
                tokens += min(end + 1, len(row))
                texts[key] = self.tokenizer.decode(row[:end], skip_special_tokens=True)
        return tokens, texts


def ours(substrate: TransformersSubstrate, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Answers:
    """Our engine's answers."""
    completions: list[Any] = []
    spent = timed(lambda: completions.extend(substrate.complete(prompts, system, sampling)))
    return Answers(
        spent,
        sum(completion.completion_tokens for completion in completions),
        {completion.key: completion.text for completion in completions},
    )


def theirs(bare: Bare, prompts: Sequence[Prompt], system: str, sampling: Sampling, batch: int) -> Answers:
    """The bare loop's answers."""
    answers: list[tuple[int, dict[str, str]]] = []
    spent = timed(lambda: answers.append(bare.answer(prompts, system, sampling, batch)))
    return Answers(spent, *answers[0])


def spread_prompts(governed: GovernedSet, limit: int | None) -> list[Prompt]:
    """All prompts of the set, or ``limit`` of them spread evenly."""
    prompts = [ask.prompt() for ask in plan(governed, SECTIONS, quick=False)]
    return prompts if limit is None else prompts[:: max(1, len(prompts) // limit)][:limit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, help="Use so many prompts, spread over the set; all when not given.")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    facts = machine("torch", "transformers")
    tree = WorkTree(ROOT)
    cluster = load_cluster(tree, CLUSTER)
    governed = load_eval_set(tree, cluster.eval_set)
    folder = resolve(cluster.base_model, ROOT, Workspace(ROOT).models).folder
    prompts, system = spread_prompts(governed, arguments.prompts), governed.evalset.prompt.system
    sampling = governed.evalset.sampling.model_copy(update={"temperature": 0.0})
    substrate, bare = TransformersSubstrate(folder, None), Bare(folder)
    if substrate.facts.device != "cpu":
        raise SystemExit("This benchmark compares float32 on a CPU; hide the GPU with CUDA_VISIBLE_DEVICES=''.")
    subjects = {
        "modelsmith": partial(ours, substrate),
        **{f"generate, batch {size}": partial(theirs, bare, batch=size) for size in BATCHES},
    }
    for call in subjects.values():
        call(prompts[: min(BATCHES)], system, sampling)
    runs: dict[str, list[Answers]] = {name: [] for name in subjects}
    for _ in range(arguments.repeats):
        for name, call in subjects.items():
            runs[name].append(call(prompts, system, sampling))
    report(facts, prompts, sampling, runs)


def report(
    facts: dict[str, Any], prompts: Sequence[Prompt], sampling: Sampling, runs: dict[str, list[Answers]]
) -> None:
    """Print the table and write the result file."""
    reference = runs["modelsmith"][0].texts
    figures: dict[str, dict[str, Any]] = {
        name: {
            "tokens": figures[0].tokens,
            "tokens_per_second": round(statistics.median(run.speed for run in figures), 2),
            "seconds": round(statistics.median(run.spent.wall for run in figures), 3),
            "runs": [round(run.speed, 2) for run in figures],
            "same_text": round(
                sum(figures[0].texts[key] == text for key, text in reference.items()) / len(reference), 3
            ),
        }
        for name, figures in runs.items()
    }
    best = max((name for name in figures if name != "modelsmith"), key=lambda n: figures[n]["tokens_per_second"])
    ratio = round(figures["modelsmith"]["tokens_per_second"] / figures[best]["tokens_per_second"], 3)
    result = {
        "machine": facts,
        "prompts": len(prompts),
        "max_new_tokens": sampling.max_new_tokens,
        "repeats": len(runs["modelsmith"]),
        "engines": figures,
        "best_bare": best,
        "ratio": ratio,
        "goal": {"ratio_at_least": 1.0, "met": ratio >= 1.0},
    }
    save(RESULTS / "generation.json", result)
    rows = [(n, f["tokens"], f["seconds"], f["tokens_per_second"], f["same_text"]) for n, f in figures.items()]
    print(f"{len(prompts)} prompts, at most {sampling.max_new_tokens} new tokens\n")
    print(table(("engine", "tokens", "seconds", "tokens/s", "same text"), rows))
    print(f"\nratio to {best}: {ratio}")


if __name__ == "__main__":
    main()
