"""Attacks by a host that trains, by who stands in its place, and by a proposal that names one."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from pathlib import Path

import pytest
from sshd import Ways

from modelsmith.fleet.executor import HostLostError
from modelsmith.fleet.hosts import executor_on
from modelsmith.fleet.remote import copying
from modelsmith.fleet.remote.executor import SshExecutor
from modelsmith.fleet.remote.following import RemoteJob
from modelsmith.fleet.remote.settings import load_hosts
from modelsmith.fleet.remote.wire import Frame
from modelsmith.schema.cluster import ClusterDefaults
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, ModelsmithError

LIAR = Path(__file__).parents[1] / "fleet" / "hostile_host.py"
UNRULY = Path(__file__).parents[1] / "fleet" / "unruly_host.py"
MODEL = "sha256:" + "7" * 64
LONG = 60.0


@pytest.fixture
def ways(tmp_path_factory, monkeypatch):
    ways_there = Ways(tmp_path_factory.mktemp("ssh"), monkeypatch)
    yield ways_there
    ways_there.close()


@pytest.fixture
def host(ways):
    return ways.host()


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "clone" / "job"
    (folder / "inputs").mkdir(parents=True)
    (folder / "job.json").write_text('{"steps": 1}')
    (folder / "inputs" / "rows.jsonl").write_text("rows")
    return folder


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def liar(host, folder, files):
    """The host, but that another program answers there."""
    (folder / "lies.json").write_text(json.dumps(files))
    program = script(folder / "liar", f"exec {sys.executable} {LIAR} {folder / 'lies.json'}")
    return SshExecutor("gpu-1", host.host(python=program), "stub_worker")


def unruly(host, folder, play, **more):
    """The host, but that a program answers there which keeps to no measure."""
    program = script(folder / play, f"exec {sys.executable} {UNRULY} {play}")
    return SshExecutor("gpu-1", host.host(python=program, **more), "stub_worker", [(MODEL, Path("/models/here"))])


def ended(executor, job):
    worker = executor.submit(job)
    assert worker.beats(0, LONG).status == 0
    return worker.fetch()


def test_an_honest_host_s_result_is_taken(host, job):
    """The control."""
    assert ended(SshExecutor("gpu-1", host.host(), "stub_worker"), job)
    assert (job / "made" / "count.txt").read_text() == "1"


def test_a_host_writes_nothing_but_what_is_a_worker_s_to_write(host, job, tmp_path):
    """Names are held against a closed form, no link is followed, and what the submitter writes is never taken."""
    (job / "tracked.json").write_text("here")
    (job / "way").symlink_to(tmp_path / "clone")
    outside = ("../evil", "/tmp/evil-of-a-host", "a/../../evil", ".hidden", "way/evil", "a//evil")
    ours = ("job.json", "inputs/rows.jsonl", "inputs/more", "recoveries.json", "beside.json", "tracked.json")
    ours += ("JOB.json", "Inputs/rows.jsonl", "BESIDE.JSON")  # the same to some file systems
    lies = dict.fromkeys(("made/whole", *outside, *ours), "x")
    assert not ended(liar(host, tmp_path, lies), job)
    assert (job / "made" / "whole").read_text() == "x", "the control: that one is a worker's"
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or "kept" in path.name]
    assert not [path for path in job.rglob("*") if path.name in ("JOB.json", "Inputs", "BESIDE.JSON")]
    assert not Path("/tmp/evil-of-a-host").exists()
    assert {path.name for path in job.iterdir()} == {
        ".remote.json", "job.json", "inputs", "tracked.json", "way", "made",
    }  # fmt: skip
    assert ((job / "job.json").read_text(), (job / "tracked.json").read_text()) == ('{"steps": 1}', "here")
    assert [path.read_text() for path in (job / "inputs").iterdir()] == ["rows"]


def test_a_file_that_comes_otherwise_than_it_was_listed_is_not_taken(host, job, tmp_path):
    """Each file is held against the digest that the host has listed, before it has its name."""
    listed = "sha256:" + hashlib.sha256(b"as listed").hexdigest()
    lies = {"made/count.txt": None, "result.json": json.dumps({"files": {"made/count.txt": listed}})}
    assert not ended(liar(host, tmp_path, lies), job)
    assert not (job / "made" / "count.txt").exists()


def test_who_stands_in_a_host_s_place_is_told_nothing(ways, host, job):
    """Another key is refused, and so is one that is not known yet."""
    host.stop()
    host.new_key()
    host.start()
    for host_keys, words in ((None, "another key"), ("", "does not know the key")):
        if host_keys is not None:
            (ways.folder / "known_hosts").write_text(host_keys)
        with pytest.raises(IntegrityFailure) as caught:
            SshExecutor("gpu-1", host.host(), "stub_worker").submit(job)
        assert (caught.value.code, words in caught.value.message) == ("host-key", True)
    assert not host.work.exists()
    ways.know()
    assert ended(SshExecutor("gpu-1", host.host(), "stub_worker"), job), "the control"


def test_words_for_a_shell_are_a_folder_s_name_and_nothing_else(host, job, tmp_path):
    """What hosts.yaml says is quoted for the host's shell; nothing else stands on the command line."""
    odd = tmp_path / "a $(touch sprung-of-a-host) `id`; touch sprung-of-a-host 'b' \"c\" -x"
    assert ended(SshExecutor("gpu-1", host.host(folder=str(odd)), "stub_worker"), job)
    assert (odd / "lock").is_file()
    assert not (Path.home() / "sprung-of-a-host").exists()
    assert not Path("sprung-of-a-host").exists()


def test_no_name_in_a_proposal_says_where_to_log_in_or_what_to_run(ways, host, tmp_path):
    """A name is looked up in the machine's own file, and one that could be an option is no name."""
    ways.write(tmp_path / "home")
    for name in ("-oProxyCommand=touch sprung", "trainer@127.0.0.1", "127.0.0.1:22", "a b", "gpu-1;id", "../gpu-1"):
        with pytest.raises(ValueError, match="hosts"):
            ClusterDefaults.model_validate_json(json.dumps({"hosts": [name]}))
        with pytest.raises(ModelsmithError) as caught:
            executor_on(tmp_path / "home", (name,), "stub_worker", (), lambda _: None)
        assert caught.value.code == "host-not-available"
    for name in ("127.0.0.1", "localhost"):
        ClusterDefaults.model_validate_json(json.dumps({"hosts": [name]}))
        with pytest.raises(ModelsmithError) as caught:
            executor_on(tmp_path / "home", (name,), "stub_worker", (), lambda _: None)
        assert caught.value.code == "host-not-available", "an address is a name like any other"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "-oProxyCommand=touch sprung"),
        ("address", "host;touch sprung"),
        ("address", "user@host"),
        ("user", "-oProxyCommand=x"),
        ("user", "a b"),
        ("python", "python3"),
        ("python", "/bin/sh\n-c"),
        ("folder", "~/jobs"),
        ("port", 0),
        ("command", "sh"),
    ],
)
def test_no_setting_of_a_host_is_an_option_or_a_command(tmp_path, field, value):
    """Each has a closed form, by which hosts.yaml is refused."""
    fields = {"address": "gpu", "python": "/usr/bin/python3", "folder": "/srv/jobs"}
    (tmp_path / "hosts.yaml").write_text(json.dumps({"hosts": {"gpu-1": fields}}))
    assert "gpu-1" in load_hosts(tmp_path).hosts
    for hosts in (
        {"gpu-1": fields | {field: value}},
        {"-oProxyCommand=x": fields},
        {"local": fields},
        {"../up": fields},
    ):
        (tmp_path / "hosts.yaml").write_text(json.dumps({"hosts": hosts}))
        with pytest.raises(ModelsmithError) as caught:
            load_hosts(tmp_path)
        assert caught.value.code == "invalid-file"


def test_a_key_that_is_tied_to_training_does_nothing_else(ways, host, job, tmp_path):
    """A forced command decides folder and module, whatever the other side asks for on its command line."""
    from modelsmith.fleet.remote.connection import command

    forced = command(host.host(), "stub_worker")[-1].replace('"', '\\"')
    key = (ways.folder / "id.pub").read_text()
    (host.folder / "authorized_keys").write_text(f'restrict,command="{forced}" {key}')
    sprung = tmp_path / "sprung"
    other = script(tmp_path / "other", f"touch {sprung}")
    elsewhere = host.host(folder=str(tmp_path / "elsewhere"), python=other)
    assert ended(SshExecutor("gpu-1", elsewhere, "antigravity"), job)
    assert not (tmp_path / "elsewhere").exists()
    assert not sprung.exists()


def test_no_host_s_folder_stands_where_a_job_s_file_is_read(host, job, tmp_path):
    """Else every later command would stumble over it, on whatever host."""
    names = ("heartbeat.jsonl/x", "result.json/x", "error.json/x", "worker.log/x", "checkpoints", "made/whole")
    assert not ended(liar(host, tmp_path, dict.fromkeys(names, "x")), job)
    assert (job / "made" / "whole").is_file(), "the control: that one is a worker's"
    assert {path.name for path in job.iterdir()} == {".remote.json", "job.json", "inputs", "made"}
    assert ended(SshExecutor("gpu-1", host.host(), "stub_worker"), job), "an honest host goes on in the same folder"


@pytest.mark.parametrize("play", ["names-too-long", "lacks-what-nobody-asked-for"])
def test_a_host_that_names_what_no_job_has_is_lost(host, job, tmp_path, play):
    """Not a crash of the command: the next host is taken."""
    with pytest.raises(HostLostError):
        unruly(host, tmp_path, play).submit(job)
    assert ended(SshExecutor("gpu-1", host.host(), "stub_worker"), job), "the control"


def test_what_a_host_says_stands_in_no_advice(host, job, tmp_path):
    """Where to copy a model is said by this machine, which knows it; agents do what advice says."""
    with pytest.raises(InfrastructureFailure) as caught:
        unruly(host, tmp_path, "gives-orders").submit(job)
    assert caught.value.code == "host-lacks-model"
    assert "curl" not in caught.value.message + caught.value.mend
    assert str(host.home / "models" / ("7" * 64)) in caught.value.mend


class Flood:
    """A connection on which there is always one more word, as fast as it is heard."""

    def __init__(self, kind):
        self.kind, self.said = kind, 0

    def hear(self, seconds):
        self.said += 1
        if self.kind == "lines":
            return Frame(kind="lines", number=0), b""
        listed = {"COMPLETE.json": "sha256:" + "0" * 64, f"f{self.said}": "sha256:" + "0" * 64}
        return Frame(kind="kept", name=f"checkpoint-{self.said}"), json.dumps({"files": listed}).encode()

    def answer(self, *kinds):
        return Frame(kind="started"), b""

    def say(self, *words, **more):
        pass

    def lost(self, why):
        return HostLostError("gpu-1", why)


@pytest.mark.parametrize("kind", ["kept", "lines"])
def test_a_host_that_never_stops_talking_is_listened_to_a_while(job, monkeypatch, kind):
    """Whoever supervises gets its turn, and memory does not fill with what was said."""
    monkeypatch.setattr(copying, "_PIECE_SECONDS", 0.2)
    worker = RemoteJob(Flood(kind), lambda: Flood(kind), lambda: None, job, "run", 0, 3600.0)
    beats = []
    listener = threading.Thread(target=lambda: beats.append(worker.beats(0, 0.5)), daemon=True)
    listener.start()
    listener.join(LONG)
    assert beats == [([], 0, None)]
    assert len(worker._kept) <= 2


@pytest.mark.parametrize("play", ["drips", "names-too-many", "logs-too-much"])
def test_a_host_that_sends_for_ever_or_too_much_is_lost(host, job, tmp_path, monkeypatch, play):
    """Each file has its time and its size, and a listing its length."""
    monkeypatch.setattr(copying, "_PIECE_SECONDS", 1.0)
    monkeypatch.setattr(copying, "MOST_READ", 1000)
    worker = unruly(host, tmp_path, play, lost_seconds=5.0).submit(job)
    assert worker.beats(0, LONG).status == 0
    with pytest.raises(HostLostError):
        worker.fetch()
    assert {path.name for path in job.iterdir()} == {".remote.json", "job.json", "inputs"}


def test_what_a_host_says_beside_its_answers_fills_no_disk(host, job, tmp_path):
    """All of it is heard, so that the host is not held up, and the first few kilobytes are kept."""
    worker = unruly(host, tmp_path, "words-for-ever").submit(job)
    assert worker.beats(0, LONG).status == 0
    assert 0 < len(worker._connection._words._kept) <= 4096
    worker._drop()


def test_a_work_folder_that_others_write_in_takes_no_job(host, job):
    """Rows lie there; whoever may write there decides what is trained on them."""
    host.work.mkdir(mode=0o700)
    host.work.chmod(0o777)
    with pytest.raises(InfrastructureFailure) as caught:
        SshExecutor("gpu-1", host.host(), "stub_worker").submit(job)
    assert (caught.value.code, "every user" in caught.value.details["reason"]) == ("host-refused", True)
    host.work.chmod(0o750)
    assert ended(SshExecutor("gpu-1", host.host(), "stub_worker"), job), "the control"
