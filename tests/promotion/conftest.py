"""A real promotion repository in git, and specialists whose records are committed straight to its history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pytest

from modelsmith.governance.routing import changes_routing
from modelsmith.governance.states import record_folder
from modelsmith.operations.init import InitRequest, run
from modelsmith.promotion.judge import commit_authors, judge_tree
from modelsmith.promotion.main import Main, read_main
from modelsmith.promotion.receipts import MERGE_RECEIPT, receipt_files
from modelsmith.promotion.records import Facts, next_record, routing_after
from modelsmith.repository.git import Git, Signature
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.promotion import (
    APPROVAL_NAMESPACE,
    RECORD_FILE,
    RECORD_SIGNATURE,
    RECORD_TYPE,
    Approval,
    Preparer,
    PromotionRecord,
    Receipt,
)
from modelsmith.schema.pull import PullRequest, Review, SignedApproval
from modelsmith.signing import ssh
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.keys import create_ssh_key

AT = datetime(2026, 1, 1, tzinfo=UTC)
HARNESS = Signature("modelsmith-harness", "modelsmith-harness@example.org", AT)
WHO = Signature("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))
LIFE = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed", "production-validated")


@dataclass(frozen=True)
class Repository:
    """A repository and the commit of it that a test looks at."""

    git: Git
    key: Path
    tip: str
    people: Path = Path()
    """Folder of everybody's SSH keys."""

    @cached_property
    def main(self) -> Main:
        return read_main(self.git, self.tip)

    def facts(self, number: int = 1, sums: bytes | None = None, **other) -> Facts:
        artifact = sha256(sums or b"artifact %d" % number)
        cluster = load_cluster(self.main.tree, "rtb-pricing")
        facts = Facts(
            cluster=cluster,
            specialist=f"iter-{number:03d}-{artifact.removeprefix('sha256:')[:8]}",
            artifact=artifact,
            iteration=number,
            eval_run=None,
            eval_tag=None,
            composite=None,
            requested_by="modelsmith-harness",
            prepared_by=Preparer(id="modelsmith-harness", kind="harness"),
        )
        return replace(facts, **other)

    def commit(self, files) -> Repository:
        return replace(self, tip=self.git.commit_files(self.tip, files, "A change\n", WHO))

    def files_of(self, record: PromotionRecord, evidence=None):
        """What a pull request of this record holds: signed, with its evidence and the rendered routing."""
        folder, data = record_folder(record), canonical_json(record)
        files = {f"{folder}/{name}": content for name, content in (evidence or {}).items()}
        files[f"{folder}/{RECORD_FILE}"] = data
        files[f"{folder}/{RECORD_SIGNATURE}"] = seal(statement(RECORD_FILE, data, RECORD_TYPE, {}), self.key)
        if changes_routing(record):
            files[f"clusters/{record.cluster}/routing.yaml"] = routing_after(self.main, record)
        return files

    def after(self, *events: str, number: int = 1, approved: datetime | None = None, evidence=None) -> Repository:
        """The repository after these events of one specialist, with a receipt for each.

        Events carry ``evidence``, else none; ``approved`` is the time of maya's approval of each of them.
        """
        here = self
        for event in events:
            record = next_record(here.main, event, here.facts(number), evidence or {})
            here = here.commit(here.files_of(record, evidence))
            folder = f"{record_folder(record)}/receipts"
            receipt = Receipt(
                pull=record.sequence, change=sha256(b"change"), gate="harness", requested_by="modelsmith-harness",
                prepared_by="modelsmith-harness", checks=("record",),
                approvals={"maya": "approval-maya.json"} if approved else {},
            )  # fmt: skip
            files = {f"{folder}/{MERGE_RECEIPT}": canonical_json(receipt)}
            if approved:
                said = Approval(
                    repository=here.main.policy.repository, pull=record.sequence, change=receipt.change,
                    verdict="approve", actor="maya", at=approved,
                )  # fmt: skip
                files[f"{folder}/approval-maya.json"] = canonical_json(said)
            here = here.commit(files)
        return here

    def merge(self, files, approvals=(), *, number=1, at=AT, smuggled=False) -> Repository:
        """A pull request of these files, opened by the harness, as main holds it: a merge, then its receipts.

        ``approvals`` are (person, key) pairs. A gate that stays shut fails, unless the merge is ``smuggled`` past it.
        """
        head = self.git.commit_files(self.tip, files, "Proposal\n", HARNESS)
        tree = self.git.merge_tree(self.tip, head)
        change = self.git.change(self.tip, tree)
        reviews = tuple(self.review(change, number, *approval, at) for approval in approvals)
        judgement = judge_tree(
            self.git, self.main, tree, reviews=reviews, requester=HARNESS.name, preparer=HARNESS.name,
            authors=commit_authors(self.git, self.tip, head),
        )  # fmt: skip
        assert smuggled or judgement.decision.open, judgement.decision
        pull = PullRequest(
            number=number, status="open", branch="b", title="t", body="", requester=HARNESS.name,
            preparer=HARNESS.name, head=head, base=self.tip, reviews=reviews, opened_at=at,
        )  # fmt: skip
        merge = self.git.commit_tree(tree, [self.tip, head], f"Merge pull request {number}\n", WHO)
        receipts = dict(receipt_files(pull, change, judgement.decision))
        return replace(self, tip=self.git.commit_files(merge, receipts, f"Receipts of {number}\n", WHO))

    def review(self, change, number, person, key, at):
        statement = Approval(
            repository=self.main.policy.repository, pull=number, change=change.digest(), verdict="approve",
            actor=person, at=at,
        )  # fmt: skip
        data = canonical_json(statement)
        proof = SignedApproval(statement=data.decode(), signature=ssh.sign(data, self.people / key, APPROVAL_NAMESPACE))
        return Review(actor=person, verdict="approve", change=change.digest(), at=at, proof=proof)

    def proposed(self, files):
        """The tree with these files on top, and what changed."""
        commit = self.git.commit_files(self.tip, files, "Proposal\n", WHO)
        return Revision(self.git, commit), self.git.change(self.tip, commit)


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Repository:
    """Just made by `modelsmith init`; commits are added to the object database only, so tests may share it."""
    folder = tmp_path_factory.mktemp("promotion")
    for name in ("maya", "petra", "petra-new", "mallory"):
        create_ssh_key(folder / name, f"{name}@example.org")
    workspace = Workspace(folder, home=folder / "home")
    people = ("head-of-trading=maya.pub", "platform=petra.pub")
    run(workspace, InitRequest(directory=Path("clone"), people=people))
    git = Git(folder / "clone")
    tip = git.rev("main")
    assert tip
    return Repository(git, next((folder / "home" / "keys").iterdir()) / "harness.pem", tip, folder)
