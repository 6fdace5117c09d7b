"""What `doctor` says about hosts: of each that it can be reached, or why not; and what clusters miss there."""

from __future__ import annotations

import json
import os

import pytest
from sshd import Ways

from modelsmith.fleet.gpus import Gpu
from modelsmith.fleet.remote.facts import HostFacts
from modelsmith.fleet.remote.settings import load_hosts
from modelsmith.operations.doctor_hosts import looked_at, sentence


@pytest.fixture
def ways(tmp_path_factory, monkeypatch):
    ways_there = Ways(tmp_path_factory.mktemp("ssh"), monkeypatch)
    yield ways_there
    ways_there.close()


def test_each_host_says_for_itself_how_it_is(ways, tmp_path):
    ready_host, stopped = ways.host("gpu-1"), ways.host("gpu-2")
    stopped.stop()
    ways.write(tmp_path)
    finding, other = looked_at(load_hosts(tmp_path).hosts, [])
    assert (finding.subject, finding.level, other.subject, other.level) == ("host gpu-1", "ok", "host gpu-2", "bad")
    assert finding.sentence.startswith("answers, with modelsmith ")
    assert "processors" in finding.sentence
    assert other.sentence.startswith("cannot be reached: ")
    assert not ready_host.work.exists(), "nothing is made there"


def test_a_host_s_gpus_are_told():
    gpu = Gpu(name="NVIDIA H100", busy=12, memory_used_mib=3, memory_total_mib=81559)
    facts = HostFacts(
        version="1", gpus=(gpu,), processors=8, free_bytes=7 * 10**9, writable=False, busy=True, models=()
    )
    assert sentence(facts) == (
        "answers, with modelsmith 1: NVIDIA H100 (12 % busy, 3 of 81559 MiB), 8 processors, 7 GB free, "
        "at work on a job, its work folder cannot be written"
    )


def test_doctor_names_what_a_host_lacks_and_hosts_that_are_unknown_here(ways, fresh, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA H100, 0, 3, 81559\n")
    tool.chmod(0o755)
    ways.host("gpu-1", PATH=f"{tmp_path}:{os.environ['PATH']}")
    ways.write(fresh.home)
    path = fresh.clone / "clusters" / "rtb-pricing" / "cluster.yaml"
    path.write_text(path.read_text() + "hosts: [gpu-1, gpu-9, local]\ndevices: 2\n")
    fresh.must("commit", "-qam", "Train elsewhere")
    findings = fresh.modelsmith("doctor", "--json").json["findings"]
    rows = [
        (finding["subject"], finding["level"], finding["sentence"])
        for finding in findings
        if finding["subject"].startswith("host ")
    ]
    assert [row[:2] for row in rows] == [
        ("host gpu-9", "note"), ("host gpu-1", "ok"), ("host gpu-1", "note"), ("host gpu-1", "note"),
    ], json.dumps(findings)  # fmt: skip
    assert rows[1][2].startswith("answers")
    assert [sentence for _, _, sentence in rows[2:]] == [
        "it does not have the base model tiny",
        "the cluster rtb-pricing trains on 2 devices, and it has 1",
    ]
