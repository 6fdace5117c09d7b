"""What an auditor checks with tools that are not ours: the commands of docs/verify-without-us.md."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelsmith.promotion.root import root_fingerprint
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.audit import AUDIT_TYPE
from modelsmith.schema.canonical import canonical_json
from modelsmith.signing import ssh
from modelsmith.signing.dsse import seal, statement

ELSEWHERE = {"Begin", "The artifact's signature", "Records and evidence", "An audit", "Signed without a key"}
"""Sections that are run by tests of their own."""
SECTIONS = ELSEWHERE | {
    "The governance root", "Append-only", "The artifact", "The same with openssl", "The approval",
    "The change that it speaks of", "The merge", "Who may decide it",
}  # fmt: skip
RECORD = "https://modelsmith.dev/promotion-record/v1"
EVIDENCE = "https://modelsmith.dev/evidence/v1"
SLY = Ident("Sly", "sly@example.org", datetime(2026, 1, 1, tzinfo=UTC))


def spoil(path, extra=b"x"):
    path.write_bytes(path.read_bytes() + extra)


def other_key(folder):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    path = folder / "other.pem"
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(path)


def test_every_section_of_the_page_is_run_here(headings):
    assert headings == SECTIONS


@pytest.mark.parametrize("heading", sorted(SECTIONS - ELSEWHERE))
def test_a_reader_without_our_code_confirms(reader, heading):
    reader.confirms(heading)


class TestTheGovernanceRoot:
    def test_it_is_the_fingerprint_that_verify_pins(self, reader):
        with ObjectReader(reader.clone) as git:
            root = root_fingerprint(git, git.first_parent_log("main")[0].id)
        assert reader.run("The governance root").stdout.split()[0] == root.removeprefix("sha256:")


class TestAppendOnly:
    def test_a_changed_record_shows_in_the_log(self, reader):
        path = reader.file("02-*/evidence.json")
        spoil(path)
        reader.commit("Better figures")
        name = path.relative_to(reader.clone)
        assert reader.run("Append-only").stdout.startswith(f"M\t{name}\n")

    def test_a_removed_receipt_shows_in_the_log(self, reader):
        path = reader.file("04-*/receipts/merge.json")
        path.unlink()
        reader.commit("Tidy up")
        assert reader.run("Append-only").stdout.startswith(f"D\t{path.relative_to(reader.clone)}\n")


class TestTheChain:
    def test_a_changed_file_beside_a_record_is_refused(self, reader):
        spoil(reader.file("01-*/training.json"))
        reader.refuses("Append-only", "training.json: FAILED")

    def test_a_changed_earlier_record_is_refused(self, reader):
        path = reader.file("02-*/record.json")
        path.write_text(path.read_text().replace('"composite":', '"composite":1'))
        assert "03-artifact-exported follows" not in reader.refuses("Append-only", "02-eval-accepted follows")


class TestTheArtifact:
    def test_a_changed_byte_is_refused(self, reader):
        spoil(reader.artifact / "adapter_model.safetensors")
        reader.refuses("The artifact", "adapter_model.safetensors: FAILED")

    def test_another_artifact_with_a_listing_of_its_own_is_refused(self, reader):
        (reader.artifact / "README.md").unlink()
        listing = (reader.artifact / "SHA256SUMS").read_text().splitlines(keepends=True)
        (reader.artifact / "SHA256SUMS").write_text("".join(line for line in listing if "README" not in line))
        reader.refuses("The artifact")


@pytest.mark.usefixtures("model_signing")
class TestModelSigning:
    def test_it_accepts_the_sealed_artifact(self, reader):
        reader.confirms("The artifact's signature")

    def test_it_accepts_the_signature_that_stands_in_git(self, reader):
        shutil.copy(reader.file("03-*/model.sig"), reader.artifact / "model.sig")
        reader.confirms("The artifact's signature")

    def test_a_changed_byte_is_refused(self, reader):
        spoil(reader.artifact / "adapter_model.safetensors")
        reader.refuses("The artifact's signature", "Hash mismatch for", "adapter_model.safetensors")

    @pytest.mark.parametrize("name", ["loader.py", ".github/loader.py"])
    def test_an_added_file_is_refused(self, reader, name):
        (reader.artifact / name).parent.mkdir(exist_ok=True)
        (reader.artifact / name).write_text("print()")
        reader.refuses("The artifact's signature", "Extra files found", name)

    def test_without_the_page_s_option_a_file_under_a_git_folder_would_pass(self, reader):
        (reader.artifact / ".github").mkdir()
        (reader.artifact / ".github" / "loader.py").write_text("print()")
        assert reader.run("The artifact's signature", {" --no-ignore-git-paths": ""}).returncode == 0

    def test_another_key_is_refused(self, reader, tmp_path):
        swap = {'"$out/harness.pem"': other_key(tmp_path)}
        reader.refuses("The artifact's signature", "Key mismatch", swap=swap)


@pytest.mark.usefixtures("cosign")
class TestCosign:
    def test_it_accepts_record_and_evidence_and_needs_no_network(self, reader):
        reader.confirms("Records and evidence")

    @pytest.mark.parametrize("name", ["04-*/record.json", "02-*/evidence.json"])
    def test_a_changed_file_is_refused(self, reader, name):
        spoil(reader.file(name))
        reader.refuses("Records and evidence", "digest")

    def test_the_signature_of_another_record_is_refused(self, reader):
        shutil.copy(reader.file("03-*/record.sigstore.json"), reader.file("04-*/record.sigstore.json"))
        reader.refuses("Records and evidence", "digest")

    def test_another_key_is_refused(self, reader, tmp_path):
        swap = {'"$out/harness.pem"': other_key(tmp_path)}
        reader.refuses("Records and evidence", "accepted signatures do not match threshold", swap=swap)

    def test_a_statement_of_another_kind_is_refused(self, reader):
        reader.refuses("Records and evidence", "invalid predicate type", swap={RECORD: EVIDENCE})

    def test_a_changed_statement_is_refused(self, reader):
        path = reader.file("04-*/record.sigstore.json")
        bundle = json.loads(path.read_bytes())
        payload = bundle["dsseEnvelope"]["payload"]
        bundle["dsseEnvelope"]["payload"] = ("A" if payload[40] != "A" else "B").join((payload[:40], payload[41:]))
        path.write_text(json.dumps(bundle))
        reader.refuses("Records and evidence")


class TestTheAudit:
    """Its folder is the reader's to name, so the page's is swapped for it."""

    @pytest.fixture
    def audit(self, deployed_template, tmp_path):
        until = datetime.now(UTC).isoformat()
        words = ("audit", "--from", "2026-01-01", "--to", until, "--out", str(tmp_path / "audit"))
        result = deployed_template.modelsmith(*words)
        assert result.code == 0, result.out
        return tmp_path / "audit"

    def run(self, reader, audit):
        return reader.run("An audit", {"audit=~/audit": f"audit='{audit}'"})

    def test_it_is_signed_and_tells_every_change_and_approval(self, reader, audit, cosign):
        process = self.run(reader, audit)
        assert process.returncode == 0, process.stdout
        assert {"Verified OK", "pull request 4 approved by maya"} <= set(process.stdout.splitlines())

    def test_what_was_changed_breaks_the_seal(self, reader, audit, cosign):
        path = audit / "audit.json"
        path.write_bytes(path.read_bytes().replace(b"maya", b"noor"))
        assert "Verified OK" not in self.run(reader, audit).stdout

    def test_main_tells_what_the_harness_left_out(self, reader, audit, cosign, deployed_template):
        path = audit / "audit.json"
        document = json.loads(path.read_bytes())
        document["changes"][-1]["approvals"] = []
        data = canonical_json(document)
        path.write_bytes(data)
        signed = seal(statement("audit.json", data, AUDIT_TYPE, {}), deployed_template.harness_keys / "harness.pem")
        (audit / "audit.sigstore.json").write_bytes(signed)
        process = self.run(reader, audit)
        assert "Verified OK" in process.stdout
        assert "approvals of 4" in process.stdout


class TestOpenssl:
    def test_a_changed_record_is_refused(self, reader):
        spoil(reader.file("04-*/record.json"))
        reader.refuses("The same with openssl", "AssertionError")

    def test_another_key_is_refused(self, reader, tmp_path):
        swap = {'"$out/harness.pem"': other_key(tmp_path)}
        reader.refuses("The same with openssl", "Verification failure", swap=swap)

    def test_a_statement_of_another_kind_is_refused(self, reader):
        reader.refuses("The same with openssl", "AssertionError", swap={RECORD: EVIDENCE})


class TestTheApproval:
    def test_a_changed_statement_is_refused(self, reader):
        path = reader.file("04-*/receipts/approval-maya.json")
        path.write_text(path.read_text().replace('"reason":""', '"reason":"very good"'))
        reader.refuses("The approval", "Could not verify signature")

    def test_a_signature_for_another_purpose_is_refused(self, reader):
        swap = {"-n modelsmith-approval": "-n modelsmith-event"}
        reader.refuses("The approval", "Could not verify signature", swap=swap)

    def test_the_name_of_somebody_else_is_refused(self, reader):
        swap = {'"$(field "$approval" actor)"': "noor"}
        reader.refuses("The approval", "Could not verify signature", swap=swap)

    def test_a_key_of_somebody_else_under_her_name_is_refused(self, reader, deployed_template):
        path = reader.file("04-*/receipts/approval-maya.json")
        forged = ssh.sign(path.read_bytes(), deployed_template.folder / "people" / "noor", "modelsmith-approval")
        path.with_name(path.name + ".sig").write_text(forged)
        reader.refuses("The approval", "Could not verify signature")

    def test_the_keys_are_those_of_people_and_no_harness(self, reader, deployed_template):
        process = reader.run("The approval", {"for approval in": 'cat "$out/allowed_signers"; for approval in'})
        signers = [line.split(" ") for line in process.stdout.splitlines() if "namespaces=" in line]
        keys = {name: f"{kind} {body}" for name, _, kind, body in signers}
        people = deployed_template.folder / "people"
        assert keys == {name: ssh.public_key(people / name) for name in ("maya", "noor", "dana", "petra", "oli")}


class TestTheChange:
    def test_a_file_that_was_added_after_the_approval_is_refused(self, reader):
        git = Git(reader.clone)
        merge = git.text("log", "--first-parent", "-m", "--diff-filter=A", "--format=%H", "--", "*04-*/record.json")
        more = git.commit_files(merge, {".github/CODEOWNERS": b"* @maya\n"}, "More\n", SLY)
        swap = {'"$merge^1" "$merge"': f'"$merge^1" {more}'}
        reader.refuses("The change that it speaks of", swap=swap)

    def test_an_approval_of_another_change_is_refused(self, reader):
        path = reader.file("04-*/receipts/approval-maya.json")
        approval = json.loads(path.read_bytes())
        path.write_text(json.dumps(approval | {"change": "sha256:" + "0" * 64}))
        reader.refuses("The change that it speaks of")

    def test_a_rejection_is_no_approval(self, reader):
        path = reader.file("04-*/receipts/approval-maya.json")
        path.write_text(path.read_text().replace('"approve"', '"reject"'))
        reader.refuses("The change that it speaks of")
