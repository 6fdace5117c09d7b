"""Targets: what a replay reads besides records: git's objects, times, attestations, orders, and its own memory."""

from __future__ import annotations

from types import SimpleNamespace

from typing_extensions import override

from fuzz.examples import example
from fuzz.proofs import people, signed
from fuzz.target import BETWEEN, ROOT, Target, each, parts, scratch, ssh_key
from modelsmith.promotion import attestation, remembered, rollbacks
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.promotion import (
    ATTESTATION_TYPE,
    ROLLBACK_FILE,
    Approval,
    AttestedReview,
    ReviewsAttestation,
    RollbackOrder,
)
from modelsmith.schema.workflows import SignedBy
from modelsmith.signing import dsse, ssh

CHANGE = sha256(b"change")
POLICY = example(Policy, repository="cause.first")


class Given(ObjectReader):
    """Objects whose content fits their id, whatever it is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(ROOT)
        self.data = data

    @override
    def _read(self, oid: str, kind: str) -> bytes:
        return self.data


def read_git_tree(data: bytes) -> object:
    return Given(data).entries("5a" * 20)


def git_tree_seeds() -> list[bytes]:
    entries = ((b"100644", b"a"), (b"100755", b"b"), (b"40000", b"c"))
    return [b"", b"".join(b"%s %s\0%s" % (mode, name, b"Z" * 20) for mode, name in entries)]


def read_git_commit(data: bytes) -> object:
    return Given(data).commit("5a" * 20)


def git_commit_seeds() -> list[bytes]:
    ident = b"Maya <maya@example.org> 1767225600 +0000\n"
    links = b"tree " + b"5a" * 20 + b"\nparent " + b"a5" * 20 + b"\n"
    return [links + b"author " + ident + b"committer " + ident + b"\nA change\n\nAnd why.\n"]


def read_signing_key(data: bytes) -> object:
    return ssh.signing_key(data.decode("utf-8", "replace"))


def signature_seeds() -> list[bytes]:
    return [ssh.sign(b"payload", ssh_key(), "modelsmith-approval").encode()]


NOBODY = example(SignedBy)
"""A certificate of somebody's."""


def attested() -> bytes:
    """A statement that a workflow may sign: Maya's approval at a forge."""
    claimed_review = example(AttestedReview, login="maya-t", account=7, kind="User", state="APPROVED")
    predicate = example(
        ReviewsAttestation,
        repository=POLICY.repository,
        pull=1,
        change=CHANGE,
        forge="github",
        reviews=[claimed_review.model_dump(mode="json")],
    ).model_dump(mode="json")
    return canonical_json(dsse.statement(attestation.SUBJECT, CHANGE, ATTESTATION_TYPE, predicate))


def at_github() -> People:
    """Maya, whose account at the forge is in people.yaml."""
    maya = people().people[0].model_copy(update={"logins": {"github": "maya-t"}, "accounts": {"github": 7}})
    return People(roles={}, people=(maya,))


def read_attestation(data: bytes) -> object:
    """What an attestation says, whoever signed it, as the people of main would read it."""
    main = SimpleNamespace(policy=POLICY, people=at_github())

    def verdicts_of(payload: bytes) -> object:
        bundle = signed(payload)
        claim = attestation.claimed(bundle)
        return attestation.verdicts(attestation.Attested(claim, NOBODY, 24, bundle.decode()), main)

    return each(data, verdicts_of)


def read_claim(data: bytes) -> object:
    return each(data, attestation.claimed)


def read_signed_time(data: bytes) -> object:
    """The first line names the receipt."""
    name, text = parts(data, 2)
    path = f"receipts/{name.decode('utf-8', 'replace')}"
    return each(text, lambda spelling: attestation.approved_at(at_github(), "maya", path, spelling))


def signed_time_seeds() -> list[bytes]:
    return [
        b"approval-maya.json" + BETWEEN + canonical_json(example(Approval)),
        b"attested-maya.sigstore.json" + BETWEEN + signed(attested()),
    ]


def read_memory(data: bytes) -> object:
    (scratch() / remembered.MEMORY_FILE).write_bytes(data)
    return remembered.recall(scratch())


def memory_seeds() -> list[bytes]:
    return [canonical_json(remembered.Verified.nothing("0.1.0", sha256(b"root"), "5a" * 20))]


def read_rollback_order(data: bytes) -> object:
    return each(data, lambda spelling: rollbacks.read_order({ROLLBACK_FILE: spelling}))


TARGETS = (
    Target("git-tree", read_git_tree, git_tree_seeds),
    Target("git-commit", read_git_commit, git_commit_seeds),
    Target("signing-key", read_signing_key, signature_seeds),
    Target("attestation", read_attestation, lambda: [attested()]),
    Target("claim", read_claim, lambda: [signed(attested())]),
    Target("signed-time", read_signed_time, signed_time_seeds),
    Target("memory", read_memory, memory_seeds),
    Target("rollback-order", read_rollback_order, lambda: [canonical_json(example(RollbackOrder))]),
)
