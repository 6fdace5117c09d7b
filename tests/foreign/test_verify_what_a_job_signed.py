"""What an auditor checks of signatures by a job's identity: the section of docs/verify-without-us.md, offline."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from sigstore_server import private_sigstore, workflow_claims

from modelsmith.repository.git import Git, Ident
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.files import SUMS_FILE, digests, measure, sums
from modelsmith.signing.keyless import Ambient
from modelsmith.signing.oms import sign_directory

HEADING = "Signed without a key"
RECORD = "https://modelsmith.dev/promotion-record/v1"
STEP = "promotions/rtb-pricing/iter-001-aaaaaaaa/04-customer-deployed"
WORKFLOW = ".github/workflows/nightly-iterate.yml"
WHO = Ident("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))


class Signed:
    """A repository whose last step a job signed, and an artifact that it signed."""

    def __init__(self, folder: Path) -> None:
        with private_sigstore() as sigstore:
            self.config = folder / "config.json"
            self.config.write_bytes(sigstore.trust_config())
            self.root = sigstore.trusted_root()
            self.record = json.dumps({"sequence": 4}).encode()
            self.bundle = self.seal(sigstore, RECORD)
            self.other_kind = self.seal(sigstore, "https://modelsmith.dev/evidence/v1")
            self.other_job = self.seal(sigstore, RECORD, workflow=".github/workflows/evil.yml")
            self.other_event = self.seal(sigstore, RECORD, event_name="push")
            self.artifact = folder / "artifact"
            self.artifact.mkdir()
            (self.artifact / "adapter_config.json").write_text("{}")
            (self.artifact / SUMS_FILE).write_bytes(sums(digests(measure(self.artifact))))
            with self.job(sigstore):
                sign_directory(self.artifact, Ambient(self.config))

    def job(self, sigstore, **claims):
        claimed = workflow_claims(**{"workflow": WORKFLOW, "event_name": "schedule"} | claims)
        return mock.patch.dict("os.environ", {"SIGSTORE_ID_TOKEN": sigstore.token(claimed)})

    def seal(self, sigstore, kind, **claims):
        with self.job(sigstore, **claims):
            return seal(statement("record.json", self.record, kind, {}), Ambient(self.config))

    def reader(self, folder, reader_of, bundle=None):
        """Somebody with a clone in which this bundle is the record's."""
        clone = folder / "clone"
        subprocess.run(["git", "init", "-q", "-b", "main", clone], check=True)
        git = Git(clone)
        governed = {
            ".github/governance/trust/sigstore.json": self.root, ".github/governance/trust/harness.pem": b"-",
            ".github/governance/people.yaml": b"people: []\n", ".github/governance/policy.yaml": b"keyless:\n- a: b\n",
        }  # fmt: skip
        first = git.commit_files(None, governed, "Start\n", WHO)
        step = {f"{STEP}/record.json": self.record, f"{STEP}/record.sigstore.json": bundle or self.bundle}
        git.update_ref("refs/heads/main", git.commit_files(first, step, "Deploy\n", WHO), None)
        git.run("reset", "-q", "--hard", "main")
        shutil.copytree(self.artifact, folder / "artifact")
        return reader_of(clone, folder / "artifact")


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    return Signed(tmp_path_factory.mktemp("signed"))


@pytest.mark.usefixtures("cosign", "model_signing")
def test_a_reader_without_our_code_confirms_what_a_job_signed_alone(signed, tmp_path, reader_of):
    signed.reader(tmp_path, reader_of).confirms(HEADING)
    for name, words in {
        "other_kind": "it is of another kind: https://modelsmith.dev/evidence/v1",
        "other_job": "workflows/evil.yml@refs/heads/main",
        "other_event": "push",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        signed.reader(folder, reader_of, getattr(signed, name)).refuses(HEADING, words)
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    reader = signed.reader(spoiled, reader_of)
    (reader.artifact / "added.bin").write_bytes(b"x")
    reader.refuses(HEADING, "added.bin")
