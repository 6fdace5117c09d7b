"""``modelsmith new set``: an eval set's rule and rubric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.authoring import NewResult, owner_of, refuse_draft, write_new
from modelsmith.operations.contract import ARGUMENT, ASK, Cli, Request
from modelsmith.repository.drafts import (
    answer_fields,
    evalset_draft,
    json_instruction,
    plain_instruction,
    plain_rubric_draft,
    rubric_draft,
    yaml_bytes,
)
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import EvalSet


class NewSetRequest(Request):
    """Writes evals/DOMAIN/NAME/evalset.yaml and its rubric.

    An answer is one JSON object of few fields, or with --plain the one field's text alone.

    A field with words is compared with the case's own answer and may hold nothing else. Thresholds, margin and
    min_scenarios are a cautious beginning: docs/own-field.md says how to choose them.
    """

    name: Annotated[str, Field(description="Name of the set."), ARGUMENT]
    domain: Annotated[str | None, Field(description="Field that it belongs to; needed where there are several.")] = None
    description: Annotated[str, Field(description="What a right answer does, in a sentence."), ASK]
    fields: Annotated[
        tuple[str, ...],
        Field(
            min_length=1, description="A field of the answer, NAME=WORD|WORD, or NAME for any text. Repeat for more."
        ),
        Cli(option="--field", ask=True),
    ]
    plain: Annotated[bool, Field(description="The answer is the one field's text alone, no JSON.")] = False
    instruction: Annotated[
        str | None,
        Field(description="What the model is told before each case; made from the fields when left out."),
        ASK,
    ] = None
    owner: Annotated[str | None, Field(description="Role that owns it; the one that CODEOWNERS asks.")] = None

    @override
    @classmethod
    def offers(cls, workspace: Workspace, values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        return {"fields": ("urgency=red|amber|green",)}

    @override
    @classmethod
    def check(cls, workspace: Workspace, values: Mapping[str, Any], open_field: str) -> None:
        _domain(workspace, values.get("domain"))
        _fields(values.get("fields") or (), values["plain"])
        refuse_draft(EvalSet, {"id": values["name"]})


def run(workspace: Workspace, request: NewSetRequest) -> NewResult:
    """Write set and rubric."""
    domain = _domain(workspace, request.domain)
    folder = f"evals/{domain}/{request.name}"
    rule = f"{folder}/evalset.yaml"
    owner = owner_of(workspace.files, rule, request.owner)
    fields = _fields(request.fields, request.plain)
    if request.plain:
        ((field, words),) = fields.items()
        rubric = plain_rubric_draft(request.name, owner, request.description, field, words)
        instruction = plain_instruction(words)
    else:
        rubric, instruction = rubric_draft(request.name, owner, request.description, fields), json_instruction(fields)
    evalset = evalset_draft(
        request.name, domain, owner, request.description, fields, request.instruction or instruction
    )
    files = {rule: yaml_bytes(evalset), f"{folder}/rubrics/{request.name}.yaml": yaml_bytes(rubric)}
    parse_yaml(rule, files[rule], EvalSet)
    return write_new(workspace, files, folder)


def _fields(texts: Sequence[str], plain: bool) -> dict[str, list[str]]:
    fields = answer_fields(texts)
    if plain and len(fields) > 1:
        raise InvalidInput(
            "bad-field",
            f"A plain answer is one text, and {len(fields)} fields are given",
            "Give one --field, or leave out --plain.",
            fields=list(fields),
        )
    return fields


def _domain(workspace: Workspace, domain_name: str | None) -> str:
    domains = sorted({parts[1] for path in workspace.files.paths("evals") if len(parts := path.split("/")) > 2})
    if domain_name is None and len(domains) != 1:
        raise InvalidInput(
            "which-domain",
            "There are several fields" if domains else "There is no field yet",
            f"Add --domain, one of: {', '.join(domains)}." if domains else "Add --domain NAME.",
        )
    return domain_name or domains[0]
