from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsmith.artifacts.seal import (
    describe,
    manifest,
    scrub_adapter_config,
    seal,
    verify_artifact,
    verify_signed,
)
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.source import BaseModelSource
from modelsmith.signing.files import sums
from modelsmith.signing.oms import sign_directory, verify_directory

BASE = BaseModelSource(
    name="tiny-135m",
    uri="file:///home/trainer/models/tiny.gguf",
    digest="sha256:" + "ab" * 32,
    license="Apache-2.0",
)


def refused(code, act, name=None):
    with pytest.raises(IntegrityFailure) as caught:
        act()
    assert caught.value.code == code
    if name:
        assert caught.value.details["file"] == name


def test_the_artifact_id_is_the_digest_of_a_listing_that_sha256sum_checks(sealed):
    listing = (sealed.folder / "SHA256SUMS").read_bytes()
    assert sealed.artifact == "sha256:" + hashlib.sha256(listing).hexdigest()
    result = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=sealed.folder, check=True, capture_output=True, text=True
    )
    assert result.stdout.count(": OK") == len(manifest(sealed.folder)) == 9
    names = [line.split("  ")[1] for line in listing.decode().splitlines()]
    assert names == sorted(names)
    assert not {"SHA256SUMS", "model.sig"} & set(names)


def test_the_id_depends_on_content_alone(sealed, tmp_path):
    copy = tmp_path / "far" / "away"
    shutil.copytree(sealed.folder, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o755)
    assert seal(copy) == sealed.artifact
    verify_artifact(copy, sealed.artifact)
    (copy / "README.md").write_text("# card!\n")
    assert seal(copy) != sealed.artifact


def test_sealing_again_changes_nothing(sealed, signer):
    assert seal(sealed.folder) == sealed.artifact
    sign_directory(sealed.folder, signer.path)
    signature = (sealed.folder / "model.sig").read_bytes()
    assert seal(sealed.folder) == sealed.artifact
    sign_directory(sealed.folder, signer.path)
    assert (sealed.folder / "model.sig").read_bytes() == signature


def test_the_manifest_lists_name_digest_and_size(sealed):
    entries = {entry.name: entry for entry in manifest(sealed.folder)}
    weights = entries["adapter_model.safetensors"]
    assert weights == ("adapter_model.safetensors", hashlib.sha256(b"w" * 100_000).hexdigest(), 100_000)
    assert "additional_chat_templates/tool.jinja" in entries


def test_a_sealed_and_signed_artifact_passes_every_check(sealed, signer):
    seal(sealed.folder)
    sign_directory(sealed.folder, signer.path)
    verify_artifact(sealed.folder, sealed.artifact)
    verify_signed(sealed.folder, sealed.artifact, [signer.pem])
    assert verify_directory(sealed.folder, [signer.pem]) == sealed.artifact


def _flip(folder):
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _socket(folder):
    directory = os.getcwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("door.json")
    finally:
        os.chdir(directory)


TAMPERS = [
    (_flip, "file-changed", "adapter_model.safetensors"),
    (lambda d: (d / "adapter_model.safetensors").write_bytes(b""), "file-changed", "adapter_model.safetensors"),
    (lambda d: (d / "README.md").unlink(), "file-missing", "README.md"),
    (lambda d: (d / "README.md").rename(d / "CARD.md"), "file-added", "CARD.md"),
    (lambda d: (d / "extra.json").write_text("{}"), "file-added", "extra.json"),
    (lambda d: (d / "additional_chat_templates/x.jinja").write_text(""), "file-added", None),
    (lambda d: (d / "additional_chat_templates").rename(d / "t"), "file-missing", None),
    (lambda d: (d / "payload.bin").write_bytes(b""), "unsafe-format", "payload.bin"),
    (lambda d: (d / "weights.pt").write_bytes(b""), "unsafe-format", "weights.pt"),
    (lambda d: (d / "modeling.py").write_text(""), "unsafe-format", "modeling.py"),
    (lambda d: (d / "empty").mkdir(), "unsafe-entry", "empty"),
    (lambda d: (d / "in.json").symlink_to("base.json"), "unsafe-entry", "in.json"),
    (lambda d: (d / "out.json").symlink_to("/etc/hostname"), "unsafe-entry", "out.json"),
    (lambda d: (d / "gone.json").symlink_to("nowhere"), "unsafe-entry", "gone.json"),
    (lambda d: os.mkfifo(d / "pipe.json"), "unsafe-entry", "pipe.json"),
    (_socket, "unsafe-entry", "door.json"),
    (lambda d: (d / ".hidden.json").write_text("{}"), "unsafe-entry", ".hidden.json"),
    (lambda d: (d / "SHA256SUMS").unlink(), "not-sealed", "SHA256SUMS"),
    (lambda d: (d / "SHA256SUMS").write_bytes(b""), "wrong-artifact", "SHA256SUMS"),
    (lambda d: seal((d / "README.md").write_text("x") and d), "wrong-artifact", "SHA256SUMS"),
]


@pytest.mark.parametrize(("spoil", "code", "name"), TAMPERS)
def test_any_difference_from_the_id_names_its_file(sealed, signer, spoil, code, name):
    seal(sealed.folder)
    sign_directory(sealed.folder, signer.path)
    spoil(sealed.folder)
    refused(code, lambda: verify_artifact(sealed.folder, sealed.artifact), name)
    refused(code, lambda: verify_signed(sealed.folder, sealed.artifact, [signer.pem]), name)


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside.json"])
def test_a_replaced_file_cannot_point_outside(sealed, path):
    (sealed.folder / "base.json").unlink()
    (sealed.folder / "base.json").symlink_to(path)
    refused("unsafe-entry", lambda: verify_artifact(sealed.folder, sealed.artifact), "base.json")
    refused("unsafe-entry", lambda: seal(sealed.folder), "base.json")


@pytest.mark.parametrize(
    "listing",
    [
        lambda text: "".join(sorted(text.splitlines(True), reverse=True)),
        lambda text: text.replace("  ", " *"),
        lambda text: text + text.splitlines(True)[-1],
        lambda text: text.rstrip("\n"),
        lambda text: "# comment\n" + text,
        lambda text: text.upper(),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "0" * 64 + "  ../../x.json\n",
        lambda text: text + "ü\n",
    ],
)
def test_a_listing_has_one_spelling(sealed, listing):
    path = sealed.folder / "SHA256SUMS"
    path.write_bytes(listing(path.read_text()).encode())
    artifact = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    refused("not-sealed", lambda: verify_artifact(sealed.folder, artifact), "SHA256SUMS")


@settings(max_examples=100)
@given(st.dictionaries(st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True), st.binary(min_size=32, max_size=32)))
def test_a_listing_is_sorted_and_complete(files):
    hexes = {name: value.hex() for name, value in files.items()}
    lines = sums(hexes).decode().splitlines()
    assert [line[66:] for line in lines] == sorted(hexes)
    assert all(hexes[line[66:]] == line[:64] and line[64:66] == "  " for line in lines)


@pytest.mark.parametrize(
    "name", ["a.bin", "a.pt", "a.pkl", "a.pth", "a.py", "a", "a.safetensors.pkl", "A.JSON", "x/a.bin"]
)
def test_what_could_run_code_is_never_sealed(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    refused("unsafe-format", lambda: seal(folder), name)
    refused("unsafe-format", lambda: manifest(folder), name)


def test_nothing_is_sealed_from_an_empty_or_missing_folder(tmp_path):
    for path, code in ((tmp_path, "empty-artifact"), (tmp_path / "none", "missing-directory")):
        with pytest.raises(InvalidInput) as caught:
            seal(path)
        assert caught.value.code == code


def test_what_a_crash_left_of_a_listing_is_cleared(folder):
    (folder / ".SHA256SUMS.partial").write_text("half")
    verify_artifact(folder, seal(folder))


@pytest.mark.parametrize(
    "path", ["/home/trainer/cache/tiny", "~/models/tiny", "./tiny", "C:\\models\\tiny", "file:///m"]
)
def test_the_place_of_training_neither_leaks_nor_changes_the_id(folder, path):
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": path, "target_modules": ["q", "k"], "r": 16}))
    refused("path-in-artifact", lambda: seal(folder), "adapter_config.json")
    scrub_adapter_config(config, "tiny-135m")
    artifact = seal(folder)
    assert path not in config.read_text()
    config.write_text(json.dumps({"r": 16, "target_modules": ["k", "q"], "base_model_name_or_path": "/elsewhere"}))
    scrub_adapter_config(config, "tiny-135m")
    assert seal(folder) == artifact
    assert json.loads(config.read_text())["base_model_name_or_path"] == "tiny-135m"


def test_a_broken_adapter_config_is_bad_input(tmp_path):
    for content in (b"", b"[]", b"{", b"\xff"):
        (tmp_path / "adapter_config.json").write_bytes(content)
        with pytest.raises(InvalidInput) as caught:
            scrub_adapter_config(tmp_path / "adapter_config.json", "tiny")
        assert caught.value.code == "invalid-adapter-config"


def test_an_artifact_says_its_base_without_saying_where_it_lay(folder):
    (folder / "README.md").write_text("base_model: /home/trainer/models")
    describe(folder, BASE)
    about = json.loads((folder / "base.json").read_bytes())
    assert about == {"name": BASE.name, "digest": BASE.digest, "license": BASE.license}
    card = (folder / "README.md").read_text()
    assert 'base_model: "tiny-135m"' in card
    assert BASE.digest in card
    for path in folder.rglob("*.*"):
        assert path.is_dir() or b"/home/trainer" not in path.read_bytes()
    verify_artifact(folder, seal(folder))


@pytest.mark.parametrize("value", ["NaN", "1e999", "9007199254740993", '"\\ud800"', "[" * 20_000 + "]" * 20_000])
def test_a_configuration_that_has_no_canonical_form_is_refused(tmp_path, value):
    (tmp_path / "adapter_config.json").write_text(f'{{"r": {value}}}')
    with pytest.raises(InvalidInput) as caught:
        scrub_adapter_config(tmp_path / "adapter_config.json", "base")
    assert caught.value.code == "invalid-adapter-config"
