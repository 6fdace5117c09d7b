"""One process of a run of the suite imports what trainings need; the processes of `warm_workers` begin as its forks.

Each worker of the suite has such a process of its own, and its imports take seconds. The one that has done them starts
when first asked for, and ends when the run has ended, however that comes about.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

FOLDER = "NURSERY"
"""Names the folder in which the run's processes that fork listen; it is this user's alone."""
READY = b"ready\n"
_METHODS = ("sft", "dpo", "grpo")
_MOST = 1024
_started: list[subprocess.Popen[bytes]] = []


@contextmanager
def nursery() -> Iterator[None]:
    """While this lasts, `begin` finds one process, here and in the workers of this run."""
    folder = tempfile.mkdtemp()
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER]
        shutil.rmtree(folder, ignore_errors=True)  # what listens there takes its own files away meanwhile


def begin(module: str, *files: int) -> None:
    """A process in a session of its own that calls this module's ``serve``; these are its files 0, 1 and so on."""
    folder = Path(os.environ[FOLDER])
    address = folder / "address"
    with FileLock(folder / "lock"):
        if not address.exists():
            _start(address)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        socket.send_fds(connection, [module.encode()], files)
        assert connection.recv(1), "the process that forks has ended"


def _start(address: Path) -> None:
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    process = subprocess.Popen(
        [sys.executable, __file__, str(address), str(run)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=address.parent,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # a fork waits for ever for the threads of its parent
    )
    _started.append(process)  # else its end would be missed when nothing names it any more
    assert process.stdout
    assert process.stdout.readline() == READY


def serve(address: Path, run: int) -> None:
    """Fork for each that asks, until the run is gone."""
    import_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        listening.settimeout(1)
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()
        while address.exists() and _is_there(run):
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                connection.setblocking(True)
                module, files, _, _ = socket.recv_fds(connection, _MOST, 8)
                if os.fork() == 0:
                    _become(module.decode(), files)
                for file in files:
                    os.close(file)
                connection.sendall(b"1")


def import_all() -> None:
    """What a training imports."""
    from warm import leave_finalizers_behind, use_huge_pages

    from modelsmith.training.worker import load

    for method in _METHODS:
        load(method)  # type: ignore[arg-type]
    gc.collect()
    gc.freeze()
    leave_finalizers_behind()
    use_huge_pages()


def _become(module: str, files: list[int]) -> None:
    from warm import inherit, leave_with

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    inherit(*files)
    leave_with(importlib.import_module(module).serve)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
