"""Makes the repositories that ``governance.py`` measures: whole histories of specialists, a pull request each step."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
import struct
import sys
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count, islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from modelsmith.artifacts.seal import seal
from modelsmith.evaluation.headline import headline
from modelsmith.evidence.bundle import Governing, Run, build, evidence_bytes
from modelsmith.forges.events import LoggedEvent, event_files, new_event, parse_event
from modelsmith.governance.routing import changes_routing
from modelsmith.governance.states import record_folder
from modelsmith.operations.init import InitRequest
from modelsmith.operations.init import run as init
from modelsmith.operations.init_people import HARNESS
from modelsmith.promotion.authors import Authorship
from modelsmith.promotion.governed_state import governed_state_after, read_governed_state
from modelsmith.promotion.merge_decision import MergeDecision, decide_tree
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.pulls import merge_message
from modelsmith.promotion.receipts import Merged, receipt_files
from modelsmith.promotion.records import RecordDraft, candidate_tag, next_record, routing_after
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.promotion.since import since
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.listing import REGULAR
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree_listing import FOLDER
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import canonical_json, content_digest, digest, file_digest
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence
from modelsmith.schema.promotion import (
    APPROVAL_NAMESPACE,
    EVENT_NAMESPACE,
    MERGE_NAMESPACE,
    RECORD_FILE,
    RECORD_SIGNATURE,
    RECORD_TYPE,
    TRAINING_FILE,
    Approval,
    Preparer,
    TrainingFacts,
)
from modelsmith.schema.pull import Change, PullEvent, PullRequest, Review, SignedApproval, SignedEvent
from modelsmith.schema.run import Cost, EngineFacts, RunResult, VerdictRow
from modelsmith.signing import dsse, ssh
from modelsmith.signing.dsse import statement
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE
from modelsmith.signing.keys import create_ssh_key
from modelsmith.signing.oms import sign_directory

CLUSTER = "rtb-pricing"
EVENTS: tuple[Event, ...] = (
    "candidate",
    "eval-accepted",
    "artifact-exported",
    "customer-deployed",
    "production-validated",
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
APPROVER = "maya"


@dataclass(frozen=True)
class Place:
    """One repository of the benchmark."""

    folder: Path
    promotions: int

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    @property
    def forge(self) -> Path:
        return self.folder / "clone.git"

    @property
    def approver_key(self) -> Path:
        return self.folder / APPROVER

    @property
    def pending(self) -> Path:
        """The pull request that is open, as JSON."""
        return self.folder / "pending.json"

    @property
    def harness_keys(self) -> Path:
        return next((self.folder / "home" / "keys").iterdir())

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "MODELSMITH_HOME": str(self.folder / "home")}


@cache
def _key(path: Path) -> Ed25519PrivateKey:
    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def sign(payload: bytes, key: Path, namespace: str) -> str:
    """The bytes that ``ssh-keygen -Y sign`` writes, since Ed25519 signs one thing in one way; without its process."""

    def joined(*parts: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    kind, said, hashed = b"ssh-ed25519", namespace.encode(), b"sha512"
    point = _key(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    proof = _key(key).sign(b"SSHSIG" + joined(said, b"", hashed, hashlib.sha512(payload).digest()))
    blob = b"SSHSIG\0\0\0\1" + joined(joined(kind, point), said, b"", hashed, joined(kind, proof))
    body = base64.b64encode(blob).decode()
    lines = [body[at : at + 70] for at in range(0, len(body), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


class ObjectWriter(ObjectReader):
    """Writes commits by itself, where `Git` starts a handful of processes for each."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._loose: list[str] = []

    def pack(self) -> None:
        """Put what was written since the last time into one pack: each step writes the folder of all specialists."""
        place = self.path / ".git" / "objects" / "pack" / "pack"
        self.run("pack-objects", "--quiet", str(place), input="".join(f"{oid}\n" for oid in self._loose).encode())
        self.run("prune-packed", "--quiet")
        self._loose.clear()

    def commit_files(
        self,
        parent: str | None,
        files: Mapping[str, bytes | None],
        message: str,
        author: Ident,
        extra_parents: Sequence[str] = (),
    ) -> str:
        """As `Git.commit_files`; nothing is ever removed here."""
        tree = self._edited(self.tree(parent) if parent else None, files)
        return self.commit_tree(tree, [*([parent] if parent else []), *extra_parents], message, author)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, author: Ident) -> str:
        """As `Git.commit_tree`."""
        who = f"{author.name} <{author.email}> {int(author.when.timestamp())} +0000"
        above = "".join(f"parent {parent}\n" for parent in parents)
        return self._write("commit", f"tree {tree}\n{above}author {who}\ncommitter {who}\n\n{message}".encode())

    def _edited(self, tree: str | None, files: Mapping[str, bytes | None]) -> str:
        entries = dict(self.entries(tree)) if tree else {}
        inner: dict[str, dict[str, bytes | None]] = {}
        for path, data in files.items():
            name, slash, rest = path.partition("/")
            if slash:
                inner.setdefault(name, {})[rest] = data
            else:
                assert data is not None
                entries[name] = (REGULAR, self._write("blob", data))
                self._remember({entries[name][1]: data})
        for name, below in inner.items():
            entries[name] = (FOLDER, self._edited(entries[name][1] if name in entries else None, below))
        in_order = sorted(entries.items(), key=lambda item: f"{item[0]}/" if item[1][0] == FOLDER else item[0])
        lines = [f"{mode.lstrip('0')} {name}\0".encode() + bytes.fromhex(oid) for name, (mode, oid) in in_order]
        written = self._write("tree", b"".join(lines))
        self._trees.keep(written, dict(in_order), sum(map(len, lines)))
        return written

    def _write(self, kind: str, data: bytes) -> str:
        content = f"{kind} {len(data)}\0".encode() + data
        oid = hashlib.sha1(content).hexdigest()
        path = self.path / ".git" / "objects" / oid[:2] / oid[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(content, 1))
            self._loose.append(oid)
        return oid


class Builder:
    """Makes promotions, one after the other. Every model knows the easy scenarios; candidates know most others too."""

    def __init__(self, place: Place, git: ObjectWriter) -> None:
        self.place, self.git = place, git
        self.main = read_governed_state(git, "main")
        self.cluster = load_cluster(self.main.tree, CLUSTER)
        self.governed = load_eval_set(self.main.tree, self.cluster.eval_set)
        self.wanted = expected_rows(self.governed)
        self.names = sorted({name for name, _, _ in self.wanted.values()})
        self.easy = set(self.names[::10]) | {name for name, _, critical in self.wanted.values() if critical}
        self.chance = random.Random("governance")
        self.base = self.incumbent = self._run("base", self.cluster.base_model.digest, self.easy)
        self.pem = place.harness_keys / "harness.pem"
        self.number = 0
        self.root = git.commit_tree(git.text("mktree"), [], "modelsmith pull request\n", Ident("m", "m@invalid", BEGIN))
        self.refs: dict[str, str] = {}

    @property
    def at(self) -> datetime:
        """The time of what happens to the current pull request: an hour after the one before."""
        return BEGIN + timedelta(hours=self.number)

    def histories(self) -> Iterator[tuple[RecordDraft, Event]]:
        """What is promoted to what, in order, without end."""
        for number in count():
            iteration, event = 1 + number // len(EVENTS), EVENTS[number % len(EVENTS)]
            if event == "candidate":
                draft = self._draft(iteration, self._artifact(iteration))
            elif event == "eval-accepted":
                self.evidence = self._evidence(draft)
                run = self.evidence.candidate
                draft = replace(
                    draft,
                    eval_run=run.run_id,
                    eval_tag=candidate_tag(CLUSTER, draft.iteration),
                    composite=run.headline.composite.value,
                )
            yield draft, event

    def propose(self, draft: RecordDraft, event: Event) -> PullRequest:
        """The pull request of a promotion, opened."""
        self.number += 1
        files = self._evidence_files(draft, event)
        record = next_record(self.main, event, draft, files)
        folder, data = record_folder(record), canonical_json(record)
        tree = {f"{folder}/{name}": content for name, content in files.items()}
        tree[f"{folder}/{RECORD_FILE}"] = data
        tree[f"{folder}/{RECORD_SIGNATURE}"] = dsse.seal(statement(RECORD_FILE, data, RECORD_TYPE, {}), self.pem)
        if changes_routing(record):
            tree[f"clusters/{CLUSTER}/routing.yaml"] = routing_after(self.main, record)
        base = self.main.tree.commit
        head = self.git.commit_files(base, tree, f"{draft.specialist}: {event}\n", self._who())
        self.change = self.git.change(base, head)
        opened = PullEvent(
            repository=self.main.policy.repository, pull=self.number, kind="opened", actor=HARNESS, at=self.at,
            head=head, base=base, change=self.change.digest(), previous=None,
            branch=f"promote/{draft.specialist}/{event}", title=f"{draft.specialist}: {event}",
            requester=HARNESS, body="Drawn from a seed.",
        )  # fmt: skip
        self.last = self._log(opened, (self.root, head))
        return PullRequest(
            number=self.number, title=opened.title or "", body=opened.body, status="open", branch=opened.branch or "",
            base=base, head=head, requester=HARNESS, preparer=HARNESS, opened_at=self.at,
            key=ssh.signing_key(self.last.signature),
            opening=SignedEvent(statement=self.last.statement.decode(), signature=self.last.signature),
        )  # fmt: skip

    def merge(self, pull: PullRequest, event: Event) -> None:
        """Approve it where a person must, judge it, and carry main forward."""
        if event in ("customer-deployed", "production-validated"):
            pull = pull.model_copy(update={"reviews": (self._approve(pull, self.change),)})
        tree = self.git.tree(pull.head)
        assert tree
        decided = decide_tree(
            self.git, self.main, tree, reviews=pull.reviews, requester=HARNESS, preparer=HARNESS,
            authorship=Authorship(frozenset(), frozenset()), latest_signed=self.at,
        )  # fmt: skip
        if not decided.decision.open:
            raise RuntimeError(f"{pull.title}: {decided.decision.refusals or decided.decision.waiting_for}")
        key = self.place.harness_keys / "harness-ssh"
        merge, tip = merge_commits(self.git, pull, decided, key, self.at)
        self._log(new_event(self.last, "merged", HARNESS, self.at, pull.base, merge=merge), (self.last.commit,))
        self.main = governed_state_after(self.main, tip)
        if event == "production-validated":
            self.incumbent = self.candidate
        self.refs["refs/heads/main"] = tip

    def _who(self) -> Ident:
        return Ident(HARNESS, f"{HARNESS}@modelsmith.invalid", self.at)

    def _approve(self, pull: PullRequest, change: Change) -> Review:
        said = Approval(
            repository=self.main.policy.repository, pull=pull.number, base=pull.base, change=change.digest(),
            verdict="approve",
            actor=APPROVER, at=self.at,
        )  # fmt: skip
        data = canonical_json(said)
        proof = SignedApproval(
            statement=data.decode(), signature=sign(data, self.place.approver_key, APPROVAL_NAMESPACE)
        )
        reviewed = new_event(self.last, "reviewed", APPROVER, self.at, pull.base, verdict="approve", change=said.change)
        self.last = self._log(reviewed, (self.last.commit,), proof)
        return Review(
            actor=APPROVER, verdict="approve", change=said.change, at=self.at, base=said.base, proof=proof,
            key=ssh.signing_key(proof.signature),
        )  # fmt: skip

    def _log(self, event: PullEvent, parents: tuple[str, ...], proof: SignedApproval | None = None) -> LoggedEvent:
        key = self.place.approver_key if event.actor == APPROVER else self.place.harness_keys / "harness-ssh"
        files = event_files(event, sign(canonical_json(event), key, EVENT_NAMESPACE), proof)
        commit = self.git.commit_files(None, files, f"{event.kind} {event.pull}\n", self._who(), parents)
        self.refs[f"refs/modelsmith/pulls/{event.pull}"] = commit
        return parse_event(commit, parents, files)

    def _artifact(self, iteration: int) -> Path:
        folder = self.place.folder / "artifacts" / str(iteration)
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"weights %d" % iteration)
        seal(folder)
        sign_directory(folder, self.pem)
        return folder

    def _draft(self, iteration: int, artifact: Path) -> RecordDraft:
        self.artifact = artifact
        identity = file_digest(artifact / SUMS_FILE)
        return RecordDraft(
            cluster=self.cluster,
            specialist=f"iter-{iteration:03d}-{identity.removeprefix('sha256:')[:8]}",
            artifact=identity,
            iteration=iteration,
            eval_run=None,
            eval_tag=None,
            composite=None,
            requested_by=HARNESS,
            prepared_by=Preparer(id=HARNESS, kind="harness"),
        )

    def _training(self, draft: RecordDraft) -> TrainingFacts:
        made = digest(["made", draft.iteration])
        settings = self.cluster.stages[0]
        return TrainingFacts(
            base_model=self.cluster.base_model.name, base_digest=self.cluster.base_model.digest, parent="base",
            method=settings.method, seed=settings.seed + draft.iteration - 1, rows=settings.rows, rows_digest=made,
            generators={one.id: content_digest(one) for one in self.governed.generators},
            reward=self.governed.rubric_digest, diagnosed_run=made, hyperparameters=content_digest(settings),
            steps=settings.steps, final_loss=0.5, toolkit="modelsmith 0",
        )  # fmt: skip

    def _rows(self, right: Container[str]) -> tuple[VerdictRow, ...]:
        """Verdicts on all that the eval set asks: these scenarios are right in every wording and point."""
        return tuple(
            VerdictRow(
                section=section,
                scenario=scenario,
                id=name,
                capability=capability,
                critical=critical,
                wording=wording,
                repeat=repeat,
                points={point.id: name in right for point in self.governed.rubric.points},
            )
            for (section, scenario, wording, repeat), (name, capability, critical) in self.wanted.items()
        )

    def _run(self, model: str, weights: str, right: Container[str]) -> Run:
        rows, rule = self._rows(right), effective_rule(self.governed, self.cluster)
        result = RunResult(
            run_id=digest(["run", model, weights]),
            tag=f"{model}-candidate",
            cluster=CLUSTER,
            model=model,
            weights=weights,
            question=self.governed.question(),
            rubric=self.governed.rubric_digest,
            eval_set=self.cluster.eval_set,
            eval_set_version=self.governed.evalset.version,
            eval_tree="0" * 40,
            engine=EngineFacts(substrate="transformers", version="transformers 0", dtype="float32", device="cpu"),
            rule=rule,
            headline=headline(rows, None, rule),
            incumbent=None,
            cost=Cost(
                p50_seconds=1.0, p95_seconds=1.0, prompt_tokens=1, completion_tokens=1, tokens_per_second=1.0,
                cost_per_decision=0.0, currency="EUR",
            ),
            sections=("core", "robustness", "micro", "held_out"),
            quick=False,
            attempts=1,
            scenarios=len(rows),
            executed=len(rows),
            started_at=BEGIN,
            duration_seconds=1.0,
        )  # fmt: skip
        return Run(result, rows)

    def _evidence(self, draft: RecordDraft) -> Evidence:
        hard = set(self.chance.sample(self.names, 4))
        self.candidate = self._run(draft.specialist, draft.artifact, set(self.names) - hard | self.easy)
        baselines = [] if self.incumbent is self.base else [self.base]
        tree = self.main.tree.folder_id(self.governed.folder)
        assert tree
        return build(
            Governing(self.governed, self.cluster, tree, since(self.main, self.cluster, self.incumbent.result.model)),
            draft.specialist, self.candidate, self.incumbent, baselines, self._training(draft), 0.5, {},
        )  # fmt: skip

    def _evidence_files(self, draft: RecordDraft, event: Event) -> dict[str, bytes]:
        if event == "candidate":
            return {TRAINING_FILE: canonical_json(self._training(draft))}
        if event == "artifact-exported":
            return {name: (self.artifact / name).read_bytes() for name in (SUMS_FILE, SIGNATURE_FILE)}
        if event == "eval-accepted":
            data = evidence_bytes(self.evidence)
            signed = dsse.seal(statement(EVIDENCE_FILE, data, EVIDENCE_TYPE, {}), self.pem)
            files = {EVIDENCE_FILE: data, EVIDENCE_SIGNATURE: signed}
            return files | packet_files(self.main, next_record(self.main, event, draft, files), files)
        return packet_files(self.main, next_record(self.main, event, draft, {}), {})


def merge_commits(git: Git, pull: PullRequest, decided: MergeDecision, key: Path, at: datetime) -> tuple[str, str]:
    """The merge of a pull request, and the commit of its receipts on top, signed for with the harness's SSH key."""
    who = Ident(HARNESS, f"{HARNESS}@modelsmith.invalid", at)
    merge = git.commit_tree(decided.tree, [pull.base, pull.head], merge_message(pull, decided), who)
    merged = Merged(merge, HARNESS, at)

    def signed(receipt: bytes) -> bytes:
        return sign(receipt, key, MERGE_NAMESPACE).encode()

    receipts = dict(receipt_files(pull, decided.change, decided.decision, merged, signed))
    return merge, git.commit_files(merge, receipts, f"Receipts of pull request {pull.number}\n", who)


def make_repository(place: Place) -> None:
    """Build clone and forge; the file ``pending.json``, written last, says that they are complete."""
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    create_ssh_key(place.approver_key, f"{APPROVER}@bench.invalid")
    workspace = Workspace(place.folder, home=place.folder / "home")
    enrol = (f"head-of-trading={APPROVER}.pub",)
    init(workspace, InitRequest(directory=Path("clone"), forge="clone.git", people=enrol))
    with ObjectWriter(place.clone) as git:
        builder = Builder(place, git)
        histories = builder.histories()
        for draft, event in islice(histories, place.promotions):
            builder.merge(builder.propose(draft, event), event)
            if builder.number % 500 == 0:
                git.pack()
            if builder.number % 50 == 0:
                sys.stderr.write(f"built {builder.number} of {place.promotions}\n")
        pending = builder.propose(*next(histories))
    updates = "".join(f"update {ref} {commit}\n" for ref, commit in builder.refs.items())
    Git(place.clone).run("update-ref", "--stdin", input=updates.encode())
    Git(place.clone).run("reset", "--quiet", "--hard")
    Git(place.clone).run("gc", "--quiet")
    Git(place.forge).run("fetch", "--quiet", str(place.clone), "+refs/*:refs/*")
    Git(place.forge).run("gc", "--quiet")
    place.pending.write_text(pending.model_dump_json())
