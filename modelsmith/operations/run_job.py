"""The process of a job: runs the operation as the command line would, notes what came of it, and starts the next."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Set
from pathlib import Path
from types import FrameType
from typing import NoReturn

from modelsmith.fleet.job_records import CANCELLED
from modelsmith.fleet.jobs import LOG, PROGRESS, ROLE, Job, Jobs
from modelsmith.loop.running import noting_in
from modelsmith.operations.table import find
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit, InvalidInput, ModelsmithError
from modelsmith.schema.progress import Progress
from modelsmith.schema.system import known_failures
from modelsmith.signing.files import write_atomically

SAY_EVERY = 5.0
"""Seconds between two lines of the log about one piece of work."""
TRACE = "trace"
"""File of the job's folder with what nobody foresaw; the log is an agent's to read, and this is not."""


def main(private: str, id: str) -> None:
    """Run the job; whatever happens to it is noted, except a kill."""
    jobs = Jobs(Path(private))
    signal.signal(signal.SIGTERM, _stop)
    try:
        job = jobs.begin(id)
        if job is None:
            return
        code, result, error = _run(Path(private, job.submitted.root), job)
    except KeyboardInterrupt:
        code, result, error = CANCELLED, None, None
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    jobs.end(id, code, result, error)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _run(root: Path, job: Job) -> tuple[int, dict[str, object] | None, dict[str, object] | None]:
    log = _Log(job.folder / LOG)
    try:
        with known_failures():
            verb = find(job.submitted.operation).load()
            request = verb.request.model_validate_json(json.dumps(job.submitted.arguments))
            workspace = noting_in(Workspace.find(root, log, os.environ.get(ROLE)), job.folder / PROGRESS)
            _require_asked(job, request.calls(workspace))
            result = verb.run(workspace, request)
        return int(result.exit_code()), result.model_dump(mode="json", by_alias=True), None
    except ModelsmithError as error:
        answer: dict[str, object] = error.envelope() | {"next": error.next and error.next.model_dump(mode="json")}
        return int(error.exit), None, answer
    except Exception as error:
        write_atomically(job.folder / TRACE, "".join(traceback.format_exception(error)).encode())
        mend = f"Tell a person: {TRACE} in the job's folder says what it was."
        return int(Exit.BUG), None, {"code": "bug", "message": "An error that nobody foresaw.", "mend": mend}


def _require_asked(job: Job, calls: Set[str]) -> None:
    """Refuse calls that the job did not make when it was asked for: main may have changed while it waited."""
    if new_calls := sorted(calls - set(job.submitted.calls)):
        raise InvalidInput(
            "outside-role",
            f"{job.submitted.operation} would call {', '.join(new_calls)}, which it did not when it was asked for",
            "Ask for it again.",
        )


class _Log:
    """Signs of life as lines of the job's log, now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.total and progress.done < progress.total and now - self._last.get(progress.phase, 0.0) < SAY_EVERY:
            return
        self._last[progress.phase] = now
        self.write(json.dumps(progress._asdict()) + "\n")

    def write(self, text: str) -> None:
        """Add to the log."""
        with self._path.open("a") as file:
            file.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
