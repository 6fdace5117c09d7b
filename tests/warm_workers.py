"""Training workers without the seconds that their imports take: forks of a process that has imported everything.

Each is a process in a session of its own, with arguments, environment, folder, lifeline and log of its own, which may
be stopped, killed and waited for like one that was started; several that train together are forks of their launcher.
How a worker is really started is held by the tests of hosts and by some others.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import IO, Any, NoReturn
from unittest.mock import patch

from nursery import begin
from warm import inherit, leave_finalizers_behind, leave_with

from modelsmith.fleet import executor, ranks, start
from modelsmith.fleet.executor import LocalExecutor, Submitted

STOPS_AFTER = "TEST_WORKER_STOPS_AFTER"
"""Names the step after which a worker stops itself (SIGSTOP), until somebody ends it or lets it go on."""
_LOOK = 0.01
_MOST = 1 << 16


class Warm(LocalExecutor):
    """The real executor, but that its process is a fork."""

    def submit(self, folder: Path) -> Submitted:
        with patch.object(executor, "start_apart", Forked):
            return super().submit(folder)


class Forked:
    """Stands in for `subprocess.Popen` where a worker is started."""

    def __init__(
        self, command: Sequence[Any], stdin: int, stdout: IO[bytes], stderr: int, cwd: Path, env: Mapping[str, str]
    ) -> None:
        assert [*command[:3]] == [sys.executable, "-P", start.__file__]
        assert (stdin, stderr) == (subprocess.PIPE, subprocess.STDOUT)
        reader, writer = os.pipe()
        fields = {"words": [str(word) for word in command[3:]], "cwd": str(cwd), "environment": dict(env)}
        self.pid: int = process_that_forks().ask(fields, reader, stdout.fileno())
        self.returncode: int | None = None
        os.close(reader)
        self.stdin = os.fdopen(writer, "wb", buffering=0)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = process_that_forks().ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            time.sleep(_LOOK)
        return status


class _Workers:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._lock = Lock()
        begin(__name__, theirs.fileno())
        theirs.close()
        atexit.register(self._end)

    def ask(self, question: Mapping[str, Any], *files: int) -> Any:
        with self._lock:
            socket.send_fds(self._ours, [json.dumps(question).encode() + b"\n"], files)
            return json.loads(_line(self._ours)[0])

    def _end(self) -> None:
        self._ours.shutdown(socket.SHUT_WR)
        while self._ours.recv(_MOST):
            pass


process_that_forks = cache(_Workers)


def _line(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The next line and the files that came with it; no line where the other side has ended."""
    text, files = b"", list[int]()
    while not text.endswith(b"\n"):
        more, came, _, _ = socket.recv_fds(connection, _MOST, 8)
        files += came
        if not more:
            return b"", files
        text += more
    return text, files


def serve() -> None:
    """Fork for each worker that is asked for, and say how those that have ended did."""
    connection = socket.socket(fileno=os.dup(0))
    ended: dict[int, int] = {}

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            ended[pid] = os.waitstatus_to_exitcode(status)

    signal.signal(signal.SIGCHLD, reap)
    while True:
        text, files = _line(connection)
        if not text:
            return
        document = json.loads(text)
        if "ended" in document:
            reap()
            answer = ended.get(document["ended"])
        else:
            answer = os.fork()
            if answer == 0:
                _work(document["words"], document["cwd"], document["environment"], *files)
        for file in files:
            os.close(file)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _work(words: list[str], cwd: str, environment: Mapping[str, str], lifeline: int, log: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(cwd)
    _become(words, environment, lifeline, log, log)
    if words[0] == ranks.__name__:
        subprocess.Popen = _Rank  # type: ignore[assignment,misc]
    if STOPS_AFTER in environment:
        _stop_after(int(environment[STOPS_AFTER]))
    leave_with(partial(runpy.run_module, words[0], run_name="__main__"))


def _stop_after(step: int) -> None:
    from modelsmith.training.signs import Signs

    begin = Signs.on_step_begin

    def on_step_begin(self: Signs, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGSTOP)
        begin(self, args, state, control, **more)

    Signs.on_step_begin = on_step_begin  # type: ignore[method-assign]


def _become(words: list[str], environment: Mapping[str, str], *standard: int) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    inherit(*standard)
    sys.argv = words


class _Rank:
    """Stands in for `subprocess.Popen` in a launcher that is a fork itself."""

    def __init__(self, command: Sequence[Any], stdin: int, env: Mapping[str, str]) -> None:
        reader, writer = os.pipe()
        words = [str(word) for word in command[3:]]
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(words, env, reader, 1, 2)
            leave_finalizers_behind()  # the launcher's folder is not a rank's to remove
            leave_with(partial(runpy.run_module, words[0], run_name="__main__"))
        os.close(reader)
        self.stdin = os.fdopen(writer, "wb", buffering=0)

    def poll(self, how: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> None:
        self.poll(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
