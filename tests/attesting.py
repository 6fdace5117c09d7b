"""A job of the workflow that attests reviews: what main must hold for it, and what it signs."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import yaml
from sigstore_server import PrivateSigstore, workflow_claims

from modelsmith.promotion.attestation import attestation
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import ReviewsAttestation
from modelsmith.signing.dsse import seal
from modelsmith.signing.keyless import Ambient

WORKFLOW = ".github/workflows/modelsmith-reviews.yml"
SOURCE = Path(__file__).parents[1] / WORKFLOW
POLICY, PEOPLE = ".github/governance/policy.yaml", ".github/governance/people.yaml"
ROOT = ".github/governance/trust/sigstore.json"
BELIEVED = {
    "forge": "github",
    "issuer": "https://token.actions.githubusercontent.com",
    "repository": "acme/promotions",
    "repository_id": 4711,
    "owner_id": 42,
    "workflow": WORKFLOW,
    "events": ["workflow_run", "schedule", "workflow_dispatch"],
    "trust": "sigstore.json",
}


def governing(tree, sigstore: PrivateSigstore, accounts, **other) -> dict[str, bytes]:
    """Files by which main believes the workflow, and knows these accounts: id to (login, number)."""
    policy = yaml.safe_load(tree.read(POLICY)) | {"attested_forges": [BELIEVED | other]}
    people = yaml.safe_load(tree.read(PEOPLE))
    for person in people["people"]:
        if person["id"] in accounts:
            login, number = accounts[person["id"]]
            person |= {"logins": {"github": login}, "accounts": {"github": number}}
    documents = {POLICY: policy, PEOPLE: people}
    files = {path: yaml.safe_dump(document, sort_keys=False).encode() for path, document in documents.items()}
    return files | {ROOT: sigstore.trusted_root(), WORKFLOW: SOURCE.read_bytes()}


def review(login, number, state="APPROVED", **other):
    return {
        "review": 7, "login": login, "account": number, "kind": "User", "state": state, "commit": "0" * 40,
        "at": "2026-01-01T00:00:00Z",
    } | other  # fmt: skip


class Job:
    """Signs as a job whose token says this. ``folder``: for the instance's trust config."""

    def __init__(self, sigstore: PrivateSigstore, folder: Path) -> None:
        self.sigstore = sigstore
        self.config = folder / "trust-config.json"
        self.config.write_bytes(sigstore.trust_config())

    def sign(self, predicate: dict, **claims: str) -> bytes:
        token = self.sigstore.token(workflow_claims(sha=claims.pop("sha", predicate["base"]), **claims))
        parsed = ReviewsAttestation.model_validate_json(canonical_json(predicate))
        with mock.patch.dict(os.environ, {"SIGSTORE_ID_TOKEN": token}):
            return seal(attestation(parsed), Ambient(self.config))
