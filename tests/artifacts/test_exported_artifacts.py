"""An export says itself what it is: its kind is part of its identity, and no file of another kind rides along."""

from __future__ import annotations

import json
import struct

import pytest

from fuzz.machine import gguf, tensor, text, value
from modelsmith.artifacts.gguf_header import LARGEST_HEADER, require_sound
from modelsmith.artifacts.kinds import export_of
from modelsmith.artifacts.seal import describe_export, seal, verify_artifact
from modelsmith.artifacts.store import Store
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import Export

PARENT, BASE = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
ARCHITECTURE = value(b"general.architecture", 8, text(b"llama"))


def export_facts(kind):
    dtype = "float32" if kind == "merged" else None
    return Export(kind=kind, parent=PARENT, base_model="tiny", base_digest=BASE, dtype=dtype)


@pytest.fixture
def merged(tmp_path):
    folder = tmp_path / "merged"
    folder.mkdir()
    for name, data in (("config.json", b"{}"), ("model.safetensors", b"weights"), ("tokenizer.json", b"{}")):
        (folder / name).write_bytes(data)
    describe_export(folder, export_facts("merged"), "Apache-2.0")
    return folder


@pytest.fixture
def quantised(tmp_path):
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(gguf())
    describe_export(folder, export_facts("gguf"), "Apache-2.0")
    return folder


def refused(code, act):
    with pytest.raises(IntegrityFailure) as caught:
        act()
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("kind", ["merged", "quantised"])
def test_an_export_is_sealed_and_its_kind_is_part_of_its_identity(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    artifact = seal(folder)
    stored = Store(tmp_path / "store").put(folder, artifact)
    verify_artifact(stored, artifact)
    export = export_of(stored)
    assert export is not None
    assert (export.parent, export.base_digest) == (PARENT, BASE)
    describe_export(folder, export.model_copy(update={"parent": BASE}), "Apache-2.0")
    assert seal(folder) != artifact, "the same weights from another parent are another artifact"


def test_an_adapter_has_no_export_file_and_its_identity_is_what_it_was(sealed):
    assert export_of(sealed.folder) is None
    assert sealed.artifact == seal(sealed.folder)
    (sealed.folder / "model.gguf").write_bytes(gguf())
    assert "no GGUF export" in refused("unsafe-format", lambda: seal(sealed.folder))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "base.json", "x/base.json"])
def test_an_adapter_passed_as_merged_is_refused(merged, name):
    """A loader that finds an adapter's configuration loads the base model that this names, and says nothing."""
    artifact = seal(merged)
    (merged / name).parent.mkdir(exist_ok=True)
    (merged / name).write_text("{}")
    assert "belongs to an adapter" in refused("wrong-kind", lambda: seal(merged))
    refused("wrong-kind", lambda: verify_artifact(merged, artifact))


def test_each_kind_has_its_own_files(merged, quantised):
    (merged / "more.gguf").write_bytes(gguf())
    refused("unsafe-format", lambda: seal(merged))
    (merged / "more.gguf").unlink()
    (merged / "model.safetensors").unlink()
    refused("wrong-kind", lambda: seal(merged))
    (quantised / "second.gguf").write_bytes(gguf())
    refused("wrong-kind", lambda: seal(quantised))
    (quantised / "second.gguf").unlink()
    (quantised / "model.safetensors").write_bytes(b"weights")
    refused("wrong-kind", lambda: seal(quantised))


@pytest.mark.parametrize("spoil", [lambda d: d | {"kind": "pickle"}, lambda d: d | {"dtype": None}, lambda d: [d]])
def test_an_unknown_kind_is_refused(merged, spoil):
    path = merged / "export.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_bytes()))))
    refused("wrong-kind", lambda: seal(merged))


HOSTILE = {
    "no magic": b"PK\x03\x04" + gguf()[4:],
    "version": gguf(version=4),
    "other byte order": gguf(version=3 << 24),
    "cut off": gguf()[:60],
    "tensors by the billion": gguf(counts=(2**63, 1)),
    "values by the billion": gguf(counts=(2, 2**40)),
    "none": gguf(tensors=b"", counts=(0, 1)),
    "endless text": gguf(value(b"general.architecture", 8, struct.pack("<Q", 2**63) + b"llama")),
    "endless array": gguf(ARCHITECTURE + value(b"a", 9, struct.pack("<IQ", 6, 2**62)), counts=(2, 2)),
    "array of arrays": gguf(ARCHITECTURE + value(b"a", 9, struct.pack("<IQ", 9, 1)), counts=(2, 2)),
    "unknown value": gguf(ARCHITECTURE + value(b"a", 99, bytes(8)), counts=(2, 2)),
    "same key twice": gguf(ARCHITECTURE * 2, counts=(2, 2)),
    "no architecture": gguf(value(b"general.name", 8, text(b"llama"))),
    "architecture as a path": gguf(value(b"general.architecture", 8, text(b"../llama"))),
    "odd key": gguf(ARCHITECTURE + value(b"a\nb", 7, b"\0"), counts=(2, 2)),
    "alignment of nothing": gguf(ARCHITECTURE + value(b"general.alignment", 4, bytes(4)), counts=(2, 2)),
    "one part of several": gguf(ARCHITECTURE + value(b"split.count", 2, b"\3\0"), counts=(2, 2)),
    "tensor of no type": gguf(tensors=tensor(b"a", (4,), 4, 0) + tensor(b"b", (4,), 0, 32)),
    "tensor of many dimensions": gguf(tensors=tensor(b"a", (1,) * 5, 0, 0) + tensor(b"b", (4,), 0, 32)),
    "tensor of 2^192 values": gguf(tensors=tensor(b"a", (2**62, 2**62, 2**62), 0, 0) + tensor(b"b", (4,), 0, 32)),
    "half a block": gguf(tensors=tensor(b"a", (4,), 2, 0) + tensor(b"b", (4,), 0, 32)),
    "same tensor twice": gguf(tensors=tensor(b"a", (4,), 0, 0) + tensor(b"a", (4,), 0, 32)),
    "tensors overlap": gguf(tensors=tensor(b"a", (4,), 0, 0) + tensor(b"b", (4,), 0, 0)),
    "tensor before the data": gguf(tensors=tensor(b"a", (4,), 0, 2**64 - 32) + tensor(b"b", (4,), 0, 32)),
    "data missing": gguf(data=bytes(40)),
    "more behind the data": gguf(data=bytes(64) + b"PK\x03\x04 an archive, too"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_gguf_header_is_refused_before_anything_loads(quantised, name):
    artifact = seal(quantised)
    (quantised / "model.gguf").write_bytes(HOSTILE[name])
    refused("gguf-header", lambda: seal(quantised))
    refused("gguf-header", lambda: verify_artifact(quantised, artifact))


def test_a_header_larger_than_any_model_s_is_not_read_to_its_end(tmp_path):
    """A sparse file: it takes no room on the disk, and would take all the memory of who believes it."""
    path = tmp_path / "huge.gguf"
    length = struct.pack("<Q", 2 * LARGEST_HEADER)
    path.write_bytes(gguf(value(b"general.architecture", 8, length), tensors=b"", counts=(1, 1)))
    with path.open("r+b") as file:
        file.truncate(3 * LARGEST_HEADER)
    assert "does not end within" in refused("gguf-header", lambda: require_sound(path))


def test_sizes_of_blocks_are_those_of_the_format():
    sizes = pytest.importorskip("gguf").GGML_QUANT_SIZES
    from modelsmith.artifacts.gguf_header import _BLOCKS

    size_by_kind = {int(kind): size for kind, size in sizes.items()}
    assert {kind: size_by_kind[kind] for kind in _BLOCKS} == _BLOCKS
