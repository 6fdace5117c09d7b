from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pytest

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.signing import dsse
from modelsmith.signing.files import digests, measure, sums
from modelsmith.signing.oms import artifact_of, sign_directory, verify_directory, verify_manifest


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "artifact"
    (folder / "templates").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "templates" / "chat.jinja").write_text("{{ x }}")
    (folder / "SHA256SUMS").write_bytes(sums(digests(measure(folder))))
    return folder


@pytest.fixture
def signed(sealed, harness):
    sign_directory(sealed, harness.path)
    return sealed


def artifact_id(folder):
    return "sha256:" + digests(measure(folder))["SHA256SUMS"]


def refused(code, folder, trusted, name=None):
    with pytest.raises(IntegrityFailure) as caught:
        verify_directory(folder, trusted)
    assert caught.value.code == code
    if name:
        assert caught.value.details["file"] == name
        assert name in caught.value.message


def test_the_id_of_a_signed_artifact_follows_from_its_signature(signed, harness, stranger):
    assert verify_directory(signed, [stranger.pem, harness.pem]) == artifact_id(signed)
    assert artifact_of((signed / "model.sig").read_bytes()) == artifact_id(signed)


def test_the_reference_implementation_accepts_the_signature(signed, harness, tmp_path):
    from model_signing import hashing, verifying

    (tmp_path / "pub.pem").write_bytes(harness.pem)
    config = hashing.Config().set_ignored_paths(paths=["model.sig"], ignore_git_paths=False)
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "pub.pem")
    verifier.set_hashing_config(config).verify(signed, signed / "model.sig")
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--signature", signed / "model.sig"]
    subprocess.run(
        [*command, "--no-ignore-git-paths", "--public_key", tmp_path / "pub.pem", signed],
        check=True,
        capture_output=True,
    )
    (signed / "adapter_config.json").write_text("{} ")
    with pytest.raises(ValueError, match="adapter_config"):
        verifier.verify(signed, signed / "model.sig")


def test_a_signature_by_the_reference_implementation_is_accepted(sealed, harness):
    from model_signing import hashing, signing

    config = hashing.Config().set_ignored_paths(paths=["model.sig"], ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=harness.path).set_hashing_config(config)
    signer.sign(sealed, sealed / "model.sig")
    assert verify_directory(sealed, [harness.pem]) == artifact_id(sealed)


@pytest.mark.parametrize("git_paths", [True, False])
def test_a_signature_that_leaves_files_out_is_refused(sealed, harness, git_paths):
    from model_signing import hashing, signing

    left_out = ["model.sig"] if git_paths else ["model.sig", "adapter_config.json"]
    config = hashing.Config().set_ignored_paths(paths=left_out, ignore_git_paths=git_paths)
    signer = signing.Config().use_elliptic_key_signer(private_key=harness.path).set_hashing_config(config)
    signer.sign(sealed, sealed / "model.sig")
    refused("not-a-bundle", sealed, [harness.pem])


def test_no_path_enters_the_signature(signed):
    text = dsse.peek((signed / "model.sig").read_bytes()).decode()
    assert str(signed.parent) not in text
    assert json.loads(text)["subject"][0]["name"] == artifact_id(signed)


def _add(name):
    def spoil(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "code", "name"),
    [
        (lambda d: (d / "adapter_config.json").write_text("{} "), "file-changed", "adapter_config.json"),
        (lambda d: (d / "templates/chat.jinja").write_text(""), "file-changed", "templates/chat.jinja"),
        (lambda d: (d / "adapter_config.json").unlink(), "file-missing", "adapter_config.json"),
        (lambda d: (d / "SHA256SUMS").unlink(), "file-missing", "SHA256SUMS"),
        (lambda d: (d / "SHA256SUMS").write_text("x"), "file-changed", "SHA256SUMS"),
        (_add("new.json"), "file-added", "new.json"),
        (_add("templates/new.jinja"), "file-added", "templates/new.jinja"),
        (_add("templates/model.sig"), "file-added", "templates/model.sig"),
        (_add(".gitattributes"), "unsafe-entry", ".gitattributes"),
        (_add(".git/config"), "unsafe-entry", ".git"),
        (_add("-rf"), "unsafe-entry", "-rf"),
        (_add("two words.json"), "unsafe-entry", "two words.json"),
        (lambda d: (d / "adapter_config.json").rename(d / "config.json"), "file-missing", "adapter_config.json"),
        (lambda d: (d / "templates").rename(d / "tokens"), "file-missing", "templates/chat.jinja"),
        (lambda d: (d / "empty").mkdir(), "unsafe-entry", "empty"),
        (lambda d: (d / "link.json").symlink_to("adapter_config.json"), "unsafe-entry", "link.json"),
        (lambda d: (d / "more").symlink_to("templates"), "unsafe-entry", "more"),
        (lambda d: os.mkfifo(d / "pipe.json"), "unsafe-entry", "pipe.json"),
    ],
)
def test_any_difference_from_what_was_signed_names_its_file(signed, harness, spoil, code, name):
    spoil(signed)
    refused(code, signed, [harness.pem], name)


def test_a_newline_in_a_file_name_is_refused_and_shown_escaped(signed, harness):
    (signed / "a\nb.json").write_text("")
    refused("unsafe-entry", signed, [harness.pem], "a\\nb.json")


def test_two_swapped_files_are_refused(signed, harness):
    config, two = signed / "adapter_config.json", signed / "templates" / "chat.jinja"
    first, second = config.read_bytes(), two.read_bytes()
    config.write_bytes(second)
    two.write_bytes(first)
    refused("file-changed", signed, [harness.pem], "adapter_config.json")


def test_the_first_offending_file_in_order_of_name_is_named(signed, harness):
    (signed / "zzz.json").write_text("")
    (signed / "aaa.json").write_text("")
    refused("file-added", signed, [harness.pem], "aaa.json")


def test_an_artifact_may_move_and_change_modes(signed, harness):
    moved = signed.rename(signed.with_name("elsewhere"))
    (moved / "adapter_config.json").chmod(0o444)
    verify_directory(moved, [harness.pem])


def test_unsigned_unknown_and_forged_signatures_are_told_apart(signed, harness, stranger):
    refused("untrusted-key", signed, [stranger.pem])
    refused("untrusted-key", signed, [])
    signature = (signed / "model.sig").read_text()
    forged = json.loads(signature)
    forged["dsseEnvelope"]["signatures"][0]["sig"] = forged["dsseEnvelope"]["signatures"][0]["sig"][:-8] + "AAAAAA=="
    (signed / "model.sig").write_text(json.dumps(forged))
    refused("bad-signature", signed, [harness.pem])
    (signed / "model.sig").write_text("{}")
    refused("not-a-bundle", signed, [harness.pem])
    (signed / "model.sig").unlink()
    refused("missing-signature", signed, [harness.pem])
    (signed / "model.sig").mkdir()
    refused("missing-signature", signed, [harness.pem])


def test_a_sealed_record_is_no_artifact_signature(signed, harness):
    (signed / "model.sig").write_bytes(dsse.seal(dsse.statement("x", b"", "https://x", {}), harness.path))
    refused("wrong-type", signed, [harness.pem])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s["subject"][0]["digest"].update(sha256="0" * 64),
        lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
        lambda s: s["predicate"]["serialization"].update(allow_symlinks=True),
        lambda s: s["predicate"]["serialization"].update(hash_type="blake3"),
        lambda s: s["predicate"]["serialization"].update(method="shards"),
        lambda s: s["predicate"].update(more=1),
    ],
)
def test_even_a_trusted_key_signs_one_form_of_listing_only(signed, harness, spoil):
    statement = json.loads(dsse.peek((signed / "model.sig").read_bytes()))
    (signed / "model.sig").write_bytes(dsse.seal(statement, harness.path))
    assert verify_directory(signed, [harness.pem]) == artifact_id(signed)
    spoil(statement)
    (signed / "model.sig").write_bytes(dsse.seal(statement, harness.path))
    refused("not-a-bundle", signed, [harness.pem])


def test_the_signature_of_another_artifact_is_refused(signed, harness, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.json").write_text("{}")
    (other / "SHA256SUMS").write_bytes(sums(digests(measure(other))))
    sign_directory(other, harness.path)
    (other / "model.sig").replace(signed / "model.sig")
    refused("file-changed", signed, [harness.pem], "SHA256SUMS")


def test_a_listing_is_checked_against_its_signature_without_the_weights(signed, harness, stranger):
    signature, listing = (signed / "model.sig").read_bytes(), (signed / "SHA256SUMS").read_bytes()
    assert verify_manifest(signature, listing, [harness.pem]) == artifact_id(signed)
    for code, changed, trusted in (
        ("wrong-subject", listing + b"x", [harness.pem]),
        ("wrong-subject", b"", [harness.pem]),
        ("untrusted-key", listing, [stranger.pem]),
    ):
        with pytest.raises(IntegrityFailure) as caught:
            verify_manifest(signature, changed, trusted)
        assert caught.value.code == code


def test_only_a_sealed_artifact_is_signed(sealed, harness):
    (sealed / "late.json").write_text("{}")
    with pytest.raises(IntegrityFailure) as caught:
        sign_directory(sealed, harness.path)
    assert caught.value.code == "not-sealed"
    assert not (sealed / "model.sig").exists()


def test_a_signature_that_holds_is_left_as_it_is(signed, harness, stranger):
    before = (signed / "model.sig").read_bytes()
    sign_directory(signed, harness.path)
    assert (signed / "model.sig").read_bytes() == before
    sign_directory(signed, stranger.path)
    assert verify_directory(signed, [stranger.pem]) == artifact_id(signed)


def test_what_a_crash_left_of_a_signature_is_cleared(sealed, harness):
    (sealed / ".model.sig.partial").write_text("{")
    sign_directory(sealed, harness.path)
    verify_directory(sealed, [harness.pem])


def test_an_encrypted_key_signs_artifacts(sealed, tmp_path, monkeypatch):
    from modelsmith.signing.keys import create_signing_key

    monkeypatch.setenv("MODELSMITH_KEY_PASSWORD", "open sesame")
    pem = create_signing_key(tmp_path / "locked.pem")
    sign_directory(sealed, tmp_path / "locked.pem")
    monkeypatch.delenv("MODELSMITH_KEY_PASSWORD")
    assert verify_directory(sealed, [pem]) == artifact_id(sealed)


def test_verifying_needs_no_extra_and_signing_says_which_one(signed, harness, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    verify_directory(signed, [harness.pem])
    (signed / "model.sig").unlink()
    with pytest.raises(InfrastructureFailure) as caught:
        sign_directory(signed, harness.path)
    assert caught.value.code == "extra-missing"
    assert "modelsmith[sign]" in caught.value.mend


def test_importing_the_room_loads_no_signing_library():
    code = "import sys, modelsmith.signing.oms; sys.exit(any(m in sys.modules for m in ('model_signing', 'sigstore')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_folder_is_bad_input(tmp_path, harness):
    with pytest.raises(InvalidInput) as caught:
        sign_directory(tmp_path / "none", harness.path)
    assert caught.value.code == "missing-directory"


@pytest.mark.parametrize(
    "swap",
    [('"adapter_config.json"', '"\u00e4.json"'), ('"adapter_config.json"', '"../x.json"'), ('"sha256"', "1e999")],
)
def test_a_signature_over_what_no_artifact_may_hold_is_refused(signed, swap):
    bundle = json.loads((signed / "model.sig").read_bytes())
    text = base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode().replace(*swap)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(text.encode()).decode()
    with pytest.raises(IntegrityFailure) as caught:
        artifact_of(json.dumps(bundle).encode())
    assert caught.value.code == "not-a-bundle"
