"""Commands without the seconds that their imports take.

A process that has imported everything forks for each command; what runs in the fork is what the console script runs,
with arguments, environment, folder and output of its own, and it dies as a process of its own. The training worker of
such a command is a fork of it in turn. Tests that lose a worker, or read what a command prints while it runs, start the
real one.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from filelock import FileLock
from nursery import FOLDER

from modelsmith.fleet.doors import DOORS_WORD, doors_folder
from modelsmith.fleet.executor import Beats, Executor
from modelsmith.fleet.folder import HEARTBEAT_FILE, LOG, is_whole, lines_since
from modelsmith.fleet.hosts import Model, executor_on

_LIBRARIES = (
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.utf_16_be",
    "github",
    "jsonschema",
    "model_signing.signing",
    "rapidfuzz.fuzz",
    "rapidfuzz.process",
    "re2",
)
"""What is imported where it is used first."""
_PATIENCE = 60.0
"""Seconds that the process waits for the one that started it, which may have been killed meanwhile."""


class WarmCommands:
    """Runs ``modelsmith`` commands, one at a time of each worker of the suite.

    The process that forks is one for all workers of a run. It starts with the first command and ends when the last
    worker has ended.
    """

    def __init__(self) -> None:
        self._lifeline: socket.socket | None = None
        self._lock = Lock()

    def run(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Exit status (negative: the signal that ended it), standard output and standard error."""
        return self.run_script("modelsmith", *words, cwd=cwd, environment=environment)

    def run_script(self, *words: str, cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """The same of a Python script, given by its path."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            asked = {"words": words, "cwd": str(cwd), "environment": dict(environment)}
            if self._lifeline is None:
                self._lifeline = _lifeline(environment)
            with _told(asked | {"out": str(out), "err": str(err)}) as server:
                status = int(_line(server))
            return status, out.read_text(), err.read_text()


def _address() -> Path:
    """Where the process of this run listens: in a folder of this run, where nobody else can lay another one."""
    return Path(os.environ[FOLDER]) / "commands"


def lock_of(address: Path) -> Path:
    """What is held by whoever looks for the process, or starts it."""
    return address.with_suffix(".lock")


def _told(what: Mapping[str, object]) -> socket.socket:
    """A connection to the process of this run, which was told this."""
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(str(_address()))
        server.sendall(json.dumps(what).encode() + b"\n")
    except BaseException:
        server.close()
        raise
    return server


def _lifeline(environment: Mapping[str, str]) -> socket.socket:
    """A connection that keeps the process of this run alive; the process is started where there is none."""
    with FileLock(lock_of(_address())):
        with suppress(FileNotFoundError, ConnectionError):
            held = _told({})
            if _line(held):
                return held
        alone = {**environment, "OMP_NUM_THREADS": "1"}  # a fork waits for ever for the threads of its parent
        command = [sys.executable, __file__, str(_address())]
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=alone)
        assert started.stdout
        assert started.stdout.readline() == b"ready\n"
        held = _told({})
        assert _line(held)
        return held


def _line(connection: socket.socket) -> bytes:
    """The next line; what there is of one where the other side has ended."""
    text = b""
    while not text.endswith(b"\n") and (more := connection.recv(1 << 16)):
        text += more
    return text


def serve(address: Path) -> None:
    """Fork for each request and say how the fork ended, until nobody holds a lifeline any more."""
    import modelsmith.loop.training
    import modelsmith.substrates.local
    from modelsmith.training.worker import load

    load("sft")
    modelsmith.loop.training.executor_on = forking_executor
    import_everything()
    running: dict[int, socket.socket] = {}
    lifelines: set[socket.socket] = set()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    address.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(address))
    listening.listen(64)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listening, reader, *lifelines], [], [], None if lifelines else _PATIENCE)
        if reader in ready:
            os.read(reader, 1 << 16)
            tell_ended(running)
        if listening in ready:
            connection, _ = listening.accept()
            asked = json.loads(_line(connection) or b"null")
            if asked == {}:
                lifelines.add(connection)
                connection.sendall(b"here\n")
            elif asked:
                running[fork(asked)] = connection
        ended = lifelines.intersection(ready)
        for lifeline in ended:
            lifelines.remove(lifeline)
            lifeline.close()
        if not lifelines and (ended or not ready):
            for place in (address, lock_of(address)):
                place.unlink(missing_ok=True)
            return


def tell_ended(running: dict[int, socket.socket]) -> None:
    """Say of each fork that has ended how it did, to whoever asked for it."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as connection, suppress(ConnectionError):
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended[1]))


def fork(asked: Mapping[str, Any]) -> int:
    """A fork that does what is asked, and its process's id."""
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        inherit(open_read(os.devnull), open_write(asked["out"]), open_write(asked["err"]))
        if "TRACED" in os.environ:
            runpy.run_path(str(Path(__file__).parent / "traced" / "sitecustomize.py"))
        leave_with(partial(run, asked["words"]))
    return child


def run(words: list[str]) -> None:
    """A command of ours, or a script with its arguments."""
    sys.argv = words
    if words[0] == "modelsmith":
        from modelsmith.cli.main import main

        main()
    runpy.run_path(words[0], run_name="__main__")


def import_everything() -> None:
    """What some command imports or builds when it is called, so that no fork need do it again."""
    for library in _LIBRARIES:
        importlib.import_module(library)

    from machine import hurry_at_github

    import modelsmith.cli
    import modelsmith.operations
    from modelsmith.cli.commands import command_for
    from modelsmith.operations.table import OPERATIONS
    from modelsmith.repository.secrets import first_secret
    from modelsmith.schema.base import Frozen

    hurry_at_github()
    assert first_secret("key, token, secret, pass") is None  # compiles the patterns that most texts are searched for

    for package in (modelsmith.operations, modelsmith.cli):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for operation in OPERATIONS:
        command_for(operation)  # reads the documentation of its fields from the source
    models: list[type[Frozen]] = [Frozen]
    for model in models:
        model.model_rebuild()
        models += model.__subclasses__()
    gc.collect()
    gc.freeze()
    leave_finalizers_behind()
    use_huge_pages()


def leave_finalizers_behind() -> None:
    """What libraries want done when their process ends is for this process to do, and not for each fork.

    Torch takes back each of its registrations, which were two thirds of a short command's processor time. What a fork
    registers itself is done when it ends.
    """
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False


def use_huge_pages() -> None:
    """Put this process's memory into pages of 2 MB where the system can: a fork copies the table of all pages.

    A fork of 460 MB then takes a third of the processor time. It changes nothing that a program sees; systems that
    know no such request refuse it (Linux does before 6.1).
    """
    maps, size, collapse = Path("/proc/self/maps"), 1 << 21, 25
    if not maps.exists():
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in maps.read_text().splitlines():
        place, access, *_, name = [*line.split(maxsplit=5), ""][:6]
        first, end = (int(one, 16) for one in place.split("-"))
        first, end = -(-first // size) * size, end // size * size
        if access == "rw-p" and name in ("", "[heap]") and first < end:
            advise(first, end - first, collapse)


def forking_executor(
    home: Path, hosts: Sequence[str], module: str, models: Sequence[Model], said: Callable[[str], None], devices: int
) -> Executor:
    """Stands in for `fleet.hosts.executor_on` on this machine; several processes are started as they are there."""
    if devices > 1:
        return executor_on(home, hosts, module, models, said, devices)
    return ForkingExecutor(module, *(model.folder for model in models), Path(DOORS_WORD), doors_folder(home))


class ForkingExecutor:
    """`fleet.executor.LocalExecutor`, but that the worker is a fork and not a new interpreter."""

    def __init__(self, module: str, *places: Path) -> None:
        self._module, self._places = module, places

    def submit(self, folder: Path) -> Forked:
        beats_file = folder / HEARTBEAT_FILE
        since = beats_file.stat().st_size if beats_file.exists() else 0
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.chdir(folder)
            sys.argv = [self._module, str(folder), *map(str, self._places)]
            log = open_write(folder / LOG, os.O_APPEND)
            inherit(reader, log, log)
            leave_with(lambda: runpy.run_module(self._module, run_name="__main__"))
        os.close(reader)
        return Forked(child, writer, folder, since)


class Forked:
    """A worker that was forked; see `fleet.executor.Submitted`."""

    def __init__(self, pid: int, lifeline: int, folder: Path, since: int) -> None:
        self._pid, self._lifeline, self._folder, self.since = pid, lifeline, folder, since
        self._status: int | None = None

    def beats(self, since: int, seconds: float) -> Beats:
        status = self._wait(seconds)
        return Beats(*lines_since(self._folder / HEARTBEAT_FILE, since), status)

    def fetch(self) -> bool:
        return is_whole(self._folder)

    def stop(self, grace: float) -> None:
        with suppress(OSError):
            os.close(self._lifeline)
        if self._wait(grace) is None:
            os.killpg(self._pid, 9)
            self._wait(grace)

    def _wait(self, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                break
            else:
                time.sleep(0.005)
        return self._status


def open_read(path: str | Path) -> int:
    return os.open(path, os.O_RDONLY)


def open_write(path: str | Path, how: int = os.O_TRUNC) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o644)


def inherit(*standard: int) -> None:
    """Make these files standard input, output and error, and close every other, as a new program would find it."""
    for number, file in enumerate(standard):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def leave_with(call: Callable[[], object]) -> NoReturn:
    """Call, and end the process as an interpreter would, without going back to what it was forked from."""
    code: object = 0
    try:
        call()
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    os._exit(0)  # what it imported needs no taking down
