"""Attacks by a folder of weights whose own settings make a loader open, or run, what its digest does not speak of."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from tiny import write_gguf

from modelsmith.artifacts.seal import describe_export, seal
from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.promotion import Export
from modelsmith.schema.source import BaseModelSource
from modelsmith.substrates.base_models import is_base_model, listing_digest, resolve
from modelsmith.substrates.gguf import MARKER
from modelsmith.substrates.local import TransformersSubstrate

EVIL = "evil.safetensors"


def config(folder: Path, name: str = "config.json", **more: object) -> None:
    (folder / name).write_text(json.dumps(json.loads((folder / "config.json").read_text()) | more))


def index(folder: Path, shard: object) -> None:
    """Whole weights elsewhere, which an index names; those beside it stay for whoever looks whether there are any."""
    from safetensors import safe_open

    own = folder / "model.safetensors"
    with safe_open(own, framework="pt") as tensors:
        names = [*tensors.keys()]
    shutil.copy(own, folder.parent / EVIL)
    if isinstance(shard, str) and "/" not in shard:
        shutil.copy(own, folder / shard)
    own.rename(folder / "decoy.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, shard)})
    )


def adapter(folder: Path) -> None:
    other = shutil.copytree(folder, folder.parent / "other")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(other)}))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def out_of_sight(folder: Path, words: str) -> None:
    """Settings that lead elsewhere, in a file of which whoever looks may not come to the end."""
    config(folder, transformers_weights=f".{EVIL}")
    file = folder / "config.json"
    file.write_text(file.read_text().replace("{", words, 1))


LEADS = {
    "an index upwards": lambda folder: index(folder, f"../{EVIL}"),
    "an index to a place of the machine": lambda folder: index(folder, str(folder.parent / EVIL)),
    "an index to a hidden file": lambda folder: index(folder, f".{EVIL}"),
    "an index that names no file": lambda folder: index(folder, ["model.safetensors"]),
    "weights that the configuration names": lambda folder: config(folder, transformers_weights=f".{EVIL}"),
    "the same behind 64 MiB of nothing": lambda folder: out_of_sight(folder, " " * (64 << 20) + "{"),
    "the same beside what is too deep": lambda folder: out_of_sight(
        folder, '{"deep": ' + "[" * 100_000 + "]" * 100_000 + ","
    ),
    "an adapter's configuration": adapter,
    "code for attention from a hub": lambda folder: config(folder, attn_implementation="somebody/kernel"),
    "the same for a part": lambda folder: config(folder, text_config={"_attn_implementation": "somebody/kernel"}),
    "the same in a file for one version": lambda folder: config(
        folder, "config.4.0.json", _attn_implementation_internal={"": "somebody/kernel"}
    ),
}


@pytest.mark.parametrize("lead", LEADS)
def test_a_base_model_is_all_that_is_loaded_of_it(tiny_model: Path, tmp_path: Path, lead: str) -> None:
    """What the digest that a cluster pins does not speak of is neither loaded nor run."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    LEADS[lead](folder)
    digest = listing_digest(folder)
    source = BaseModelSource(name="tiny", uri=f"file://{folder}", digest=digest, license="Apache-2.0")
    with pytest.raises(InvalidInput) as caught:
        resolve(source, tmp_path, tmp_path / "cache")
    assert caught.value.code == "base-model-format"
    assert not is_base_model(folder, digest), "nor where another host trains"


@pytest.mark.parametrize("lead", sorted(LEADS.keys() - {"an index to a hidden file"}))
def test_merged_weights_are_all_that_is_loaded_of_them(tiny_model: Path, tmp_path: Path, lead: str) -> None:
    """Else what serves could be changed after its approval, and `verify` would find each listed file as it was."""
    folder = shutil.copytree(tiny_model, tmp_path / "merged")
    export = Export(
        kind="merged", parent="sha256:" + "1" * 64, base_model="tiny", base_digest="sha256:" + "2" * 64, dtype="float32"
    )
    describe_export(folder, export, "Apache-2.0")
    seal(folder)
    LEADS[lead](folder)
    with pytest.raises(IntegrityFailure) as caught:
        seal(folder)
    assert caught.value.code == "wrong-kind"


def test_weights_in_several_files_of_their_folder_are_welcome(tiny_model: Path, tmp_path: Path) -> None:
    """Control: an index that names files beside it."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    index(folder, "model-00001-of-00001.safetensors")
    (folder / "decoy.safetensors").unlink()
    config(folder, _attn_implementation="sdpa")
    source = BaseModelSource(name="tiny", uri=f"file://{folder}", digest=listing_digest(folder), license="Apache-2.0")
    TransformersSubstrate(resolve(source, tmp_path, tmp_path / "cache").folder, None)


def words(folder: Path) -> None:
    """Settings of a tokenizer and of answers, another template, another configuration."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "other", "eos_token": "other"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "other"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    (folder / "chat_template.jinja").write_text("other")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))


def another_file(folder: Path) -> None:
    """A model of the same form with other weights, in a file of the same name."""
    import torch
    from transformers import AutoModelForCausalLM

    other = folder.parent / "other"
    other.mkdir()
    shutil.copytree(folder.parent / "model", other / "model")
    model = AutoModelForCausalLM.from_pretrained(other / "model")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(0.5)
    model.save_pretrained(other / "model")
    write_gguf(other / "model", other / "weights.gguf")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(other)}))


@pytest.mark.parametrize("beside", [words, another_file])
def test_nothing_beside_a_gguf_file_is_part_of_it(tiny_model: Path, tmp_path: Path, beside) -> None:
    """In the work tree any commit could put such files there, and other weights would answer in its name."""
    model, folder = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "place"
    folder.mkdir()
    write_gguf(model, folder / "weights.gguf")
    digest = file_digest(folder / "weights.gguf")
    source = BaseModelSource(name="tiny", uri="file://place/weights.gguf", digest=digest, license="Apache-2.0")
    honest = resolve(source, tmp_path, tmp_path / "honest").folder
    beside(folder)
    found = resolve(source, tmp_path, tmp_path / "cache").folder
    assert (found / MARKER).read_bytes() == (honest / MARKER).read_bytes()


def test_nobody_is_asked_whether_a_model_s_code_may_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration that names code is refused without a question, whose yes would run it."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config(folder, model_type="own", auto_map={"AutoConfig": "somebody/repo--configuration.Own"})
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(ModelsmithError):
        TransformersSubstrate(folder, None)
    assert "[y/N]" not in capsys.readouterr().out
