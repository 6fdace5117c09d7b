"""``modelsmith new generator``: practice for one capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.authoring import Answer, NewResult, OpenSet, SetOption, write_new
from modelsmith.operations.contract import ARGUMENT, Cli, Request
from modelsmith.repository.drafts import (
    declared_points,
    free_name,
    offered_answers,
    plain_turn,
    reference,
    slots,
    yaml_bytes,
)
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.generator import SLOT


class NewGeneratorRequest(Request):
    """Writes sentence patterns from which practice notes are made.

    A {slot} in a pattern is filled with each of its values, and one in the answer with what the note holds. Rows that
    come too near to a scored text are dropped, so write other sentences than the cases have.
    """

    capability: Annotated[str, Field(description="Skill that it teaches."), ARGUMENT]
    set: SetOption = None
    answer: Answer
    templates: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="A sentence pattern with {slot} places. Repeat for more."),
        Cli(option="--template", ask=True),
    ]
    slots: Annotated[
        tuple[str, ...],
        Field(description="Values for one slot, NAME=VALUE|VALUE. Repeat for each slot."),
        Cli(option="--slot", ask=True),
    ] = ()
    text: Annotated[
        str | None,
        Field(description="The answer as plain text, with {slot} places, where the rubric asks for no JSON."),
    ] = None
    points: Annotated[
        tuple[str, ...],
        Field(
            description="Rubric point that the rows teach; all that no judge decides when left out. Repeat for more."
        ),
        Cli(option="--point"),
    ] = ()
    id: Annotated[str | None, Field(description="Name of the generator; the capability's when left out.")] = None

    @override
    @classmethod
    def offers(cls, workspace: Workspace, values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        return {"answer": offered_answers(OpenSet(workspace, values.get("set")).rubric)}

    @override
    @classmethod
    def check(cls, workspace: Workspace, values: Mapping[str, Any], open_field: str) -> None:
        open_set = OpenSet(workspace, values.get("set"))
        open_set.require_capability(values["capability"])
        if answer := values.get("answer"):
            reference(answer, open_set.rubric, complete=open_field != "answer")
        slot_values = slots(values.get("slots") or ())
        if "slots" in values and open_field != "slots":
            _require_values(values.get("templates") or (), slot_values)


def _require_values(templates: Sequence[str], slot_values: Mapping[str, Sequence[str]]) -> None:
    """Refuse a place in a pattern that has no values, and values that no pattern has a place for."""
    named = {name for text in templates for name in SLOT.findall(text)}
    if without := sorted(named - set(slot_values)):
        raise InvalidInput(
            "bad-slot",
            f"The patterns name {', '.join(f'{{{name}}}' for name in without)}, which has no values yet",
            f"Write {' and '.join(f'{name}=VALUE|VALUE' for name in without)}.",
        )
    if idle := sorted(set(slot_values) - named):
        raise InvalidInput(
            "bad-slot",
            f"No pattern has a place for {', '.join(idle)}",
            f"Write {' and '.join(f'{{{name}}}' for name in idle)} into a pattern, or leave out these values.",
        )


def run(workspace: Workspace, request: NewGeneratorRequest) -> NewResult:
    """Write the generator's file."""
    open_set = OpenSet(workspace, request.set)
    open_set.require_capability(request.capability)
    ids = {source.value.id for source in open_set.files.generators}
    name = request.id or free_name(request.capability, ids, first=request.capability)
    right = reference(request.answer, open_set.rubric)
    _require_values(request.templates, slots(request.slots))
    draft = {
        "id": name,
        "capability": request.capability,
        "points": list(request.points or declared_points(open_set.rubric)),
        "description": f"Teaches {request.capability}.",
        "reference": right,
        **({"answer": turn} if (turn := request.text or plain_turn(open_set.rubric, right)) else {}),
        "slots": slots(request.slots),
        "templates": [{"id": f"note-{n}", "user": text} for n, text in enumerate(request.templates, start=1)],
    }
    return write_new(workspace, {f"{open_set.folder}/generators/{name}.yaml": yaml_bytes(draft)}, open_set.folder)
