"""Where each cluster's loop stands: a pointer that survives a kill and is verified before it is believed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal, Self

from filelock import FileLock
from pydantic import Field

from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Digest, Frozen, GitHash, Slug
from modelsmith.schema.diagnosis import Recommendation
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.plaintext import PlainLine
from modelsmith.signing.files import write_atomically

Phase = Literal["eval", "diagnose", "train", "seal", "assess", "promote", "waiting", "done"]
"""``assess`` is the eval of the candidate; ``waiting`` ends at a person."""


class Fault(Frozen):
    """What a phase failed with."""

    code: str
    message: str
    mend: str
    exit: int
    """Exit code that the command ended with."""

    @classmethod
    def of(cls, error: ModelsmithError) -> Fault:
        """What to remember of an error."""
        return cls(code=error.code, message=error.message, mend=error.mend, exit=error.exit)


class Iteration(Frozen):
    """One pass of the loop in one cluster."""

    cluster: Slug
    number: Annotated[int, Field(ge=1)]
    phase: Phase
    """The phase to do next."""
    commit: GitHash
    """Commit of main whose governed files this iteration uses throughout."""
    reference: str
    """Model that is diagnosed, trained on from and compared with: a specialist, or ``base``."""
    lesson: str | None = None
    """Tag of a failed candidate's run, whose failures this iteration answers instead of the reference's."""
    stages: Annotated[int, Field(ge=1)] | None = None
    """How many stages of the cluster's training it runs, where a plateau adds the next; None for all of them."""
    specialist: str | None = None
    artifact: Digest | None = None
    export_tag: str | None = None
    """Tag of the run in which an export is evaluated, of whose own way this is then; None for what is trained."""
    pull: int | None = None
    """Pull request that waits for a person; none while ``waiting`` for a person to clear the cluster's hold."""
    outcome: Literal["PASS", "FAIL", "INCONCLUSIVE"] | None = None
    override: PlainLine | None = None
    """Why the INCONCLUSIVE of its candidate is to count, in the words of who asks a person for that."""
    reason: str = ""
    """Why the loop took the latest step, for people."""
    error: Fault | None = None
    """What the phase failed with when it was last tried; None once it is done."""
    recommended: Recommendation | None = None
    """What to do instead of another iteration, where the registered rule found a plateau."""

    def stopped(self, why: str, recommended: Recommendation | None) -> Self:
        """The iteration, after which no other is begun."""
        return self.model_copy(update={"reason": f"{self.reason}; {why}", "recommended": recommended})


class LoopState(Frozen):
    """``state.json``, in the clone's private folder."""

    clusters: dict[Slug, Iteration] = {}


class StateFile:
    """Reads and replaces the state atomically; clusters that iterate at the same time do not lose each other's step."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.private / "state.json"
        self._root = workspace.root

    def read(self) -> LoopState:
        """The state; an absent or unreadable file is an empty state, since everything in it can be found again."""
        try:
            return LoopState.model_validate_json(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return LoopState()

    def get(self, cluster: str) -> Iteration | None:
        """The iteration of one cluster."""
        return self.read().clusters.get(cluster)

    def put(self, iteration: Iteration) -> Iteration:
        """Record where a cluster stands.

        Raises:
            InfrastructureFailure: ``not-writable`` or ``disk-full``.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                state = self.read()
                clusters = {**state.clusters, iteration.cluster: iteration}
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
            write_atomically(copy, self.path.read_bytes())


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
