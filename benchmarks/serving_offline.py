"""vLLM's own offline side of the serving benchmark, run by the Python of vLLM's environment.

``python serving_offline.py MODEL DTYPE REPEATS ANSWER < given.json`` loads the model as the server does, answers a few
conversations unmeasured and then all of them so many times. The file ANSWER gets the seconds of each time, and the
texts and tokens of the last; standard output is vLLM's own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    model, dtype, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
    request = json.load(sys.stdin)
    engine = LLM(
        model=model, dtype=dtype, generation_config="vllm", enforce_eager=request["eager"], enable_prefix_caching=True
    )
    settings = SamplingParams(temperature=0.0, max_tokens=request["max_new_tokens"], seed=0)
    engine.chat(request["conversations"][:4], settings, use_tqdm=False)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        replies = engine.chat(request["conversations"], settings, use_tqdm=False)
        seconds.append(time.perf_counter() - begin)
    outputs = [reply.outputs[0] for reply in replies]
    tokens = sum(len(output.token_ids) for output in outputs)
    answer = {"seconds": seconds, "tokens": tokens, "texts": [output.text for output in outputs]}
    Path(sys.argv[4]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
