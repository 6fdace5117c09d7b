from __future__ import annotations

import base64
import re
import shutil
import struct
import subprocess
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.signing import ssh
from modelsmith.signing.ssh import AllowedKey, check_key, public_key, sign, signing_key, verify

NS = "modelsmith-approval"
PAYLOAD = b'{"verdict":"approve"}'


def signer(*arguments):
    return verify(*arguments).actor


def refused(code, *arguments):
    with pytest.raises(IntegrityFailure) as caught:
        verify(*arguments)
    assert caught.value.code == code
    return caught.value


def test_a_signature_names_the_actor_who_holds_its_key(alice, bob):
    allowed = [AllowedKey("bob", bob.public), AllowedKey("alice", alice.public)]
    assert signer(PAYLOAD, sign(PAYLOAD, alice.path, NS), NS, allowed) == "alice"
    assert signer(PAYLOAD, sign(PAYLOAD, bob.path, NS), NS, allowed) == "bob"


def test_bobs_key_never_speaks_for_alice(alice, bob):
    signature = sign(PAYLOAD, bob.path, NS)
    refused("unknown-key", PAYLOAD, signature, NS, [AllowedKey("alice", alice.public)])


def test_nobody_is_allowed_by_an_empty_list(alice):
    refused("unknown-key", PAYLOAD, sign(PAYLOAD, alice.path, NS), NS, [])


def test_a_changed_payload_is_refused(alice):
    signature = sign(PAYLOAD, alice.path, NS)
    refused("bad-signature", PAYLOAD + b" ", signature, NS, [AllowedKey("alice", alice.public)])


def test_a_changed_payload_by_an_unknown_key_is_a_bad_signature(alice):
    refused("bad-signature", PAYLOAD + b" ", sign(PAYLOAD, alice.path, NS), NS, [])


def test_a_signature_made_for_another_purpose_is_refused(alice):
    signature = sign(PAYLOAD, alice.path, "modelsmith-event")
    refused("bad-signature", PAYLOAD, signature, NS, [AllowedKey("alice", alice.public)])


def test_a_git_signature_is_no_approval(alice):
    signature = sign(PAYLOAD, alice.path, "git")
    refused("bad-signature", PAYLOAD, signature, NS, [AllowedKey("alice", alice.public)])


def test_a_key_held_by_two_actors_names_nobody(alice):
    allowed = [AllowedKey("alice", alice.public), AllowedKey("mallory", alice.public)]
    for entries in (allowed, allowed[::-1]):
        error = refused("ambiguous-key", PAYLOAD, sign(PAYLOAD, alice.path, NS), NS, entries)
        assert error.details == {"actors": ["alice", "mallory"]}


@pytest.mark.parametrize(
    "actor",
    [
        "*",
        "alice,bob",
        "al?ce",
        "!alice",
        "alice bob",
        "alice\nbob",
        "alice\r\nmallory",
        "alice\n",
        "",
        "-alice",
        "# alice",
        '"alice"',
        "älice",
        "alice\x00",
        "alice\u2028",
    ],
)
def test_an_actor_cannot_widen_the_list_of_signers(alice, bob, actor):
    signature = sign(PAYLOAD, bob.path, NS)
    with pytest.raises(InvalidInput, match="cannot name the holder") as caught:
        verify(PAYLOAD, signature, NS, [AllowedKey(actor, alice.public)])
    assert caught.value.code == "invalid-allowed-key"


def test_a_key_cannot_carry_options_comments_or_lines(alice, bob):
    body = alice.public.split()[1]
    signature = sign(PAYLOAD, bob.path, NS)
    for key in (
        alice.public + "\nalice " + bob.public,
        alice.public + "\r\nalice " + bob.public,
        alice.public + "\n",
        alice.public + " comment",
        "cert-authority " + alice.public,
        'namespaces="git" ' + alice.public,
        "ssh-ed25519  " + body,
        "ssh-ed25519\t" + body,
        " " + alice.public,
        "ssh-rsa " + body,
        "ssh-ed25519-cert-v01@openssh.com " + body,
        "ecdsa-sha2-nistp256 " + body,
        "ssh-ed25519 " + body[:-4],
        "ssh-ed25519 " + body + "AAAA",
        "ssh-ed25519 ",
        "ssh-ed25519",
        "",
        "ssh-ed25519 " + body + "ä",
    ):
        with pytest.raises(InvalidInput) as caught:
            verify(PAYLOAD, signature, NS, [AllowedKey("alice", key)])
        assert caught.value.code == "invalid-allowed-key", key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(at=st.integers(0, 79), put=st.text(max_size=3))
def test_a_key_has_exactly_one_spelling(alice, at, put):
    changed = alice.public[:at] + put + alice.public[at + 1 :]
    try:
        check_key(changed)
    except InvalidInput:
        return
    kind, body = changed.split(" ")
    assert kind == "ssh-ed25519"
    assert base64.b64encode(base64.b64decode(body)).decode() == body


def test_a_padded_rsa_number_is_not_a_second_key(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", tmp_path / "rsa"], check=True)
    key = public_key(tmp_path / "rsa")
    blob = base64.b64decode(key.split()[1])
    (first,) = struct.unpack_from(">I", blob)
    (size,) = struct.unpack_from(">I", blob, 4 + first)
    end = 8 + first + size
    exponent = b"\x00" + blob[8 + first : end]
    padded = blob[: 4 + first] + struct.pack(">I", len(exponent)) + exponent + blob[end:]
    with pytest.raises(InvalidInput):
        check_key("ssh-rsa " + base64.b64encode(padded).decode())


POINTS = [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1]
POINTS += [int.from_bytes(bytes.fromhex(half), "little") for half in (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)]  # fmt: skip


def spelled(*fields):
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return f"{fields[0].decode()} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("sign_bit", [0, 1 << 255])
@pytest.mark.parametrize("y", POINTS)
def test_a_key_by_which_everybody_signs_is_none(y, sign_bit):
    """A signature of nothing but zeros and one point fits by the first of them whatever is said."""
    point = (y | sign_bit).to_bytes(32, "little")
    for key in (spelled(b"ssh-ed25519", point), spelled(b"sk-ssh-ed25519@openssh.com", point, b"ssh:")):
        with pytest.raises(InvalidInput):
            check_key(key)


@pytest.mark.parametrize(("exponent", "last"), [(b"\x01", b"\x01"), (b"\x02", b"\x01"), (b"\x01\x00\x01", b"\x02")])
def test_an_rsa_key_of_weak_numbers_is_none(exponent, last):
    check_key(spelled(b"ssh-rsa", b"\x01\x00\x01", b"\x40" + b"\x01" * 256))
    with pytest.raises(InvalidInput):
        check_key(spelled(b"ssh-rsa", exponent, b"\x40" + b"\x01" * 255 + last))


@pytest.mark.parametrize(("kind", "bits"), [("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")])
def test_people_may_use_other_kinds_of_keys(tmp_path, kind, bits):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", path], check=True)
    assert signer(PAYLOAD, sign(PAYLOAD, path, NS), NS, [AllowedKey("alice", public_key(path))]) == "alice"


def test_security_token_keys_are_plain_keys():
    text, curve = b"ssh:", b"nistp256"

    def spell(kind, *fields):
        blob = b"".join(struct.pack(">I", len(field)) + field for field in (kind.encode(), *fields))
        return f"{kind} {base64.b64encode(blob).decode()}"

    check_key(spell("sk-ssh-ed25519@openssh.com", b"k" * 32, text))
    check_key(spell("sk-ecdsa-sha2-nistp256@openssh.com", curve, b"\x04" + b"k" * 64, text))
    with pytest.raises(InvalidInput):
        check_key(spell("sk-ssh-ed25519@openssh.com", b"k" * 32))
    with pytest.raises(InvalidInput):
        check_key(spell("ssh-rsa", b"\x01\x00\x01", b"\x40" + b"\x01" * 127))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "x",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "more\n",
        lambda text: "\n" + text,
        lambda text: text + text,
        lambda text: text.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        lambda text: text[:60] + "=" + text[61:],
        lambda text: text[:31] + "AAAA" + text[31:],
        lambda text: text.replace("-----END", "A" * 20_000 + "\n-----END"),
        lambda text: text.replace("U1NIU0lH", "\x00\x00\x00\x00\x00\x00\x00\x00"),
        lambda text: "é" + text,
    ],
)
def test_what_is_no_signature_is_refused(alice, spoil):
    signature = spoil(sign(PAYLOAD, alice.path, NS))
    refused("bad-signature", PAYLOAD, signature, NS, [AllowedKey("alice", alice.public)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(data=st.data())
def test_any_changed_character_of_a_signature_is_refused(alice, data):
    signature = sign(PAYLOAD, alice.path, NS)
    body = [n for n, c in enumerate(signature) if 31 <= n < len(signature) - 30 and c not in "=\n"]
    at = data.draw(st.sampled_from(body))
    other = data.draw(st.sampled_from(sorted(set("ABab01+/") - {signature[at]})))
    allowed = [AllowedKey("alice", alice.public)]
    with pytest.raises(IntegrityFailure):
        verify(PAYLOAD, signature[:at] + other + signature[at + 1 :], NS, allowed)


@pytest.mark.parametrize("namespace", ["", "a b", "a\nb", 'a"', "*", "a,b", "-n", "ä"])
def test_a_namespace_cannot_carry_options(alice, namespace):
    with pytest.raises(InvalidInput):
        sign(PAYLOAD, alice.path, namespace)
    with pytest.raises(InvalidInput):
        verify(PAYLOAD, "", namespace, [])


def test_a_signature_says_which_key_made_it_and_nothing_else_is_one(alice, bob):
    signature = sign(PAYLOAD, alice.path, NS)
    allowed = [AllowedKey("alice", bob.public), AllowedKey("alice", alice.public)]
    assert verify(PAYLOAD, signature, NS, allowed) == ("alice", alice.public)
    assert signing_key(signature) == alice.public
    assert signing_key(signature.replace("SSH", "PGP")) is None


def test_ssh_keygen_itself_accepts_the_signature(alice, tmp_path):
    (tmp_path / "s").write_text(sign(PAYLOAD, alice.path, NS))
    (tmp_path / "allowed").write_text(f"alice {alice.public}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "alice", "-n", NS, "-s", "s"]
    subprocess.run(command, input=PAYLOAD, check=True, cwd=tmp_path)


def test_the_public_key_is_read_from_either_half(alice):
    assert public_key(alice.path) == public_key(alice.path.with_name("alice.pub")) == alice.public
    assert alice.path.with_name("alice.pub").read_text().split()[:2] == alice.public.split()


@pytest.mark.parametrize(
    "form",
    ["{key}\n", "{key}", "{key} Alice at work\n", "{key}\tAlice\n", " {key}\n", "{key}\r\n", "# hers\n{key}\n",
     "{key}\n{other}\n", "{other}\n{key}\n", "ssh-rsa AAAA\n{key}\n", "{key}=\n", "", "ssh-ed25519 AAAA\n"],
)  # fmt: skip
def test_a_public_half_means_what_ssh_keygen_takes_it_for(alice, bob, tmp_path, monkeypatch, form):
    (tmp_path / "key.pub").write_text(form.format(key=alice.public, other=bob.public))

    def read_key():
        with suppress(InvalidInput):
            return public_key(tmp_path / "key.pub")

    outcome = read_key()
    monkeypatch.setattr(ssh, "_PUBLIC_LINE", re.compile(rb"(never)"))
    assert read_key() == outcome


def test_the_public_key_of_an_encrypted_key_needs_no_passphrase(tmp_path):
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a long passphrase", "-f", path], check=True)
    expected = public_key(tmp_path / "locked.pub")
    (tmp_path / "locked.pub").unlink()
    assert public_key(path) == expected


def test_an_encrypted_key_is_opened_by_its_passphrase_only(tmp_path, monkeypatch):
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a long passphrase", "-f", path], check=True)
    ask = tmp_path / "ask"
    ask.write_text('#!/bin/sh\necho "$PASSPHRASE"\n')
    ask.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("PASSPHRASE", "wrong")
    with pytest.raises(InvalidInput) as caught:
        sign(PAYLOAD, path, NS)
    assert caught.value.code == "wrong-passphrase"
    monkeypatch.setenv("PASSPHRASE", "a long passphrase")
    assert signer(PAYLOAD, sign(PAYLOAD, path, NS), NS, [AllowedKey("alice", public_key(path))]) == "alice"


def test_a_key_in_an_agent_signs_by_its_public_half(tmp_path, monkeypatch):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            for _ in range(100):
                if subprocess.run(["ssh-add", "-q", path], check=False, capture_output=True).returncode == 0:
                    break
            path.unlink()
            public = tmp_path / "key.pub"
            allowed = [AllowedKey("alice", public_key(public))]
            assert signer(PAYLOAD, sign(PAYLOAD, public, NS), NS, allowed) == "alice"
        finally:
            agent.kill()


def test_a_missing_key_says_so(tmp_path):
    for act in (lambda: sign(PAYLOAD, tmp_path / "none", NS), lambda: public_key(tmp_path / "none")):
        with pytest.raises(InvalidInput) as caught:
            act()
        assert caught.value.code == "missing-key"


def test_a_key_that_others_can_read_is_refused_with_its_mend(alice, tmp_path):
    path = tmp_path / "open"
    shutil.copy(alice.path, path)
    path.chmod(0o644)
    with pytest.raises(InvalidInput) as caught:
        sign(PAYLOAD, path, NS)
    assert caught.value.code == "key-permissions"
    assert "chmod 600" in caught.value.mend


@pytest.mark.parametrize("content", [b"", b"junk\n", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", b"\xff" * 99])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    path = tmp_path / "junk"
    path.write_bytes(content)
    path.chmod(0o600)
    for act in (lambda: sign(PAYLOAD, path, NS), lambda: public_key(path)):
        with pytest.raises(InvalidInput) as caught:
            act()
        assert caught.value.code == "unusable-key"


def test_without_ssh_keygen_the_error_says_what_to_install(monkeypatch, tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", path], check=True)
    signature, public = sign(PAYLOAD, path, NS), public_key(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureFailure) as caught:
        verify(PAYLOAD, signature, NS, [AllowedKey("alice", public)])
    assert caught.value.code == "missing-ssh-keygen"
