"""What the harness checks about a promotion before anyone may merge it. The proposal is read as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import NamedTuple

from modelsmith.artifacts.kinds import lists
from modelsmith.evidence.sanitise import assert_clean
from modelsmith.governance.gate import CheckResult
from modelsmith.governance.names import holders
from modelsmith.governance.people import is_harness
from modelsmith.governance.routing import hold_of
from modelsmith.governance.routing_chain import changes_routing
from modelsmith.governance.states import fold, record_folder
from modelsmith.promotion.bases import export_of
from modelsmith.promotion.clock import BEGINNING
from modelsmith.promotion.evidence_checks import check_evidence, check_models, check_outcome, check_question
from modelsmith.promotion.folder import FILES, check_files
from modelsmith.promotion.freshness import outdated
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import PROMOTIONS, parse_record
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.lineage_checks import check_export, check_training
from modelsmith.promotion.live import check_live, needs_live, needs_shadow
from modelsmith.promotion.observers import Required, backing, count_sentence, disagreements, required
from modelsmith.promotion.packets import CHART_FILE, PACKET_FILE, packet_files
from modelsmith.promotion.proposed import Promotion, read_promotion, refuse, require_seal
from modelsmith.promotion.records import RecordDraft, next_record, routing_after
from modelsmith.promotion.reward_checks import check_reward
from modelsmith.promotion.rollbacks import check_order, read_clearance, read_order, who_decides
from modelsmith.repository.document import Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import Revision
from modelsmith.schema.canonical import sha256
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.schema.evidence import EVIDENCE_SIGNATURE
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE
from modelsmith.schema.plaintext import first_unwelcome
from modelsmith.schema.promotion import EXPORT_FILE, RECORD_FILE, RECORD_SIGNATURE, RECORD_TYPE, PromotionRecord
from modelsmith.schema.pull import Change
from modelsmith.signing.dsse import peek
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE
from modelsmith.signing.oms import verify_manifest

SEALED = frozenset({RECORD_SIGNATURE, EVIDENCE_SIGNATURE, SIGNATURE_FILE, LIVE_SIGNATURE})
"""Bundles: what they say is searched, and their envelope has one form only."""
FRESH = "fresh-evidence"
"""Check that a deployment rests on an eval of what main asks today."""

PACKET_CHECK = "packet"
"""Check that holds the packet against what it tells of."""

LIVE = "live"
"""Check that live evidence is an observer's, recomputes, and comes to what the event needs."""

OBSERVERS = "observers"
"""Check that as many second observers agree with the evidence as the policy requires."""


def is_promotion(change: Change) -> bool:
    """Whether the change touches the promotions folder at all."""
    return any(path.path.startswith(f"{PROMOTIONS}/") for path in change.paths)


class Named(NamedTuple):
    """Whom the change's promotion records name. A record that cannot be read names nobody; the checks refuse it."""

    requesters: tuple[str, ...]
    preparers: tuple[str, ...]


def named_actors(proposed: Revision, change: Change) -> Named:
    """The actors who asked for the change's promotion records and prepared them, as these say."""
    records: list[PromotionRecord] = []
    for path in (p.path for p in change.paths if p.path.startswith(f"{PROMOTIONS}/") and p.path.count("/") == 4):
        if path.endswith(f"/{RECORD_FILE}") and proposed.exists(path):
            with suppress(ModelsmithError):
                records.append(parse_record(path, proposed.read(path)))
    return Named(tuple(record.requested_by for record in records), tuple(record.prepared_by.id for record in records))


def promotion_checks(
    main: GovernedState,
    proposed: Revision,
    change: Change,
    now: datetime | None = None,
    latest_signed: datetime = BEGINNING,
) -> tuple[CheckResult, ...]:
    """Every check, each with its sentence; the first lines say what could not even be read.

    Raises InfrastructureFailure (``extra-missing``) where this machine lacks what a check needs.

    ``now`` is the present of whoever merges; None when history is replayed. ``latest_signed`` is a time that the merge
    is not before.
    """
    touched = frozenset(path.path for path in change.paths)
    try:
        promotion = read_promotion(main, proposed, touched)
    except ModelsmithError as error:
        return (CheckResult("record", False, error.message),)
    return checks_of(promotion, now, latest_signed)


def checks_of(promotion: Promotion, now: datetime | None, latest_signed: datetime) -> tuple[CheckResult, ...]:
    """The checks of a promotion that could be read; ``now`` and ``latest_signed`` are as in `promotion_checks`."""
    results = [CheckResult("record", True, f"{record_folder(promotion.record)} is canonical and named as it says")]
    needed = required(promotion.main, promotion.record.event)
    results += [
        _run(name, check, promotion)
        for name, check in _checks_for(promotion.main, promotion.record, needed, now, latest_signed)
    ]
    if now is not None and PACKET_FILE in FILES[promotion.record.event].required:
        results.append(_packet_result(promotion, all(result.passed for result in results)))
    return tuple(results)


def _packet_result(promotion: Promotion, sound: bool) -> CheckResult:
    """Figures that contradict each other make no packet, so it is rendered from what has passed every other check."""
    if not sound:
        return CheckResult(PACKET_CHECK, False, "not compared, since what it is rendered from does not hold")
    return _run(PACKET_CHECK, _packet, promotion)


def _run(name: str, check: Callable[[Promotion], str], promotion: Promotion) -> CheckResult:
    try:
        return CheckResult(name, True, check(promotion))
    except ModelsmithError as error:
        if error.code == "extra-missing":
            raise
        return CheckResult(name, False, error.message, undecided=error.details.get("verdict") == "INCONCLUSIVE")


def _checks_for(
    main: GovernedState, record: PromotionRecord, observers: Required, now: datetime | None, latest_signed: datetime
) -> Iterator[tuple[str, Callable[[Promotion], str]]]:
    yield "signature", _signature
    yield "life", _history
    yield "files", check_files
    yield "limits", _limits
    yield "routing", _routing
    if record.event == "candidate":
        if EXPORT_FILE in record.evidence:
            yield "export", check_export
        else:
            yield "training", check_training
            yield "reward", partial(check_reward, present=now is not None)
    if record.event == "eval-accepted":
        yield "evidence", check_evidence
        yield "question", check_question
        yield "models", check_models
        yield "reward", partial(check_reward, present=now is not None)
        yield "verdict", check_outcome
    if record.event == "artifact-exported":
        yield "artifact", _artifact
    if record.event in ("customer-deployed", "production-validated"):
        yield FRESH, _fresh
    is_due = (record.event == "production-validated" and needs_live(main, record.specialist)) or (
        record.event == "customer-deployed" and needs_shadow(main)
    )
    if LIVE_FILE in record.evidence or is_due:
        yield LIVE, lambda promotion: check_live(promotion.main, promotion.record, promotion.files, now, latest_signed)
    if observers.observers:
        yield OBSERVERS, partial(_observers, observers)
        yield "observations", _observations
    if now is not None:
        yield "plain", _plain
        yield "leaks", _leaks
        if record.rollback is not None:
            yield "rollback-terms", _terms
    if record.event == "hold-cleared":
        yield "clearance", _clearance
    if record.event == "rolled-back":
        yield "inverse", _inverse
        yield (
            "contract",
            lambda promotion: who_decides(
                promotion.main, promotion.record, read_order(promotion.files), now, latest_signed
            ),
        )


def _signature(promotion: Promotion) -> str:
    refuse(RECORD_SIGNATURE not in promotion.files, "the record is not signed")
    record = promotion.record
    predicate = {"cluster": record.cluster, "specialist": record.specialist, "event": record.event}
    require_seal(promotion, RECORD_SIGNATURE, RECORD_FILE, RECORD_TYPE, predicate)
    return "the record is signed by a key of the trust root, or a workflow of policy"


def _history(promotion: Promotion) -> str:
    """The record is the one that main's state leads to: chain, transition, policy, approvers, collision, contract."""
    record, main = promotion.record, promotion.main
    history = main.histories.by_specialist.get(record.specialist)
    refuse(history is not None and history.cluster != record.cluster, "the specialist belongs to another cluster")
    fold([*(history.records if history else ()), record], main.policy)
    accepted = next((r for r in history.records if r.event == "eval-accepted"), None) if history else None
    accepted_eval = (accepted.eval_run, accepted.eval_tag, accepted.composite) if accepted else (None, None, None)
    stated = (record.eval_run, record.eval_tag, record.composite)
    refuse(
        record.event != "eval-accepted" and stated != accepted_eval,
        "the record names another eval than the accepted one",
    )
    listed = {holder.id for holder in holders(main.people)}
    strange = sorted({record.requested_by, record.prepared_by.id} - listed)
    refuse(bool(strange), f"the record names {', '.join(strange)}, whom people.yaml does not list")
    machine = record.prepared_by.kind == "harness"
    refuse(machine != is_harness(record.prepared_by.id, main.people), "the record says wrongly what prepared it")
    cluster = load_cluster(main.tree, record.cluster)
    draft = RecordDraft.of(record, cluster, record.requested_by, record.prepared_by)
    evidence = {k: v for k, v in promotion.files.items() if k not in (RECORD_FILE, RECORD_SIGNATURE)}
    expected = next_record(main, record.event, draft, evidence).model_dump(mode="json")
    actual = record.model_dump(mode="json")
    different = sorted(name for name in expected if expected[name] != actual[name])
    refuse(bool(different), f"the record's {', '.join(different)} do not follow from main")
    return f"{record.from_state or 'nothing'} -> {record.to_state} follows from main"


def _limits(promotion: Promotion) -> str:
    limits = promotion.main.policy.limits
    refuse(len(promotion.files[RECORD_FILE]) > limits.record_bytes, "the record is larger than policy allows")
    size = sum(len(data) for data in promotion.files.values())
    refuse(size > limits.evidence_bytes, "the folder is larger than policy allows")
    return f"{size} bytes"


def _routing(promotion: Promotion) -> str:
    """Routing is the exact rendering of the records, this one included, and is touched only when that changes it."""
    record, main = promotion.record, promotion.main
    path = f"clusters/{record.cluster}/routing.yaml"
    rendered = routing_after(main, record)
    stray = {p for p in promotion.touched if not p.startswith(f"{record_folder(record)}/")} - {path}
    refuse(bool(stray), f"a promotion may not touch {', '.join(sorted(stray))}")
    if changes_routing(record):
        refuse(not promotion.proposed.exists(path), f"{path} is missing")
        refuse(promotion.proposed.read(path) != rendered, f"{path} is not the rendering of the records")
        return f"{path} is the exact rendering of the records"
    refuse(path in promotion.touched, f"{record.event} does not change routing")
    return "routing is untouched"


def _packet(promotion: Promotion) -> str:
    """Check that the packet is rendered from the evidence.

    Replay leaves this out: what an older toolkit rendered need not be what this one renders.
    """
    due = packet_files(promotion.main, promotion.record, promotion.files)
    other = sorted(name for name, data in due.items() if promotion.files.get(name) != data)
    verb = "say" if len(other) > 1 else "says"
    refuse(bool(other), f"{' and '.join(other)} {verb} something else than the {_source(promotion.record)}")
    return f"{' and '.join(sorted(due))} rendered anew, and the same"


def _source(record: PromotionRecord) -> str:
    return "evidence does" if CHART_FILE in FILES[record.event].required else "record does"


def _leaks(promotion: Promotion) -> str:
    """No file of the folder holds a secret, a host, a path of a machine, a prompt or an answer.

    Only at the merge, as for the packet: what an older toolkit let in stays as it was judged.
    """
    ids = partial(known_ids, promotion.main, promotion.record.cluster)
    for name, data in sorted(promotion.files.items()):
        try:
            assert_clean(peek(data) if name in SEALED else data, ids=ids)
        except IntegrityFailure as error:
            refuse(True, f"{name}: {error.message} ({error.details.get('place', 'file')})")
    return "nothing in the folder looks like a secret, a place of a machine, a prompt or an answer"


def _plain(promotion: Promotion) -> str:
    """Every JSON file can be read as `validate` reads it: what once lies under promotions/ can never be mended.

    Only at the merge: replay has held the same files against their types and RFC 8785.
    """
    for name, data in sorted(promotion.files.items()):
        if name.endswith(".json") and name not in SEALED:
            try:
                read_json(name, data, hidden=first_unwelcome)
            except Unreadable as error:
                refuse(True, f"{name}: {error.problems[0].message}")
    return "every file can be read by those who read files of people, too"


def _artifact(promotion: Promotion) -> str:
    sums = promotion.file(SUMS_FILE)
    refuse(sha256(sums) != promotion.record.artifact, "SHA256SUMS is not the artifact's")
    signed = verify_manifest(promotion.file(SIGNATURE_FILE), sums, promotion.main.signers(promotion.record.cluster))
    refuse(signed != promotion.record.artifact, "the signature is another artifact's")
    export = export_of(promotion.main, promotion.main.histories.find(promotion.record.specialist))
    refuse(not lists(sums, export.export if export else None), "SHA256SUMS lists an artifact of another kind")
    return "the artifact's file list is signed"


def _terms(promotion: Promotion) -> str:
    """What is approved together with the deployment; that it follows from main is asked with the record's history."""
    contract = promotion.record.rollback
    assert contract
    terms = contract.terms
    return (
        f"if {terms.metric} drops by more than {terms.max_drop:.1%} within {terms.window_minutes} minutes of the "
        f"approval, `modelsmith rollback {promotion.record.cluster}` sends traffic back to {contract.prior_specialist} "
        "without asking anyone again"
    )


def _clearance(promotion: Promotion) -> str:
    record, main = promotion.record, promotion.main
    hold = hold_of(record.cluster, main.histories.of_cluster(record.cluster))
    refuse(hold is None, f"{record.cluster} is not on hold")
    clearance = read_clearance(promotion.files, hold) if hold else None
    return "it says why the hold may end" if clearance else "nobody said why the hold may end"


def _inverse(promotion: Promotion) -> str:
    return check_order(promotion.main, promotion.record, read_order(promotion.files))


def _fresh(promotion: Promotion) -> str:
    """A deployment rests on an eval of the question that main asks today, judged by the rule registered today."""
    reasons = outdated(promotion.main, promotion.main.histories.find(promotion.record.specialist))
    refuse(bool(reasons), "; ".join(reasons))
    return "the eval answered the question that main asks today, by today's rule"


def _observers(needed: Required, promotion: Promotion) -> str:
    """As many others, with keys of their own, came to the same as the policy requires."""
    support = backing(promotion.main, promotion.main.histories.find(promotion.record.specialist))
    sentence = count_sentence(support, needed)
    refuse(not needed.is_met(support), sentence)
    return sentence


def _observations(promotion: Promotion) -> str:
    """Nobody whom main lists as an observer stands by another result: one honest observer is enough to be heard."""
    support = backing(promotion.main, promotion.main.histories.find(promotion.record.specialist))
    refuse(bool(support.disagreeing), "; ".join(disagreements(support)))
    return "no observer disagrees with the evidence"
