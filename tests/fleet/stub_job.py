"""Stands in for a job's process: notes when it was at work and as whom, and dies where its arguments say."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from modelsmith.fleet import jobs as of_jobs

RAN = "ran.jsonl"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def main(private, id):
    of_jobs._RUNNER = "stub_job"
    jobs = of_jobs.Jobs(Path(private))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    job = jobs.begin(id)
    if job is None:
        return
    arguments = job.submitted.arguments
    began = time.time()
    while "until" in arguments and not Path(private, arguments["until"]).exists():
        time.sleep(0.02)
    if arguments.get("dies") == "at work":
        die()
    time.sleep(arguments.get("seconds", 0))
    about = {"id": id, "began": began, "ended": time.time(), "cluster": job.submitted.cluster, "pid": os.getpid()}
    line = json.dumps(about | {"role": os.environ.get(of_jobs.ROLE), "home": os.environ["MODELSMITH_HOME"]})
    with Path(private, RAN).open("a") as file:
        file.write(line + "\n")
    if arguments.get("dies") == "before it says so":
        die()
    if arguments.get("dies") == "after it says so":
        of_jobs.Jobs.go_on = lambda self: die()
    jobs.end(id, 0, {"number": arguments.get("number", 0)}, None)
    time.sleep(arguments.get("lingers", 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
