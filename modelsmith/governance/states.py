"""The history of a specialist: its promotion records, folded into a state. No file summarises it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

from modelsmith.schema.base import Event, State
from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.governance import Policy, Transition
from modelsmith.schema.promotion import EXPORT_FILE, OVERRIDE_FILE, PromotionRecord

SERVING_STATES: frozenset[State] = frozenset({"customer-deployed", "production-validated"})
"""States in which a specialist may carry traffic."""


class Link(NamedTuple):
    """What a record says as a link of its cluster's routing chain; the record itself says it, too."""

    cluster: str
    specialist: str
    sequence: int
    event: Event
    to_state: State
    artifact: str
    expected_previous: str | None

    @classmethod
    def of(cls, record: PromotionRecord) -> Link:
        """The link that a record forms in its chain."""
        return cls(
            record.cluster,
            record.specialist,
            record.sequence,
            record.event,
            record.to_state,
            record.artifact,
            record.expected_previous,
        )


class Outline(NamedTuple):
    """Summary of a history, known without its records."""

    artifact: str
    iteration: int
    is_export: bool
    accepted: bool
    overridden: bool
    composite: float | None
    links: tuple[tuple[Link, str], ...]
    """Of the routing chain, in sequence, each with the digest of its record."""


@dataclass(frozen=True)
class SpecialistHistory:
    """One specialist as its records tell it."""

    cluster: str
    specialist: str
    state: State
    records: Sequence[PromotionRecord] = field(compare=False)
    """In sequence; of a history with an outline they are read when somebody asks for one. Their digests compare them.
    """
    digests: tuple[str, ...]
    """Digest of each record, in sequence."""
    outline: Outline | None = field(default_factory=lambda: None, compare=False, repr=False)
    """Outline of a history that was folded before."""

    @classmethod
    def unread(cls, cluster: str, specialist: str, read: Callable[[], SpecialistHistory]) -> SpecialistHistory:
        """The history that ``read`` gives, which is called when somebody asks for more than whose it is.

        A main has thousands, and a decision about one specialist asks about few others.
        """
        found = object.__new__(cls)
        number = int(specialist.split("-")[1])
        found.__dict__.update(cluster=cluster, specialist=specialist, iteration=number, _read=read)
        return found

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """A part of a history that is `unread`."""
            read = self.__dict__.get("_read")
            if read is not None:
                self.__dict__.update(read().__dict__, _read=None)
            if name not in self.__dict__:
                raise AttributeError(f"A specialist's history has no attribute {name}")
            return self.__dict__[name]

    @property
    def artifact(self) -> str:
        """Artifact id; the same in every record."""
        return self.outline.artifact if self.outline else self.records[-1].artifact

    @cached_property
    def iteration(self) -> int:
        """Number of the iteration that it comes from; the same in every record. A replay asks it of all, often."""
        return self.outline.iteration if self.outline else self.records[0].iteration

    @property
    def accepted(self) -> bool:
        """Whether its eval was accepted."""
        return (
            self.outline.accepted if self.outline else any(record.event == "eval-accepted" for record in self.records)
        )

    @property
    def overridden(self) -> bool:
        """Whether a record of it brings an override."""
        return (
            self.outline.overridden
            if self.outline
            else any(OVERRIDE_FILE in record.evidence for record in self.records)
        )

    @property
    def composite(self) -> float | None:
        """Of its eval, as its latest record with one says; None for one that was never accepted."""
        if self.outline:
            return self.outline.composite
        return next((record.composite for record in reversed(self.records) if record.composite is not None), None)

    @property
    def last(self) -> str:
        """Digest of the last record: what the next record names as its previous one."""
        return self.digests[-1]

    @property
    def is_export(self) -> bool:
        """Whether it was made from another specialist, instead of being trained."""
        return self.outline.is_export if self.outline else EXPORT_FILE in self.records[0].evidence

    @property
    def routed(self) -> bool:
        """Whether its state lets it carry traffic; routing decides whether it does."""
        return self.state in SERVING_STATES


class Folder(NamedTuple):
    """A record's folder, read from its path."""

    cluster: str
    specialist: str
    sequence: int
    event: Event


_FOLDER = re.compile(r"promotions/([a-z0-9][a-z0-9._-]*)/(iter-[0-9]{3,}-[0-9a-f]{8})/([0-9]{2,})-([a-z-]+)", re.ASCII)


def folder_of(cluster: str, specialist: str, sequence: int, event: str) -> str:
    """Folder of a record: ``promotions/<cluster>/<specialist>/<NN>-<event>``.

    >>> folder_of("rtb-pricing", "iter-001-0a1b2c3d", 1, "candidate")
    'promotions/rtb-pricing/iter-001-0a1b2c3d/01-candidate'
    """
    return f"promotions/{cluster}/{specialist}/{sequence:02d}-{event}"


def record_folder(record: PromotionRecord) -> str:
    """The only folder where this record may stand."""
    return folder_of(record.cluster, record.specialist, record.sequence, record.event)


def parse_folder(path: str) -> Folder:
    """Read a record folder's path. Raises InvalidInput (``bad-record-folder``) for any other spelling.

    >>> parse_folder("promotions/rtb-pricing/iter-001-0a1b2c3d/01-candidate")
    Folder(cluster='rtb-pricing', specialist='iter-001-0a1b2c3d', sequence=1, event='candidate')
    """
    match = _FOLDER.fullmatch(path)
    if match and match[4] in get_args(Event):
        folder = Folder(match[1], match[2], int(match[3]), cast("Event", match[4]))
        if folder.sequence >= 1 and folder_of(*folder) == path:
            return folder
    raise InvalidInput(
        "bad-record-folder",
        f"{path!r} is not the folder of a promotion record.",
        "Name it promotions/<cluster>/<specialist>/<NN>-<event>.",
        path=path,
    )


def transition_for(policy: Policy, event: Event, state: State | None) -> Transition:
    """The policy's transition for this event from this state (None: before the first record).

    Raises InvalidInput (``bad-transition``), naming the events that the policy allows instead.
    """
    from_here = [t for t in policy.transitions if (state in t.sources if state else not t.sources)]
    for transition in from_here:
        if transition.event == event:
            return transition
    possible = ", ".join(sorted(t.event for t in from_here)) or "nothing"
    raise InvalidInput(
        "bad-transition",
        f"The policy does not allow {event} for a specialist in state {state or 'none'}.",
        f"Possible from here: {possible}.",
        event=event,
        state=state,
    )


def fold(records: Sequence[PromotionRecord], policy: Policy, known_digests: Sequence[str] = ()) -> SpecialistHistory:
    """Replay one specialist's records, given in sequence, into its history.

    ``known_digests`` are the digests of all records, where their canonical bytes have been read.

    Raises IntegrityFailure, naming specialist and sequence: ``no-records``, ``mixed-specialists``,
    ``misnamed-specialist``, ``skipped-sequence``, ``changed-artifact``, ``broken-chain``,
    ``forbidden-transition``.
    """
    if not records:
        raise IntegrityFailure(
            "no-records", "A specialist without records has no state.", "Give the records of one specialist."
        )
    first = records[0]
    state: State | None = None
    digests: list[str] = []
    for sequence, record in enumerate(records, start=1):
        _check_identity(first, record, sequence)
        previous = digests[-1] if digests else None
        if record.previous_record != previous:
            raise _broken("broken-chain", record, "does not name the digest of the record before it")
        if not _allowed(policy, record, state):
            raise _broken(
                "forbidden-transition",
                record,
                f"says {record.event} from {record.from_state} to {record.to_state}, which the policy does not allow "
                f"from {state or 'the beginning'}",
            )
        state = record.to_state
        digests.append(known_digests[sequence - 1] if known_digests else digest(record))
    assert state is not None
    return SpecialistHistory(first.cluster, first.specialist, state, tuple(records), tuple(digests))


def _allowed(policy: Policy, record: PromotionRecord, state: State | None) -> bool:
    try:
        transition = transition_for(policy, record.event, state)
    except InvalidInput:
        return False
    return record.from_state == state and record.to_state == transition.target


def _check_identity(first: PromotionRecord, record: PromotionRecord, sequence: int) -> None:
    if (record.cluster, record.specialist) != (first.cluster, first.specialist):
        raise _broken("mixed-specialists", record, f"stands among the records of {first.cluster}/{first.specialist}")
    if record.specialist != f"iter-{record.iteration:03d}-{record.artifact.removeprefix('sha256:')[:8]}":
        raise _broken("misnamed-specialist", record, "is not named after its iteration and artifact")
    if record.sequence != sequence:
        raise _broken("skipped-sequence", record, f"stands where record {sequence} is due")
    if record.artifact != first.artifact:
        raise _broken("changed-artifact", record, "names another artifact than the first record")


def _broken(code: str, record: PromotionRecord, problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        code,
        f"Record {record.sequence} of {record.cluster}/{record.specialist} {problem}.",
        "Restore the promotion records from a trusted copy of the repository.",
        cluster=record.cluster,
        specialist=record.specialist,
        sequence=record.sequence,
    )
