"""Signatures by the identity of a job: what they prove, offline, and everything that is not quite that identity."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from sigstore_server import private_sigstore, workflow_claims

from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.workflows import Workflow
from modelsmith.signing.certificates import _utf8
from modelsmith.signing.dsse import holds, peek, seal, statement, unseal
from modelsmith.signing.keyless import Ambient, Believed
from modelsmith.signing.oms import sign_directory, verify_directory

COSIGN = Path(__file__).parents[2] / ".cache" / "cosign" / "cosign"
KIND = "https://modelsmith.dev/evidence/v1"
DATA = b'{"composite":0.9}'
SAID = statement("evidence.json", DATA, KIND, {"cluster": "rtb-pricing"})
WORKFLOW = {
    "issuer": "https://token.actions.githubusercontent.com",
    "repository": "acme/promotions",
    "repository_id": 4711,
    "owner_id": 42,
    "workflow": ".github/workflows/modelsmith-reviews.yml",
    "events": ("schedule", "workflow_run"),
    "trust": "sigstore.json",
}


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor-v1", "rekor-v2"])
def sigstore(request):
    with private_sigstore(request.param) as instance:
        yield instance


@pytest.fixture
def job(sigstore, monkeypatch, tmp_path):
    """What a job needs to sign, for a token with these claims."""
    config = tmp_path / "trust-config.json"
    config.write_bytes(sigstore.trust_config())

    def begin(**claims):
        for name, value in sigstore.actions(workflow_claims(**claims)).items():
            monkeypatch.setenv(name, value)
        return Ambient(config)

    return begin


def believed(sigstore, **other):
    return Believed(Workflow.model_validate(WORKFLOW | other), sigstore.trusted_root())


def refused(code, bundle, trusted, data=DATA):
    with pytest.raises(IntegrityFailure) as caught:
        unseal(bundle, [trusted], data, KIND)
    assert caught.value.code == code, caught.value
    return caught.value.message


def test_what_a_job_signed_is_verified_without_a_network(sigstore, job, monkeypatch):
    bundle = seal(SAID, job())
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was made"))
    assert unseal(bundle, [believed(sigstore)], DATA, KIND) == {"cluster": "rtb-pricing"}
    assert holds(bundle, SAID, [b"", believed(sigstore)][1:])
    refused("wrong-subject", bundle, believed(sigstore), b"{}")
    with pytest.raises(IntegrityFailure, match="not a https://x"):
        unseal(bundle, [believed(sigstore)], DATA, "https://x")
    assert json.loads(peek(bundle)) == SAID


def test_an_artifact_is_signed_and_verified_by_a_job(sigstore, job, tmp_path):
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "a.json").write_bytes(b"{}")
    (folder / "SHA256SUMS").write_bytes(subprocess.check_output(["sha256sum", "a.json"], cwd=folder))
    sign_directory(folder, job())
    assert verify_directory(folder, [believed(sigstore)]).startswith("sha256:")
    (folder / "b.json").write_bytes(b"{}")
    with pytest.raises(IntegrityFailure, match=r"b\.json is not listed"):
        verify_directory(folder, [believed(sigstore)])


CLAIMS = {
    "another repository's workflow": ({"repository": "evil/promotions"}, "repository is"),
    "a repository that took the name": ({"repository_id": "9"}, "repository_id is 9, not 4711"),
    "an owner who took the name": ({"repository_owner_id": "9"}, "owner_id is 9, not 42"),
    "a branch": ({"ref": "refs/heads/evil"}, "ref is refs/heads/evil"),
    "a pull request": ({"ref": "refs/pull/3/merge"}, "ref is refs/pull/3/merge"),
    "another file": ({"workflow": ".github/workflows/evil.yml"}, "workflow is"),
    "a workflow that calls it": (
        {"workflow_ref": "acme/promotions/.github/workflows/evil.yml@refs/heads/main"},
        "workflow that was started is",
    ),
    "a workflow that it calls": (
        {"job_workflow_ref": "evil/actions/.github/workflows/x.yml@refs/heads/main"},
        "workflow is https://github.com/evil/actions",
    ),
    "another event": ({"event_name": "pull_request_review"}, "started by pull_request_review"),
    "a runner of one's own": ({"runner_environment": "self-hosted"}, "runner is self-hosted"),
    "another issuer": ({"iss": "https://gitlab.com"}, "issuer is https://gitlab.com"),
    "a name that only begins alike": ({"repository": "acme/promotions-evil"}, "repository is"),
    "a file of another commit": ({"job_workflow_sha": "1" * 40}, "one commit"),
}


@pytest.mark.parametrize(("claims", "found"), CLAIMS.values(), ids=CLAIMS)
def test_every_claim_of_the_certificate_is_compared_exactly(sigstore, job, claims, found):
    assert found in refused("untrusted-identity", seal(SAID, job(**claims)), believed(sigstore))


def test_a_certificate_that_says_nothing_of_a_workflow_is_refused(sigstore, job, monkeypatch):
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", sigstore.token({"iss": WORKFLOW["issuer"], "sub": "robot"}))
    assert "repository is not said" in refused("untrusted-identity", seal(SAID, job()), believed(sigstore))


def test_another_instance_s_signature_does_not_hold(sigstore, job):
    bundle = seal(SAID, job())
    with private_sigstore(sigstore.rekor) as other:
        refused("bad-signature", bundle, Believed(believed(sigstore).workflow, other.trusted_root()))


def test_a_key_s_signature_and_a_job_s_never_stand_for_each_other(sigstore, job, harness):
    assert "believes none" in refused("untrusted-identity", seal(SAID, job()), harness.pem)
    refused("untrusted-key", seal(SAID, harness.path), believed(sigstore))


def edited(bundle, *path, value):
    document = json.loads(bundle)
    at = document
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value(at.get(path[-1]) if isinstance(at, dict) else at[path[-1]])
    return canonical_json(document)


ENTRY = ("verificationMaterial", "tlogEntries", 0)
FORGERIES = {
    "other words": (("dsseEnvelope", "payload"), lambda _: base64.b64encode(canonical_json(SAID | {"a": 1})).decode()),
    "no log entry": (("verificationMaterial", "tlogEntries"), lambda _: []),
    "two log entries": (("verificationMaterial", "tlogEntries"), lambda entries: entries * 2),
    "another body": ((*ENTRY, "canonicalizedBody"), lambda body: body[:-8] + "AAAAfQ=="),
    "another place in the log": ((*ENTRY, "inclusionProof", "treeSize"), lambda _: "2"),
    "a root of one's own": ((*ENTRY, "inclusionProof", "rootHash"), lambda _: base64.b64encode(b"0" * 32).decode()),
    "a checkpoint of one's own": ((*ENTRY, "inclusionProof", "checkpoint", "envelope"), lambda text: text[:-20] + "\n"),
    "another certificate": (("verificationMaterial", "certificate", "rawBytes"), lambda raw: raw[:-8] + "AAAAAAA="),
    "a field more": (("verificationMaterial", "more"), lambda _: "x"),
    "a key's name": (("dsseEnvelope", "signatures", 0, "keyid"), lambda _: ""),
}


@pytest.mark.parametrize(("path", "value"), FORGERIES.values(), ids=FORGERIES)
def test_no_part_of_the_bundle_can_be_exchanged(sigstore, job, path, value):
    bundle = edited(seal(SAID, job()), *path, value=value)
    with pytest.raises(IntegrityFailure) as caught:
        unseal(bundle, [believed(sigstore)], DATA, KIND)
    assert caught.value.code in ("bad-signature", "not-a-bundle")


def test_a_bundle_has_one_spelling(sigstore, job):
    bundle = seal(SAID, job())
    for other in (bundle + b"\n", json.dumps(json.loads(bundle)).encode(), bundle.replace(b'"hashes":[],', b"")):
        refused("not-a-bundle", other, believed(sigstore))


def test_a_signature_needs_a_time_within_its_certificate(sigstore, job, monkeypatch):
    """The log's time, or the timestamp authority's, is what says that the certificate was still valid."""
    ambient, real = job(), sigstore.now
    issue = sigstore.issue

    def late(key, claims):
        certificate = issue(key, claims)
        sigstore.now = lambda: real() + timedelta(minutes=20)
        return certificate

    monkeypatch.setattr(sigstore, "issue", late)
    try:
        bundle = seal(SAID, ambient)
    finally:
        sigstore.now = real
    refused("bad-signature", bundle, believed(sigstore))


def test_rekor_v2_without_a_timestamp_is_refused(sigstore, job):
    if sigstore.rekor == 1:
        pytest.skip("version 1 logs the time itself")
    bundle = edited(seal(SAID, job()), "verificationMaterial", "timestampVerificationData", value=lambda _: {})
    with pytest.raises(IntegrityFailure):
        unseal(bundle, [believed(sigstore)], DATA, KIND)


def test_a_job_without_a_token_is_told_what_it_needs(job, monkeypatch):
    ambient = job()
    for name in [name for name in os.environ if name.startswith(("ACTIONS_", "GITHUB_", "SIGSTORE_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(InvalidInput) as caught:
        seal(SAID, ambient)
    assert caught.value.code == "no-identity-token"
    assert "id-token: write" in caught.value.mend


@pytest.mark.parametrize(
    "der",
    [b"", b"\x0c", b"\x0c\x02a", b"\x0c\x01ab", b"\x0c\x81\x01a", b"\x13\x01a", b"\x0c\x82\x00\x01a", b"\x0c\x01\xff"],
)
def test_only_the_shortest_der_of_a_text_is_read(der):
    assert _utf8(der) is None


@pytest.mark.parametrize("text", ["", "a", "é" * 64, "x" * 300])
def test_texts_of_any_length_are_read(text):
    from sigstore_server import utf8

    assert _utf8(utf8(text)) == text


@pytest.mark.skipif(not COSIGN.exists(), reason="cosign is not at hand")
def test_cosign_verifies_what_a_job_signed(sigstore, job, tmp_path):
    if sigstore.rekor == 2:
        pytest.skip("cosign 2.5 reads no entry of Rekor v2")
    bundle, root, data = tmp_path / "bundle.json", tmp_path / "root.json", tmp_path / "evidence.json"
    bundle.write_bytes(seal(SAID, job()))
    root.write_bytes(sigstore.trusted_root())
    data.write_bytes(DATA)
    name = f"https://github.com/acme/promotions/{WORKFLOW['workflow']}@refs/heads/main"

    def cosign(identity):
        command = [
            COSIGN, "verify-blob-attestation", "--bundle", bundle, "--trusted-root", root, "--new-bundle-format",
            "--certificate-identity", identity, "--certificate-oidc-issuer", WORKFLOW["issuer"], "--type", KIND,
            data,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)})

    assert "Verified OK" in cosign(name).stderr
    assert cosign(name.replace("main", "evil")).returncode != 0
