"""What the harness checks about a promotion before anyone may merge it. The proposal is read as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from modelsmith.evidence.bundle import recompute
from modelsmith.governance.audiences import for_reviewers
from modelsmith.governance.gate import CheckResult
from modelsmith.governance.routing import BASE, changes_routing, render_routing
from modelsmith.governance.states import fold, record_folder
from modelsmith.promotion.clock import BEGINNING
from modelsmith.promotion.freshness import evidence_of, outdated, read_evidence
from modelsmith.promotion.history import PROMOTIONS, RECEIPTS, parse_record
from modelsmith.promotion.main import Main
from modelsmith.promotion.packets import CHART_FILE, PACKET_FILE, packet_files
from modelsmith.promotion.records import Facts, next_record, routing_after
from modelsmith.promotion.rollbacks import check_order, read_order, who_decides
from modelsmith.promotion.rule import effective_rule, expected_rows
from modelsmith.repository.load import GovernedSet, label_digest, load_cluster, load_eval_set, load_machine_file
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence
from modelsmith.schema.promotion import (
    RECORD_FILE,
    RECORD_SIGNATURE,
    RECORD_TYPE,
    ROLLBACK_FILE,
    PromotionRecord,
    TrainingFacts,
)
from modelsmith.schema.pull import Change
from modelsmith.schema.run import JudgeAgreement
from modelsmith.signing.dsse import unseal
from modelsmith.signing.oms import verify_manifest

TRAINING_FILE = "training.json"
SUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "model.sig"
FRESH = "fresh-evidence"
"""Check that a deployment rests on an eval of what main asks today."""


def is_promotion(change: Change) -> bool:
    """Whether the change touches the promotions folder at all."""
    return any(path.path.startswith(f"{PROMOTIONS}/") for path in change.paths)


def named_actors(proposed: Revision, change: Change) -> tuple[str, ...]:
    """Whom the change's promotion records name as having asked for them and prepared them.

    A record that cannot be read names nobody; `promotion_checks` refuses it.
    """
    named: list[str] = []
    for path in (p.path for p in change.paths if p.path.startswith(f"{PROMOTIONS}/") and p.path.count("/") == 4):
        if path.endswith(f"/{RECORD_FILE}") and proposed.exists(path):
            with suppress(ModelsmithError):
                record = parse_record(path, proposed.read(path))
                named += [record.requested_by, record.prepared_by.id]
    return tuple(named)


@dataclass(frozen=True)
class Promotion:
    """One promotion as proposed."""

    main: Main
    proposed: Revision
    """The tree that main would have after the merge."""
    record: PromotionRecord
    files: dict[str, bytes]
    """Files of the new folder by name, receipts left out."""
    touched: frozenset[str]

    @property
    def evidence(self) -> Evidence:
        """What its ``evidence.json`` says."""
        return read_evidence(self.file(EVIDENCE_FILE))

    def file(self, name: str) -> bytes:
        """One file of the new folder.

        Raises:
            IntegrityFailure: ``check-failed`` when it is missing.
        """
        _refuse(name not in self.files, f"{name} is missing")
        return self.files[name]


def promotion_checks(
    main: Main, proposed: Revision, change: Change, now: datetime | None = None, seen: datetime = BEGINNING
) -> tuple[CheckResult, ...]:
    """Every check, each with its sentence; the first lines say what could not even be read.

    ``now`` is the present of whoever merges; None when history is replayed. ``seen`` is a time that the merge is not
    before.
    """
    touched = frozenset(path.path for path in change.paths)
    try:
        promotion = _read(main, proposed, touched)
    except ModelsmithError as error:
        return (CheckResult("record", False, error.message),)
    results = [CheckResult("record", True, f"{record_folder(promotion.record)} is canonical and named as it says")]
    results += [_run(name, check, promotion) for name, check in _checks_for(promotion.record, now, seen)]
    return tuple(results)


def _read(main: Main, proposed: Revision, touched: frozenset[str]) -> Promotion:
    folders = {"/".join(p.split("/")[:4]) for p in touched if p.startswith(f"{PROMOTIONS}/")}
    if len(folders) != 1:
        raise IntegrityFailure("bad-promotion", "A promotion adds exactly one folder", "Split the pull request.")
    folder = folders.pop()
    record = parse_record(f"{folder}/{RECORD_FILE}", proposed.read(f"{folder}/{RECORD_FILE}"))
    paths = [p for p in proposed.paths(folder) if not p.startswith(f"{folder}/{RECEIPTS}/")]
    files = {path.removeprefix(f"{folder}/"): proposed.read(path) for path in paths}
    return Promotion(main, proposed, record, files, touched)


def _run(name: str, check: Callable[[Promotion], str], promotion: Promotion) -> CheckResult:
    try:
        return CheckResult(name, True, check(promotion))
    except ModelsmithError as error:
        return CheckResult(name, False, error.message)


def _checks_for(
    record: PromotionRecord, now: datetime | None, seen: datetime
) -> Iterator[tuple[str, Callable[[Promotion], str]]]:
    yield "signature", _signature
    yield "life", _life
    yield "files", _files
    yield "limits", _limits
    yield "routing", _routing
    if record.event == "candidate":
        yield "training", _training
    if record.event == "eval-accepted":
        yield "evidence", _evidence
        yield "question", _question
        yield "verdict", _verdict
    if record.event == "artifact-exported":
        yield "artifact", _artifact
    if record.event in ("customer-deployed", "production-validated"):
        yield FRESH, _fresh
    if now is not None and record.event in ("eval-accepted", "customer-deployed", "production-validated"):
        yield "packet", _packet
    if record.event == "rolled-back":
        yield "inverse", _inverse
        yield (
            "contract",
            lambda promotion: who_decides(promotion.main, promotion.record, read_order(promotion.files), now, seen),
        )


def _refuse(condition: bool, message: str) -> None:
    if condition:
        raise IntegrityFailure("check-failed", message, "Prepare the promotion again.")


def _signature(promotion: Promotion) -> str:
    _refuse(RECORD_SIGNATURE not in promotion.files, "the record is not signed")
    unseal(promotion.files[RECORD_SIGNATURE], promotion.main.trusted, sha256(promotion.files[RECORD_FILE]), RECORD_TYPE)
    return "the record is signed by a key of the trust root"


def _life(promotion: Promotion) -> str:
    """The record is the one that main's state leads to: chain, transition, policy, approvers, collision, contract."""
    record, main = promotion.record, promotion.main
    life = main.history.lives.get(record.specialist)
    _refuse(life is not None and life.cluster != record.cluster, "the specialist belongs to another cluster")
    fold([*(life.records if life else ()), record], main.policy)
    accepted = next((r for r in life.records if r.event == "eval-accepted"), None) if life else None
    known = (accepted.eval_run, accepted.eval_tag, accepted.composite) if accepted else (None, None, None)
    stated = (record.eval_run, record.eval_tag, record.composite)
    _refuse(record.event != "eval-accepted" and stated != known, "the record names another eval than the accepted one")
    cluster = load_cluster(main.tree, record.cluster)
    facts = Facts.of(record, cluster, record.requested_by, record.prepared_by)
    evidence = {k: v for k, v in promotion.files.items() if k not in (RECORD_FILE, RECORD_SIGNATURE)}
    wanted = next_record(main, record.event, facts, evidence).model_dump(mode="json")
    found = record.model_dump(mode="json")
    different = sorted(name for name in wanted if wanted[name] != found[name])
    _refuse(bool(different), f"the record's {', '.join(different)} do not follow from main")
    return f"{record.from_state or 'nothing'} -> {record.to_state} follows from main"


def _files(promotion: Promotion) -> str:
    listed = set(promotion.record.evidence) | {RECORD_FILE, RECORD_SIGNATURE}
    _refuse(set(promotion.files) != listed, "the folder holds other files than the record covers")
    required = REQUIRED.get(promotion.record.event, frozenset())
    missing = sorted(required - set(promotion.files))
    _refuse(bool(missing), f"{', '.join(missing)} missing")
    return f"{len(listed)} files, each covered by the record"


REQUIRED: dict[str, frozenset[str]] = {
    "candidate": frozenset({TRAINING_FILE}),
    "eval-accepted": frozenset({EVIDENCE_FILE, EVIDENCE_SIGNATURE, PACKET_FILE, CHART_FILE}),
    "artifact-exported": frozenset({SUMS_FILE, SIGNATURE_FILE}),
    "rolled-back": frozenset({ROLLBACK_FILE}),
}


def _limits(promotion: Promotion) -> str:
    limits = promotion.main.policy.limits
    _refuse(len(promotion.files[RECORD_FILE]) > limits.record_bytes, "the record is larger than policy allows")
    size = sum(len(data) for data in promotion.files.values())
    _refuse(size > limits.evidence_bytes, "the folder is larger than policy allows")
    return f"{size} bytes"


def _routing(promotion: Promotion) -> str:
    """Routing is the exact rendering of the records, this one included, and is touched only when that changes it."""
    record, main = promotion.record, promotion.main
    path = f"clusters/{record.cluster}/routing.yaml"
    rendered = routing_after(main, record)
    stray = {p for p in promotion.touched if not p.startswith(f"{record_folder(record)}/")} - {path}
    _refuse(bool(stray), f"a promotion may not touch {', '.join(sorted(stray))}")
    if changes_routing(record):
        _refuse(not promotion.proposed.exists(path), f"{path} is missing")
        _refuse(promotion.proposed.read(path) != rendered, f"{path} is not the rendering of the records")
        return f"{path} is the exact rendering of the records"
    _refuse(path in promotion.touched, f"{record.event} does not change routing")
    return "routing is untouched"


def _training_facts(main: Main, promotion: Promotion) -> TrainingFacts:
    folder = f"{PROMOTIONS}/{promotion.record.cluster}/{promotion.record.specialist}/01-candidate"
    tree = promotion.proposed if promotion.record.event == "candidate" else main.tree
    return load_machine_file(tree, f"{folder}/{TRAINING_FILE}", TrainingFacts)


def _training(promotion: Promotion) -> str:
    facts = _training_facts(promotion.main, promotion)
    _refuse_kept_back(promotion.main, TRAINING_FILE, facts)
    _parent(promotion.main, promotion.record.cluster, facts.parent)
    cluster = load_cluster(promotion.main.tree, promotion.record.cluster)
    _refuse(facts.base_digest != cluster.base_model.digest, "trained from another base model than the cluster's")
    governed = load_eval_set(promotion.main.tree, cluster.eval_set)
    _refuse(facts.reward != governed.rubric_digest, "rows were checked with another rubric than the eval's")
    return f"{facts.rows} rows, {facts.method}, rubric equals the eval's"


def _refuse_kept_back(main: Main, name: str, shown: Evidence | TrainingFacts) -> None:
    """What main's policy keeps for operators is not for everybody who reads the repository."""
    kept_back = for_reviewers(shown, main.policy.audiences) != shown
    _refuse(kept_back, f"{name} shows what policy keeps for operators")


def _parent(main: Main, cluster: str, name: str) -> None:
    """Training goes on from the base model, or from a specialist of the cluster that is not retired."""
    parent = main.history.lives.get(name)
    _refuse(name != BASE and (parent is None or parent.cluster != cluster), f"{cluster} has no specialist {name}")
    _refuse(parent is not None and parent.state == "deprecated", f"trained from {name}, which is deprecated")


def _evidence(promotion: Promotion) -> str:
    """Signed, about this artifact and this run, and every headline number recomputes from the verdicts."""
    data = promotion.file(EVIDENCE_FILE)
    unseal(promotion.file(EVIDENCE_SIGNATURE), promotion.main.trusted, sha256(data), EVIDENCE_TYPE)
    evidence, record = promotion.evidence, promotion.record
    _refuse_kept_back(promotion.main, EVIDENCE_FILE, evidence)
    _refuse(evidence.artifact != record.artifact, "the evidence is about another artifact")
    _refuse(evidence.specialist != record.specialist, "the evidence is about another specialist")
    _refuse(evidence.candidate.weights != record.artifact, "the eval ran other weights than the artifact")
    _refuse(evidence.candidate.run_id != record.eval_run, "the record names another eval run")
    _refuse(evidence.candidate.headline.composite.value != record.composite, "the record states another composite")
    facts = for_reviewers(_training_facts(promotion.main, promotion), promotion.main.policy.audiences)
    _refuse(evidence.training != facts, "the lineage differs from the candidate's")
    _refuse(evidence.attempts < 1, "the evidence counts no attempt")
    recompute(evidence)
    return f"signed; {len(evidence.candidate.rows)} verdicts recompute to the stated figures"


def _question(promotion: Promotion) -> str:
    """Asked is what main governs today: every scenario, every wording, the registered rule, the rubric trained on."""
    evidence, main = promotion.evidence, promotion.main
    cluster = load_cluster(main.tree, promotion.record.cluster)
    governed = load_eval_set(main.tree, cluster.eval_set)
    _refuse(evidence.question != governed.question(), "the eval answered an older or other question than main's")
    named = (evidence.cluster, evidence.eval_set, evidence.eval_set_version)
    _refuse(
        named != (cluster.cluster, cluster.eval_set, governed.evalset.version),
        "the evidence names another cluster, eval set or version than main's",
    )
    lives = main.history.of_cluster(cluster.cluster)
    routing = render_routing(cluster.cluster, lives, cluster.deployment.traffic_share)
    serving = {(one.specialist, one.artifact or cluster.base_model.digest) for one in routing.serving}
    _refuse(
        (evidence.incumbent.model, evidence.incumbent.weights) not in serving,
        f"regressions are counted against {evidence.incumbent.model}, which does not serve",
    )
    _refuse(evidence.rubric != governed.rubric_digest, "the eval used another rubric than main's")
    _refuse(evidence.training.reward != evidence.rubric, "training and eval used different rubrics")
    _refuse(evidence.rule != effective_rule(governed, cluster), "the gate's rule is not the registered one")
    _refuse_judge(evidence.judge, governed)
    wanted = expected_rows(governed)
    for run in (evidence.candidate, evidence.incumbent):
        asked = {(row.section, row.scenario, row.wording, row.repeat): row for row in run.rows}
        _refuse(len(asked) != len(run.rows) or asked.keys() != wanted.keys(), f"{run.model} was not asked everything")
        wrong = [key for key, row in asked.items() if (row.id, row.capability, row.critical) != wanted[key]]
        _refuse(bool(wrong), "a verdict is labelled with another scenario's name")
    return f"{evidence.eval_set} {evidence.eval_set_version}: {len(wanted)} answers of each model, the registered rule"


def _refuse_judge(judge: JudgeAgreement | None, governed: GovernedSet) -> None:
    """The judge is the registered one, and it spoke about every label as people wrote it, once."""
    registered = governed.evalset.judge
    if registered is None:
        _refuse(judge is not None, "the evidence names a judge, and the eval set has none")
        return
    _refuse(
        judge is None or judge.judge != registered.name, "the judged points were not decided by the registered judge"
    )
    people = sorted((label_digest(one), one.point, one.verdict == "pass") for one in governed.labels)
    said = sorted((one.label, one.point, one.person) for one in judge.verdicts) if judge else []
    _refuse(said != people, "the judge was measured against other labels than the registered ones")


def _verdict(promotion: Promotion) -> str:
    headline = promotion.evidence.candidate.headline
    failed = "; ".join(check.sentence for check in headline.checks if check.outcome != "PASS")
    _refuse(headline.verdict != "PASS", f"the verdict is {headline.verdict}: {failed}")
    return f"PASS: composite {headline.composite.value:.3f}, held-out {headline.held_out.value:.3f}"


def _packet(promotion: Promotion) -> str:
    """What people read is rendered from the evidence.

    Replay leaves this out: what an older toolkit rendered need not be what this one renders.
    """
    record, main = promotion.record, promotion.main
    cluster = load_cluster(main.tree, record.cluster)
    if record.event == "eval-accepted":
        due = packet_files(promotion.evidence, cluster, None)
    else:
        evidence = evidence_of(main, main.history.find(record.specialist))
        due = packet_files(for_reviewers(evidence, main.policy.audiences), cluster, record)
    other = sorted(name for name, data in due.items() if promotion.files.get(name) != data)
    _refuse(bool(other), f"{' and '.join(other)} say something else than the evidence does")
    return "packet and chart are the rendering of the evidence"


def _artifact(promotion: Promotion) -> str:
    sums = promotion.file(SUMS_FILE)
    _refuse(sha256(sums) != promotion.record.artifact, "SHA256SUMS is not the artifact's")
    signed = verify_manifest(promotion.file(SIGNATURE_FILE), sums, promotion.main.trusted)
    _refuse(signed != promotion.record.artifact, "the signature is another artifact's")
    return "the artifact's file list is signed"


def _inverse(promotion: Promotion) -> str:
    return check_order(promotion.main, promotion.record, read_order(promotion.files))


def _fresh(promotion: Promotion) -> str:
    """A deployment rests on an eval of the question that main asks today, judged by the rule registered today."""
    reasons = outdated(promotion.main, promotion.main.history.find(promotion.record.specialist))
    _refuse(bool(reasons), "; ".join(reasons))
    return "the eval answered the question that main asks today, by today's rule"
