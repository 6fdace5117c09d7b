"""Where each cluster's loop stands: a pointer that survives a kill and is verified before it is believed."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Self, TypeVar

from filelock import FileLock
from pydantic import Field

from modelsmith.loop.iteration import (
    Candidate,
    Ended,
    Fault,
    Iteration,
    Lasting,
    Phase,
    PhaseFields,
    ToAssess,
    ToDiagnose,
    ToEval,
    ToPromote,
    ToSeal,
    ToTrain,
    Untrained,
    Verdict,
    Waiting,
)
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Digest, Frozen, GitHash, Slug
from modelsmith.schema.diagnosis import Recommendation
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.plaintext import PlainLine
from modelsmith.schema.run import Outcome
from modelsmith.signing.files import write_atomically

AnyIteration = TypeVar("AnyIteration", bound=Iteration)


class Pointer(Frozen):
    """An iteration as ``state.json`` keeps it: every field of every phase, null where the phase has none."""

    cluster: Slug
    number: Annotated[int, Field(ge=1)]
    phase: Phase
    commit: GitHash
    reference: str
    lesson: str | None = None
    stages: Annotated[int, Field(ge=1)] | None = None
    specialist: str | None = None
    artifact: Digest | None = None
    export_tag: str | None = None
    pull: int | None = None
    outcome: Outcome | None = None
    override: PlainLine | None = None
    reason: str = ""
    error: Fault | None = None
    recommended: Recommendation | None = None

    @classmethod
    def to(cls, iteration: Iteration) -> Self:
        """The pointer that keeps an iteration."""
        return cls(phase=iteration.phase, **{field.name: getattr(iteration, field.name) for field in fields(iteration)})

    def iteration(self) -> Iteration:
        """The iteration that was kept.

        Raises:
            ValueError: it lacks what is known in its phase.
        """
        lasting = Lasting(
            cluster=self.cluster,
            number=self.number,
            commit=self.commit,
            reference=self.reference,
            lesson=self.lesson,
            stages=self.stages,
        )
        now = PhaseFields(reason=self.reason, error=self.error)
        match self.phase:
            case "eval":
                return ToEval(**lasting, **now)
            case "diagnose":
                return ToDiagnose(**lasting, **now)
            case "train":
                return ToTrain(**lasting, **now)
            case "seal":
                return ToSeal(**lasting, **now)
            case "assess":
                return ToAssess(**lasting, **self._candidate(), **now)
            case "promote":
                return ToPromote(**lasting, **self._candidate(), **self._verdict(), **now)
            case "waiting":
                return Waiting(**lasting, **self._candidate(), **self._verdict(), **now, pull=self.pull)
            case "done" if self.specialist is None:
                return Untrained(**lasting, **now, outcome=self._verdict()["outcome"])
            case "done":
                recommended = self.recommended
                return Ended(**lasting, **self._candidate(), **self._verdict(), **now, recommended=recommended)

    def _candidate(self) -> Candidate:
        if self.specialist is None or self.artifact is None:
            raise ValueError(f"{self.phase} without a candidate")
        return Candidate(specialist=self.specialist, artifact=self.artifact, export_tag=self.export_tag)

    def _verdict(self) -> Verdict:
        outcome = self.outcome or ("INCONCLUSIVE" if self.override else None)
        if outcome is None:
            raise ValueError(f"{self.phase} without an outcome")
        return Verdict(outcome=outcome, override=self.override)


class LoopState(Frozen):
    """``state.json``, in the clone's private folder."""

    clusters: dict[Slug, Pointer] = {}


class StateFile:
    """Reads and replaces the state atomically; clusters that iterate at the same time do not lose each other's step."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.private / "state.json"
        self._root = workspace.root

    def read(self) -> LoopState:
        """The state; an absent or unreadable file is an empty state, since everything in it can be found again."""
        try:
            return LoopState.model_validate_json(read_plain(self.path))
        except (FileNotFoundError, ValueError):
            return LoopState()

    def get(self, cluster: str) -> Iteration | None:
        """The iteration of one cluster; None where none is kept that can be gone on with."""
        entry = self.read().clusters.get(cluster)
        with contextlib.suppress(ValueError):
            return entry.iteration() if entry else None
        return None

    def put(self, iteration: AnyIteration) -> AnyIteration:
        """Record where a cluster stands.

        Raises:
            InfrastructureFailure: ``not-writable`` or ``disk-full``.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                state = self.read()
                clusters = {**state.clusters, iteration.cluster: Pointer.to(iteration)}
                write_atomically(self.path, LoopState(clusters=clusters).model_dump_json(indent=2).encode())
        except OSError as error:
            raise disk_failure(self.path, error) from None
        self._show()
        return iteration

    def _show(self) -> None:
        """Copy the state to ``.iterate/state.json``, where people and agents look; nothing ever reads it there."""
        copy = self._root / ".iterate" / "state.json"
        with contextlib.suppress(OSError, InvalidInput):
            refuse_links(self._root, copy)
            copy.parent.mkdir(exist_ok=True)
            write_atomically(copy, read_plain(self.path))


def disk_failure(path: Path, error: OSError) -> InfrastructureFailure:
    """The typed failure for an operating system error at a path of ours."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return InfrastructureFailure(
            "disk-full",
            f"No space left to write {path.name}",
            "Free disk space, then run the same command again.",
            file=path.name,
        )
    return InfrastructureFailure(
        "not-writable",
        f"Cannot write {path.name}: {error.strerror}",
        "Make the folder writable for this user.",
        file=path.name,
        reason=error.strerror,
    )
