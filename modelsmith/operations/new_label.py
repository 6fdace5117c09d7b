"""``modelsmith new label``: one answer that a person marked, to measure the judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.authoring import NewResult, OpenSet, SetOption, write_longer, write_new
from modelsmith.operations.contract import ARGUMENT, ASK, Request
from modelsmith.repository.drafts import yaml_bytes
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.labels import Labels
from modelsmith.schema.rubric import JudgeCheck, Rubric


class NewLabelRequest(Request):
    """Adds one answer and what you say about it to the labels that evalset.yaml names; what is there stays as it is."""

    scenario: Annotated[str, Field(description="Id of the case that the answer is for."), ARGUMENT]
    set: SetOption = None
    point: Annotated[str | None, Field(description="Judged rubric point; needed where there are several.")] = None
    answer: Annotated[str, Field(description="The answer, as a model might write it."), ASK]
    verdict: Annotated[Literal["pass", "fail"], Field(description="What you say about it."), ASK]
    by: Annotated[str | None, Field(description="Who says so.")] = None

    @override
    @classmethod
    def offers(cls, workspace: Workspace, values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        return {"point": _judged(OpenSet(workspace, values.get("set")).rubric)}


def run(workspace: Workspace, request: NewLabelRequest) -> NewResult:
    """Add the label of one answer."""
    open_set = OpenSet(workspace, request.set)
    judge = open_set.evalset.value.judge
    if judge is None or judge.labels is None:
        raise InvalidInput(
            "no-labels",
            f"{open_set.evalset.path} names no labels",
            "Add judge: with labels: labels/judge.yaml to it.",
            path=open_set.evalset.path,
        )
    path = f"{open_set.folder}/{judge.labels}"
    label = {
        "scenario": request.scenario,
        "point": request.point or _only_point(open_set.rubric),
        "answer": request.answer,
        "verdict": request.verdict,
        **({"by": request.by} if request.by else {}),
    }
    entry = yaml_bytes([label])
    if not workspace.files.exists(path):
        return write_new(workspace, {path: entry}, open_set.folder)
    data = workspace.files.read(path)
    before = parse_yaml(path, data, Labels).root
    longer = data + (b"" if data.endswith(b"\n") else b"\n") + entry
    if parse_yaml(path, longer, Labels).root[: len(before)] != before:
        raise InvalidInput(
            "not-a-list", f"{path} is not written as '- ' lines", "Write one '- ' line for each label.", path=path
        )
    return write_longer(workspace, path, longer, open_set.folder)


def _judged(rubric: Rubric) -> tuple[str, ...]:
    return tuple(point.id for point in rubric.points if isinstance(point.check, JudgeCheck))


def _only_point(rubric: Rubric) -> str:
    judged = _judged(rubric)
    if len(judged) != 1:
        which = f"Add --point, one of: {', '.join(judged)}." if judged else "Give a point the check type judge first."
        raise InvalidInput("which-point", f"The rubric has {len(judged) or 'no'} judged points", which)
    return judged[0]
