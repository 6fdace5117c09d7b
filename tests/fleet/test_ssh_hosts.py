"""Jobs on a host that is reached by OpenSSH, through a real sshd, and what befalls them on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from fleet.executor_contract import LONG, ExecutorContract, first_words, folder_of, steps
from sshd import PATIENCE, Sshd, Ways

from modelsmith.fleet.executor import Executor, HostLostError, LocalExecutor, Submitted
from modelsmith.fleet.hosts import Model, Pool, executor_on
from modelsmith.fleet.remote import connection
from modelsmith.fleet.remote import host as of_host
from modelsmith.fleet.remote.executor import SshExecutor
from modelsmith.fleet.worker import STOPPED
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError

FOR_EVER = 1000


def on(host: Sshd, **more: object) -> SshExecutor:
    return SshExecutor(host.name, host.host(**more), "stub_worker")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def to_the_end(job: Submitted) -> tuple[list[int], int | None]:
    """Every step that is told, each once, and how the worker ended."""
    since, messages = job.since, list[int]()
    while True:
        lines, since, status = job.beats(since, 0.2)
        messages += steps(lines)
        if status is not None:
            return messages, status


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ModelsmithError) as caught:
        call()
    return caught.value.code


class TestAHostByOpenSsh(ExecutorContract):
    @pytest.fixture
    def executor(self, host: Sshd) -> Executor:
        return on(host)


@pytest.mark.parametrize("by", ["the server", "the client"])
def test_a_connection_that_is_cut_is_mended_and_the_worker_works_on(host: Sshd, tmp_path: Path, by: str) -> None:
    folder = folder_of(tmp_path / "job", steps=60, seconds_a_step=0.1)
    job = on(host).submit(folder)
    assert first_words(job)[:1] == [1]
    if by == "the server":
        host.cut()
    else:
        job._connection._process.kill()  # type: ignore[attr-defined]
    assert to_the_end(job) == (list(range(1, 61)), 0)
    assert job.fetch()
    assert (folder / "trace").read_text().split() == ["in", "out"], "it was one worker all the time"


def test_a_connection_that_is_lost_while_the_result_is_fetched_is_mended(host: Sshd, tmp_path: Path) -> None:
    job = on(host).submit(folder_of(tmp_path / "job", steps=1))
    assert job.beats(job.since, LONG).status == 0
    host.cut()
    assert job.fetch()


def test_a_lost_host_is_given_up_and_its_worker_puts_its_work_away(host: Sshd, tmp_path: Path) -> None:
    job = on(host, lost_seconds=5.0).submit(folder_of(tmp_path / "job", steps=2, seconds_a_step=FOR_EVER))
    first_words(job)
    host.stop()
    with pytest.raises(HostLostError):
        to_the_end(job)
    until(lambda: not host.processes())
    (ended,) = host.work.glob("control/*/*.json")
    assert json.loads(ended.read_bytes())["status"] == STOPPED
    job.stop(0)


def test_a_host_that_nobody_answers_on_is_lost_at_once(host: Sshd, tmp_path: Path) -> None:
    host.stop()
    with pytest.raises(HostLostError) as caught:
        on(host).submit(folder_of(tmp_path / "job", steps=1))
    assert "refused" in caught.value.why


def test_a_host_that_lets_in_and_says_nothing_is_lost(
    host: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_BEGIN_SECONDS", 1.0)
    mute = script(tmp_path / "python", "exec sleep 1000")
    with pytest.raises(HostLostError):
        on(host, python=mute).submit(folder_of(tmp_path / "job", steps=1))


SUBMITS = """
import sys, time
from pathlib import Path
from modelsmith.fleet.remote.executor import SshExecutor
from modelsmith.fleet.remote.settings import Host
job = SshExecutor("gpu-1", Host.model_validate_json(sys.argv[1]), "stub_worker").submit(Path(sys.argv[2]))
while not job.beats(0, 0.1).lines: pass
print("works", flush=True)
while True: job.beats(0, 1)
"""


def test_the_worker_ends_when_whoever_submitted_is_killed(host: Sshd, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "job", steps=2, seconds_a_step=FOR_EVER)
    settings = host.host(lost_seconds=5.0).model_dump_json()
    submitter = subprocess.Popen([sys.executable, "-c", SUBMITS, settings, folder], stdout=subprocess.PIPE)
    assert submitter.stdout is not None
    assert submitter.stdout.readline() == b"works\n"
    submitter.kill()
    submitter.wait()
    until(lambda: not host.processes())
    again = on(host).submit(folder)
    assert again.since > 0, "what it had said comes from the host, and is no more asked for"
    again.stop(LONG)


def test_a_keeper_that_is_killed_takes_its_worker_with_it(host: Sshd, tmp_path: Path) -> None:
    job = on(host).submit(folder_of(tmp_path / "job", steps=2, seconds_a_step=FOR_EVER))
    first_words(job)
    (keeper,) = [process for process in host.processes() if "modelsmith.fleet.remote.keeper" in process.cmdline()]
    keeper.kill()
    assert job.beats(job.since, PATIENCE).status == -9
    until(lambda: not host.processes())


def ranks_on(host: Sshd) -> dict[int, psutil.Process]:
    """Processes that do one job there together, by their number; of a start under way those that are there already."""
    workers = [process for process in host.processes() if "stub_worker" in process.cmdline()]
    rows = [(worker.environ().get("RANK"), worker) for worker in workers]
    return {int(rank): worker for rank, worker in rows if rank is not None}


def test_processes_that_do_one_job_on_a_host_end_together(host: Sshd, tmp_path: Path) -> None:
    """One of them is killed; then they are asked to stop; then nobody hears of them any more."""
    folder = folder_of(tmp_path / "job", steps=9, seconds_a_step=FOR_EVER)

    def start(step: int) -> Submitted:
        job = SshExecutor(host.name, host.host(lost_seconds=5.0), "stub_worker", devices=2).submit(folder)
        assert first_words(job) == [step], "each goes on from what the one before has done"
        until(lambda: ranks_on(host).keys() == {0, 1})
        return job

    job = start(1)
    ranks_on(host)[1].kill()
    assert (to_the_end(job)[1], job.fetch()) == (-9, False)
    assert host.processes() == []
    job = start(2)
    job.stop(LONG)
    assert (job.beats(0, LONG).status, host.processes()) == (STOPPED, [])
    job = start(3)
    host.stop()
    with pytest.raises(HostLostError):
        to_the_end(job)
    until(lambda: not host.processes())
    ends = [json.loads(path.read_bytes())["status"] for path in host.work.glob("control/*/*.json")]
    assert sorted(ends) == [-9, STOPPED, STOPPED]


@pytest.mark.parametrize("devices", [0, -1, 65, 1 << 40])
def test_a_host_starts_no_more_processes_than_a_cluster_may_name(host: Sshd, tmp_path: Path, devices: int) -> None:
    many = SshExecutor(host.name, host.host(), "stub_worker", devices=devices)
    assert code_of(lambda: many.submit(folder_of(tmp_path / "job", steps=1))) == "host-refused"
    assert host.processes() == []


def test_what_only_a_person_can_mend_on_a_host_is_named(
    host: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "job", steps=1)
    assert code_of(lambda: on(host, python="/no/such/python").submit(folder)) == "host-not-ready"
    bare = script(tmp_path / "bare", f'exec {sys.executable} -S "$@"')
    assert code_of(lambda: on(host, python=bare).submit(folder)) == "host-not-ready"
    lacking = SshExecutor("gpu-1", host.host(), "stub_worker", [Model("sha256:" + "7" * 64, Path("/models/here"))])
    with pytest.raises(InfrastructureFailure) as caught:
        lacking.submit(folder)
    assert caught.value.code == "host-lacks-model"
    assert str(host.home / "models" / ("7" * 64)) in caught.value.mend
    assert "/models/here" in caught.value.mend
    with monkeypatch.context() as patch:
        patch.setattr(connection, "__version__", "0.0.7")
        with pytest.raises(InfrastructureFailure) as caught:
            on(host).submit(folder)
    assert (caught.value.code, caught.value.details["expected"]) == ("host-version", "0.0.7")
    (host.folder / "authorized_keys").write_text("")
    assert code_of(lambda: on(host).submit(folder)) == "host-login"


def test_what_a_login_shell_prints_is_passed_over(host: Sshd, tmp_path: Path) -> None:
    chatty = script(tmp_path / "python", f'echo "Welcome to {{kind}}"; echo; exec {sys.executable} "$@"')
    job = on(host, python=chatty).submit(folder_of(tmp_path / "job", steps=1))
    assert (job.beats(0, LONG).status, job.fetch()) == (0, True)


def test_a_host_without_room_says_so(host: Sshd, tmp_path: Path) -> None:
    full = script(tmp_path / "python", f'ulimit -f 16; exec {sys.executable} "$@"')
    folder = folder_of(tmp_path / "job", steps=1)
    (folder / "rows").write_bytes(os.urandom(1 << 17))
    assert code_of(lambda: on(host, python=full).submit(folder)) == "host-refused"


def test_nothing_of_a_job_that_was_fetched_stays_on_the_host(host: Sshd, tmp_path: Path) -> None:
    job = on(host).submit(folder_of(tmp_path / "job", steps=1))
    ssh = job._connection._process  # type: ignore[attr-defined]
    assert (job.beats(0, LONG).status, job.fetch(), ssh.poll() is not None) == (0, True, True)
    until(lambda: not host.processes())
    assert [path.relative_to(host.work).as_posix() for path in sorted(host.work.rglob("*"))] == [
        "control", "jobs", "lock",
    ]  # fmt: skip
    dies = on(host).submit(folder_of(tmp_path / "dies", steps=2, dies_at=1))
    assert (dies.beats(0, LONG).status, dies.fetch()) == (-9, False)
    (old_folder,) = host.work.glob("jobs/*")
    long_ago = time.time() - (of_host.KEPT_DAYS + 1) * 86_400
    os.utime(old_folder, (long_ago, long_ago))
    job = on(host).submit(folder_of(tmp_path / "other", steps=1))
    assert not old_folder.exists(), "what nobody comes back for goes"
    assert not (host.work / "control" / old_folder.name).exists()
    assert job.beats(0, LONG).status == 0


def test_jobs_work_on_hosts_side_by_side_and_one_more_waits(ways: Ways, tmp_path: Path) -> None:
    hosts, messages = [ways.host("gpu-1"), ways.host("gpu-2")], list[str]()
    ways.write(tmp_path / "home")

    def pool() -> Executor:
        return executor_on(tmp_path / "home", ("gpu-1", "gpu-2"), "stub_worker", (), messages.append)

    jobs = [pool().submit(folder_of(tmp_path / name, steps=2, seconds_a_step=FOR_EVER)) for name in ("a", "b")]
    for job in jobs:
        first_words(job)
    assert messages == ["on the host gpu-1", "on the host gpu-2"]
    assert [len(host.processes()) > 0 for host in hosts] == [True, True]
    third = on(hosts[1]).submit_if_free(folder_of(tmp_path / "c", steps=1))
    assert third is None
    jobs[1].stop(LONG)
    job = pool().submit(tmp_path / "c")
    assert (messages[-1], job.beats(0, LONG).status, job.fetch()) == ("on the host gpu-2", 0, True)
    jobs[0].stop(LONG)


def test_a_pool_takes_the_next_host_and_none_twice(ways: Ways, tmp_path: Path) -> None:
    first, second, messages = ways.host("gpu-1"), ways.host("gpu-2"), list[str]()
    ways.write(tmp_path / "home", lost_seconds=5.0)
    first.stop()
    folder = folder_of(tmp_path / "job", steps=2, seconds_a_step=FOR_EVER)
    pool = executor_on(tmp_path / "home", ("gpu-1", "gpu-2"), "stub_worker", (), messages.append)
    with pytest.raises(HostLostError):
        pool.submit(folder)
    job = pool.submit(folder)
    first_words(job)
    second.stop()
    with pytest.raises(HostLostError):
        to_the_end(job)
    with pytest.raises(InfrastructureFailure) as caught:
        pool.submit(folder)
    assert (caught.value.code, caught.value.details["hosts"]) == ("host-unreachable", ["gpu-1", "gpu-2"])


def test_what_goes_on_here_is_not_overwritten_by_an_older_state_of_a_host(
    ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    host, folder = ways.host(), folder_of(tmp_path / "job", steps=3, dies_at=2, seconds_a_step=FOR_EVER)
    ways.write(tmp_path / "home", lost_seconds=5.0)
    pool = executor_on(tmp_path / "home", ("gpu-1", "local"), "stub_worker", (), lambda _: None)
    job = pool.submit(folder)
    assert first_words(job) == [1]
    host.stop()
    with pytest.raises(HostLostError):
        to_the_end(job)
    local = pool.submit(folder)
    assert (steps(local.beats(0, LONG).lines), local.beats(0, 0).status) == ([1, 2], -9), "this machine went on"
    host.start()
    folder_of(folder, steps=3)
    again = on(host).submit(folder)
    assert to_the_end(again) == ([3], 0)
    assert again.fetch()


def test_which_hosts_there_are_is_this_machine_s_to_say(tmp_path: Path) -> None:
    messages = list[str]()

    def executor(*hosts: str) -> Executor:
        return executor_on(tmp_path, hosts, "stub_worker", (), messages.append)

    assert isinstance(executor("local"), LocalExecutor)
    assert messages == []
    assert isinstance(executor("gpu-1", "local"), LocalExecutor)
    assert "does not know gpu-1" in messages[0]
    with pytest.raises(InvalidInput) as caught:
        executor("gpu-1")
    assert (caught.value.code, str(tmp_path / "hosts.yaml") in caught.value.mend) == ("host-not-available", True)
    host = {"address": "gpu", "python": "/usr/bin/python3", "folder": "/srv/jobs"}
    (tmp_path / "hosts.yaml").write_text(json.dumps({"hosts": {"gpu-1": host}}))
    pool = executor("gpu-1", "local")
    assert isinstance(pool, Pool)
    assert list(pool.executors) == ["gpu-1", "local"]
