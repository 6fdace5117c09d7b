"""How long a training will take, by what trainings of the same kind took in this clone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from modelsmith.fleet.folder import HEARTBEAT_FILE, JOB_FILE, lines_since
from modelsmith.schema.plain_file import read_plain
from modelsmith.training.job import JobFile, TrainJob, heartbeats

FOLDERS = (
    *("iterations/*/job", "iterations/*/stage-*/job", "trained/*/job"),
    *("iterations/*/try-*/job", "iterations/*/try-*/stage-*/job"),
)
"""Where a cluster's jobs lie, within its private folder."""


def expected_seconds(cluster_folder: Path, job: TrainJob) -> float | None:
    """Seconds of the job's steps at the median speed of the newest job of its kind; None where there was none.

    Of its kind is what has the same base model, held in memory alike, method, batch size and adapter. The start of the
    worker and, for DPO, the reference come on top.
    """
    files = [path for folder in FOLDERS for path in cluster_folder.glob(f"{folder}/{HEARTBEAT_FILE}")]
    for path in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            other = JobFile.model_validate_json(read_plain(path.with_name(JOB_FILE))).job
        except (OSError, ValidationError):
            continue
        beats = heartbeats(lines_since(path, 0)[0])
        steps = [b.seconds - a.seconds for a, b in pairwise(beats) if b.step == a.step + 1 and b.seconds > a.seconds]
        if _kind(other) == _kind(job) and steps:
            return median(steps) * job.training.steps
    return None


def _kind(job: TrainJob) -> tuple[object, ...]:
    return job.base, job.training.load_in_4bit, job.training.method, job.training.batch_size, job.training.lora
