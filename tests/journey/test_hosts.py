"""An iteration that trains on another host: the same specialist, and nothing of the host in what is committed."""

from __future__ import annotations

import shutil
import sys

import pytest
from sshd import Ways
from tiny import commit_to_root
from worlds import CLUSTER

from modelsmith.substrates.base_models import listing_digest


@pytest.fixture
def ways(tmp_path_factory, monkeypatch):
    ways_there = Ways(tmp_path_factory.mktemp("ssh"), monkeypatch)
    yield ways_there
    ways_there.close()


def test_an_iteration_that_trains_on_a_host_makes_the_same_specialist(ways, fresh, first_iterate, tiny_model):
    host = ways.host("gpu-1", OMP_NUM_THREADS="1")
    shutil.copytree(tiny_model, host.home / "models" / listing_digest(tiny_model).removeprefix("sha256:"))
    ways.write(fresh.home)
    path = fresh.clone / "clusters" / CLUSTER / "cluster.yaml"
    path.write_text(path.read_text() + "hosts: [gpu-1]\n")
    commit_to_root(fresh.clone, fresh.forge)
    process = fresh.start(sys.executable, "-P", "-m", "modelsmith", "iterate", CLUSTER, "--json")
    out, err = process.communicate(timeout=580)
    assert process.returncode == 4, out + err
    assert "on the host gpu-1" in err
    assert fresh.state()["specialist"] == first_iterate[0].state()["specialist"]
    assert list((host.work / "jobs").iterdir()) == []
    committed = b"".join(path.read_bytes() for path in (fresh.clone / "promotions").rglob("*") if path.is_file())
    assert committed
    for word in (host.name, str(host.port), str(host.folder), "127.0.0.1"):
        assert word.encode() not in committed, word
