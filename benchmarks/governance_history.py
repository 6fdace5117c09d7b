"""Makes the repositories that ``governance.py`` measures: whole histories of specialists, a pull request each step."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
from object_writer import ObjectWriter

from modelsmith.artifacts.seal import seal
from modelsmith.evaluation.headline import headline
from modelsmith.evidence.bundle import Governing, Run, build, evidence_bytes
from modelsmith.forges.events import LoggedEvent, event_files, new_event, parse_event
from modelsmith.governance.routing_chain import changes_routing
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
from modelsmith.repository.load import load_cluster, load_eval_set
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
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE, write_atomically
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
MAIN, PULLS = "refs/heads/main", "refs/modelsmith/pulls/"
PACKED = 250
"""Promotions after which what is new is packed: whole histories, and all that a build which is ended can lose."""


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
    def built(self) -> Path:
        """How far the build has come, as JSON."""
        return self.folder / "built.json"

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

    kind, namespace_bytes, hashed = b"ssh-ed25519", namespace.encode(), b"sha512"
    point = _key(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    proof = _key(key).sign(b"SSHSIG" + joined(namespace_bytes, b"", hashed, hashlib.sha512(payload).digest()))
    blob = b"SSHSIG\0\0\0\1" + joined(joined(kind, point), namespace_bytes, b"", hashed, joined(kind, proof))
    body = base64.b64encode(blob).decode()
    lines = [body[at : at + 70] for at in range(0, len(body), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


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
        self.scratch = Path(tempfile.mkdtemp(prefix="modelsmith-artifacts-"))
        self.root = git.commit_tree(git.text("mktree"), [], "modelsmith pull request\n", Ident("m", "m@invalid", BEGIN))
        self.refs: dict[str, str] = {}

    def go_on(self, number: int) -> None:
        """Stand where so many pull requests are merged, whole histories: what is drawn from the seed is drawn again."""
        self.number, self.refs[MAIN] = number, self.main.tree.commit
        named = {history.iteration: history for history in self.main.histories.of_cluster(CLUSTER)}
        for iteration in range(1, number // len(EVENTS) + 1):
            right = self._drawn()
            if iteration == number // len(EVENTS):
                self.incumbent = self._run(named[iteration].specialist, named[iteration].artifact, right)

    @property
    def at(self) -> datetime:
        """The time of what happens to the current pull request: 20 minutes after that of the one before."""
        return BEGIN + timedelta(minutes=20 * self.number)

    def histories(self) -> Iterator[tuple[RecordDraft, Event]]:
        """What is promoted to what, in order, without end."""
        for number in count(self.number):
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
        self.refs[MAIN] = tip

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
        self.refs[f"{PULLS}{event.pull}"] = commit
        return parse_event(commit, parents, files)

    def _artifact(self, iteration: int) -> Path:
        folder = self.scratch / str(iteration)
        shutil.rmtree(self.scratch)
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
        made_digest = digest(["made", draft.iteration])
        settings = self.cluster.stages[0]
        return TrainingFacts(
            base_model=self.cluster.base_model.name, base_digest=self.cluster.base_model.digest, parent="base",
            method=settings.method, seed=settings.seed + draft.iteration - 1, rows=settings.rows,
            rows_digest=made_digest,
            generators={generator.id: content_digest(generator) for generator in self.governed.generators},
            reward=self.governed.rubric_digest, diagnosed_run=made_digest, hyperparameters=content_digest(settings),
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

    def _drawn(self) -> set[str]:
        """Scenarios that the next candidate knows."""
        return set(self.names) - set(self.chance.sample(self.names, 4)) | self.easy

    def _evidence(self, draft: RecordDraft) -> Evidence:
        self.candidate = self._run(draft.specialist, draft.artifact, self._drawn())
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
    author = Ident(HARNESS, f"{HARNESS}@modelsmith.invalid", at)
    merge = git.commit_tree(decided.tree, [pull.base, pull.head], merge_message(pull, decided), author)
    merged = Merged(merge, HARNESS, at)

    def signed(receipt: bytes) -> bytes:
        return sign(receipt, key, MERGE_NAMESPACE).encode()

    receipts = dict(receipt_files(pull, decided.change, decided.decision, merged, signed))
    return merge, git.commit_files(merge, receipts, f"Receipts of pull request {pull.number}\n", author)


class _Stop(NamedTuple):
    """Where a shorter repository ends, which is made from a longer one."""

    main: str
    opened: str
    """The log of the pull request that is open there."""
    pull: str
    """The pull request, as JSON."""


def make_repository(place: Place, others: Sequence[Place] = ()) -> None:
    """Build clone and forge; the file ``pending.json``, written last, says that they are complete.

    A build that was ended goes on where its last pack ends. ``others`` are shorter ones that are made from this one:
    their main ends earlier.
    """
    far = _so_far(place)
    if far is None or any(other.promotions < far[0] and other.promotions not in far[1] for other in others):
        _begin(place)
        far = 0, {}
    builder_before, stops = far
    with ObjectWriter(place.clone) as git:
        builder = Builder(place, git)
        builder.go_on(builder_before)
        histories = builder.histories()
        for draft, event in islice(histories, place.promotions - builder_before):
            pull = builder.propose(draft, event)
            if builder.number - 1 in {other.promotions for other in others}:
                opened = builder.refs[f"{PULLS}{builder.number}"]
                stops[builder.number - 1] = _Stop(builder.refs[MAIN], opened, pull.model_dump_json())
            builder.merge(pull, event)
            if builder.number % PACKED == 0:
                _keep(place, builder, stops)
        _keep(place, builder, stops)
        pending = builder.propose(*next(histories))
        git.pack()
        shutil.rmtree(builder.scratch)
    _set_refs(place.clone, builder.refs)
    Git(place.clone).run("reset", "--quiet", "--hard")
    _collect(place.clone)
    Git(place.forge).run("fetch", "--quiet", str(place.clone), "+refs/*:refs/*")
    _collect(place.forge)
    for other in others:
        _shorten(place, other, stops[other.promotions])
    place.pending.write_text(pending.model_dump_json())


def _begin(place: Place) -> None:
    """A new repository with keys, people and a kit."""
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    create_ssh_key(place.approver_key, f"{APPROVER}@bench.invalid")
    workspace = Workspace(place.folder, home=place.folder / "home")
    enrol = (f"head-of-trading={APPROVER}.pub",)
    init(workspace, InitRequest(directory=Path("clone"), forge="clone.git", people=enrol))


def _keep(place: Place, builder: Builder, stops: Mapping[int, _Stop]) -> None:
    """Pack what is new, and write down that everything up to here stands."""
    builder.git.pack()
    _set_refs(place.clone, builder.refs)
    builder.refs = {MAIN: builder.refs[MAIN]}
    document = json.dumps({"number": builder.number, "main": builder.refs[MAIN], "stops": stops})
    write_atomically(place.built, document.encode())
    sys.stderr.write(f"built {builder.number} of {place.promotions}\n")


def _so_far(place: Place) -> tuple[int, dict[int, _Stop]] | None:
    """How many promotions a build that was ended has made, and its stops; None where there is none to go on with."""
    try:
        document = json.loads(place.built.read_bytes())
    except (OSError, ValueError):
        return None
    if document["number"] > place.promotions:
        return None
    refs = Git(place.clone).text("for-each-ref", "--format=%(refname)", PULLS).split()
    later = [ref for ref in refs if int(ref.removeprefix(PULLS)) > document["number"]]
    _set_refs(place.clone, {MAIN: document["main"]}, later)
    return document["number"], {int(size): _Stop(*stop) for size, stop in document["stops"].items()}


def _collect(repository: Path, *options: str) -> None:
    """One pack, as git's gc makes it, without bitmaps: for ten thousand refs those take longer than all else."""
    Git(repository).run("-c", "repack.writeBitmaps=false", "gc", "--quiet", *options)


def _set_refs(repository: Path, refs: Mapping[str, str], removed: Sequence[str] = ()) -> None:
    lines = [f"delete {ref}\n" for ref in removed] + [f"update {ref} {commit}\n" for ref, commit in refs.items()]
    Git(repository).run("update-ref", "--stdin", input="".join(lines).encode())


def _shorten(whole: Place, place: Place, stop: _Stop) -> None:
    """A copy whose main ends earlier, without what came later."""
    shutil.rmtree(place.folder, ignore_errors=True)
    shutil.copytree(whole.folder, place.folder, ignore=shutil.ignore_patterns(whole.built.name))
    settings = place.clone / ".git" / "config"
    settings.write_text(settings.read_text().replace(f"{whole.folder}/", f"{place.folder}/"))
    open_pull = f"{PULLS}{place.promotions + 1}"
    for repository in (place.clone, place.forge):
        refs = Git(repository).text("for-each-ref", "--format=%(refname)", PULLS).split()
        later = [ref for ref in refs if int(ref.removeprefix(PULLS)) > place.promotions + 1]
        _set_refs(repository, {MAIN: stop.main, open_pull: stop.opened}, later)
        Git(repository).run("reflog", "expire", "--expire=now", "--all")
        Git(repository).run("update-ref", "-d", "ORIG_HEAD")
        _collect(repository, "--prune=now")
    Git(place.clone).run("reset", "--quiet", "--hard")
    place.pending.write_text(stop.pull)
