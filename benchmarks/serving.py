"""Tokens a second of the vLLM server through our substrate, beside vLLM's own offline ``LLM.chat``; and what flips.

Same prompts of the adtech eval set, same limit, greedy, same dtype; both keep their prefix cache between repeats. Goal:
0.9 of the offline figure. Then the rubric's verdicts of the same prompts by other engines, batch sizes and dtypes,
compared with the server's: the share of prompts whose text differs, and whose verdict on any rubric point differs.

``--adapter FOLDER`` asks an adapter instead of the base model, whose verdicts are all alike; the offline side is then
left out. Each engine runs alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import RESULTS, ROOT, machine, save, table

from modelsmith.evaluation.prompts import Sample, plan
from modelsmith.evaluation.scoring import score_completion
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.substrates.base_models import resolve
from modelsmith.substrates.local import TransformersSubstrate
from modelsmith.substrates.port import Substrate
from modelsmith.substrates.vllm.environment import find_python, vllm_environment
from modelsmith.substrates.vllm.server import BASE, VllmServer, adapter_rank
from modelsmith.substrates.vllm.substrate import ServedModel

GOAL = 0.9
SMALL_BATCH = 4


class Answers(NamedTuple):
    """What one engine made of all prompts."""

    speeds: list[float]
    """Tokens a second of each repeat."""
    texts: list[str]
    """In the order of the prompts."""


def measured_answers(substrate: Substrate, governed: GovernedSet, samples: Sequence[Sample], repeats: int) -> Answers:
    """Answers through our port; a few prompts are asked before the clock runs."""
    system, sampling = governed.evalset.prompt.system, governed.evalset.sampling
    prompts = [ask.prompt() for ask in samples]
    list(substrate.complete(prompts[:4], system, sampling))
    speeds, texts = [], {}
    for _ in range(repeats):
        begin = time.perf_counter()
        completions = list(substrate.complete(prompts, system, sampling))
        speeds.append(sum(completion.completion_tokens for completion in completions) / (time.perf_counter() - begin))
        texts = {completion.key: completion.text for completion in completions}
    return Answers(speeds, [texts[prompt.key] for prompt in prompts])


def offline(model: Path, governed: GovernedSet, samples: Sequence[Sample], repeats: int, dtype: str) -> Answers:
    """vLLM's own loop, in a process of its environment."""
    system = {"role": "system", "content": governed.evalset.prompt.system}
    request = {
        "conversations": [[system, *(m.model_dump() for m in ask.prompt().messages)] for ask in samples],
        "max_new_tokens": governed.evalset.sampling.max_new_tokens,
        "eager": dtype == "float32",
    }
    script = Path(__file__).with_name("serving_offline.py")
    with tempfile.TemporaryDirectory() as folder:
        answer_file = Path(folder) / "answer.json"
        process = subprocess.run(
            [str(find_python()), "-P", str(script), str(model), dtype, str(repeats), str(answer_file)],
            input=json.dumps(request), capture_output=True, text=True, check=False, env=vllm_environment(), cwd=folder,
        )  # fmt: skip
        if process.returncode:
            raise SystemExit(f"vLLM's offline engine failed:\n{process.stderr[-2000:]}")
        answer = json.loads(answer_file.read_text(encoding="utf-8"))
    return Answers([answer["tokens"] / seconds for seconds in answer["seconds"]], answer["texts"])


def server(
    model: Path, adapter: Path | None, ask: Callable[[Substrate], Answers], dtype: str | None, sequences: int | None
) -> Answers:
    """Our substrate on a server with these settings."""
    rank = adapter_rank(adapter) if adapter else None
    with (
        tempfile.TemporaryDirectory() as folder,
        VllmServer(model, Path(folder) / "log", rank=rank, dtype=dtype, sequences=sequences) as running,
    ):
        name = running.load_adapter(adapter, file_digest(adapter / "adapter_model.safetensors")) if adapter else BASE
        substrate = ServedModel(running, name)
        try:
            return ask(substrate)
        finally:
            substrate.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=120, help="So many prompts, spread over core and held-out.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--adapter", type=Path, help="Ask this LoRA adapter of the cluster's base model.")
    arguments = parser.parse_args()
    facts = machine("torch", "transformers")
    tree = WorkTree(ROOT)
    cluster = load_cluster(tree, "rtb-pricing")
    governed = load_eval_set(tree, cluster.eval_set)
    model = resolve(cluster.base_model, ROOT, Workspace(ROOT).models).folder
    every = plan(governed, ("core", "held_out"), quick=False)
    samples = every[:: max(1, len(every) // arguments.prompts)][: arguments.prompts]

    def ask(substrate: Substrate, repeats: int = 1) -> Answers:
        return measured_answers(substrate, governed, samples, repeats)

    probe = VllmServer(model, Path("unused"))
    facts["versions"]["vllm"] = probe.facts.version
    answers_by_engine: dict[str, Answers] = {}
    name = f"vLLM server, {probe.facts.dtype}"
    answers_by_engine[name] = server(
        model, arguments.adapter, lambda engine_: ask(engine_, arguments.repeats), None, None
    )
    if arguments.adapter is None:
        answers_by_engine["vLLM offline"] = offline(model, governed, samples, arguments.repeats, probe.facts.dtype)
    answers_by_engine[f"vLLM server, batches of {SMALL_BATCH}"] = server(
        model, arguments.adapter, ask, None, SMALL_BATCH
    )
    other = "float32" if probe.facts.dtype == "bfloat16" else "bfloat16"
    answers_by_engine[f"vLLM server, {other}"] = server(model, arguments.adapter, ask, other, None)
    local = TransformersSubstrate(model, arguments.adapter)
    answers_by_engine[f"transformers, {local.facts.dtype}"] = ask(local)
    local.close()
    report(facts, governed, samples, answers_by_engine, name, arguments.adapter is not None)


def report(
    facts: dict[str, Any],
    governed: GovernedSet,
    samples: Sequence[Sample],
    answers_by_engine: dict[str, Answers],
    name: str,
    adapter: bool,
) -> None:
    """Print the table and write the result file."""
    verdicts = {
        engine: [
            score_completion(governed.rubric, ask.scenario, text)[0]
            for ask, text in zip(samples, answers.texts, strict=True)
        ]
        for engine, answers in answers_by_engine.items()
    }
    figures = {
        engine: {
            "tokens_per_second": round(statistics.median(answers.speeds), 2),
            "runs": [round(speed, 2) for speed in answers.speeds],
            "texts_differ": share(answers.texts, answers_by_engine[name].texts),
            "verdicts_differ": share(verdicts[engine], verdicts[name]),
            "passed": round(sum(all(points.values()) for points in verdicts[engine]) / len(samples), 3),
        }
        for engine, answers in answers_by_engine.items()
    }
    bare = figures.get("vLLM offline")
    ratio = round(figures[name]["tokens_per_second"] / bare["tokens_per_second"], 3) if bare else None
    result = {
        "machine": facts,
        "prompts": len(samples),
        "adapter": adapter,
        "engines": figures,
        "ratio_to_offline": ratio,
        "goal": {"ratio_at_least": GOAL, "met": ratio is not None and ratio >= GOAL},
    }
    save(RESULTS / ("serving-adapter.json" if adapter else "serving.json"), result)
    header = ("engine", "tokens/s", "texts differ", "verdicts differ", "pass")
    print(table(header, [(engine, *(f[k] for k in FIELDS)) for engine, f in figures.items()]))
    print(f"\n{len(samples)} prompts" + (f"; ratio to vLLM offline: {ratio}" if ratio else ""))


FIELDS = ("tokens_per_second", "texts_differ", "verdicts_differ", "passed")


def share(first: Sequence[object], other: Sequence[object]) -> float:
    """Share of places in which the two differ."""
    return round(sum(a != b for a, b in zip(first, other, strict=True)) / len(first), 3)


if __name__ == "__main__":
    main()
