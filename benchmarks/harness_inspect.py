"""inspect_ai's side of the harness benchmark: ``python harness_inspect.py URL CONNECTIONS TUNED < prompts.json``.

Prints the seconds that ``eval`` took, scoring included; imports and the making of samples are not in them. ``TUNED`` is
1 or 0: no display, no logging of every sample as it comes, and a score without a model.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

url, connections, tuned = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"
os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url, "INSPECT_DISPLAY": "none"}

from inspect_ai import Task, eval  # noqa: A004, E402
from inspect_ai.dataset import MemoryDataset, Sample  # noqa: E402
from inspect_ai.model import GenerateConfig  # noqa: E402
from inspect_ai.scorer import Score, accuracy, scorer  # noqa: E402
from inspect_ai.solver import generate, system_message  # noqa: E402


@scorer(metrics=[accuracy()])
def same_json():  # type: ignore[no-untyped-def]
    async def score(state, target):  # type: ignore[no-untyped-def]
        return Score(value="C" if json.loads(state.output.completion) == json.loads(target.text) else "I")

    return score


given = json.load(sys.stdin)
samples = [Sample(input=prompt["text"], target=json.dumps(prompt["reference"])) for prompt in given["prompts"]]
task = Task(
    dataset=MemoryDataset(samples), solver=[system_message(given["system"]), generate()], scorer=same_json(),
    config=GenerateConfig(temperature=0.0, max_tokens=32, seed=0),
)  # fmt: skip
settings = {"max_connections": connections, "log_realtime": False, "log_samples": True} if tuned else {}
with tempfile.TemporaryDirectory() as logs:
    begin = time.perf_counter()
    (log,) = eval(task, model="openai/gpt-stub", log_dir=logs, display="none", **settings)
    seconds = time.perf_counter() - begin
assert log.status == "success", log.error
assert log.results is not None
assert log.results.completed_samples == len(samples)
print(json.dumps({"seconds": seconds}))
