"""The one vocabulary of failures, and the exit code that each kind ends a command with."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from modelsmith.schema.steps import Step


class Exit(IntEnum):
    """Exit codes of the command line; agents branch on these, never on prose."""

    DONE = 0
    BUG = 1
    INVALID = 2
    GATE_NOT_CLEARED = 3
    WAITING_FOR_PERSON = 4
    INTEGRITY = 5
    INFRASTRUCTURE = 6


class ModelsmithError(Exception):
    """A failure that says what is wrong and how to mend it.

    ``code`` is a stable kebab-case word for machines, ``message`` one sentence, ``mend`` the next thing to do,
    ``details`` JSON-serialisable facts; ``next`` the operation that ``mend`` speaks of, where it is one that can be
    called as it stands.
    """

    exit: ClassVar[Exit] = Exit.BUG

    def __init__(self, code: str, message: str, mend: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.mend = mend
        self.next: Step | None = None
        self.details = details

    def then(self, step: Step) -> Self:
        """Name the operation that the mend speaks of; ``{next}`` in the mend becomes its command line."""
        from modelsmith.schema.steps import shell_line

        self.next = step
        self.mend = self.mend.replace("{next}", shell_line(step))
        return self

    def envelope(self) -> dict[str, Any]:
        """The error object of the command-line contract: ``{code, message, mend, details}``."""
        return {"code": self.code, "message": self.message, "mend": self.mend, "details": self.details}


class InvalidInput(ModelsmithError):
    """What a person or agent wrote (a file, an argument, a repository's condition) cannot be used."""

    exit = Exit.INVALID


class GateNotCleared(ModelsmithError):
    """A verdict of FAIL or INCONCLUSIVE, or a pull request whose gate is closed."""

    exit = Exit.GATE_NOT_CLEARED


class WaitingForPerson(ModelsmithError):
    """The next step belongs to a person."""

    exit = Exit.WAITING_FOR_PERSON


class IntegrityFailure(ModelsmithError):
    """Something is tampered with, unsigned, signed by the wrong key, or does not recompute."""

    exit = Exit.INTEGRITY


class InfrastructureFailure(ModelsmithError):
    """Disk, process, network, missing extra or a busy lock: nothing is wrong with the input."""

    exit = Exit.INFRASTRUCTURE
