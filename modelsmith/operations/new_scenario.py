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
    def offers(cls, workspace: Workspace, given: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        found = OpenSet(workspace, given.get("set"))
        return {"answer": offered_answers(found.rubric), "capability": found.capabilities()}

    @override
    @classmethod
    def check(cls, workspace: Workspace, given: Mapping[str, Any], open_field: str) -> None:
        found = OpenSet(workspace, given.get("set"))
        if answer := given.get("answer"):
            reference(answer, found.rubric, complete=open_field != "answer")
        if "capability" in given:
            found.require_capability(given["capability"])
        refuse_draft(Scenario, {file: of(given[option]) for option, (file, of) in _SAID.items() if given.get(option)})


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
    found = OpenSet(workspace, request.set)
    found.require_capability(request.capability)
    name = request.id or free_name(f"{request.capability}-{STEMS[request.part]}", found.scenario_ids())
    path = case_path(found, request.part, request.capability, name)
    case = case_draft(found, request, request.capability, name, request.note, request.variants)
    return write_new(workspace, {path: yaml_bytes(case)}, found.folder)


def case_path(found: OpenSet, part: str, capability: str, name: str) -> str:
    """File in which the case belongs."""
    return f"{found.folder}/{FOLDERS[part]}/{capability}/{name}.yaml"


class _Case(Protocol):
    """What a person says of a case, beside what is asked."""

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
    found: OpenSet, request: _Case, capability: str, name: str, note: str, variants: Sequence[str] = ()
) -> dict[str, Any]:
    """The case as data."""
    point = request.point or main_point(found.rubric).id
    return {
        "id": name,
        "capability": capability,
        "risk": request.risk,
        "operator_lens": request.lens,
        "outcome_type": request.outcome,
        **({"critical": True} if request.critical else {}),
        "messages": _user_message(note),
        "reference": reference(request.answer, found.rubric),
        "criteria": [{"point": point, "pass": request.pass_, "fail": request.fail}],
        **({"variants": list(variants)} if variants else {}),
    }
