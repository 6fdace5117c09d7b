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
from typing import NoReturn

from modelsmith.fleet.doors import DOORS_WORD, doors_folder
from modelsmith.fleet.executor import Beats, Executor
from modelsmith.fleet.folder import HEARTBEAT_FILE, LOG, is_whole, lines_since
from modelsmith.fleet.hosts import Model, executor_on


class WarmCommands:
    """Runs ``modelsmith`` commands one at a time; its process starts with the first and ends with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()

    def run(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Exit status (negative: the signal that ended it), standard output and standard error."""
        return self.run_script("modelsmith", *words, cwd=cwd, environment=environment)

    def run_script(self, *words: str, cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """The same of a Python script, given by its path."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            fields = {"words": words, "cwd": str(cwd), "environment": dict(environment)}
            server = self._server(environment)
            assert server.stdin
            assert server.stdout
            server.stdin.write(json.dumps(fields | {"out": str(out), "err": str(err)}) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            return status, out.read_text(), err.read_text()

    def _server(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        if self._process is None:
            alone = {**environment, "OMP_NUM_THREADS": "1"}  # a fork waits for ever for the threads of its parent
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone
            )
        return self._process


def serve() -> None:
    """Fork for each request on standard input and print how it ended."""
    import modelsmith.loop.training
    import modelsmith.substrates.local
    from modelsmith.training.worker import load

    load("sft")
    modelsmith.loop.training.executor_on = forking_executor
    import_everything()
    for line in sys.stdin:
        answer = json.loads(line)
        child = os.fork()
        if child == 0:
            os.chdir(answer["cwd"])
            os.environ.clear()
            os.environ.update(answer["environment"])
            inherit(open_read(os.devnull), open_write(answer["out"]), open_write(answer["err"]))
            if "TRACED" in os.environ:
                runpy.run_path(str(Path(__file__).parent / "traced" / "sitecustomize.py"))
            leave_with(partial(run, answer["words"]))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(words: list[str]) -> None:
    """A command of ours, or a script with its arguments."""
    sys.argv = words
    if words[0] == "modelsmith":
        from modelsmith.cli.main import main

        main()
    runpy.run_path(words[0], run_name="__main__")


def import_everything() -> None:
    """What some command imports or builds when it is called, so that no fork need do it again."""
    for library in ("github", "jsonschema", "model_signing.signing", "rapidfuzz.fuzz", "rapidfuzz.process", "re2"):
        importlib.import_module(library)

    from machine import hurry_at_github

    import modelsmith.cli
    import modelsmith.operations
    from modelsmith.repository.secrets import _rules
    from modelsmith.schema.base import Frozen

    hurry_at_github()
    _rules()

    for package in (modelsmith.operations, modelsmith.cli):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
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
        said = folder / HEARTBEAT_FILE
        since = said.stat().st_size if said.exists() else 0
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
    serve()
