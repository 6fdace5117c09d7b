"""What happens, as subscribers hear it: one type for each of the seven events, told apart by ``name``.

An event is made by the code that makes it happen and goes into the clone's ledger. Its identity is a digest of what
happened, not of when or how often it was noted: a command that was killed and is run again notes the same event.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AwareDatetime, Field, TypeAdapter

from modelsmith.schema.base import Actor, Digest, Frozen, Moment, Slug, State
from modelsmith.schema.canonical import digest
from modelsmith.schema.docs import json_schema
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.promotion import SpecialistId
from modelsmith.schema.run import RunResult

VERSION = 1
"""Of the events' fields; another one when a reader of this version would misread them."""


class Happened(Frozen):
    """Fields that every event has."""

    identified_by: ClassVar[tuple[str, ...]]
    """Fields that make it this event and no other; what else it says may be found otherwise by a later look."""

    cluster: Slug
    """Whose line of work it belongs to."""

    @property
    def identity(self) -> str:
        """Digest of what happened."""
        fields = self.model_dump(mode="json", include={"name", "cluster", *self.identified_by})
        return digest(fields)


class EvalComplete(Happened):
    """A run of the governed eval has ended, whatever its verdict."""

    identified_by = ("tag", "run_id")

    name: Literal["eval.complete"] = "eval.complete"
    tag: Slug
    """Under which `results` shows it."""
    run_id: Digest
    composite: float
    regressions: tuple[Slug, ...]
    """Scenarios that the run it was compared with passes, and this one fails."""


class EvalRegression(Happened):
    """A scenario that was passed before fails now."""

    identified_by = ("tag", "run_id")

    name: Literal["eval.regression"] = "eval.regression"
    tag: Slug
    run_id: Digest
    failing_scenarios: tuple[Slug, ...]
    prior_pass: Digest
    """Id of the run that passes them."""


class TrainingComplete(Happened):
    """A training has come to an artifact that is sealed and in the store."""

    identified_by = ("run_id", "artefact_uri", "adapter_sha")

    name: Literal["training.complete"] = "training.complete"
    run_id: Digest
    """The eval run whose failures it was trained on."""
    artefact_uri: Annotated[str, Field(pattern=r"^store:sha256:[0-9a-f]{64}$")]
    """``store:`` and the artifact's id, by which the cluster's store gives it on any machine."""
    adapter_sha: Digest
    """Digest of the adapter's weights, as the artifact's ``SHA256SUMS`` lists it."""


class EvidenceBundle(Frozen):
    """Where the evidence is, and its digest."""

    path: str
    """``evidence.json`` on main, or in the pull request itself; its signature and the packet lie beside it."""
    digest: Digest


class PendingApproval(Happened):
    """A pull request of a specialist waits for people."""

    identified_by = ("candidate", "pull")

    name: Literal["promotion.pending_approval"] = "promotion.pending_approval"
    candidate: SpecialistId
    pull: Annotated[int, Field(ge=1)]
    """Number of the pull request."""
    approver_chain: tuple[str, ...]
    """Who must still approve, as `pr show` names them in ``waiting_for``."""
    evidence_bundle: EvidenceBundle | None
    """None where the specialist has none: it never passed its gate."""


class PromotionAdvanced(Happened):
    """Main has taken a record of a specialist. One that clears a hold leads from a state to the same."""

    identified_by = ("record",)

    name: Literal["promotion.advanced"] = "promotion.advanced"
    specialist: SpecialistId
    from_state: State | None
    """None for a new candidate."""
    to_state: State
    actor: Actor
    """Who prepared it; the record's receipts say who approved it."""
    record: Digest
    """Digest of the record."""


class MetricWindow(Frozen):
    """Metric and window of the contract that was approved with the deployment."""

    metric: Slug
    window_minutes: Annotated[int, Field(ge=1)]
    """Length of the window, from the deployment's approval on."""


class RollbackTriggered(Happened):
    """A deployment was taken back."""

    identified_by = ("record",)

    name: Literal["rollback.triggered"] = "rollback.triggered"
    specialist: SpecialistId
    reason: Annotated[PlainLine, Field(max_length=500)]
    metric_window: MetricWindow
    record: Digest
    """Digest of the rolled-back record."""


class DriftWindow(Frozen):
    """When a metric was observed."""

    began: Moment
    ended: Moment


class FleetDrift(Happened):
    """A live specialist is outside of what it was validated for, by one week of its traffic."""

    identified_by = ("specialist", "metric", "window")

    name: Literal["fleet.drift"] = "fleet.drift"
    specialist: SpecialistId
    metric: Slug
    baseline: float
    observed: float
    window: DriftWindow


Event = Annotated[
    EvalComplete
    | EvalRegression
    | TrainingComplete
    | PendingApproval
    | PromotionAdvanced
    | RollbackTriggered
    | FleetDrift,
    Field(discriminator="name"),
]
"""Any of them."""

EVENTS: tuple[type[Happened], ...] = get_args(get_args(Event)[0])


class Recorded(Frozen):
    """An event in a clone's ledger."""

    cursor: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}-[0-9a-f]{16}$")]
    """Where it stands: its number, and the beginning of a digest of all events up to it.

    Whoever has heard it asks for what comes after this cursor. A ledger that tells another story up to there, because
    it was made anew or put back, does not know the cursor and says so.
    """
    id: Digest
    """The event's identity: the same happening has the same id in every ledger."""
    at: AwareDatetime
    """When it was noted; of an eval, when the run ended."""
    event: Event


def of_run(result: RunResult) -> tuple[EvalComplete | EvalRegression, ...]:
    """The events of a finished run, as subscribers get them."""
    lost = tuple(case.id for case in result.headline.regressions)
    complete = EvalComplete(
        cluster=result.cluster,
        tag=result.tag,
        run_id=result.run_id,
        composite=result.headline.composite.value,
        regressions=lost,
    )
    if not lost or result.incumbent is None:
        return (complete,)
    regression = EvalRegression(
        cluster=result.cluster,
        tag=result.tag,
        run_id=result.run_id,
        failing_scenarios=lost,
        prior_pass=result.incumbent,
    )
    return (complete, regression)


@cache
def reader() -> TypeAdapter[Event]:
    """Reads an event of any of the seven types."""
    return TypeAdapter(Event)


def schema_id(name: str) -> str:
    """The ``$id`` of an event's schema, which its envelope names too."""
    return f"urn:modelsmith:event:{name}:{VERSION}"


def event_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas of the seven events by name, and of ``recorded``, the form in which a ledger gives each of them."""
    types: dict[str, type[Frozen]] = {kind.model_fields["name"].default: kind for kind in EVENTS}
    return {
        name: {**json_schema(kind, "serialization"), "$id": schema_id(name)}
        for name, kind in (types | {"recorded": Recorded}).items()
    }
