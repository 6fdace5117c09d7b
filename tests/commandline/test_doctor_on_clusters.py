"""What `doctor` says about models, judges and baselines: never "at hand" of what is not there, or is something else."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelsmith
from modelsmith.operations.doctor_clusters import _endpoint, _model, _quantising, _vllm
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import sha256
from modelsmith.schema.source import BaseModelSource, Endpoint
from modelsmith.schema.training import Grpo
from modelsmith.substrates.base_models import listing_digest
from modelsmith.substrates.endpoint.allowed import entries

PINNED = sha256(b"weights")
URL = "https://llm.example.org/v1"


def source(uri, digest):
    return BaseModelSource(name="m", uri=uri, digest=digest, license="MIT")


@pytest.fixture
def findings_of(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "home")
    return lambda uri, digest=PINNED: [*_model(workspace, "model m", source(uri, digest))]


def test_weights_that_are_missing_or_others_are_bad_and_say_what_to_do(tmp_path, findings_of):
    (tmp_path / "m.gguf").write_bytes(b"other weights")
    for uri, words in (
        ("file://gone.gguf", "does not exist"),
        ("package://no_such_package/m.gguf", "is not installed"),
        ("file://m.gguf", "are not the pinned ones"),
    ):
        (finding,) = findings_of(uri)
        assert finding.level == "bad", uri
        assert words in finding.sentence
        assert finding.mend


def test_weights_are_at_hand_when_every_byte_is(tmp_path, findings_of):
    (tmp_path / "m.gguf").write_bytes(b"weights")
    (finding,) = findings_of("file://m.gguf")
    assert (finding.level, finding.sentence) == ("ok", "at hand, every byte; converted at first use")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"weights")
    (finding,) = findings_of("file://m", listing_digest(tmp_path / "m"))
    assert (finding.level, finding.sentence) == ("ok", "at hand, every byte")


def test_a_hub_s_model_that_was_never_fetched_is_not_at_hand(tmp_path, findings_of, monkeypatch):
    import huggingface_hub

    def nothing_local(*_, local_files_only, **__):
        assert local_files_only, "doctor fetches nothing"
        raise FileNotFoundError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing_local)
    (finding,) = findings_of("hf://org/name@main")
    assert (finding.level, finding.sentence) == ("note", "not on this machine; it is fetched at first use")


def test_training_in_4_bits_needs_its_library(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = _quantising("training of c")
    assert (missing.level, missing.mend) == ("bad", "pip install 'modelsmith[qlora]'")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert _quantising("training of c").level == "ok"


def test_vllm_is_looked_for_where_a_stage_samples_by_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELSMITH_VLLM", str(tmp_path / "nowhere"))
    cluster = load_cluster(WorkTree(Path(modelsmith.__file__).parents[1]), "rtb-pricing")
    assert list(_vllm(cluster)) == []
    by_vllm = cluster.model_copy(update={"training": Grpo(method="grpo", sampler="vllm")})
    (finding,) = _vllm(by_vllm)
    assert (finding.subject, finding.level) == ("sampler of rtb-pricing", "bad")
    assert "make vllm" in finding.mend
    assert list(_vllm(by_vllm.model_copy(update={"hosts": ("gpu-1",)}))) == [], "another host's is not looked for here"


def test_a_baseline_needs_leave_and_its_key(monkeypatch):
    endpoint = Endpoint(url=URL, model="m", key_env="SOME_KEY")
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert "nobody has allowed" in _endpoint("e", endpoint, entries((), {})).sentence
    allowed = entries((f"{URL} SOME_KEY",), {})
    without = _endpoint("e", endpoint, allowed)
    assert (without.level, "holds no key" in without.sentence) == ("note", True)
    monkeypatch.setenv("SOME_KEY", "k")
    assert _endpoint("e", endpoint, allowed).level == "ok"
