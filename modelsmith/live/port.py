"""What the front door tells of each request, and what it asks back: the seam between serving and measuring.

The door decides who answers; a `Recorder` counts it. Neither knows how the other works. No call of a recorder waits for
a disk or raises: where counting fails, serving goes on and `Recorder.trouble` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

Arm = Literal["specialist", "incumbent"]
Stage = Literal["shadow", "canary", "full"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which specialist was chosen to answer a request. It never changes, even when another answers in the end."""

    id: str
    """Goes out in a header and comes back with feedback. All that follows is in it, under an HMAC."""
    cluster: str
    specialist: str
    """The specialist under watch, whichever arm it is."""
    incumbent: str
    """Who serves the rest of the traffic: a specialist, or ``base``."""
    record: str
    """Digest of the promotion record that deployed the specialist: what a window is counted for."""
    arm: Arm
    """The arm that was *assigned*. Where the door fails over to the incumbent it stays ``specialist``."""
    unit: str
    """What is counted once: a keyed digest of the key by which the arm was chosen."""
    share: float
    """The specialist's share when it was decided."""
    stage: Stage
    at: datetime
    """The recorder's clock, in UTC."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How one request ended. Nothing of prompt or answer."""

    status: int
    """HTTP status that the assigned arm came to: of a request that failed over, that of the failure (504 for a time
    out), not that of the incumbent's answer."""
    first_token_ms: float | None
    """None where nothing was streamed or nothing came."""
    total_ms: float
    tokens_in: int
    tokens_out: int
    failed_over: bool = False
    """The incumbent answered in place of the assigned specialist: counts as an error of the specialist."""
    differs: bool | None = None
    """Of an answer in the shadow: whether it says something else than the caller got; None where nobody can tell."""
    format_ok: bool | None = None
    """Whether the rubric's own format checks pass; None where the answer was not sampled."""
    hung_up: bool = False
    """The client left before the end: no error of whoever answered."""
    cost: float = 0.0
    """Of the tokens of whoever answered, in the currency of the machine's settings; 0 where they name no price."""
    not_asked: bool = False
    """The door had no room to ask anybody: says nothing of whoever was to answer."""


class Copies(NamedTuple):
    """Copies of requests for a specialist in the shadow, in the period that counts now."""

    period: str
    """A name of the period: a sticky key counts once in each."""
    number: int
    """Copies in it so far, those of earlier doors of this clone too."""


class Recorder(Protocol):
    """Counts decisions and outcomes, judges the window, and holds the latch. May be called from any thread."""

    @property
    def trouble(self) -> str | None:
        """Why something is not counted now, such as a full disk, for readiness and the log; None when all is well."""

    def decided(
        self,
        *,
        cluster: str,
        specialist: str,
        incumbent: str,
        record: str,
        arm: Arm,
        key: str,
        share: float,
        stage: Stage,
    ) -> Decision:
        """Note who is to answer a request.

        Args:
            cluster: Whose request it is.
            specialist: Specialist under watch. Where none is, whoever serves, with ``incumbent`` the same.
            incumbent: Who serves the rest.
            record: Digest of the record that routing.yaml names beside the specialist; "" for the base model.
            arm: What the router chose.
            key: What it chose by: the sticky key, or without one a random text of at least 16 characters of the door's.
            share: The specialist's share at that moment.
            stage: Of the deployment. Shadow answers reach nobody, so they have no outcome and are counted apart.
        """

    def answered(self, decision: Decision, answered: Answered) -> None:
        """Note how it ended; once for each decision."""

    def feedback(self, body: bytes, may: Callable[[str], bool], sender: str) -> tuple[int, dict[str, Any]]:
        """One report or a batch of them (``POST /v1/feedback``): HTTP status and the body of the answer.

        Whoever calls has authenticated the sender and limits the size of the body. This reads and writes the store:
        call it in a thread.

        Args:
            body: As it came.
            may: Whether the sender's key is for a cluster.
            sender: Whose key it is; nobody can use up another's idempotency keys.
        """

    def copies(self, record: str) -> Copies:
        """Copies under this name of late. Cheap, as it is often asked."""

    def latched(self, record: str) -> bool:
        """Whether the deployment that this record made was taken back here: all of its traffic is the incumbent's.

        Cheap: ask before every request, with the record of the specialist that it would go to, and obey.
        """

    def exposition(self) -> tuple[str, bytes]:
        """Content type and text of ``/metrics``."""
