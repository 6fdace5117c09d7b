"""An iteration as it stands: one type for each phase to do next, which holds what is known by then and no more. Pure.

What is known from the beginning goes from phase to phase with ``**at.known``, what is known of a candidate and of
its eval with ``**at.candidate`` and ``**at.verdict``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypedDict

from modelsmith.schema.base import Frozen
from modelsmith.schema.diagnosis import Recommendation
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.run import Outcome

Phase = Literal["eval", "diagnose", "train", "seal", "assess", "promote", "waiting", "done"]
"""``assess`` is the eval of the candidate; ``waiting`` ends at a person."""


class Fault(Frozen):
    """The error that a phase ended with."""

    code: str
    message: str
    mend: str
    exit: int
    """Exit code that the command ended with."""

    @classmethod
    def of(cls, error: ModelsmithError) -> Fault:
        """The part of an error that is remembered."""
        return cls(code=error.code, message=error.message, mend=error.mend, exit=error.exit)


class Lasting(TypedDict):
    """The fields of `BegunIteration` that stay the same to the end."""

    cluster: str
    number: int
    commit: str
    reference: str
    lesson: str | None
    stages: int | None


class Candidate(TypedDict):
    """The fields of `WithCandidate` that stay the same to the end."""

    specialist: str
    artifact: str
    export_tag: str | None


class Verdict(TypedDict):
    """The fields of `Judged` that stay the same to the end."""

    outcome: Outcome
    override: str | None


class PhaseFields(TypedDict):
    """The fields of `BegunIteration` that belong to one phase alone."""

    reason: str
    error: Fault | None


@dataclass(frozen=True, kw_only=True)
class BegunIteration:
    """Fields of an iteration that are known in every phase."""

    phase: ClassVar[Phase]
    """The phase to do next."""
    cluster: str
    number: int
    commit: str
    """Commit of main whose governed files this iteration uses throughout."""
    reference: str
    """Model that is diagnosed, trained on from and compared with: a specialist, or ``base``."""
    lesson: str | None = None
    """Tag of a failed candidate's run, whose failures this iteration answers instead of the reference's."""
    stages: int | None = None
    """How many stages of the cluster's training it runs, where a plateau adds the next; None for all of them."""
    reason: str = ""
    """Why the loop took the latest step, for people."""
    error: Fault | None = None
    """What the phase failed with when it was last tried; None once it is done."""

    @property
    def known(self) -> Lasting:
        """The fields that the next phase takes over."""
        return Lasting(
            cluster=self.cluster,
            number=self.number,
            commit=self.commit,
            reference=self.reference,
            lesson=self.lesson,
            stages=self.stages,
        )


@dataclass(frozen=True, kw_only=True)
class WithCandidate(BegunIteration):
    """Fields that are known besides in every phase after the candidate is sealed."""

    specialist: str
    artifact: str
    export_tag: str | None = None
    """Tag of the run in which an export is evaluated, of whose own way this is then; None for what is trained."""

    @property
    def candidate(self) -> Candidate:
        """Fields of the candidate that the next phase takes over."""
        return Candidate(specialist=self.specialist, artifact=self.artifact, export_tag=self.export_tag)


@dataclass(frozen=True, kw_only=True)
class ToEval(BegunIteration):
    """Just begun: the model that serves is to be evaluated."""

    phase: ClassVar[Phase] = "eval"


@dataclass(frozen=True, kw_only=True)
class ToDiagnose(BegunIteration):
    """The run is there whose failures are to be turned into rows."""

    phase: ClassVar[Phase] = "diagnose"


@dataclass(frozen=True, kw_only=True)
class ToTrain(BegunIteration):
    """The rows are there, and a person may read them before they are trained on."""

    phase: ClassVar[Phase] = "train"


@dataclass(frozen=True, kw_only=True)
class ToSeal(BegunIteration):
    """The adapter is trained."""

    phase: ClassVar[Phase] = "seal"


@dataclass(frozen=True, kw_only=True)
class ToAssess(WithCandidate):
    """The candidate is sealed and main knows it."""

    phase: ClassVar[Phase] = "assess"


@dataclass(frozen=True, kw_only=True)
class Judged(WithCandidate):
    """Fields that are known besides in every phase after the candidate's eval."""

    outcome: Outcome
    override: str | None = None
    """Why the INCONCLUSIVE of its candidate is to count, in the words of who asks a person for that."""

    @property
    def verdict(self) -> Verdict:
        """Fields of the candidate's eval that the next phase takes over."""
        return Verdict(outcome=self.outcome, override=self.override)


@dataclass(frozen=True, kw_only=True)
class ToPromote(Judged):
    """The candidate passed, or a person is asked to let it."""

    phase: ClassVar[Phase] = "promote"


@dataclass(frozen=True, kw_only=True)
class Waiting(Judged):
    """A person is to decide."""

    phase: ClassVar[Phase] = "waiting"
    pull: int | None
    """Pull request that waits; None while the way to one is shut: by a hold, or a count that is still due."""


@dataclass(frozen=True, kw_only=True)
class Untrained(BegunIteration):
    """Done before there was a candidate: nothing was to be learnt."""

    phase: ClassVar[Phase] = "done"
    outcome: Outcome
    """Verdict of the run that was diagnosed."""


@dataclass(frozen=True, kw_only=True)
class Ended(Judged):
    """Done with a candidate, whatever came of it."""

    phase: ClassVar[Phase] = "done"
    recommended: Recommendation | None = None
    """What to do instead of another iteration, where the registered rule found a plateau."""

    def stopped(self, why: str, recommended: Recommendation | None) -> Ended:
        """The iteration, after which no other is begun."""
        return replace(self, reason=f"{self.reason}; {why}", recommended=recommended)


ToDo = ToEval | ToDiagnose | ToTrain | ToSeal | ToAssess | ToPromote
"""The phases that the loop itself does."""
Iteration = ToDo | Waiting | Untrained | Ended
