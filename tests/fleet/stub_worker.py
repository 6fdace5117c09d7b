"""A worker that counts: ``job.json`` says how far and what befalls it. It works as a real one does, in a moment."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from modelsmith.fleet.folder import HEARTBEAT_FILE, JOB_FILE, RESULT_FILE, lines_since, listing, say, write_json
from modelsmith.fleet.worker import STOPPED, alone, follow_lifeline
from modelsmith.schema.base import Frozen


class Beat(Frozen):
    step: int


class Result(Frozen):
    steps: int
    files: dict[str, str]


def work(folder: Path, stop: threading.Event) -> int:
    if os.environ.get("RANK", "0") != "0":  # of several that work together the first alone counts
        stop.wait()
        return STOPPED
    job = json.loads((folder / JOB_FILE).read_bytes())
    with alone(folder), (folder / "trace").open("a", buffering=1) as trace:
        trace.write("in\n")
        for step in range(len(lines_since(folder / HEARTBEAT_FILE, 0)[0]) + 1, job["steps"] + 1):
            say(folder, Beat(step=step))
            if step == job.get("dies_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            if stop.wait(job.get("seconds_a_step", 0.0)):
                return STOPPED
        output = folder / "made"
        output.mkdir(exist_ok=True)
        (output / "count.txt").write_text(str(job["steps"]))
        write_json(
            folder / RESULT_FILE,
            Result(steps=job["steps"], files={f"made/{name}": digest for name, digest in listing(output).items()}),
        )
        for name, text in job.get("afterwards", {}).items():
            (folder / name).write_text(text)
        trace.write("out\n")
    return 0


if __name__ == "__main__":
    asked = threading.Event()
    follow_lifeline(asked)
    sys.exit(work(Path(sys.argv[1]), asked))
