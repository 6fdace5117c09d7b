"""A promotion repository with its forge and people, and what an attacker can do to it.

Nothing here is pretended: commits are real, pushes go to a real bare repository with its real hook, signatures are made
with real keys by ``ssh-keygen``, and "on disk" means that a ref or an object of the bare repository is overwritten. The
attacker holds the harness's keys: the agent that drives the harness is who we defend against.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from in_parts import same_in_parts
from openings import opened
from trained import trained
from worlds import CLUSTER, MAIN, Place

from modelsmith.artifacts.seal import seal as seal_artifact
from modelsmith.artifacts.store import Store
from modelsmith.evidence.bundle import Governing, Run, build, evidence_bytes
from modelsmith.forges.events import new_event
from modelsmith.forges.local import LocalForge
from modelsmith.forges.logs import SignedLogs
from modelsmith.forges.port import ForgeIdentity, Proposal
from modelsmith.governance.gate import GateDecision
from modelsmith.governance.routing_chain import changes_routing
from modelsmith.governance.states import record_folder
from modelsmith.operations import approve, pr_merge, reject, verify
from modelsmith.promotion.authors import Authorship
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Harness, open_harness
from modelsmith.promotion.merge_decision import MergeDecision, decide_merge, decide_tree
from modelsmith.promotion.packets import packet_files
from modelsmith.promotion.pulls import merge_pull, open_promotion
from modelsmith.promotion.receipts import MERGE_RECEIPT, Merged, receipt_files
from modelsmith.promotion.records import RecordDraft, candidate_tag, next_record, routing_after
from modelsmith.promotion.root import find_root
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.promotion.since import since
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, digest, sha256
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.promotion import (
    APPROVAL_NAMESPACE,
    MERGE_NAMESPACE,
    RECORD_FILE,
    RECORD_SIGNATURE,
    RECORD_TYPE,
    Approval,
    Preparer,
    PromotionRecord,
    TrainingFacts,
)
from modelsmith.schema.pull import PullRequest, Review, SignedApproval, SignedEvent
from modelsmith.schema.run import Cost, EngineFacts, Headline, RunResult, VerdictRow
from modelsmith.schema.source import Chat
from modelsmith.signing import ssh
from modelsmith.signing.dsse import seal, statement
from modelsmith.signing.oms import sign_directory

HARNESS = "modelsmith-harness"
PEOPLE = {
    "maya": ("head-of-trading",),
    "noor": ("head-of-trading",),
    "dana": ("domain-lead",),
    "petra": ("platform",),
    "paul": ("platform",),
    "oli": ("oncall-sre",),
}
EVERYBODY = ("maya", "dana", "paul", "oli")
"""One of each role; Petra asks."""
PAST_THE_HOOK = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack"
AT = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = Ident("Somebody", "somebody@example.org", AT)
POLICY = ".github/governance/policy.yaml"
PEOPLE_FILE = ".github/governance/people.yaml"
CODEOWNERS = ".github/CODEOWNERS"
ROUTING = f"clusters/{CLUSTER}/routing.yaml"
SET = "evals/adtech/rtb-root-cause"
RUBRIC = f"{SET}/rubrics/root-cause.yaml"
ZERO = "0" * 40

Files = Mapping[str, bytes | None]


def plain_git(*words: str | Path, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Plain git, as anybody has it."""
    identity = ["-c", "user.name=Mallory", "-c", "user.email=mallory@example.org"]
    where = ["-C", str(folder)] if folder else []
    command = ["git", *where, *identity, *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@contextmanager
def refused(*codes: str) -> Iterator[list[ModelsmithError]]:
    """What is done inside must be refused, with one of the codes; the error is in the list afterwards."""
    caught: list[ModelsmithError] = []
    with pytest.raises(ModelsmithError) as raised:
        yield caught
    caught.append(raised.value)
    assert raised.value.code in codes, f"{raised.value.code}: {raised.value.message}"


_MAINS: dict[tuple[Path, str], GovernedState] = {}
_LOADED: dict[str, tuple[Cluster, GovernedSet]] = {}
_EVIDENCE: dict[tuple[str, int], Evidence] = {}


@dataclass(frozen=True)
class World(Place):
    """A place with something to attack."""

    root: str
    """Fingerprint of the governance root, as a reviewer pinned it."""

    # Where things are.

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def bare(self) -> Git:
        return Git(self.forge)

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.clone, self.home)

    def key(self, actor: str) -> Path:
        """Private SSH key of a person, of the harness or of ``mallory``, whom nobody lists."""
        return self.harness_keys / "harness-ssh" if actor == HARNESS else self.folder / "people" / actor

    def public(self, actor: str) -> str:
        """Public half, as people.yaml writes it."""
        return ssh.public_key(self.key(actor))

    # What is there.

    def governed(self) -> GovernedState:
        """Everything that main governs."""
        key = (self.folder, self.main())
        if key not in _MAINS:
            _MAINS.clear()
            _MAINS[key] = read_governed_state(self.bare, key[1])
        return _MAINS[key]

    def cluster(self) -> Cluster:
        """The cluster, as main has it."""
        return self._loaded()[0]

    def eval_set(self) -> GovernedSet:
        """Its eval set, as main has it."""
        return self._loaded()[1]

    def _loaded(self) -> tuple[Cluster, GovernedSet]:
        main = self.main()
        if main not in _LOADED:
            cluster = load_cluster(self.governed().tree, CLUSTER)
            _LOADED[main] = cluster, load_eval_set(self.governed().tree, cluster.eval_set)
        return _LOADED[main]

    def head(self, number: int) -> str:
        """What a pull request proposes."""
        log = self.bare.text("rev-list", "--first-parent", self.pull_tip(number)).split()
        return self.bare.text("rev-parse", f"{log[-2]}^2")

    def pull_tip(self, number: int) -> str:
        """Last event of a pull request."""
        tip = self.bare.rev(f"refs/modelsmith/pulls/{number}")
        assert tip
        return tip

    def hook(self, on: bool) -> None:
        """Let the forge's hook run, or not.

        Honest preparations go without it, to be quick: the templates were made with it, so it lets them through. What
        is pushed by `push`, and whatever a test does after ``hook(True)``, is judged by it.
        """
        config = self.forge / "config"
        ways = ("hooksPath = /dev/null", "hooksPath = hooks")
        config.write_text(config.read_text().replace(ways[not on], ways[on]))

    def as_(self, actor: str, key: str | None = None) -> LocalForge:
        """The forge, spoken to as somebody, with their own key or another one."""
        return LocalForge(self.forge, self.git, ForgeIdentity(actor, self.key(key or actor)))

    def logs(self, actor: str, key: str | None = None) -> SignedLogs:
        """The logs of pull requests, freshly fetched: what is written there by hand asks nobody but the forge."""
        logs = self.as_(actor, key)
        logs.fetch_into(self.git)
        return logs

    def harness(self) -> Harness:
        """The machine that prepares; the attacker drives it."""
        return open_harness(self.workspace)

    # Honest work.

    def commit(self, files: Files, parent: str | None = None, author: Ident = NOBODY) -> str:
        """Commit files on top of main (or another commit); no ref moves."""
        parent = parent or self.main()
        self.fetch()
        return self.git.commit_files(parent, files, "A change\n", author)

    def fetch(self) -> None:
        """Objects of main into the clone; no branch moves."""
        if self.git.rev(self.main()):
            return
        self.git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.forge), MAIN)

    def open(self, head: str, actor: str = HARNESS, requester: str | None = None, branch: str = "change") -> int:
        """Open a pull request."""
        proposal = Proposal(
            branch=branch, title="A change", body="", head=head, base=self.main(), requester=requester or actor
        )
        return self.as_(actor).open(proposal).number

    def propose(self, files: Files, actor: str = "petra", branch: str = "change") -> int:
        """A pull request that changes these files."""
        return self.open(self.commit(files), actor, branch=branch)

    def approve(self, number: int, actor: str) -> None:
        """`modelsmith approve` with somebody's key."""
        approve.run(self.workspace, approve.ApproveRequest(number=number, key=self.key(actor)))

    def reject(self, number: int, actor: str) -> None:
        """`modelsmith reject` with somebody's key."""
        reject.run(self.workspace, reject.RejectRequest(number=number, key=self.key(actor), reason="No."))

    def merge(self, number: int) -> PullRequest:
        """`modelsmith pr merge`, as the harness does it: gate, merge, receipts, push through the hook."""
        return merge_pull(self.harness(), number)

    def gate(self, number: int) -> MergeDecision:
        """The gate's decision as it stands."""
        return decide_merge(
            read_governed_state(self.bare, self.main()), self.as_(HARNESS).get(number), datetime.now(UTC)
        )

    def refusals(self, number: int) -> str:
        """Why the gate is closed, in one text."""
        return "; ".join(refusal.sentence for refusal in self.gate(number).decision.refusals)

    # Attacks.

    def push(self, *refspecs: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A plain push to the forge; its hook decides."""
        self.hook(True)
        return plain_git("push", "--force", self.forge, *refspecs, folder=self.clone, **environment)

    def push_without_hooks(self, *refspecs: str) -> None:
        """A push that tells the other side to run no hooks: nothing on one's own disk prevents it."""
        result = plain_git("push", "--force", PAST_THE_HOOK, self.forge, *refspecs, folder=self.clone)
        assert result.returncode == 0, result.stderr

    def rewrite_on_disk(self, ref: str, commit: str | None) -> None:
        """Move or remove a ref of the bare repository, past everything."""
        if commit is None:
            self.bare.run("update-ref", "-d", ref)
            return
        self.bare.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.clone), commit)
        self.bare.run("update-ref", ref, commit)

    def force(
        self,
        head: str,
        reviews: Iterable[Review] = (),
        *,
        pull: int = 4,
        requester: str = HARNESS,
        preparer: str = HARNESS,
        opener: str | None = None,
        merger: str = HARNESS,
        at: datetime | None = None,
        gate: str | None = None,
        lie: Mapping[str, Any] | None = None,
        opening: SignedEvent | None = None,
        tree: str | None = None,
        more: Files | None = None,
    ) -> str:
        """Merge past the hook, with receipts as the attacker would like them; the forge's main is there afterwards.

        ``opener`` is whose key signs the opening, if not the preparer's; or ``opening`` is one that somebody signed.
        ``merger`` signs for the merge, dated ``at``, its receipt stating ``lie`` where it differs. ``tree`` makes the
        merge evil; ``more`` adds to the receipts or changes them. Returns the merge commit.
        """
        main, reviews = self.main(), tuple(reviews)
        self.fetch()
        tree = tree or self.git.merge_tree(main, head)
        change = self.git.change(main, tree)
        merge = self.git.commit_tree(tree, [main, head], f"Merge pull request {pull}: A change\n", NOBODY)
        request = PullRequest(
            number=pull, title="A change", body="", status="open", branch="change", base=main, head=head,
            requester=requester, preparer=preparer, opened_at=AT, reviews=reviews,
        )  # fmt: skip
        if opening:
            request = request.model_copy(update={"opening": opening})
        else:
            request = opened(request, self.governed().policy.repository, change.digest(), self.key(opener or preparer))
        decision = GateDecision(
            open=True, gate=gate or ("people" if reviews else "harness"), needs=(),
            approvers=tuple(review.actor for review in reviews), approvals=reviews,
            refusals=(), waiting_for=(), checks=(), notes=(),
        )  # fmt: skip
        merged = Merged(merge, merger, at or datetime.now(UTC).replace(microsecond=0))
        sign = self.signer(merger)
        files = {**receipt_files(request, change, decision, merged, sign)}
        if lie:
            path = next(path for path in files if path.endswith(f"/{MERGE_RECEIPT}"))
            files[path] = canonical_json(json.loads(files[path]) | lie)
            files[f"{path}.sig"] = sign(files[path])
        files |= more or {}
        tip = self.git.commit_files(merge, files, f"Receipts of pull request {pull}\n", NOBODY)
        self.rewrite_on_disk(MAIN, tip)
        return merge

    def signer(self, actor: str) -> Callable[[bytes], bytes]:
        """Signs the receipt of a merge as somebody."""
        return lambda payload: ssh.sign(payload, self.key(actor), MERGE_NAMESPACE).encode()

    def force_honestly(self, files: Files, approver: str) -> str:
        """A change that its owner has approved, on main without the round trip of a pull request."""
        head = self.commit(files)
        number = 99 + len(self.bare.first_parent_log(MAIN))
        signed = self.sign_with(approver, self.statement(approver, number, head))
        return self.force(head, [self.review(approver, signed)], pull=number)

    def sign_with(self, key: str, approval: Approval | bytes, namespace: str = APPROVAL_NAMESPACE) -> SignedApproval:
        """A statement signed with a key, whoever the statement says it is from."""
        payload = approval if isinstance(approval, bytes) else canonical_json(approval)
        return SignedApproval(statement=payload.decode(), signature=ssh.sign(payload, self.key(key), namespace))

    def statement(self, actor: str, number: int, head: str | None = None, **other: Any) -> Approval:
        """An approval of a pull request, or of the change that another head would make, not signed yet."""
        head = head or self.head(number)
        self.fetch()
        change = self.git.change(self.main(), self.git.merge_tree(self.main(), head))
        facts = {
            "repository": self.governed().policy.repository,
            "pull": number,
            "base": self.main(),
            "change": change.digest(),
            "verdict": "approve",
            "actor": actor,
            "at": datetime.now(UTC).replace(microsecond=0),
        }
        return Approval(**(facts | other))

    def review(self, actor: str, signed: SignedApproval) -> Review:
        """The review that a receipt is made of, in whosever name."""
        approval = Approval.model_validate_json(signed.statement)
        return Review(
            actor=actor, verdict=approval.verdict, change=approval.change, at=approval.at, base=approval.base,
            proof=signed, key=ssh.signing_key(signed.signature),
        )  # fmt: skip

    def raw_tree(self, entries: Sequence[tuple[str, str, str]]) -> str:
        """A tree object of exactly these (mode, name, id), in this order, however little sense it makes."""
        data = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for mode, name, oid in entries)
        return self.git.text("hash-object", "-t", "tree", "-w", "--literally", "--stdin", input=data)

    def commit_entry(self, path: str, mode: str, oid: str, parent: str | None = None) -> str:
        """A commit that puts one entry of any mode at a path."""
        parent = parent or self.main()
        self.fetch()
        index = {"GIT_INDEX_FILE": str(self.folder / "attack-index")}
        self.git.run("read-tree", parent, env=index)
        self.git.run("update-index", "-z", "--index-info", input=f"{mode} {oid}\t{path}\0".encode(), env=index)
        return self.git.commit_tree(self.git.text("write-tree", env=index), [parent], "A change\n", NOBODY)

    def closed_to_everybody(self, head: str, code: str = "", saying: str = "", requester: str = "petra") -> None:
        """Every owner approves, the gate refuses all the same, and forced past it with their approvals it is found."""
        self.fetch()
        main = self.main()
        tree = self.git.merge_tree(main, head)
        signed = [self.sign_with(actor, self.statement(actor, 9, head)) for actor in EVERYBODY]
        reviews = [self.review(actor, signature) for actor, signature in zip(EVERYBODY, signed, strict=True)]
        decision = decide_tree(
            self.git, read_governed_state(self.git, main), tree,
            reviews=reviews, requester=requester, preparer=requester,
            authorship=Authorship(frozenset(), frozenset()), latest_signed=datetime.now(UTC),
        ).decision  # fmt: skip
        assert not decision.open
        assert not code or code in {refusal.code for refusal in decision.refusals}, decision.refusals
        assert saying in "; ".join(refusal.sentence for refusal in decision.refusals), decision.refusals
        assert decision.refusals, "closed for want of an approval, not refused"
        counted = [review for review in reviews if review.actor in decision.approvers]
        self.detected(self.force(head, counted, pull=9, requester=requester, preparer=requester))
        self.rewrite_on_disk(MAIN, main)

    # What a reviewer sees.

    def plain_clone(self, name: str = "reviewer", *options: str) -> Path:
        """A clone of the forge, made by somebody who has nothing else."""
        folder = self.folder / name
        result = plain_git("clone", "--quiet", *options, self.forge, folder)
        assert result.returncode == 0, result.stderr
        return folder

    def verify(self, clone: Path | None = None, root: str | None = None, **request: Any) -> verify.VerifyResult:
        """`modelsmith verify --root ROOT` in a plain clone; the weights are nowhere at hand."""
        folder = clone or self.plain_clone(f"reviewer-{os.urandom(4).hex()}")
        workspace = Workspace(folder, self.folder / "no-home")
        return verify.run(workspace, verify.VerifyRequest(root=root or self.root, **request))

    def holds(self) -> verify.VerifyResult:
        """The control: a plain clone verifies."""
        folder = self.plain_clone(f"reviewer-{os.urandom(4).hex()}")
        result = self.verify(folder)
        assert result.tip == self.main()
        return result

    def _same_in_parts(self, folder: Path, whole: object) -> None:
        """A replay of main in parts, as `verify` makes it of a long main, says what one replay has said."""
        with ObjectReader(folder) as git:
            log = git.first_parent_log(MAIN)
            begin, _ = find_root(git, log, self.root)
        same_in_parts(folder, log[begin].id, log[-1].id, thorough=False, whole=whole)

    def detected(self, at: str | None = None, saying: str = "", clone: Path | None = None) -> IntegrityFailure:
        """A plain clone does not verify; the commit named is the one that does not hold."""
        folder = clone or self.plain_clone(f"reviewer-{os.urandom(4).hex()}")
        with pytest.raises(IntegrityFailure) as caught:
            self.verify(folder)
        error = caught.value
        if error.code == "history-does-not-hold":
            self._same_in_parts(folder, (type(error), error.envelope()))
        assert int(error.exit) == 5
        assert saying in error.message, error.message
        if at is not None:
            assert error.details.get("commit") == at, error.message
        return error

    # Promotions.

    def draft(self, number: int = 1, **other: Any) -> RecordDraft:
        """What the harness says of the specialist with this number."""
        artifact = self.artifact(number)
        facts = {
            "cluster": self.cluster(),
            "specialist": f"iter-{number:03d}-{artifact.removeprefix('sha256:')[:8]}",
            "artifact": artifact,
            "iteration": number,
            "eval_run": None,
            "eval_tag": None,
            "composite": None,
            "requested_by": HARNESS,
            "prepared_by": Preparer(id=HARNESS, kind="harness"),
        }
        return RecordDraft(**(facts | other))

    def artifact(self, number: int = 1) -> str:
        """Id of a real sealed and signed artifact in the store, made at first use."""
        folder = self.folder / "artifacts" / str(number)
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "adapter_model.safetensors").write_bytes(b"weights %d" % number)
            (folder / "adapter_config.json").write_bytes(canonical_json({"base_model_name_or_path": "tiny", "r": 2}))
            (folder / "base.json").write_bytes(canonical_json({"digest": self.training(number).base_digest}))
            (folder / "tokenizer.json").write_bytes(b"{}")
            (folder / "chat_template.jinja").write_bytes(b"{{ messages }}")
            artifact = seal_artifact(folder)
            sign_directory(folder, self.harness_keys / "harness.pem")
            Store(self.store).put(folder, artifact)
        return sha256((folder / "SHA256SUMS").read_bytes())

    def stored(self, number: int = 1) -> Path:
        """Folder of an artifact in the store."""
        folder = Store(self.store).get(self.artifact(number))
        assert folder
        return folder

    def training(self, number: int = 1) -> TrainingFacts:
        """Lineage of a candidate."""
        return trained(self.governed().tree, number)

    def evidence(self, number: int = 1) -> Evidence:
        """Honest evidence: the candidate passes everything, the base model nothing."""
        key = (self.main(), number)
        if key not in _EVIDENCE:
            facts = self.draft(number)
            candidate = self._run(facts.specialist, facts.artifact, True)
            base = self._run("base", self.cluster().base_model.digest, False)
            tree = self.governed().tree.folder_id(SET)
            assert tree
            stood = since(self.governed(), self.cluster(), "base")
            _EVIDENCE[key] = build(
                Governing(self.eval_set(), self.cluster(), tree, stood), facts.specialist, candidate, base, (),
                self.training(number), 0.5, {"torch": "2.13.0"},
            )  # fmt: skip
        return _EVIDENCE[key]

    def _run(self, model: str, weights: str, right: bool) -> Run:
        cluster, governed = self._loaded()
        rule = effective_rule(governed, cluster)
        rows = tuple(
            VerdictRow(
                section=section, scenario=scenario, id=name, capability=capability, critical=critical,
                wording=wording, repeat=repeat, points={point.id: right for point in rule.points},
            )
            for (section, scenario, wording, repeat), (name, capability, critical) in expected_rows(governed).items()
        )  # fmt: skip
        cost = Cost(
            p50_seconds=1.0, p95_seconds=1.0, prompt_tokens=1, completion_tokens=1, tokens_per_second=1.0,
            cost_per_decision=0.0, currency="USD",
        )  # fmt: skip
        result = RunResult.model_construct(
            run_id=digest(["run", model]), tag=f"{CLUSTER}-{model}", cluster=CLUSTER, model=model, weights=weights,
            base=None if model == "base" else cluster.base_model.digest,
            question=governed.question(), rubric=governed.rubric_digest, eval_set=cluster.eval_set,
            eval_set_version=governed.evalset.version, eval_tree="a" * 40,
            engine=EngineFacts(
                substrate="transformers", version="transformers 5.23.0, torch 2.13.0", dtype="float32", device="cpu",
                chat=Chat(),
            ), rule=rule,
            headline=Headline.model_construct(), cost=cost, quick=False, attempts=1,
        )  # fmt: skip
        return Run(result, rows)

    def accepted_draft(self, evidence: Evidence, number: int = 1) -> RecordDraft:
        """What the record of ``eval-accepted``, and each one after it, says of the eval."""
        run = evidence.candidate
        value = run.headline.composite.value
        return self.draft(number, eval_run=run.run_id, eval_tag=candidate_tag(CLUSTER, number), composite=value)

    def files_for(self, event: str, number: int = 1, evidence: bytes | None = None) -> dict[str, bytes]:
        """Files of an event's folder besides the record: real, and signed with the harness's key."""
        if event == "candidate":
            return {"training.json": canonical_json(self.training(number))}
        if event == "artifact-exported":
            return {name: (self.stored(number) / name).read_bytes() for name in ("SHA256SUMS", "model.sig")}
        main = self.governed()
        if event == "eval-accepted":
            honest = self.evidence(number)
            data = evidence_bytes(honest) if evidence is None else evidence
            key = self.harness_keys / "harness.pem"
            signed = seal(statement(EVIDENCE_FILE, data, EVIDENCE_TYPE, {"cluster": CLUSTER}), key)
            files = {EVIDENCE_FILE: data, EVIDENCE_SIGNATURE: signed}
            honestly = {EVIDENCE_FILE: evidence_bytes(honest)}
            return files | packet_files(main, next_record(main, event, self.draft_for(event, number), {}), honestly)
        return packet_files(main, next_record(main, event, self.draft_for(event, number), {}), {})

    def stated_evidence(self, number: int = 1) -> Evidence:
        """The evidence that main holds of a specialist."""
        main = self.governed()
        history = main.histories.find(self.draft(number).specialist)
        accepted = next(record for record in history.records if record.event == "eval-accepted")
        return Evidence.model_validate_json(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_FILE}"))

    def draft_for(self, event: str, number: int = 1) -> RecordDraft:
        """What the harness would truthfully say at an event."""
        if event == "candidate":
            return self.draft(number)
        history = self.governed().histories.by_specialist.get(self.draft(number).specialist)
        evaluated = history and any(record.event == "eval-accepted" for record in history.records)
        return self.accepted_draft(self.stated_evidence(number) if evaluated else self.evidence(number), number)

    def promote(self, event: str, number: int = 1) -> int:
        """The harness's own pull request for an event; not merged."""
        return open_promotion(
            self.harness(), event, self.draft_for(event, number), self.files_for(event, number), event, "Body."
        ).number

    def record_files(
        self, record: PromotionRecord, evidence: Mapping[str, bytes], key: Path | None = None
    ) -> dict[str, bytes]:
        """A promotion's files for any record at all, signed with the harness's own key."""
        folder, data = record_folder(record), canonical_json(record)
        files = {f"{folder}/{name}": content for name, content in evidence.items()}
        files[f"{folder}/{RECORD_FILE}"] = data
        signed = seal(statement(RECORD_FILE, data, RECORD_TYPE, {}), key or self.harness_keys / "harness.pem")
        files[f"{folder}/{RECORD_SIGNATURE}"] = signed
        return files

    def next_files(self, event: str, number: int = 1, /, **lie: Any) -> dict[str, bytes]:
        """The files of the specialist's next event, the record stating ``lie`` where it differs, signed again."""
        main = self.governed()
        evidence = self.files_for(event, number)
        honest = next_record(main, event, self.draft_for(event, number), evidence)
        if event in ("customer-deployed", "production-validated"):
            promotion_record = PromotionRecord.model_validate_json(
                json.dumps({**honest.model_dump(mode="json"), **lie})
            )
            with suppress(ModelsmithError):  # a lie of which no packet can be made keeps the honest one
                evidence = packet_files(main, promotion_record, {})
            honest = next_record(main, event, self.draft_for(event, number), evidence)
        record = PromotionRecord.model_validate_json(json.dumps({**honest.model_dump(mode="json"), **lie}))
        files = self.record_files(record, evidence)
        if changes_routing(record):
            try:
                files[ROUTING] = routing_after(main, record)
            except ModelsmithError:
                files[ROUTING] = routing_after(main, honest)
        return files

    def accepted_with(
        self, edit: Callable[[dict[str, Any]], object] | None = None, data: bytes | None = None, number: int = 1
    ) -> dict[str, bytes]:
        """The files of ``eval-accepted`` with its evidence edited, or these bytes for it, and everything signed again.

        The record says of run and composite what the evidence says, so that nothing but the evidence itself is odd.
        """
        evidence = json.loads(evidence_bytes(self.evidence(number)))
        if edit:
            edit(evidence)
        files = self.files_for("eval-accepted", number, canonical_json(evidence) if data is None else data)
        run = evidence["candidate"]
        facts = replace(
            self.draft_for("eval-accepted", number),
            eval_run=run["run_id"],
            composite=run["headline"]["composite"]["value"],
        )
        return self.record_files(next_record(self.governed(), "eval-accepted", facts, files), files)


def merge_pull_request(world: World, number: int, key: str) -> None:
    """`modelsmith pr merge --key`."""
    pr_merge.run(world.workspace, pr_merge.PrMergeRequest(number=number, key=world.key(key)))


REVIEW_REF = "refs/modelsmith/pulls/4"
"""Log of the pull request that waits."""


def signed_by(world, actor, number=4, **other):
    """An honest approval of a pull request, as a receipt would hold it."""
    return world.review(actor, world.sign_with(actor, world.statement(actor, number, **other)))


def event_with(world, actor, proof, at=None, key=None, number=4):
    """A review's event on top of the log, made by hand."""
    answer = json.loads(proof.statement)
    forge = world.logs(actor, key)
    last = forge._reader.log(world.pull_tip(number))[-1]
    facts = {"verdict": answer["verdict"], "change": answer["change"]}
    now = at or datetime.now(UTC).replace(microsecond=0)
    return forge._commit(new_event(last, "reviewed", actor, now, world.main(), **facts), proof, (last.commit,))
