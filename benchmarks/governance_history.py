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
from typing_extensions import override

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
from modelsmith.repository.listing import REGULAR, Entry
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree_listing import FOLDER, TreeListing
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
        self._new: dict[str, tuple[str, bytes]] = {}
        """Kind and content of what no pack holds yet."""

    def pack(self) -> None:
        """Write what is new as one pack: a file for each would fill the disk. Format: git's gitformat-pack."""
        parts = [b"PACK" + struct.pack(">II", 2, len(self._new))]
        for kind, data in self._new.values():
            parts += [_pack_header(kind, len(data)), zlib.compress(data, 0 if kind == "tree" else 1)]
        pack = b"".join(parts)
        named = hashlib.sha1(pack)
        path = self.path / ".git" / "objects" / "pack" / f"pack-{named.hexdigest()}.pack"
        path.write_bytes(pack + named.digest())
        self.run("index-pack", str(path))
        self._new.clear()

    @override
    def _read(self, oid: str, kind: str) -> bytes:
        found = self._new.get(oid)
        return found[1] if found and found[0] == kind else super()._read(oid, kind)

    @override
    def _read_together(self, oids: Sequence[str]) -> dict[str, bytes]:
        found = {oid: self._read(oid, "blob") for oid in oids if oid in self._new}
        others = [oid for oid in oids if oid not in found]
        return found | (super()._read_together(others) if others else {})

    @override
    def _known(self, oid: str) -> tuple[str, int] | None:
        found = self._new.get(oid)
        return (found[0], len(found[1])) if found else super()._known(oid)

    @override
    def _named(self, name: str, kind: str) -> str | None:
        found = self._new.get(name)
        if found and (found[0], kind) == ("commit", "tree"):
            return self.commit(name).tree
        return super()._named(name, kind)

    @override
    def text(self, *args: str, input: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """As `Git.text`; which commits of main touched some paths is looked up here, without a process."""
        if args[:3] == ("rev-list", "--first-parent", "--reverse") and args[4] == "--":
            return "\n".join(self._touching(args[3], args[5:]))
        return super().text(*args, input=input, env=env)

    def _touching(self, commits: str, paths: Sequence[str]) -> list[str]:
        begun, dots, tip = commits.rpartition("..")
        found: list[str] = []
        at = self.commit(tip)
        while not dots or at.id != begun:
            before = self.listing(at.parents[0]) if at.parents else None
            now = self.listing(at.id)
            if any(_found(now, path) != (_found(before, path) if before else None) for path in paths):
                found.append(at.id)
            if not at.parents:
                break
            at = self.commit(at.parents[0])
        return found[::-1]

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
        known = entries.keys() >= {path.partition("/")[0] for path in files}
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
        in_order = [*entries.items()]
        if not known:
            in_order.sort(key=lambda item: f"{item[0]}/" if item[1][0] == FOLDER else item[0])
        lines = [_line(name, entry) for name, entry in in_order]
        written = self._write("tree", b"".join(lines))
        self._trees.keep(written, dict(in_order), sum(map(len, lines)))
        return written

    def _write(self, kind: str, data: bytes) -> str:
        oid = hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()
        if oid not in self._new:
            self._new[oid] = kind, data
        return oid


def _pack_header(kind: str, size: int) -> bytes:
    """Kind and size of an object in a pack, seven bits a byte after the first four."""
    out, byte, size = bytearray(), {"commit": 1, "tree": 2, "blob": 3}[kind] << 4 | size & 15, size >> 4
    while size:
        out.append(byte | 128)
        byte, size = size & 127, size >> 7
    return bytes([*out, byte])


@cache
def _line(name: str, entry: Entry) -> bytes:
    """An entry as the object of its folder has it; a folder of many is written anew for one that changed."""
    return f"{entry[0].lstrip('0')} {name}\0".encode() + bytes.fromhex(entry[1])


def _found(listing: TreeListing, path: str) -> object:
    return listing.folder(path) or listing.entry(path)


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
        """The time of what happens to the current pull request: 20 minutes after that of the one before."""
        return BEGIN + timedelta(minutes=20 * self.number)

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
        approval = Approval(
            repository=self.main.policy.repository, pull=pull.number, base=pull.base, change=change.digest(),
            verdict="approve",
            actor=APPROVER, at=self.at,
        )  # fmt: skip
        data = canonical_json(approval)
        proof = SignedApproval(
            statement=data.decode(), signature=sign(data, self.place.approver_key, APPROVAL_NAMESPACE)
        )
        reviewed = new_event(
            self.last, "reviewed", APPROVER, self.at, pull.base, verdict="approve", change=approval.change
        )
        self.last = self._log(reviewed, (self.last.commit,), proof)
        return Review(
            actor=APPROVER, verdict="approve", change=approval.change, at=self.at, base=approval.base, proof=proof,
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
            generators={generator.id: content_digest(generator) for generator in self.governed.generators},
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


def make_repository(place: Place, others: Sequence[Place] = ()) -> None:
    """Build clone and forge; the file ``pending.json``, written last, says that they are complete.

    ``others`` are shorter ones that are made from this one: their main ends earlier.
    """
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    create_ssh_key(place.approver_key, f"{APPROVER}@bench.invalid")
    workspace = Workspace(place.folder, home=place.folder / "home")
    enrol = (f"head-of-trading={APPROVER}.pub",)
    init(workspace, InitRequest(directory=Path("clone"), forge="clone.git", people=enrol))
    shorter = {other.promotions: other for other in others}
    stops: dict[int, tuple[dict[str, str], PullRequest]] = {}
    with ObjectWriter(place.clone) as git:
        builder = Builder(place, git)
        histories = builder.histories()
        for draft, event in islice(histories, place.promotions):
            pull = builder.propose(draft, event)
            if builder.number - 1 in shorter:
                stops[builder.number - 1] = dict(builder.refs), pull
            builder.merge(pull, event)
            if builder.number % 500 == 0:
                git.pack()
            if builder.number % 50 == 0:
                sys.stderr.write(f"built {builder.number} of {place.promotions}\n")
        pending = builder.propose(*next(histories))
        git.pack()
    _set_refs(place.clone, builder.refs)
    Git(place.clone).run("gc", "--quiet")
    Git(place.forge).run("fetch", "--quiet", str(place.clone), "+refs/*:refs/*")
    Git(place.forge).run("gc", "--quiet")
    for size, (refs, pull) in stops.items():
        _shorten(place, shorter[size], refs, pull)
    place.pending.write_text(pending.model_dump_json())


def _set_refs(repository: Path, refs: Mapping[str, str]) -> None:
    """Main and the logs of pull requests as these say; logs of others go."""
    git = Git(repository)
    there = git.text("for-each-ref", "--format=%(refname)", "refs/modelsmith/pulls").split()
    lines = [f"delete {ref}\n" for ref in there if ref not in refs]
    lines += [f"update {ref} {commit}\n" for ref, commit in refs.items()]
    git.run("update-ref", "--stdin", input="".join(lines).encode())
    if git.text("rev-parse", "--is-bare-repository") == "false":
        git.run("reset", "--quiet", "--hard")


def _shorten(whole: Place, place: Place, refs: Mapping[str, str], pending: PullRequest) -> None:
    """A copy whose main ends earlier, without what came later."""
    shutil.rmtree(place.folder, ignore_errors=True)
    shutil.copytree(whole.folder, place.folder, ignore=shutil.ignore_patterns("artifacts"))
    settings = place.clone / ".git" / "config"
    settings.write_text(settings.read_text().replace(f"{whole.folder}/", f"{place.folder}/"))
    for repository in (place.clone, place.forge):
        _set_refs(repository, refs)
        Git(repository).run("reflog", "expire", "--expire=now", "--all")
        Git(repository).run("update-ref", "-d", "ORIG_HEAD")
        Git(repository).run("gc", "--quiet", "--prune=now")
    place.pending.write_text(pending.model_dump_json())
