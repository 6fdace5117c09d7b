"""What is kept of a runbook's runs: who ran it, and what each step came to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from modelsmith.schema.base import Digest, Frozen, GitHash, Moment, Slug
from modelsmith.schema.canonical import digest
from modelsmith.schema.runbook import OperationName, StepId

StepState = Literal["done", "skipped", "waiting", "failed", "refused"]
"""``waiting`` for a person; ``failed``: it came to something that the runbook does not go on with; ``refused``: the
operation ended with an error. What waits or was refused is called again."""


class RunOf(Frozen):
    """What makes a run this one and no other: its id is the digest of this."""

    runbook: Slug
    digest: Digest
    """Digest of the runbook's bytes, as main had them."""
    parameters: dict[str, JsonValue]
    number: Annotated[int, Field(ge=1)]
    """Counts the runs with these parameters in this clone."""

    @property
    def id(self) -> str:
        """Id of the run: the digest of runbook, parameters and number."""
        return digest(self)


class StepRecord(Frozen):
    """One step of a run, the last time that it was called."""

    run: Digest
    previous: Digest
    """Digest of the record before it; of the first step, the run's id."""
    step: StepId
    call: OperationName
    arguments: dict[str, JsonValue]
    """Arguments that the operation was called with."""
    state: StepState
    exit: int | None
    """Of the same command; none for a step that was passed over."""
    error: str | None
    """Code of the error that it ended with."""
    result: dict[str, JsonValue] | None
    """The operation's result, as ``--json`` prints it."""
    actor: str | None
    """Identity of the clone that ran it, which signs what it proposes."""
    role: str | None
    """Role of the session; none where a person ran it."""
    main: GitHash
    """Commit of main that the runbook was read from."""
    began: Moment
    ended: Moment

    @property
    def digest(self) -> str:
        """Digest of the record, which the next one names."""
        return digest(self)

    @property
    def is_over(self) -> bool:
        """Whether the next step may begin."""
        return self.state in ("done", "skipped")


class Sealed(Frozen):
    """A record as it lies in a clone, with what proves that this machine wrote it."""

    record: StepRecord
    mac: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """HMAC-SHA-256 (RFC 2104) of the record's canonical JSON, by a key of this machine."""


class AuditedStep(Frozen):
    """A step as an auditor sees it: what it came to is a digest."""

    step: StepId
    call: OperationName
    arguments: dict[str, JsonValue]
    state: StepState
    exit: int | None
    error: str | None
    result: Digest | None
    """Digest of what ``--json`` printed."""
    actor: str | None
    role: str | None
    main: GitHash
    began: Moment
    ended: Moment


class AuditedRun(Frozen):
    """A run of a runbook."""

    id: Digest
    runbook: Slug
    digest: Digest
    parameters: dict[str, JsonValue]
    number: int
    steps: tuple[AuditedStep, ...]


def audited(record: StepRecord) -> AuditedStep:
    """The step without what it printed."""
    fields = record.model_dump(exclude={"run", "previous", "result"})
    return AuditedStep(**fields, result=None if record.result is None else digest(record.result))
