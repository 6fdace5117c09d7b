from __future__ import annotations

import hashlib
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from modelsmith.schema.errors import InvalidInput
from modelsmith.signing.keys import (
    create_signing_key,
    create_ssh_key,
    fingerprint,
    load_signing_key,
    public_pem,
)


def refused(code, act):
    with pytest.raises(InvalidInput) as caught:
        act()
    assert caught.value.code == code
    return caught.value


def test_a_signing_key_is_private_and_openssl_reads_it(tmp_path):
    path = tmp_path / "deep" / "key.pem"
    pem = create_signing_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert subprocess.run(["openssl", "pkey", "-in", path, "-pubout"], check=True, capture_output=True).stdout == pem
    assert public_pem(path) == pem
    assert [p.name for p in path.parent.iterdir()] == ["key.pem"]


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "key.pem"
    create_signing_key(path)
    before = path.read_bytes()
    refused("key-exists", lambda: create_signing_key(path))
    refused("key-exists", lambda: create_ssh_key(path, "x"))
    assert path.read_bytes() == before
    (tmp_path / "other.pub").write_text("mine")
    refused("key-exists", lambda: create_ssh_key(tmp_path / "other", "x"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key.pem", "other.pub"]


def test_a_password_encrypts_the_key_and_opens_it_again(tmp_path, monkeypatch):
    path = tmp_path / "key.pem"
    monkeypatch.setenv("MODELSMITH_KEY_PASSWORD", "open sesame")
    pem = create_signing_key(path)
    assert b"ENCRYPTED" in path.read_bytes()
    assert public_pem(path) == pem
    monkeypatch.setenv("MODELSMITH_KEY_PASSWORD", "wrong sesame")
    error = refused("wrong-password", lambda: load_signing_key(path))
    assert "sesame" not in str(error.envelope())
    monkeypatch.delenv("MODELSMITH_KEY_PASSWORD")
    refused("key-encrypted", lambda: load_signing_key(path))


def test_a_password_that_is_set_does_not_lock_out_a_plain_key(tmp_path, monkeypatch):
    pem = create_signing_key(tmp_path / "key.pem")
    monkeypatch.setenv("MODELSMITH_KEY_PASSWORD", "x")
    assert public_pem(tmp_path / "key.pem") == pem


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620])
def test_a_signing_key_open_to_others_is_refused(tmp_path, mode):
    create_signing_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    assert "chmod 600" in refused("key-permissions", lambda: load_signing_key(tmp_path / "key.pem")).mend


def test_only_p256_keys_sign(tmp_path, alice):
    def pem(key):
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    wrong = {
        "ed": pem(ed25519.Ed25519PrivateKey.generate()),
        "p384": pem(ec.generate_private_key(ec.SECP384R1())),
        "k1": pem(ec.generate_private_key(ec.SECP256K1())),
        "ssh": alice.path.read_bytes(),
        "empty": b"",
        "torn": pem(ec.generate_private_key(ec.SECP256R1()))[:100],
        "large": b"-" * 100_000,
    }
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        error = refused("not-a-signing-key", lambda name=name: load_signing_key(tmp_path / name))
        assert "PRIVATE" not in str(error.envelope())
    refused("missing-key", lambda: load_signing_key(tmp_path / "none"))
    refused("not-a-signing-key", lambda: load_signing_key(tmp_path))


def test_a_fingerprint_is_of_the_key_not_of_its_text(harness, stranger):
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=harness.pem, capture_output=True, check=True
    ).stdout
    assert fingerprint(harness.pem) == "sha256:" + hashlib.sha256(der).hexdigest()
    assert fingerprint(b"a comment\n" + harness.pem.replace(b"\n", b"\r\n")) == fingerprint(harness.pem)
    assert fingerprint(stranger.pem) != fingerprint(harness.pem)
    refused("invalid-public-key", lambda: fingerprint(b"junk"))
    refused("invalid-public-key", lambda: fingerprint(harness.path.read_bytes()))


def test_an_ssh_key_is_private_and_carries_its_comment(tmp_path):
    key = create_ssh_key(tmp_path / "deep" / "key", "harness of the desk")
    assert key.startswith("ssh-ed25519 ")
    assert (tmp_path / "deep" / "key.pub").read_text() == f"{key} harness of the desk\n"
    assert stat.S_IMODE((tmp_path / "deep" / "key").stat().st_mode) == 0o600
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["key", "key.pub"]
    refused("invalid-comment", lambda: create_ssh_key(tmp_path / "other", "two\nlines"))
