"""What a second observer saw: the eval of a sealed artifact, repeated elsewhere and signed with a key of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.schema.base import Actor, Digest, Frozen, Section, Slug
from modelsmith.schema.evalset import Question
from modelsmith.schema.evidence import RunEvidence
from modelsmith.schema.promotion import SpecialistId
from modelsmith.schema.run import EngineFacts, JudgeAgreement, Outcome

OBSERVATION_FILE = "observation.json"
OBSERVATION_SIGNATURE = "observation.sigstore.json"
OBSERVATION_TYPE = "https://modelsmith.dev/observation/v1"


class Retraining(Frozen):
    """The adapter's training, repeated on the observer's machine from the rows that its training statement names."""

    rows: Digest
    """Digest of the rows."""
    artifact: Digest
    """Artifact id of what came of it: the observed one where the same rows, settings and libraries gave the same."""
    run: RunEvidence | None = None
    """Its answers to the evidence's question, under the specialist's name; None where it is the very same artifact."""


class SecondLook(Frozen):
    """``observation.json``: verdicts on the evidence's question, as an observer's own machine came to them. No text."""

    observer: Actor
    """Harness that observed, listed in people.yaml as an observer."""
    number: Annotated[int, Field(ge=1)]
    """Position among this observer's observations of the specialist: none can be handed in twice."""
    cluster: Slug
    specialist: SpecialistId
    artifact: Digest
    """Sealed artifact whose weights answered."""
    evidence: Digest
    """Digest of the ``evidence.json`` that was repeated."""
    question: Question
    engine: EngineFacts
    """Engine of the observer's machine."""
    candidate: RunEvidence
    """The artifact's answers there."""
    incumbent: RunEvidence
    """Answers there of the model that the evidence counts regressions against."""
    judge: JudgeAgreement | None = None
    """Who decided the judged points there; None without judged points."""
    retraining: Retraining | None = None
    """None where only the eval was repeated."""


class Turned(Frozen):
    """A scenario on which observer and evidence differ."""

    model: Slug
    """Whose answers: the specialist's or the incumbent's."""
    section: Section
    id: Slug
    direction: Literal["lost", "gained", "points"]
    """``lost``: the evidence passes it and the observer does not; ``gained``: the other way round; ``points``: both
    come to the same, by other rubric points."""


class Retrained(Frozen):
    """A repeated training held against the artifact and the evidence."""

    identical: bool
    """Whether the very same artifact came of it."""
    agrees: bool
    """Whether it is identical, or its verdicts differ on no more scenarios than another engine's may."""
    turned: tuple[Turned, ...]
    """All that differ."""


class Agreement(Frozen):
    """One observation held against the evidence that it repeats."""

    observer: Actor
    number: Annotated[int, Field(ge=1)]
    agrees: bool
    same_engine: bool
    """Whether engine, versions, precision, device and judge are the evidence's: then every verdict must be the same."""
    verdict: Outcome
    """What the observer's own verdicts come to by the registered rule."""
    compared: int
    """Scenarios of each model that were compared, counted in every section."""
    limit: float
    """Largest share of them that may differ; 0 on the same engine."""
    turned: tuple[Turned, ...]
    """All that differ."""
    retrained: Retrained | None = None
    """None where the training was not repeated."""
    sentence: str
    """The same in words."""
