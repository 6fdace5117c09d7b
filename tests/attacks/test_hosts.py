"""Attacks by a host that trains, by who stands in its place, and by a proposal that names one."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from sshd import Ways

from modelsmith.fleet.hosts import executor_on
from modelsmith.fleet.remote.executor import SshExecutor
from modelsmith.fleet.remote.settings import load_hosts
from modelsmith.schema.cluster import ClusterDefaults
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError

LIAR = Path(__file__).parents[1] / "fleet" / "hostile_host.py"
LONG = 60.0


@pytest.fixture
def ways(tmp_path_factory, monkeypatch):
    made = Ways(tmp_path_factory.mktemp("ssh"), monkeypatch)
    yield made
    made.close()


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
    lies = dict.fromkeys(("made/whole", *outside, *ours), "x")
    assert not ended(liar(host, tmp_path, lies), job)
    assert (job / "made" / "whole").read_text() == "x", "the control: that one is a worker's"
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or "kept" in path.name]
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
    for known, words in ((None, "another key"), ("", "does not know the key")):
        if known is not None:
            (ways.folder / "known_hosts").write_text(known)
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
    said = {"address": "gpu", "python": "/usr/bin/python3", "folder": "/srv/jobs"}
    (tmp_path / "hosts.yaml").write_text(json.dumps({"hosts": {"gpu-1": said}}))
    assert "gpu-1" in load_hosts(tmp_path).hosts
    for hosts in ({"gpu-1": said | {field: value}}, {"-oProxyCommand=x": said}, {"local": said}, {"../up": said}):
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
