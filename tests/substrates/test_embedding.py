"""Texts to vectors: a real transformer of random weights, and what its folder says of how it is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelsmith.schema.embedding import EmbeddingModel
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.substrates.embedding import LocalEmbedder
from modelsmith.substrates.embedding_folder import way_of
from modelsmith.substrates.kept_vectors import FILE, KeptVectors
from tests.tiny import write_tiny_encoder, write_tiny_model

TEXTS = [
    "Floors rose to 1.60.",
    "a",
    "",
    "The SSP in Milan waits 120 ms. " * 9,
    "Überprüft: 日本語",
    "Floors rose to 1.60?",
]


def named(folder: Path, digest: str, **fields: object) -> EmbeddingModel:
    values = {"name": "tiny", "uri": f"file://{folder}", "digest": digest, "license": "Apache-2.0"}
    return EmbeddingModel.model_validate(values | fields)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return folder, write_tiny_encoder(folder)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    return folder, write_tiny_model(folder)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_s_vector_has_length_1_and_knows_no_neighbour(request, kind, pooling):
    folder, digest = request.getfixturevalue(kind)
    embedder = LocalEmbedder(named(folder, digest, pooling=pooling), folder)
    together = embedder.vectors(TEXTS)
    lengths = np.linalg.norm(together, axis=1)
    assert np.allclose(lengths[[0, 1, 3, 4, 5]], 1, atol=1e-6)
    assert lengths[2] in (pytest.approx(1), 0.0)
    for order in (TEXTS[::-1], sorted(TEXTS)):
        again = embedder.vectors(order)
        assert np.abs(again - together[[TEXTS.index(text) for text in order]]).max() < 1e-5
    alone = np.concatenate([embedder.vectors([text]) for text in TEXTS])
    assert np.abs(alone - together).max() < 1e-5
    assert np.array_equal(embedder.vectors(TEXTS), together)


def test_no_part_of_a_long_text_goes_unread(encoder):
    folder, digest = encoder
    embedder = LocalEmbedder(named(folder, digest), folder)
    text = "The SSP in Milan waits 120 ms. " * 20
    first, other = embedder.vectors([text, text + "But not today."])
    assert not np.allclose(first, other, atol=1e-6)


def test_the_folder_says_how_it_is_used_and_policy_says_it_over(encoder, tmp_path):
    folder, digest = encoder
    way = way_of(folder, named(folder, digest))
    assert (way.pooling, way.window, way.prefix) == ("mean", 48, "")
    assert way_of(folder, named(folder, digest, pooling="cls", prefix="query: "))[1:3] == ("cls", "query: ")
    other = tmp_path / "other"
    write_tiny_encoder(other, "lasttoken")
    prompts = {"prompts": {"sts": "Same? ", "query": "q: "}, "default_prompt_name": "sts"}
    (other / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert way_of(other, named(other, digest))[1:3] == ("last", "Same? ")
    (other / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": "cls", "embedding_dimension": 32}))
    assert way_of(other, named(other, digest)).pooling == "cls"


@pytest.mark.parametrize(
    ("file", "value", "why"),
    [
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2"}], "Dense"),
        ("modules.json", [{"type": "x.Transformer", "path": "../elsewhere"}], "leaves the folder"),
        ("modules.json", [{"type": "x.Transformer", "path": ".weights"}], "hidden from its digest"),
        ("modules.json", {"no": "list"}, "cannot be read"),
        ("modules.json", [{"type": "evil.module.Custom", "path": ""}], "Custom"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "pools by"),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "pools by"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False}, "pools by"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(tmp_path, file, value, why):
    folder = tmp_path / "model"
    digest = write_tiny_encoder(folder)
    (folder / file).write_text(json.dumps(value))
    with pytest.raises(InvalidInput, match=why) as raised:
        LocalEmbedder(named(folder, digest), folder)
    assert raised.value.code == "embedding-format"


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    digest = write_tiny_encoder(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: weight for name, weight in weights.items() if "layer.1" not in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InvalidInput, match=r"layer\.1"):
        LocalEmbedder(named(folder, digest), folder)


class Counting:
    """An embedder that says which texts it was asked."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model, self.asked = model, list[str]()

    def vectors(self, texts):
        self.asked += texts
        return np.array([[len(text), 1.0, 2.0] for text in texts], np.float32)


def test_vectors_are_kept_by_model_and_settings_and_not_used_damaged(tmp_path):
    model = named(tmp_path, "sha256:" + "1" * 64)
    inner = Counting(model)

    def cached_vectors(model: EmbeddingModel = model) -> KeptVectors:
        return KeptVectors(model, lambda: inner, tmp_path)

    first = cached_vectors().vectors(["one", "three", "one"])
    assert inner.asked == ["one", "three"]
    assert np.array_equal(first, inner.vectors(["one", "three", "one"]))
    inner.asked.clear()
    assert np.array_equal(cached_vectors().vectors(["three", "one", "one"])[[1, 0, 2]], first)
    assert inner.asked == []
    for other in ({"prefix": "q: "}, {"pooling": "cls"}, {"digest": "sha256:" + "2" * 64}):
        cached_vectors(model.model_copy(update=other)).vectors(["one"])
    assert inner.asked == ["one"] * 3
    cached_vectors(model.model_copy(update={"uri": "file:///elsewhere", "name": "other"})).vectors(["one"])
    assert inner.asked == ["one"] * 3
    (tmp_path / FILE).write_bytes(b"no database" * 999)
    assert np.array_equal(cached_vectors().vectors(["one"])[0], first[0])
    assert len(inner.asked) == 4


def test_an_entry_that_somebody_changed_is_not_there(tmp_path):
    import sqlite3

    model = named(tmp_path, "sha256:" + "1" * 64)
    inner = Counting(model)
    right = KeptVectors(model, lambda: inner, tmp_path).vectors(["one"])
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE vectors SET value = ?", (np.zeros(3, "<f4").tobytes(),))
    database.close()
    assert np.array_equal(KeptVectors(model, lambda: inner, tmp_path).vectors(["one"]), right)


def test_a_model_that_gives_no_numbers_stops(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    digest = write_tiny_encoder(folder)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InfrastructureFailure) as raised:
        LocalEmbedder(named(folder, digest), folder).vectors(["one"])
    assert raised.value.code == "embedding-failed"


def test_code_in_a_folder_is_never_run(tmp_path):
    """A configuration that names a class of its own, beside the file with that class."""
    folder = tmp_path / "model"
    digest = write_tiny_encoder(folder)
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Evil: ...\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InfrastructureFailure) as raised:
        LocalEmbedder(named(folder, digest), folder)
    assert raised.value.code == "model-load"
    assert not mark.exists()
