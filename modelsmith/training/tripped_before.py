"""Whether a training was ended by a tripwire before: the same job would end there again, so no worker is started."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from modelsmith.fleet.folder import ERROR_FILE, HEARTBEAT_FILE, lines_since
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.training import Grpo, Stage
from modelsmith.training.job import WorkerError, heartbeats
from modelsmith.training.measures import tripped


def tripped_before(folder: Path, training: Stage) -> WorkerError | None:
    """How the job in this folder ended, where a tripwire ended it and would by today's rule; None otherwise.

    ``error.json`` alone does not count: what the steps measured is judged again, so that a rule that has become
    milder lets the training go on.
    """
    if not isinstance(training, Grpo):
        return None
    try:
        ended = WorkerError.model_validate_json(read_plain(folder / ERROR_FILE))
    except (OSError, ValidationError):
        return None
    beats = heartbeats(lines_since(folder / HEARTBEAT_FILE, 0)[0])
    history = {beat.step: beat.measures for beat in beats if beat.measures}
    trip = tripped(history, training.tripwires)
    if ended.failure != "tripped" or trip is None:
        return None
    return WorkerError(failure="tripped", message=trip.reason[:500], mend=trip.mend)
