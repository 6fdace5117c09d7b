"""One event of a specialist's history: its files, its pull request, and the merge where the harness may."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from modelsmith.artifacts.seal import verify_signed
from modelsmith.artifacts.store import Store
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evidence.bundle import Governing, Run, build, evidence_bytes
from modelsmith.evidence.trail import earlier_runs
from modelsmith.governance.audiences import for_reviewers
from modelsmith.governance.hold import hold_clearers
from modelsmith.governance.routing import hold_of
from modelsmith.governance.states import SpecialistHistory, folder_of, record_folder, transition_for
from modelsmith.ledger.ledger import Ledger, ledger_of
from modelsmith.loop.context import IterationContext
from modelsmith.loop.evals import read_observations, target_of
from modelsmith.loop.iteration import ToPromote, WithCandidate
from modelsmith.loop.latency import measured
from modelsmith.loop.lineage import environment
from modelsmith.loop.observe import refuse_unobserved
from modelsmith.promotion.bases import export_of, training_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.histories import RECEIPTS
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.observers import required
from modelsmith.promotion.packets import PACKET_FILE, packet_files
from modelsmith.promotion.pulls import merge_pull, open_promotion
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.promotion.records import RecordDraft, is_assessment, next_record
from modelsmith.promotion.rollbacks import recorded_order
from modelsmith.promotion.since import candidates_since, since
from modelsmith.repository.load import load_cluster, load_eval_set, load_machine_file
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Event, State
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import IntegrityFailure, InvalidInput, WaitingForPerson
from modelsmith.schema.events import (
    EvidenceBundle,
    MetricWindow,
    PendingApproval,
    PromotionAdvanced,
    RollbackTriggered,
)
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence, Firewall
from modelsmith.schema.figures import format_apart
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.promotion import (
    EXPORT_FILE,
    OVERRIDE_FILE,
    TRAINING_FILE,
    ExportFacts,
    Override,
    Receipt,
    TrainingFacts,
)
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.run import Latency, RunResult
from modelsmith.schema.steps import step
from modelsmith.signing.dsse import Trusted, adopt_or_seal, statement
from modelsmith.signing.files import SIGNATURE_FILE, SUMS_FILE, write_atomically
from modelsmith.signing.oms import sign_directory

LATENCY_FILE = "latency.json"
FORWARD: dict[State, Event] = {
    "artifact-exported": "customer-deployed",
    "customer-deployed": "production-validated",
}
"""What `modelsmith promote` asks people for; the events before are the loop's own."""


def advance(
    harness: Harness,
    main: GovernedState,
    event: Event,
    draft: RecordDraft,
    files: Mapping[str, bytes],
    title: str,
    body: str,
) -> PullRequest:
    """The event's pull request: opened or adopted, and merged unless a person must decide first."""
    pull = open_promotion(harness, event, draft, files, title, body, main)
    try:
        return merge_pull(harness, pull.number, main)
    except WaitingForPerson as waiting:
        pending = PendingApproval(
            cluster=draft.cluster.cluster,
            candidate=draft.specialist,
            pull=pull.number,
            approver_chain=tuple(waiting.details["waiting_for"]),
            evidence_bundle=_bundle(main, event, draft, files),
        )
        ledger_of(harness.workspace).append(pending)
        return pull


def _bundle(main: GovernedState, event: Event, draft: RecordDraft, files: Mapping[str, bytes]) -> EvidenceBundle | None:
    """The newest evidence of the specialist: in the pull request itself, else on main."""
    history = main.histories.by_specialist.get(draft.specialist)
    records = history.records if history else ()
    if EVIDENCE_FILE in files:
        folder = folder_of(draft.cluster.cluster, draft.specialist, len(records) + 1, event)
        return EvidenceBundle(path=f"{folder}/{EVIDENCE_FILE}", digest=sha256(files[EVIDENCE_FILE]))
    for record in reversed(records):
        if EVIDENCE_FILE in record.evidence:
            path = f"{record_folder(record)}/{EVIDENCE_FILE}"
            return EvidenceBundle(path=path, digest=record.evidence[EVIDENCE_FILE])
    return None


def note_advances(ledger: Ledger, main: GovernedState) -> None:
    """Tell the ledger each transition on main, once, also after a kill and whoever merged it."""
    ledger.append(*(event for history in main.histories.by_specialist.values() for event in _events_of(main, history)))


def _events_of(main: GovernedState, history: SpecialistHistory) -> Iterator[PromotionAdvanced | RollbackTriggered]:
    """Events for subscribers, made from the records of a history on main."""
    for record, known_as in zip(history.records, history.digests, strict=True):
        receipt = load_machine_file(main.tree, f"{record_folder(record)}/{RECEIPTS}/{MERGE_RECEIPT}", Receipt)
        yield PromotionAdvanced(
            cluster=record.cluster,
            specialist=record.specialist,
            from_state=record.from_state,
            to_state=record.to_state,
            actor=receipt.prepared_by,
            record=known_as,
        )
        if record.event == "rolled-back":
            order = recorded_order(main, record)
            contract = history.records[history.digests.index(order.undoes)].rollback
            assert contract
            yield RollbackTriggered(
                cluster=record.cluster,
                specialist=record.specialist,
                reason=order.reason,
                metric_window=MetricWindow(metric=contract.terms.metric, window_minutes=contract.terms.window_minutes),
                record=known_as,
            )


def promote_candidate_record(context: IterationContext, iteration: WithCandidate, training: TrainingFacts) -> None:
    """``candidate``: main learns of the new adapter and where it comes from."""
    draft = _draft(context, iteration, None)
    main = context.main()
    if draft.specialist in main.histories.by_specialist:
        return
    body = (
        f"Trained from {training.parent} on {training.rows} generated rows ({training.method}, {training.steps} steps)."
    )
    files = {TRAINING_FILE: canonical_json(for_reviewers(training, main.policy.audiences))}
    advance(context.harness, main, "candidate", draft, files, f"{draft.specialist}: candidate", body)


def promote_export_record(harness: Harness, main: GovernedState, draft: RecordDraft, export: ExportFacts) -> None:
    """``candidate``: main learns of an export and what it was made from."""
    if draft.specialist in main.histories.by_specialist:
        return
    files = {EXPORT_FILE: canonical_json(for_reviewers(export, main.policy.audiences))}
    kind = f"{export.description}, {export.export.dtype}" if export.export.dtype else export.description
    body = f"Made from {export.parent}: {kind}. Its weights stand alone, and it is evaluated as they are."
    advance(harness, main, "candidate", draft, files, f"{draft.specialist}: candidate, {export.description}", body)


class Runs(NamedTuple):
    """The runs that evidence is made of."""

    candidate: RunResult
    reference: RunResult
    """The model that serves."""
    baselines: tuple[RunResult, ...]
    """The base model, where another one serves, and the baselines that the cluster names."""


def promote_accepted(
    context: IterationContext, iteration: ToPromote, runs: Runs, nearest: float, firewall: Firewall | None
) -> PullRequest | None:
    """``eval-accepted``: evidence, signed, with the packet and the picture that reviewers read.

    Returns:
        Its pull request, open where a person has to override an INCONCLUSIVE first; None when main has it already.
    """
    candidate = runs.candidate
    draft = _draft(context, iteration, candidate)
    main = context.main()
    if _has(main, draft.specialist, "eval-accepted"):
        return None
    latency = _latency(context, iteration, draft)
    evidence = for_reviewers(_evidence(context, main, draft, runs, (nearest, firewall), latency), main.policy.audiences)
    data = evidence_bytes(evidence, lambda: known_ids(main, draft.cluster.cluster))
    signature_path = context.folder(iteration) / EVIDENCE_SIGNATURE
    predicate = {"cluster": draft.cluster.cluster, "specialist": draft.specialist, "run": candidate.run_id}
    signed = adopt_or_seal(
        read_plain(signature_path) if signature_path.exists() else None,
        statement(EVIDENCE_FILE, data, EVIDENCE_TYPE, predicate),
        context.harness.signer,
        main.signers(draft.cluster.cluster),
    )
    write_atomically(signature_path, signed)
    files = {EVIDENCE_FILE: data, EVIDENCE_SIGNATURE: signed}
    if iteration.override is not None:
        asked_override = Override(
            run=candidate.run_id, evidence=sha256(data), asked_by=draft.requested_by, reason=iteration.override
        )
        files[OVERRIDE_FILE] = canonical_json(asked_override)
    packet = packet_files(main, next_record(main, "eval-accepted", draft, files), files)
    files |= packet
    label = "eval accepted" if iteration.override is None else "override of an INCONCLUSIVE eval"
    title = f"{draft.specialist}: {label}"
    return advance(context.harness, main, "eval-accepted", draft, files, title, packet[PACKET_FILE].decode())


def promote_exported(context: IterationContext, iteration: WithCandidate, candidate: RunResult) -> None:
    """``artifact-exported``: the sealed artifact is signed; main gets its file list and signature.

    A signature that is there already is kept, unless main no longer trusts its key.
    """
    draft = _draft(context, iteration, candidate)
    main = context.main()
    if _has(main, draft.specialist, "artifact-exported"):
        return
    store = Store(context.workspace.store(context.cluster.store))
    folder = store.get(draft.artifact)
    if folder is None:
        raise InvalidInput(
            "weights-missing",
            f"The weights of {draft.specialist} are not in the store",
            "Put them back, or iterate again.",
            specialist=draft.specialist,
        )
    trusted = main.signers(draft.cluster.cluster)
    if not _is_signed(folder, draft.artifact, trusted):
        working = context.folder(iteration) / "artifact"
        sign_directory(working, context.harness.signer)
        store.put_signature(draft.artifact, working / SIGNATURE_FILE)
        verify_signed(folder, draft.artifact, trusted)
    files = {name: read_plain(folder / name) for name in (SUMS_FILE, SIGNATURE_FILE)}
    body = f"Sealed and signed: artifact `{draft.artifact}`."
    advance(context.harness, main, "artifact-exported", draft, files, f"{draft.specialist}: artifact exported", body)


def _is_signed(folder: Path, artifact: str, trusted: Sequence[Trusted]) -> bool:
    if not (folder / SIGNATURE_FILE).exists():
        return False
    try:
        verify_signed(folder, artifact, trusted)
    except IntegrityFailure as error:
        if error.code not in ("untrusted-key", "untrusted-identity"):
            raise
        return False
    return True


def promote_next(
    harness: Harness,
    cluster: Cluster,
    history: SpecialistHistory,
    main: GovernedState,
    to: Event | None = None,
    evidence: Callable[[Event], Mapping[str, bytes]] = lambda event: {},
) -> tuple[Event, PullRequest]:
    """Ask for the event ``to``, else for the next one that people decide; ``evidence`` gives what the event brings.

    Raises:
        InvalidInput: ``nothing-to-promote`` when the loop, or nobody, is next; ``bad-transition`` when ``to`` cannot
            follow.
        WaitingForPerson: ``on-hold`` when a person must clear the cluster's hold first; as `refuse_unobserved`.
        GateNotCleared: as `refuse_unobserved`.
    """
    event = to or FORWARD.get(history.state)
    if event is None:
        raise _nothing_follows(harness.workspace, cluster.cluster, history)
    transition_for(main.policy, event, history.state)
    if event == "customer-deployed":
        refuse_on_hold(main, cluster.cluster)
    refuse_unobserved(main, history, required(main, event))
    draft = RecordDraft.of(history.records[-1], cluster, harness.actor, harness.preparer)
    title = f"{history.specialist}: {event.replace('-', ' ')}"
    files = dict(evidence(event))
    files |= packet_files(main, next_record(main, event, draft, files), files)
    return event, advance(harness, main, event, draft, files, title, files[PACKET_FILE].decode())


def _nothing_follows(workspace: Workspace, cluster: str, history: SpecialistHistory) -> InvalidInput:
    """Why nobody can be asked about the specialist; of a candidate that failed also why no later rule passes it."""
    results = ledger_of(workspace).runs(cluster=cluster) if history.state == "candidate" else []
    runs = [result for result in results if is_assessment(result.tag, cluster, result.model)]
    run = next((result for result in reversed(runs) if result.weights == history.artifact), None)
    details: dict[str, JsonValue] = {"specialist": history.specialist, "state": history.state}
    problem = f"{history.specialist} is {history.state}; nothing follows that a person could be asked for"
    if run and run.headline.verdict != "PASS":
        value, limit = format_apart(run.headline.composite.value, run.rule.thresholds.composite)
        problem = (
            f"{history.specialist} failed by the rule of its day: {run.headline.verdict}, composite {value} (threshold "
            f"{limit}). A rule that was changed since does not pass it: a bar that is set with the result in sight "
            "measures nothing"
        )
        details |= {"verdict": run.headline.verdict, "composite": run.headline.composite.value, "eval_tag": run.tag}
    if history.is_export and history.state in ("candidate", "eval-accepted") and "verdict" not in details:
        mend = "Run the same `modelsmith export` again: it goes on with the eval."
        return InvalidInput("nothing-to-promote", problem, mend, **details)
    again = step("iterate", {"cluster": cluster})
    mend = "Run `{next}`: the next candidate is judged by the rule as it is now."
    return InvalidInput("nothing-to-promote", problem, mend, **details).then(again)


def refuse_on_hold(main: GovernedState, cluster: str) -> None:
    """Raise WaitingForPerson (``on-hold``), saying who clears it and how, while nothing may be deployed."""
    hold = hold_of(cluster, main.histories.of_cluster(cluster))
    if hold:
        clearers = list(hold_clearers(main.policy))
        clear = step("rollback", {"cluster": cluster}, clear_hold=True)
        raise WaitingForPerson(
            "on-hold",
            hold.sentence,
            f"`{{next}}` asks {' or '.join(clearers)} to clear it.",
            waiting_for=clearers,
            specialist=hold.specialist,
        ).then(clear)


def _draft(context: IterationContext, iteration: WithCandidate, run: RunResult | None) -> RecordDraft:
    return RecordDraft(
        cluster=context.cluster,
        specialist=iteration.specialist,
        artifact=iteration.artifact,
        iteration=iteration.number,
        eval_run=run.run_id if run else None,
        eval_tag=run.tag if run else None,
        composite=run.headline.composite.value if run else None,
        requested_by=context.harness.actor,
        prepared_by=context.harness.preparer,
    )


def _has(main: GovernedState, specialist: str, event: Event) -> bool:
    return any(record.event == event for record in main.histories.find(specialist).records)


def _latency(context: IterationContext, iteration: WithCandidate, draft: RecordDraft) -> Latency | None:
    candidate = target_of(context.workspace, context.cluster, draft.specialist, draft.artifact)
    pair = (candidate, context.target(iteration.reference))
    return measured(
        context.workspace, context.cluster, context.governed, pair, context.folder(iteration) / LATENCY_FILE
    )


def _evidence(
    context: IterationContext,
    main: GovernedState,
    draft: RecordDraft,
    runs: Runs,
    nearness: tuple[float, Firewall | None],
    latency: Latency | None,
) -> Evidence:
    def with_rows(result: RunResult) -> Run:
        return Run(result, verdict_rows(read_observations(context.workspace, result)))

    history = main.histories.find(draft.specialist)
    training, export = training_of(main, history), export_of(main, history)
    assert training
    cluster = load_cluster(main.tree, draft.cluster.cluster)
    governed = load_eval_set(main.tree, cluster.eval_set)
    tree = main.tree.folder_id(governed.folder)
    assert tree
    results = ledger_of(context.workspace).runs(cluster=cluster.cluster)
    later = [history.specialist for history in candidates_since(main, cluster.cluster, runs.reference.model)]
    return build(
        Governing(governed, cluster, tree, since(main, cluster, runs.reference.model)),
        draft.specialist,
        with_rows(runs.candidate),
        with_rows(runs.reference),
        [with_rows(result) for result in runs.baselines],
        training,
        nearness[0],
        environment(),
        latency,
        tuple(earlier_runs([run for run in results if run.is_complete], later, runs.candidate)),
        export,
        nearness[1],
    )
