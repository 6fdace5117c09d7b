"""Promotion records, as pure functions of main and of what was observed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelsmith.governance.hold import hold_refusal
from modelsmith.governance.person_gates import override_role
from modelsmith.governance.routing import (
    hold_of,
    incumbent,
    last_routing_record,
    render_routing,
    routing_digest,
    routing_yaml,
)
from modelsmith.governance.states import SERVING_STATES, SpecialistHistory, fold, record_folder, transition_for
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import receipts_of
from modelsmith.repository.load import load_cluster
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import canonical_json, digest, sha256
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput, WaitingForPerson
from modelsmith.schema.evalset import Question
from modelsmith.schema.governance import Transition
from modelsmith.schema.promotion import OVERRIDE_FILE, Preparer, PromotionRecord, RollbackContract
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.steps import step


@dataclass(frozen=True)
class RecordDraft:
    """Fields of a record besides what main already knows."""

    cluster: Cluster
    specialist: str
    artifact: str
    iteration: int
    eval_run: str | None
    eval_tag: str | None
    composite: float | None
    requested_by: str
    prepared_by: Preparer

    @classmethod
    def of(cls, record: PromotionRecord, cluster: Cluster, requested_by: str, prepared_by: Preparer) -> RecordDraft:
        """The facts that a specialist's record states, as asked for and prepared by these two."""
        return cls(
            cluster=cluster,
            specialist=record.specialist,
            artifact=record.artifact,
            iteration=record.iteration,
            eval_run=record.eval_run,
            eval_tag=record.eval_tag,
            composite=record.composite,
            requested_by=requested_by,
            prepared_by=prepared_by,
        )


def candidate_tag(cluster: str, iteration: int) -> str:
    """Tag of the run in which an iteration's candidate is evaluated: its record names no other. See `export_tag`."""
    return f"{cluster}-iter-{iteration:03d}-candidate"


def export_tag(cluster: str, specialist: str, question: Question, engine: EngineFacts) -> str:
    """Tag of the run in which an export is evaluated.

    The same weights can be made again, so the tag also says what was asked and by what it was answered: a run that main
    has outrun does not stand in the way of the next.
    """
    asked_for = digest([question.model_dump(mode="json"), engine.model_dump(mode="json")])
    return f"{cluster}-{specialist}-{asked_for.removeprefix('sha256:')[:8]}"


def is_assessment(tag: str, cluster: str, model: str) -> bool:
    """Whether a run of that tag is the eval of a candidate or an export, by its name."""
    export = re.compile(rf"{re.escape(cluster)}-{re.escape(model)}-[0-9a-f]{{8}}")
    return tag.endswith("-candidate") or export.fullmatch(tag) is not None


def next_record(
    main: GovernedState, event: Event, draft: RecordDraft, evidence: Mapping[str, bytes]
) -> PromotionRecord:
    """The record that takes the specialist one event further from where main has it.

    Raises:
        InvalidInput: ``bad-transition`` when policy does not allow the event now; ``no-hold`` when there is
            none to be cleared; ``override-forbidden`` when it brings an override and policy lets nobody.
        WaitingForPerson: ``on-hold`` when the cluster's hold does not allow it.
    """
    history = main.histories.by_specialist.get(draft.specialist)
    last = history.records[-1] if history else None
    state = history.state if history else None
    transition = transition_for(main.policy, event, state)
    linked = state in SERVING_STATES or transition.target in SERVING_STATES or event == "hold-cleared"
    histories = main.histories.of_cluster(draft.cluster.cluster)
    refusal = hold_refusal(hold_of(draft.cluster.cluster, histories), draft.cluster.cluster, event, draft.specialist)
    if refusal:
        if event == "hold-cleared":
            raise InvalidInput("no-hold", refusal, "See `{next}`.").then(step("status", {}))
        raise WaitingForPerson("on-hold", refusal, "See `{next}`.").then(step("status", {}))
    return PromotionRecord(
        cluster=draft.cluster.cluster,
        specialist=draft.specialist,
        sequence=last.sequence + 1 if last else 1,
        event=event,
        from_state=state,
        to_state=transition.target,
        artifact=draft.artifact,
        iteration=draft.iteration,
        eval_run=draft.eval_run,
        eval_tag=draft.eval_tag,
        composite=draft.composite,
        policy=main.policy_digest,
        evidence={name: sha256(data) for name, data in sorted(evidence.items())},
        requested_by=draft.requested_by,
        prepared_by=draft.prepared_by,
        expected_previous=last_routing_record(histories) if linked else None,
        required_approvers=_approvers(main, transition, evidence),
        rollback=_contract(draft.cluster, histories) if event == "customer-deployed" else None,
        previous_record=sha256(canonical_json(last)) if last else None,
        previous_receipts=receipts_of(main.tree, record_folder(last)) if last else {},
    )


def _approvers(main: GovernedState, transition: Transition, evidence: Mapping[str, bytes]) -> tuple[str, ...]:
    """Roles whose approval the event needs: the gate's, or that of an override.

    Raises:
        InvalidInput: ``override-forbidden``.
    """
    if OVERRIDE_FILE not in evidence:
        return () if transition.gate == "harness" else (transition.gate,)
    role = override_role(main.policy)
    if role is None:
        raise InvalidInput(
            "override-forbidden",
            "The policy of main lets nobody override an INCONCLUSIVE",
            "Add scenarios until the eval can tell. Or have the owners of policy.yaml name a role: `override: ROLE` in "
            "the transition eval-accepted.",
        )
    return (role,)


def _contract(cluster: Cluster, histories: tuple[SpecialistHistory, ...]) -> RollbackContract:
    prior = incumbent(cluster.cluster, histories)
    before = render_routing(cluster.cluster, histories, cluster.deployment.traffic_share)
    return RollbackContract(
        terms=cluster.rollback,
        prior_specialist=prior.specialist,
        prior_artifact=prior.artifact,
        prior_routing=routing_digest(before),
    )


def cluster_histories_after(main: GovernedState, record: PromotionRecord) -> tuple[SpecialistHistory, ...]:
    """Histories of the record's cluster once the record is on main.

    Raises:
        IntegrityFailure: the record does not continue its specialist's history.
    """
    before = main.histories.by_specialist.get(record.specialist)
    others = main.histories.others(record.cluster, record.specialist)
    return (*others, fold([*(before.records if before else ()), record], main.policy))


def routing_after(main: GovernedState, record: PromotionRecord) -> bytes:
    """``routing.yaml`` once the record is on main: the exact rendering of the records."""
    share = load_cluster(main.tree, record.cluster).deployment.traffic_share
    return routing_yaml(render_routing(record.cluster, cluster_histories_after(main, record), share))
