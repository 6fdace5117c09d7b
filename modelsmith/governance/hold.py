"""A cluster's hold: after a rollback nothing is deployed to it until a person clears the hold.

The hold is not a file. It follows from the cluster's routing chain: a ``rolled-back`` record begins it, a
``hold-cleared`` record of the same specialist ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelsmith.governance.states import Link
from modelsmith.schema.base import Event
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import Policy


@dataclass(frozen=True)
class Hold:
    """Why nothing may be deployed to a cluster."""

    cluster: str
    specialist: str
    """Who was rolled back last; the record that clears the hold stands in its folder."""
    record: str
    """Digest of the rolled-back record."""

    @property
    def sentence(self) -> str:
        """The hold in words, for people."""
        why = f"{self.cluster} is on hold since {self.specialist} was rolled back"
        return f"{why}; nothing is deployed until a person clears it"


def fold_hold(cluster: str, chain: Sequence[tuple[Link, str]]) -> Hold | None:
    """The hold after a cluster's routing chain, oldest record first, each with its digest.

    Raises:
        IntegrityFailure: ``moved-on-hold`` (a deployment follows a rollback without a clearance between),
            ``cleared-without-hold`` (a clearance of nothing, or of another specialist's hold).
    """
    hold: Hold | None = None
    for record, digest in chain:
        refusal = hold_refusal(hold, cluster, record.event, record.specialist)
        if refusal:
            raise IntegrityFailure(
                "cleared-without-hold" if record.event == "hold-cleared" else "moved-on-hold",
                refusal,
                "Clear the hold first, or restore the records.",
                cluster=cluster,
                specialist=record.specialist,
                sequence=record.sequence,
            )
        if record.event == "rolled-back":
            hold = Hold(cluster, record.specialist, digest)
        elif record.event == "hold-cleared":
            hold = None
    return hold


def hold_refusal(hold: Hold | None, cluster: str, event: Event, specialist: str) -> str | None:
    """Why the event cannot follow now as far as the cluster's hold goes; None when it can."""
    if event == "hold-cleared" and hold is None:
        return f"{cluster} is not on hold"
    if event == "hold-cleared" and hold and hold.specialist != specialist:
        return f"{cluster} is on hold because of {hold.specialist}, not of {specialist}"
    if event == "customer-deployed" and hold:
        return hold.sentence
    if event == "deprecated" and hold and hold.specialist == specialist:
        return f"{cluster} is on hold because of {specialist}; the hold is cleared before it is deprecated"
    return None


def hold_clearers(policy: Policy) -> tuple[str, ...]:
    """Roles that clear a hold, as CODEOWNERS writes them."""
    return tuple(f"@{transition.gate}" for transition in policy.transitions if transition.event == "hold-cleared")
