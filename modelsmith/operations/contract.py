"""Base classes of every operation's request and result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import Field, JsonValue
from pydantic.fields import FieldInfo

from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import Exit
from modelsmith.schema.steps import Step

if TYPE_CHECKING:
    from modelsmith.repository.workspace import Workspace


@dataclass(frozen=True)
class Cli:
    """How a request's field looks on the command line, where its name does not say it."""

    argument: bool = False
    """Positional instead of ``--name``."""
    option: str | None = None
    """Spelling of the option, when it differs from the field's name."""
    ask: bool = False
    """Asked for on a terminal, when it is not given."""
    person: bool = False
    """Only a person gives it: refused in a session with a role, and no field of a tool."""


ARGUMENT = Cli(argument=True)
ASK = Cli(ask=True)

ClusterName = Annotated[str, Field(description="Cluster, a folder name under clusters/.")]
PullNumber = Annotated[int, Field(ge=1, le=999_999_999, description="Number of the pull request."), ARGUMENT]


class Request(Frozen):
    """What is asked for. Field descriptions are the help texts of command line and tools."""

    @classmethod
    def offers(cls, workspace: Workspace, values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        """What the repository offers for a field that is asked for, after the others were ``values``."""
        return {}

    @classmethod
    def check(cls, workspace: Workspace, values: Mapping[str, Any], open_field: str) -> None:
        """Refuse what is known so far and could never stand, so that a person may say it again at once.

        ``open_field`` names the field to which lines are still added; what it lacks is not yet wrong.

        Raises:
            InvalidInput: as the operation would in the end.
        """

    @classmethod
    def for_others(cls) -> dict[str, FieldInfo]:
        """The fields for callers who are not persons at this machine: no path, and nothing that only a person says."""
        return {name: field for name, field in cls.model_fields.items() if not _is_for_a_person_here(field)}

    def calls(self, workspace: Workspace) -> frozenset[str]:
        """Names of other operations that this one would call: who may not call each of them may not call this.

        Raises:
            ModelsmithError: as the operation would in the end.
        """
        return frozenset()

    def queue(self) -> str:
        """Cluster whose jobs it takes its turn with, where it goes on as a job; empty where it is about none."""
        named = getattr(self, "cluster", None)
        return named if isinstance(named, str) else ""


def _is_for_a_person_here(field: FieldInfo) -> bool:
    return _holds_path(field.annotation) or any(isinstance(mark, Cli) and mark.person for mark in field.metadata)


def _holds_path(annotation: Any) -> bool:
    return annotation is Path or any(_holds_path(argument) for argument in get_args(annotation))


class Result(Frozen):
    """Result of an operation: exactly the object that ``--json`` prints."""

    followed: ClassVar[str] = ""
    """Name of a list that is read on from a cursor beside it; empty where there is none."""

    def head(self, count: int) -> Result:
        """What would have come of asking for only so many of the followed list, one at least."""
        return self

    def exit_code(self) -> Exit:
        """Exit code of the command line for this result."""
        return Exit.DONE

    def question(self) -> str | None:
        """What to ask a person on the terminal before the same request is run again with ``yes``; None: nothing."""
        return None


class Refusal(Frozen):
    """The object on stdout when a command with ``--json`` ends without a result."""

    code: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    """Stable word for what is wrong; branch on it and on the exit code."""
    message: str
    """Sentence for people that says what is wrong."""
    mend: str
    """The next thing to do, for people."""
    details: dict[str, JsonValue]
    """Facts by name; ``problems`` holds the mistakes of files as `validate` names them."""
    next: Step | None
    """The operation that ``mend`` speaks of; null where it is none, or none that can be called as it stands."""


class ProgressLine(Frozen):
    """One line on stderr of a command with ``--json`` while it works."""

    phase: str
    """Short name of the work: ``eval``, ``train``, ``promote``."""
    message: str
    """Sentence for people that says what is happening."""
    done: int
    """Units finished."""
    total: int
    """Units in all; 0 when there is nothing to count."""
    per_second: float | None
    """How fast it goes; null while there is nothing to say."""
    seconds_left: float | None
    """Seconds until all units are finished: of a training before its first step how long it will take, where one of its
    kind has run in this clone, and then what is left of it. Null where nobody knows."""
