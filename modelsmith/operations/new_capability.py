"""``modelsmith new capability``: a skill, begun with one case of each exam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.authoring import NewResult, OpenSet, write_new
from modelsmith.operations.contract import ARGUMENT, ASK
from modelsmith.operations.new_scenario import STEMS, CaseRequest, case_draft, case_path
from modelsmith.repository.drafts import free_name, yaml_bytes
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.steps import step


class NewCapabilityRequest(CaseRequest):
    """Writes the first core case and the first held-out case of a new skill. Both have the same right answer.

    A capability is nothing but its cases and the generator that teaches it: `modelsmith new scenario` adds more cases,
    `modelsmith new generator` the practice.
    """

    name: Annotated[str, Field(description="Name of the skill, for example chest-pain."), ARGUMENT]
    held_out: Annotated[str, Field(description="The first case of the closed exam: other facts, in other words."), ASK]

    @override
    @classmethod
    def check(cls, workspace: Workspace, values: Mapping[str, Any], open_field: str) -> None:
        _require_new(OpenSet(workspace, values.get("set")), values["name"])
        super().check(workspace, values, open_field)


def run(workspace: Workspace, request: NewCapabilityRequest) -> NewResult:
    """Write both cases of a new capability."""
    open_set = OpenSet(workspace, request.set)
    _require_new(open_set, request.name)
    files: dict[str, bytes] = {}
    for part, note in (("core", request.note), ("held-out", request.held_out)):
        name = free_name(f"{request.name}-{STEMS[part]}", open_set.scenario_ids())
        case = case_draft(open_set, request, request.name, name, note)
        files[case_path(open_set, part, request.name, name)] = yaml_bytes(case)
    return write_new(workspace, files, open_set.folder)


def _require_new(open_set: OpenSet, name: str) -> None:
    if name in open_set.capabilities():
        case = step("new scenario", {"capability": name})
        raise InvalidInput(
            "exists",
            f"There is a capability '{name}' already",
            "Add a case: `{next}`.",
            request=name,
        ).then(case)
