"""The commands under "Check it yourself" of a packet, run as a reviewer would: pasted into a shell in a clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.usefixtures("cosign")


def pasted(reader, packet="04-*/packet.md"):
    """The lines of the packet from the key to cosign's last."""
    block = reader.file(packet).read_text().split("### Check it yourself")[1].split("```sh\n")[1].split("```")[0]
    return re.search(r"(?ms)^key=.*?^cosign .*?evidence\.json$", block).group()


def shell(reader, commands):
    environment = {
        "PATH": os.pathsep.join([str(reader.tools), os.environ["PATH"]]),
        "HOME": str(reader.tools),
        "TMPDIR": str(reader.tools),
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    return subprocess.run(
        ["sh", "-c", commands], cwd=reader.clone, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
    )  # fmt: skip


def refused(reader, saying):
    process = shell(reader, pasted(reader))
    assert process.returncode != 0
    assert saying in process.stdout


@pytest.mark.parametrize("packet", ["02-*/packet.md", "04-*/packet.md"])
def test_the_evidence_that_the_packet_was_made_of_is_accepted(reader, packet):
    process = shell(reader, pasted(reader, packet))
    assert process.returncode == 0, process.stdout
    assert "Verified OK" in process.stdout


def test_evidence_that_was_edited_is_refused(reader):
    path = reader.file("02-*/evidence.json")
    path.write_bytes(path.read_bytes() + b" ")
    refused(reader, "digest")


def test_a_statement_of_another_kind_about_the_very_file_is_refused(reader):
    """The harness did sign a record; that is no evidence, whatever lies beside it under evidence's name."""
    for suffix in ("json", "sigstore.json"):
        shutil.copy(reader.file(f"04-*/record.{suffix}"), reader.file(f"02-*/evidence.{suffix}"))
    refused(reader, "invalid predicate type")


def test_the_bundle_of_another_file_is_refused(reader):
    shutil.copy(reader.file("04-*/record.sigstore.json"), reader.file("02-*/evidence.sigstore.json"))
    refused(reader, "digest")


def test_another_key_is_refused(reader):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (reader.clone / ".github" / "governance" / "trust" / "harness.pem").write_bytes(pem)
    refused(reader, "accepted signatures do not match threshold")


def test_a_signature_that_is_missing_is_refused(reader):
    path = reader.file("02-*/evidence.sigstore.json")
    bundle = json.loads(path.read_bytes())
    bundle["dsseEnvelope"]["signatures"] = []
    path.write_text(json.dumps(bundle))
    refused(reader, "no signature")
