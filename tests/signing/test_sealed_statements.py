from __future__ import annotations

import base64
import hashlib
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.signing.dsse import adopt_or_seal, holds, seal, statement, unseal

TYPE = "https://modelsmith.dev/evidence/v1"
SUBJECT = b'{"figure":0.92}'
PREDICATE = {"specialist": "iter-001-0123abcd", "figures": [1, 2.5, None, True], "nested": {"b": "ä", "a": ""}}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
STATEMENT = statement("evidence.json", SUBJECT, TYPE, PREDICATE)


@pytest.fixture(scope="module")
def bundle(harness):
    return seal(STATEMENT, harness.path)


def refused(code, *arguments):
    with pytest.raises(IntegrityFailure) as caught:
        unseal(*arguments)
    assert caught.value.code == code


def pae(payload):
    kind = b"application/vnd.in-toto+json"
    return b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" " + str(len(payload)).encode() + b" " + payload


def resealed(bundle, harness, payload):
    """The bundle with another payload, properly signed by the trusted key."""
    key = serialization.load_pem_private_key(harness.path.read_bytes(), None)
    changed = json.loads(bundle)
    changed["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    r, s = decode_dss_signature(key.sign(pae(payload), ec.ECDSA(hashes.SHA256())))
    signature = encode_dss_signature(r, min(s, ORDER - s))
    changed["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return canonical_json(changed)


def test_what_was_sealed_comes_back(bundle, harness, stranger):
    assert unseal(bundle, [harness.pem], SUBJECT, TYPE) == PREDICATE
    assert unseal(bundle, [stranger.pem, harness.pem], SUBJECT, TYPE) == PREDICATE
    assert unseal(bundle, [harness.pem], sha256(SUBJECT), TYPE) == PREDICATE


def test_openssl_verifies_the_seal(bundle, harness, tmp_path):
    envelope = json.loads(bundle)["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "pub").write_bytes(harness.pem)
    command = ["openssl", "dgst", "-sha256", "-verify", tmp_path / "pub", "-signature", tmp_path / "sig"]
    assert subprocess.run(command, input=pae(payload), check=False, capture_output=True).returncode == 0
    assert subprocess.run(command, input=pae(payload + b" "), check=False, capture_output=True).returncode != 0
    assert json.loads(payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "evidence.json", "digest": {"sha256": hashlib.sha256(SUBJECT).hexdigest()}}],
        "predicateType": TYPE,
        "predicate": PREDICATE,
    }


def test_the_bundle_has_the_shape_that_cosign_reads(bundle, harness):
    assert json.loads(bundle).keys() == {"mediaType", "verificationMaterial", "dsseEnvelope"}
    assert json.loads(bundle)["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    material = json.loads(bundle)["verificationMaterial"]
    assert material == {"publicKey": {"hint": hashlib.sha256(harness.pem).hexdigest()}, "tlogEntries": []}
    assert json.loads(bundle)["dsseEnvelope"]["signatures"][0]["keyid"] == ""


def test_an_unknown_key_is_not_trusted(bundle, harness, stranger):
    refused("untrusted-key", bundle, [stranger.pem], SUBJECT, TYPE)
    refused("untrusted-key", bundle, [], SUBJECT, TYPE)


def test_a_strangers_signature_under_the_harness_name_is_refused(harness, stranger):
    forged = json.loads(seal(STATEMENT, stranger.path))
    forged["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(harness.pem).hexdigest()
    refused("bad-signature", canonical_json(forged), [harness.pem, stranger.pem], SUBJECT, TYPE)


def test_another_file_or_another_type_is_refused(bundle, harness):
    refused("wrong-subject", bundle, [harness.pem], SUBJECT + b" ", TYPE)
    refused("wrong-subject", bundle, [harness.pem], sha256(b""), TYPE)
    refused("wrong-type", bundle, [harness.pem], SUBJECT, TYPE + "x")


def test_one_changed_figure_fails(bundle, harness):
    changed = json.loads(bundle)
    payload = base64.b64decode(changed["dsseEnvelope"]["payload"]).replace(b"2.5", b"3.5")
    changed["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    refused("bad-signature", canonical_json(changed), [harness.pem], SUBJECT, TYPE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_of_one_byte_is_refused(bundle, harness, data):
    at = data.draw(st.integers(0, len(bundle) - 1))
    put = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from([b"A", b" ", b"=", b'"', b"\n"])))
    changed = bundle[:at] + put + bundle[at + 1 :]
    if changed != bundle:
        with pytest.raises(IntegrityFailure):
            unseal(changed, [harness.pem], SUBJECT, TYPE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data(), part=st.sampled_from(["payload", "sig"]))
def test_any_change_of_one_byte_of_payload_or_signature_is_refused(bundle, harness, data, part):
    changed = json.loads(bundle)
    holder = changed["dsseEnvelope"] if part == "payload" else changed["dsseEnvelope"]["signatures"][0]
    raw = bytearray(base64.b64decode(holder[part]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    holder[part] = base64.b64encode(raw).decode()
    with pytest.raises(IntegrityFailure) as caught:
        unseal(canonical_json(changed), [harness.pem], SUBJECT, TYPE)
    assert caught.value.code == "bad-signature"


@settings(max_examples=100, deadline=None)
@given(data=st.one_of(st.binary(), st.text().map(str.encode), st.just(b"[" * 100_000), st.just(b"9" * 5_000)))
def test_junk_is_not_a_bundle(data):
    refused("not-a-bundle", data, [], SUBJECT, TYPE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b["dsseEnvelope"]["signatures"].append(b["dsseEnvelope"]["signatures"][0]),
        lambda b: b["dsseEnvelope"]["signatures"].clear(),
        lambda b: b["dsseEnvelope"]["signatures"][0].update(keyid="x"),
        lambda b: b["dsseEnvelope"].update(payloadType="text/plain"),
        lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle.v0.2+json"),
        lambda b: b.update(extra=1),
        lambda b: b["verificationMaterial"].update(certificate={"rawBytes": ""}),
        lambda b: b["verificationMaterial"].update(tlogEntries=[{}]),
        lambda b: b["verificationMaterial"].update(tlogEntries=None),
        lambda b: b["verificationMaterial"]["publicKey"].update(hint=""),
        lambda b: b["dsseEnvelope"].update(payload=b["dsseEnvelope"]["payload"] + "\n"),
        lambda b: b["dsseEnvelope"].update(payload=7),
    ],
)
def test_a_bundle_of_any_other_shape_is_refused(bundle, harness, spoil):
    changed = json.loads(bundle)
    spoil(changed)
    refused("not-a-bundle", canonical_json(changed), [harness.pem], SUBJECT, TYPE)


@pytest.mark.parametrize(
    "spell",
    [
        lambda b: b + b"\n",
        lambda b: json.dumps(json.loads(b)).encode(),
        lambda b: b.replace(b'"mediaType"', b'"mediaType":"x","mediaType"'),
        lambda b: b.replace(b"/", b"\\/", 1),
        lambda b: b"\xef\xbb\xbf" + b,
    ],
)
def test_a_bundle_has_one_spelling(bundle, harness, spell):
    refused("not-a-bundle", spell(bundle), [harness.pem], SUBJECT, TYPE)


@pytest.mark.parametrize("name", ["x", "xx", "xxx"])
def test_unused_bits_of_base64_hide_nothing(harness, name):
    bundle = seal(statement(name, SUBJECT, TYPE, {}), harness.path)
    envelope = json.loads(bundle)["dsseEnvelope"]
    assert unseal(bundle, [harness.pem], SUBJECT, TYPE) == {}
    for text in (envelope["payload"], envelope["signatures"][0]["sig"]):
        if text.endswith("="):
            last = text.rstrip("=")[-1]
            other = text.rstrip("=")[:-1] + chr(ord(last) + 1) + "=" * text.count("=")
            if base64.b64decode(other) == base64.b64decode(text):
                refused("not-a-bundle", bundle.replace(text.encode(), other.encode()), [harness.pem], SUBJECT, TYPE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s["subject"].append(s["subject"][0]),
        lambda s: s["subject"].clear(),
        lambda s: s["subject"][0]["digest"].update(sha512="0"),
        lambda s: s["subject"][0]["digest"].update(sha256="A" * 64),
        lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda s: s.update(predicate=None),
        lambda s: s.update(more=1),
    ],
)
def test_even_a_trusted_key_signs_one_shape_of_statement_only(bundle, harness, spoil):
    changed = json.loads(canonical_json(STATEMENT))
    spoil(changed)
    refused("not-a-bundle", resealed(bundle, harness, canonical_json(changed)), [harness.pem], SUBJECT, TYPE)


def test_a_signed_payload_must_be_canonical(bundle, harness):
    payload = canonical_json(STATEMENT)
    assert unseal(resealed(bundle, harness, payload), [harness.pem], SUBJECT, TYPE) == PREDICATE
    for other in (payload + b" ", json.dumps(STATEMENT).encode(), payload.replace(b"2.5", b"2.50"), b"NaN", b"[]"):
        refused("not-a-bundle", resealed(bundle, harness, other), [harness.pem], SUBJECT, TYPE)


def test_a_trusted_key_of_another_kind_is_an_error_of_the_trust_root(bundle, alice):
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = p384.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for key in (pem, b"", alice.public.encode()):
        with pytest.raises(InvalidInput) as caught:
            unseal(bundle, [key], SUBJECT, TYPE)
        assert caught.value.code == "invalid-public-key"


def test_what_canonical_json_cannot_write_is_not_sealed(harness):
    for value in (float("nan"), 2**60, object(), "\ud800"):
        with pytest.raises(InvalidInput) as caught:
            seal(statement("x", b"", TYPE, {"v": value}), harness.path)
        assert caught.value.code == "invalid-statement"


def test_a_signature_that_holds_is_adopted_and_never_remade(bundle, harness, stranger):
    assert seal(STATEMENT, harness.path) != bundle
    assert adopt_or_seal(bundle, STATEMENT, harness.path) == bundle
    remade = adopt_or_seal(bundle, STATEMENT, stranger.path)
    assert not holds(remade, STATEMENT, [harness.pem]), "a signature of a former key is made anew"
    assert holds(remade, STATEMENT, [stranger.pem])


@pytest.mark.parametrize("case", ["none", "torn", "another statement", "another key"])
def test_a_signature_that_does_not_hold_is_made_anew(bundle, harness, stranger, case):
    existing = {
        "none": None,
        "torn": bundle[:100],
        "another statement": seal(statement("evidence.json", SUBJECT, TYPE, {}), harness.path),
        "another key": seal(STATEMENT, stranger.path),
    }[case]
    sealed_again = adopt_or_seal(existing, STATEMENT, harness.path)
    assert sealed_again != existing
    assert unseal(sealed_again, [harness.pem], SUBJECT, TYPE) == PREDICATE


def test_a_seal_has_one_signature_of_the_two_that_ecdsa_makes_of_it(bundle, harness):
    """ECDSA lets anyone turn (r, s) into (r, n - s): other bytes, and so another change that proves the same."""
    changed = json.loads(bundle)
    holder = changed["dsseEnvelope"]["signatures"][0]
    r, s = decode_dss_signature(base64.b64decode(holder["sig"]))
    assert s <= ORDER // 2
    holder["sig"] = base64.b64encode(encode_dss_signature(r, ORDER - s)).decode()
    refused("not-a-bundle", canonical_json(changed), [harness.pem], SUBJECT, TYPE)
    assert not holds(canonical_json(changed), STATEMENT, [harness.pem])
