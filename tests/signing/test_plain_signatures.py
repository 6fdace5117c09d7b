"""Plain Ed25519 signatures are checked without a process, and never less strictly than ``ssh-keygen`` does it."""

from __future__ import annotations

import base64
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.schema.errors import IntegrityFailure
from modelsmith.signing import ssh
from modelsmith.signing.sshsig import fields, is_plainly_signed, unarmored

NS = "modelsmith-approval"
PAYLOAD = b'{"verdict":"approve"}'
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's group: a proof whose second half is raised by it fits just as well, for a verifier that lets it."""


@pytest.fixture
def keygen_calls(monkeypatch):
    """The questions that ``ssh-keygen`` was asked."""
    questions = []
    keygen = ssh.keygen
    monkeypatch.setattr(ssh, "keygen", lambda *args, **kind: questions.append(args) or keygen(*args, **kind))
    monkeypatch.setattr(ssh, "_proven", set())
    return questions


def armored(blob, width=70):
    body = base64.b64encode(blob).decode()
    lines = [body[at : at + width] for at in range(0, len(body), width)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def packed(*parts):
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def raised(proof):
    return proof[:32] + (int.from_bytes(proof[32:], "little") + ORDER).to_bytes(32, "little")


def spoilt(data, signature, key):
    """The signature with one of its parts written otherwise, or as it is."""
    parts = fields(unarmored(signature))
    signature_fields = fields(parts[4])
    odd = [b"", b"x", b"git", b"sha1", b"sha256", b"sha512", b"ssh-rsa", b"ssh-ed25519\0", b"ssh-ed25519"]
    where = data.draw(st.sampled_from(["not", "public", "namespace", "reserved", "hash", "proof", "kind", "more"]))
    at = ["public", "namespace", "reserved", "hash"].index(where) if where in ("namespace", "reserved", "hash") else 0
    if at:
        parts[at] = data.draw(st.sampled_from([*odd, NS.encode(), NS.encode() + b"\0"]))
    elif where == "public":
        parts[0] = data.draw(st.sampled_from([parts[0], parts[0] + b"\0\0\0\0", parts[0][:-1], packed(b"ssh-ed25519")]))
    elif where == "proof":
        flip = data.draw(st.integers(0, 511))
        flipped = bytearray(signature_fields[1])
        flipped[flip // 8] ^= 1 << flip % 8
        signature_fields[1] = data.draw(
            st.sampled_from(
                [
                    raised(signature_fields[1]),
                    bytes(flipped),
                    signature_fields[1][:-1],
                    signature_fields[1] + b"\0",
                    b"\0" * 64,
                    b"",
                ]
            )
        )
    elif where == "kind":
        signature_fields[0] = data.draw(st.sampled_from(odd))
    parts[4] = packed(*signature_fields) + (b"\0\0\0\0" if where == "more" and data.draw(st.booleans()) else b"")
    blob = b"SSHSIG\0\0\0\x01" + packed(*parts) + (b"\0" if where == "more" else b"")
    return armored(blob, data.draw(st.sampled_from([70, 76, 1])))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_no_signature_passes_that_ssh_keygen_refuses(alice, tmp_path, request, data):
    """Whatever part of a signature is written otherwise, and by whomever."""
    keys = request.config.stash.setdefault(MADE, {})
    hashed = data.draw(st.sampled_from(["sha512", "sha256"]))
    if hashed not in keys:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", alice.path, "-n", NS, "-O", f"hashalg={hashed}"]
        keys[hashed] = subprocess.run(command, input=PAYLOAD, capture_output=True, check=True).stdout.decode()
    signature = spoilt(data, keys[hashed], alice.public)
    payload = data.draw(st.sampled_from([PAYLOAD, PAYLOAD, PAYLOAD + b" "]))
    (tmp_path / "s").write_text(signature)
    (tmp_path / "allowed").write_text(f"alice {alice.public}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "alice", "-n", NS, "-s", "s"]
    good = subprocess.run(command, input=payload, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    plain = is_plainly_signed(payload, signature, NS, alice.public)
    assert good or not plain
    try:
        assert ssh.verify(payload, signature, NS, [ssh.AllowedKey("alice", alice.public)]).actor == "alice"
        assert plain
    except IntegrityFailure:
        assert not plain
    if good and fields(unarmored(signature)) == fields(unarmored(keys[hashed])):
        assert plain, "what a person signed counts"


MADE = pytest.StashKey[dict[str, str]]()


def test_a_plain_signature_costs_no_process(alice, bob, keygen_calls):
    signature = ssh.sign(PAYLOAD, alice.path, NS)
    keygen_calls.clear()
    assert ssh.verify(PAYLOAD, signature, NS, [ssh.AllowedKey("alice", alice.public)]).actor == "alice"
    with pytest.raises(IntegrityFailure) as caught:
        ssh.verify(PAYLOAD, signature, NS, [ssh.AllowedKey("bob", bob.public)])
    assert caught.value.code == "unknown-key"
    assert not keygen_calls


def test_a_signature_of_another_kind_costs_one_process_in_all(tmp_path, keygen_calls):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", path], check=True)
    allowed = [ssh.AllowedKey("alice", ssh.public_key(path))]
    signature = ssh.sign(PAYLOAD, path, NS)
    keygen_calls.clear()
    for _ in range(3):
        assert ssh.verify(PAYLOAD, signature, NS, allowed).actor == "alice"
    assert len(keygen_calls) == 1
    for _ in range(2):
        with pytest.raises(IntegrityFailure):
            ssh.verify(PAYLOAD + b" ", signature, NS, allowed)
    assert len(keygen_calls) == 3, "what does not hold is asked about again"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_words_that_nobody_signed_find_no_room_in_a_signature(tmp_path, kind):
    """OpenSSH checks the field that is reserved for later as it finds it there; nothing is ever in it."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    allowed = [ssh.AllowedKey("alice", ssh.public_key(path))]
    parts = fields(unarmored(ssh.sign(PAYLOAD, path, NS)))
    parts[2] = b"hidden words"
    with pytest.raises(IntegrityFailure) as caught:
        ssh.verify(PAYLOAD, armored(b"SSHSIG\0\0\0\x01" + packed(*parts)), NS, allowed)
    assert caught.value.code == "bad-signature"


def test_an_ed25519_proof_with_its_second_half_raised_is_refused(alice):
    """Some versions of OpenSSH take it; OpenSSL does not, so that main would verify on some machines only."""
    parts = fields(unarmored(ssh.sign(PAYLOAD, alice.path, NS)))
    kind, proof = fields(parts[4])
    parts[4] = packed(kind, raised(proof))
    with pytest.raises(IntegrityFailure):
        ssh.verify(PAYLOAD, armored(b"SSHSIG\0\0\0\x01" + packed(*parts)), NS, [ssh.AllowedKey("alice", alice.public)])
