"""Live evidence: what a window came to, as the front door signs it and the gate recomputes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Actor, Digest, Frozen, Moment, Slug
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts
from modelsmith.schema.promotion import SpecialistId

LIVE_FILE = "live.json"
LIVE_SIGNATURE = "live.sigstore.json"
LIVE_TYPE = "https://modelsmith.dev/live-evidence/v1"
Judged = Literal["roll-back", "confirm", "inconclusive"]


class Finding(Frozen):
    """One metric of a window: the loss as counted, and what a loss is excluded to be."""

    metric: Slug
    scale: Literal["relative", "points"]
    """Whether losses are relative to the incumbent's rate or in points."""
    allowed: float
    """Largest loss that the contract allows."""
    loss: float | None
    """How much worse the specialist is, as counted; negative when it is better, None while nothing can be said."""
    least: float | None
    """Bound below which the loss is excluded to lie; None while none is."""
    most: float | None
    """Bound above which the loss is excluded to lie; None while none is."""
    worse: float
    """Evidence that the specialist is worse at all, as log10 of the e-value."""
    held: float
    """Evidence that the loss is not beyond the allowed one, as log10 of the e-value."""


class LiveEvidence(Frozen):
    """``live.json`` of an event that live traffic speaks for: what production showed, signed by an observer.

    Of ``customer-deployed`` it is what the specialist answered in the shadow; the guards of the rule alone count there.
    """

    cluster: Slug
    specialist: SpecialistId
    observer: Actor
    """Identity of the door, as people.yaml lists it among observers."""
    deployment: Digest
    """Digest of the customer-deployed record whose window it is; in the shadow, of the specialist's last record."""
    routing: Digest
    """SHA-256 of ``routing.yaml`` that was obeyed; of nothing before the cluster's first deployment."""
    beside: Annotated[Digest | None, Field(exclude_if=lambda beside: beside is None)] = None
    """In the shadow, digest of what both sides were asked with and held to; see `promotion.serving.compared`."""
    terms: Rollback
    """The contract's terms with the rule, as approved, or in the shadow as they are to be approved."""
    counts: Counts
    at: Moment
    """The door's clock when it judged."""
    outcome: Judged
    findings: Annotated[tuple[Finding, ...], Field(max_length=16)]
