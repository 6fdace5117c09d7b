"""A real promotion repository in git, and specialists whose records are committed straight to its history."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pytest
import yaml
from openings import opened
from trained import trained

from modelsmith.governance.routing_chain import changes_routing
from modelsmith.governance.states import record_folder
from modelsmith.operations.init import InitRequest, run
from modelsmith.promotion.authors import Commits, authorship
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.merge_decision import decide_merge, decide_tree
from modelsmith.promotion.receipting import refuse_unless_open
from modelsmith.promotion.receipts import MERGE_RECEIPT, Merged, receipt_files
from modelsmith.promotion.records import RecordDraft, next_record, routing_after
from modelsmith.promotion.verify import replay
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.promotion import (
    APPROVAL_NAMESPACE,
    MERGE_NAMESPACE,
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
from modelsmith.signing.ssh import public_key, sign

AT = datetime(2026, 1, 1, tzinfo=UTC)
HARNESS = Ident("modelsmith-harness", "modelsmith-harness@example.org", AT)
WHO = Ident("Somebody", "somebody@example.org", datetime(2026, 1, 1, tzinfo=UTC))
LIFE = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed", "production-validated")


def signer(key):
    """Signs the receipt of a merge."""
    return lambda payload: ssh.sign(payload, key, MERGE_NAMESPACE).encode()


def signed_again(files, key):
    """Receipts whose merge receipt was edited, signed by whoever holds the key."""
    path = next((path for path, data in files.items() if path.endswith("/merge.json") and data is not None), None)
    return files | {f"{path}.sig": signer(key)(files[path])} if path else files


@dataclass(frozen=True)
class Repository:
    """A repository and the commit of it that a test looks at."""

    git: Git
    key: Path
    tip: str
    people: Path = Path()
    """Folder of everybody's SSH keys."""

    @cached_property
    def main(self) -> GovernedState:
        return read_governed_state(self.git, self.tip)

    def draft(self, number: int = 1, sums: bytes | None = None, **other) -> RecordDraft:
        artifact = sha256(sums or b"artifact %d" % number)
        cluster = load_cluster(self.main.tree, "rtb-pricing")
        facts = RecordDraft(
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
            record = next_record(here.main, event, here.draft(number), evidence or {})
            here = here.commit(here.files_of(record, evidence))
            folder = f"{record_folder(record)}/receipts"
            receipt = Receipt(
                pull=record.sequence, change=sha256(b"change"), merge=here.tip, merged_by="modelsmith-harness",
                at=approved or AT, gate="harness", requested_by="modelsmith-harness",
                prepared_by="modelsmith-harness", checks=("record",),
                approvals={"maya": "approval-maya.json"} if approved else {},
            )  # fmt: skip
            files = {f"{folder}/{MERGE_RECEIPT}": canonical_json(receipt)}
            if approved:
                approval = Approval(
                    repository=here.main.policy.repository, pull=record.sequence, base=here.tip,
                    change=receipt.change, verdict="approve", actor="maya", at=approved,
                )  # fmt: skip
                files[f"{folder}/approval-maya.json"] = canonical_json(approval)
            here = here.commit(files)
        return here

    def merge(
        self, files, approvals=(), *, number=1, at=AT, smuggled=False, opened_on=None, approved_on=None
    ) -> Repository:
        """A pull request of these files, opened by the harness, as main holds it: a merge, then its receipts.

        ``approvals`` are (person, key) pairs. A gate that stays shut fails, unless the merge is ``smuggled`` past it.
        What is signed names this main, or those on which it was ``opened_on`` and ``approved_on``.
        """
        head = self.git.commit_files(self.tip, files, "Proposal\n", HARNESS)
        tree = self.git.merge_tree(self.tip, head)
        change = self.git.change(self.tip, tree)
        given_on = replace(self, tip=approved_on or self.tip)
        reviews = tuple(given_on.review(change, number, *approval, at) for approval in approvals)
        written = Commits(self.git, self.tip, head).take(head, self.main.policy.limits)
        decided = decide_tree(
            self.git, self.main, tree, reviews=reviews, requester=HARNESS.name, preparer=HARNESS.name,
            authorship=authorship(written, self.main.people), latest_signed=at,
        )  # fmt: skip
        assert smuggled or decided.decision.open, decided.decision
        pull = PullRequest(
            number=number, status="open", branch="b", title="t", body="", requester=HARNESS.name,
            preparer=HARNESS.name, head=head, base=opened_on or self.tip, reviews=reviews, opened_at=at,
        )  # fmt: skip
        pull = opened(pull, self.main.policy.repository, change.digest(), self.key.with_name("harness-ssh"))
        merge = self.git.commit_tree(tree, [self.tip, head], f"Merge pull request {number}\n", WHO)
        decision = replace(decided.decision, approvals=reviews) if smuggled else decided.decision
        signed, merged = signer(self.key.with_name("harness-ssh")), Merged(merge, HARNESS.name, at)
        receipts = dict(receipt_files(pull, change, decision, merged, signed))
        return replace(self, tip=self.git.commit_files(merge, receipts, f"Receipts of {number}\n", WHO))

    def review(self, change, number, person, key, at):
        statement = Approval(
            repository=self.main.policy.repository, pull=number, base=self.tip, change=change.digest(),
            verdict="approve", actor=person, at=at,
        )  # fmt: skip
        data = canonical_json(statement)
        proof = SignedApproval(statement=data.decode(), signature=ssh.sign(data, self.people / key, APPROVAL_NAMESPACE))
        return Review(
            actor=person, verdict="approve", change=change.digest(), at=at, base=self.tip, proof=proof,
            key=public_key(self.people / f"{key}.pub"),
        )  # fmt: skip

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


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOTES = {"notes.md": b"A note.\n"}


class Line:
    """Main as it grows: merges judged and attested by the product, without a forge, in one clone's object database.

    ``keys``: folder with everyone's private key.
    """

    def __init__(self, git: Git, tip: str, keys: Path, harness: Path) -> None:
        self.git, self.tip, self.keys, self.harness = git, tip, keys, harness
        self.start = tip
        self.pulls = 0

    def main(self):
        return read_governed_state(self.git, self.tip)

    def edited(self, path, change):
        """A governed YAML file after an edit of what it says."""
        document = yaml.safe_load(self.main().tree.read(path))
        change(document)
        return {path: yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()}

    def person(self, document, name):
        return next(person for person in document["people"] if person["id"] == name)

    def public(self, name):
        return public_key(self.keys / f"{name}.pub")

    def pull(self, files=NOTES, preparer="modelsmith-harness", head=None, **other):
        """An open pull request of these files; add reviews with `approved`."""
        self.pulls += 1
        head = head or self.git.commit_files(self.tip, files, "A change\n", WHO)
        facts = {
            "number": self.pulls, "title": "A change", "body": "", "status": "open", "branch": f"b{self.pulls}",
            "base": self.tip, "head": head, "requester": preparer, "preparer": preparer, "opened_at": NOON,
        }  # fmt: skip
        pull = PullRequest(**(facts | other))
        key = self.harness.with_name("harness-ssh") if pull.preparer == HARNESS.name else self.keys / pull.preparer
        return opened(pull, self.main().policy.repository, self.change(pull), key)

    def change(self, pull):
        return self.git.change(self.tip, self.git.merge_tree(self.tip, pull.head)).digest()

    def approved(self, pull, actor, at=NOON, key=None, **other):
        """The pull request with one more approval, signed with a real key."""
        facts = {
            "repository": self.main().policy.repository, "pull": pull.number, "base": self.tip,
            "change": self.change(pull), "verdict": "approve", "actor": actor, "at": at,
        }  # fmt: skip
        payload = canonical_json(Approval(**(facts | other)))
        proof = SignedApproval(
            statement=payload.decode(), signature=sign(payload, self.keys / (key or actor), APPROVAL_NAMESPACE)
        )
        approval = Approval.model_validate_json(payload)
        review = Review(
            actor=actor,
            verdict=approval.verdict,
            change=approval.change,
            at=at,
            base=approval.base,
            proof=proof,
            key=self.public(key or actor),
        )
        return self._with(pull, review)

    def decide(self, pull, now=NOON):
        return decide_merge(read_governed_state(self.git, self.tip), pull, now)

    def land(self, pull, now=NOON, edit=None):
        """Merge it as `modelsmith pr merge` does. ``edit`` changes the receipts, as someone with the disk could."""
        decided = self.decide(pull, now)
        if edit is None:
            refuse_unless_open(pull, decided)
        merge = self.git.commit_tree(decided.tree, [self.tip, pull.head], "Merge\n", WHO)
        decision = decided.decision
        if edit:
            signed_ones = [review for review in pull.reviews if review.verdict == "approve"]
            attested = [review for review in decision.approvals if review.attestation]
            decision = replace(decision, approvals=(*signed_ones, *attested))
        merged = Merged(merge, HARNESS.name, now)
        signed = signer(self.harness.with_name("harness-ssh"))
        files = receipt_files(pull, decided.change, decision, merged, signed)
        if edit:
            files = signed_again(edit(files), self.harness.with_name("harness-ssh"))
        self.tip = self.git.commit_files(merge, files, "Receipts\n", WHO)
        return self

    def verify(self):
        log = self.git.first_parent_log(self.tip)
        steps = log[[commit.id for commit in log].index(self.start) + 1 :]
        return replay(self.git, self.start, steps, lambda _: None, datetime.now(UTC))

    def signed_commit(self, files, key, parent=None, author="Somebody <somebody@example.org>"):
        """A commit signed the way ``git commit -S`` does with an SSH key."""
        parent = parent or self.tip
        unsigned = self.git.commit_files(parent, files, "A change\n", WHO)
        tree = self.git.text("rev-parse", f"{unsigned}^{{tree}}")
        name, _, mail = author.partition(" <")
        environment = {
            "GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail.rstrip(">"), "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": mail.rstrip(">"), "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin:/bin",
        }  # fmt: skip
        config = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.keys / key}"]
        done = subprocess.run(
            ["git", "-C", self.git.path, *config, "commit-tree", "-S", tree, "-p", parent, "-m", "A signed change"],
            capture_output=True, text=True, env=environment, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def _with(self, pull, review):
        return pull.model_copy(update={"reviews": (*pull.reviews, review)})


@pytest.fixture(scope="session")
def line_template(tmp_path_factory):
    """A repository with people for every role, two of them for the platform; and who is nobody there."""
    folder = tmp_path_factory.mktemp("line")
    people = {"petra": "platform", "piet": "platform", "maya": "head-of-trading", "dana": "domain-lead"}
    for name in (*people, "petra-new", "maya-new", "stranger"):
        create_ssh_key(folder / name, f"{name}@example.org")
    enrolled = tuple(f"{role}={name}.pub" for name, role in people.items())
    run(Workspace(folder, home=folder / "home"), InitRequest(directory=Path("clone"), people=enrolled))
    git = Git(folder / "clone")
    return git, git.rev("main"), folder, next((folder / "home" / "keys").iterdir()) / "harness.pem"


@pytest.fixture
def line(line_template) -> Line:
    """Main of such a repository; objects are shared between tests, refs are not used."""
    return Line(*line_template)


def candidate(here, number):
    """Files of a candidate's pull request, as the harness makes them."""
    facts = trained(here.main.tree, number)
    evidence = {"training.json": canonical_json(facts)}
    return here.files_of(next_record(here.main, "candidate", here.draft(number), evidence), evidence)
