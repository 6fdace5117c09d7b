"""``modelsmith new scenario``: one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.authoring import Answer, NewResult, OpenSet, SetOption, refuse_draft, write_new
from modelsmith.operations.contract import ARGUMENT, ASK, Cli, Request
from modelsmith.repository.drafts import free_name, main_point, offered_answers, reference, yaml_bytes
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.scenario import Scenario

FOLDERS = {"core": "scenarios", "held-out": "held_out", "micro": "micro"}
STEMS = {"core": "core", "held-out": "held", "micro": "micro"}


def _user_message(note: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": note}]


_SAID: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "name": ("capability", str),
    "note": ("messages", _user_message),
    "held_out": ("messages", _user_message),
    "lens": ("operator_lens", str),
    "outcome": ("outcome_type", str),
    "variants": ("variants", list),
    "id": ("id", str),
}
"""For each answer that a case's file holds as it was said: the field there, and how it is written."""


class CaseRequest(Request):
    """Fields that every request for a case has."""

    set: SetOption = None
    note: Annotated[str, Field(description="The case itself: what the user says."), ASK]
    answer: Answer
    pass_: Annotated[
        str, Field(description="What a right answer recognises here, for people."), Cli(option="--pass", ask=True)
    ]
    fail: Annotated[str, Field(description="The tempting wrong answer, and why it is wrong, for people."), ASK]
    point: Annotated[str | None, Field(description="Rubric point that pass and fail speak of.")] = None
    risk: Annotated[Literal["low", "medium", "high"], Field(description="Damage when the answer is wrong."), ASK]
    lens: Annotated[str, Field(description="Whose question it is, in one word: nurse, trader."), ASK]
    outcome: Annotated[str, Field(description="What is at stake, in one word: delay, overpay."), ASK]
    critical: Annotated[bool, Field(description="It must pass, whatever else does.")] = False

    @override
    @classmethod
    def offers(cls, workspace: Workspace, values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        open_set = OpenSet(workspace, values.get("set"))
        return {"answer": offered_answers(open_set.rubric), "capability": open_set.capabilities()}

    @override
    @classmethod
    def check(cls, workspace: Workspace, values: Mapping[str, Any], open_field: str) -> None:
        open_set = OpenSet(workspace, values.get("set"))
        if answer := values.get("answer"):
            reference(answer, open_set.rubric, complete=open_field != "answer")
        if "capability" in values:
            open_set.require_capability(values["capability"])
        refuse_draft(Scenario, {file: of(values[option]) for option, (file, of) in _SAID.items() if values.get(option)})


class NewScenarioRequest(CaseRequest):
    """Writes one case of a capability, under the next free number, into the folder where it belongs.

    Core is the open exam, held-out the closed one, micro the one-line cases. A text that is too near to a case of the
    other exam is refused, as validate refuses it.
    """

    capability: Annotated[str, Field(description="Skill under test."), ARGUMENT]
    part: Annotated[
        Literal["core", "held-out", "micro"], Field(description="Exam that it belongs to; core when left out."), ASK
    ] = "core"
    variants: Annotated[
        tuple[str, ...], Field(description="The same facts in other words. Repeat for more."),
        Cli(option="--variant", ask=True),
    ] = ()  # fmt: skip
    id: Annotated[str | None, Field(description="Name of the case; the next free number when left out.")] = None


def run(workspace: Workspace, request: NewScenarioRequest) -> NewResult:
    """Write the case's file."""
    open_set = OpenSet(workspace, request.set)
    open_set.require_capability(request.capability)
    name = request.id or free_name(f"{request.capability}-{STEMS[request.part]}", open_set.scenario_ids())
    path = case_path(open_set, request.part, request.capability, name)
    case = case_draft(open_set, request, request.capability, name, request.note, request.variants)
    return write_new(workspace, {path: yaml_bytes(case)}, open_set.folder)


def case_path(open_set: OpenSet, part: str, capability: str, name: str) -> str:
    """File in which the case belongs."""
    return f"{open_set.folder}/{FOLDERS[part]}/{capability}/{name}.yaml"


class _Case(Protocol):
    """Fields of a case that a person fills in, beside its text."""

    @property
    def point(self) -> str | None: ...
    @property
    def risk(self) -> str: ...
    @property
    def lens(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def critical(self) -> bool: ...
    @property
    def answer(self) -> tuple[str, ...]: ...
    @property
    def pass_(self) -> str: ...
    @property
    def fail(self) -> str: ...


def case_draft(
    open_set: OpenSet, request: _Case, capability: str, name: str, note: str, variants: Sequence[str] = ()
) -> dict[str, Any]:
    """The case as data."""
    point = request.point or main_point(open_set.rubric).id
    return {
        "id": name,
        "capability": capability,
        "risk": request.risk,
        "operator_lens": request.lens,
        "outcome_type": request.outcome,
        **({"critical": True} if request.critical else {}),
        "messages": _user_message(note),
        "reference": reference(request.answer, open_set.rubric),
        "criteria": [{"point": point, "pass": request.pass_, "fail": request.fail}],
        **({"variants": list(variants)} if variants else {}),
    }
