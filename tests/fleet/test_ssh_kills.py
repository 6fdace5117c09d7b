"""Whoever submitted a job is killed at each step of its way to a host and back; what goes on then is one whole job.

Or the network is cut there, and comes back.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from fleet.executor_contract import first_words, folder_of, steps
from sshd import PATIENCE, Sshd

from modelsmith.fleet.executor import HostLostError, Submitted
from modelsmith.fleet.folder import HEARTBEAT_FILE, is_whole, lines_since
from modelsmith.fleet.remote.executor import SshExecutor
from modelsmith.fleet.remote.settings import Host

FOR_EVER = 1000
STEPS = 6
JOURNEY = Path(__file__).parents[1] / "journey"
SUBMITS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from stop_at import arm
arm(sys.argv[2])
from modelsmith.fleet.remote.executor import SshExecutor
from modelsmith.fleet.remote.settings import Host
job = SshExecutor("gpu-1", Host.model_validate_json(sys.argv[3]), "stub_worker").submit(Path(sys.argv[4]))
since = job.since
while True:
    lines, since, status = job.beats(since, 0.2)
    if status is not None:
        break
job.fetch()
"""
REMOTE = "modelsmith.fleet.remote"
POINTS = {
    "before it is submitted": f"{REMOTE}.executor:SshExecutor.submit_if_free 1 before",
    "before the upload": f"{REMOTE}.executor:push 1 before",
    "during the upload": f"{REMOTE}.connection:Connection.say 3 after",
    "after the upload": f"{REMOTE}.executor:push 1 after",
    "before it is started": f"{REMOTE}.executor:SshExecutor._start 1 before",
    "before the first beat": f"{REMOTE}.executor:SshExecutor._start 1 after",
    "while it works": f"{REMOTE}.following:RemoteJob._take 2 after",
    "before it is fetched": f"{REMOTE}.following:RemoteJob.fetch 1 before",
    "while it is fetched": f"{REMOTE}.copying:get 1 before",
    "after a file was fetched": f"{REMOTE}.copying:get 1 after",
    "when it was fetched": f"{REMOTE}.following:RemoteJob.fetch 1 after",
}
CUTS = {
    "before the upload": (f"{REMOTE}.executor:push", 1, "before"),
    "during the upload": (f"{REMOTE}.connection:Connection.say", 3, "after"),
    "after the upload": (f"{REMOTE}.executor:push", 1, "after"),
    "before it is started": (f"{REMOTE}.executor:SshExecutor._start", 1, "before"),
    "as it is started": (f"{REMOTE}.connection:Connection.answer", 3, "before"),
    "while it works": (f"{REMOTE}.following:RemoteJob._take", 2, "after"),
    "before it is fetched": (f"{REMOTE}.following:RemoteJob.fetch", 1, "before"),
    "while it is fetched": (f"{REMOTE}.copying:get", 1, "before"),
    "after a file was fetched": (f"{REMOTE}.copying:get", 1, "after"),
    "before it is cleaned up": (f"{REMOTE}.following:is_whole", 1, "after"),
}


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_a_job_goes_on_whole_wherever_its_submitter_is_killed(host: Sshd, tmp_path: Path, point: str) -> None:
    folder = folder_of(tmp_path / "job", steps=STEPS, seconds_a_step=0.05)
    settings = host.host()
    command = [sys.executable, "-c", SUBMITS, JOURNEY, f"{point} SIGKILL", settings.model_dump_json(), folder]
    killed = subprocess.run(command, capture_output=True, timeout=200)
    assert killed.returncode == -9, killed.stderr.decode()
    until(lambda: not host.processes())
    goes_on_whole(host, settings, folder)


LONGER = ("during the upload", "as it is started", "while it works", "while it is fetched")


@pytest.mark.parametrize(
    ("point", "outage"), [*((point, "a cut") for point in CUTS), *((point, "no sshd for a second") for point in LONGER)]
)
def test_a_job_is_done_once_wherever_the_network_is_cut(
    host: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, outage: str
) -> None:
    """Either it is mended, or the submission is lost and the next one goes on: whole, with each step told once."""
    back, met = threading.Timer(1.0, host.start), list[str]()

    def cut() -> None:
        met.append(point)
        if outage == "a cut":
            host.cut()
        else:
            host.stop()
            back.start()

    once(monkeypatch, *CUTS[point], cut)
    folder = folder_of(tmp_path / "job", steps=STEPS, seconds_a_step=0.05)
    settings = host.host()
    try:
        job = SshExecutor("gpu-1", settings, "stub_worker").submit(folder)
        assert to_the_end(job) == 0
        assert job.fetch()
    except HostLostError:
        assert not is_whole(folder), "nothing that did not come whole is taken"
        if back.ident:
            back.join()
        goes_on_whole(host, settings, folder)
    if back.ident:
        back.join()
    assert met == [point]
    is_done_once(host, folder)


def once(patch: pytest.MonkeyPatch, name: str, number: int, moment: str, action: Callable[[], None]) -> None:
    """Act before or after the call of this number of a function."""
    module, _, path = name.partition(":")
    *holders, last = path.split(".")
    holder: Any = functools.reduce(getattr, holders, importlib.import_module(module))
    real, calls = getattr(holder, last), list[int]()

    def stand_in(*args: Any, **named: Any) -> Any:
        calls.append(1)
        due = len(calls) == number
        if due and moment == "before":
            action()
        result = real(*args, **named)
        if due and moment == "after":
            action()
        return result

    patch.setattr(holder, last, stand_in)


@pytest.mark.parametrize("who", ["fleet.remote.keeper", "stub_worker", "fleet"])
def test_a_job_goes_on_whole_whatever_of_it_is_killed_there(host: Sshd, tmp_path: Path, who: str) -> None:
    """The keeper, the worker, and both at once."""
    folder = folder_of(tmp_path / "job", steps=STEPS, seconds_a_step=FOR_EVER)
    settings = host.host()
    job = SshExecutor("gpu-1", settings, "stub_worker").submit(folder)
    first_words(job)
    for one_process in [process for process in host.processes() if who in " ".join(process.cmdline())]:
        with suppress(psutil.NoSuchProcess):
            one_process.kill()
    assert to_the_end(job) != 0
    until(lambda: not host.processes())
    job.fetch()
    folder_of(folder, steps=STEPS)
    goes_on_whole(host, settings, folder)


def goes_on_whole(host: Sshd, host_settings: Host, folder: Path) -> None:
    """The next run ends well, with each step told once and nothing at work there."""
    again = SshExecutor("gpu-1", host_settings, "stub_worker").submit(folder)
    assert to_the_end(again) == 0
    again.fetch()
    is_done_once(host, folder)


def is_done_once(host: Sshd, folder: Path) -> None:
    """It is here and whole, each step was told once, and nothing is at work there."""
    assert is_whole(folder)
    lines, _ = lines_since(folder / HEARTBEAT_FILE, 0)
    assert steps(lines) == list(range(1, STEPS + 1)), "each step once"
    assert (folder / "made" / "count.txt").read_text() == str(STEPS)
    until(lambda: not host.processes())


def to_the_end(job: Submitted) -> int:
    since = job.since
    while True:
        _, since, status = job.beats(since, 0.2)
        if status is not None:
            return status
