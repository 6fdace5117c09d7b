"""Runs a worker as several processes that do one job together: ``start.py modelsmith.fleet.ranks N MODULE WORDS``.

Each is a rank. It is told its number and how many there are by the variables that PyTorch and accelerate read, and
where they meet by a file that nobody else may open: so no port is opened for that, as torchrun opens one to every
network. The file lies in the job's folder, so it goes with that; what a launcher that was killed left there, the next
one takes away.

One ends, all end. What this process ends with is what the job's supervisor hears: rank 0's own end, or the signal that
ended a rank. The lifeline is handed on: when this process's standard input closes, or it is killed, so do the ranks'.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from modelsmith.fleet import start
from modelsmith.fleet.folder import ERROR_FILE
from modelsmith.fleet.held import is_held
from modelsmith.fleet.worker import STOPPED

MEETING = "MODELSMITH_RANKS_MEET"
"""Variable with the file by which the ranks of one worker find each other."""
_PLACE = ".ranks-"
"""Of a job's folder: how the folder of a launcher's meeting begins. Hidden, so it goes to no other machine."""
_ENDING = 30.0
"""Seconds that the other ranks have to end when rank 0 has ended well."""
_LOOK = 0.1
_SETTLE = 0.5
"""Seconds after a rank's failure in which another's may turn out to have been the cause."""


def main(count: int, module: str, arguments: Sequence[str]) -> int:
    """Run the module as so many ranks; the exit status. ``arguments`` are the worker's, its job's folder first."""
    with _meeting(Path(arguments[0])) as meeting:
        ranks = [_start(rank, count, meeting, module, arguments) for rank in range(count)]
        try:
            _hand_on_lifeline(ranks)
            status = _outcome(ranks)
        finally:
            for process in ranks:
                process.kill()
            for process in ranks:
                process.wait()
    if status < 0:
        (Path(arguments[0]) / ERROR_FILE).unlink(missing_ok=True)  # what another rank says of the one that it has lost
        os.kill(os.getpid(), -status)
    return status


@contextmanager
def _meeting(job: Path) -> Iterator[Path]:
    """A file for this launcher's ranks. Its folder is held as long as the launcher lives, and so tells who was killed.

    Several launchers may be in one job's folder: the ranks of the second wait for those of the first.
    """
    with FileLock(job / f"{_PLACE}lock"):
        for leftover in job.glob(f"{_PLACE}*/"):
            if not is_held(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_PLACE, dir=job))
        folder_lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(folder_lock, fcntl.LOCK_EX)
    try:
        yield folder / "meeting"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(folder_lock)


def _start(rank: int, count: int, meeting: Path, module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    variables = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        MEETING: str(meeting), "OMP_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-P", start.__file__, module, *arguments], stdin=subprocess.PIPE, env=os.environ | variables
    )


def _hand_on_lifeline(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        for rank in ranks:
            assert rank.stdin
            rank.stdin.close()

    threading.Thread(target=wait, daemon=True).start()


def _outcome(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until the job is over, with whatever end, and say how; what still runs then is of no use.

    Negative: the signal that ended a rank.
    """
    while True:
        first, *others = [rank.poll() for rank in ranks]
        if first in (0, STOPPED):
            _await(ranks[1:])
            return first
        if first is not None or any(status not in (None, 0, STOPPED) for status in others):
            break
        time.sleep(_LOOK)
    time.sleep(_SETTLE)
    ended = [status for rank in ranks if (status := rank.poll()) is not None]
    failed = [status for status in ended if status not in (0, STOPPED)]
    return min(failed, default=1)


def _await(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + _ENDING
    while time.monotonic() < until and any(rank.poll() is None for rank in ranks):
        time.sleep(_LOOK)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
