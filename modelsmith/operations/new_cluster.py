"""``modelsmith new cluster``: a specialist's line of work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import yaml
from pydantic import Field
from typing_extensions import override

from modelsmith.diagnosis.generate import rows_within
from modelsmith.operations import agents_md
from modelsmith.operations.authoring import NewResult, OpenSet, SetOption, owner_of, refuse_draft, set_names, write_new
from modelsmith.operations.contract import ARGUMENT, ASK, Request
from modelsmith.repository.agent_contract import contract_problem
from modelsmith.repository.drafts import yaml_bytes
from modelsmith.repository.kits import kit_files
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.generator import SLOT, Generator

STARTER = ("adtech", "clusters/rtb-pricing/cluster.yaml")
"""The kit and the file whose base model and training a new cluster begins with."""


class NewClusterRequest(Request):
    """Writes clusters/NAME/cluster.yaml: which model is trained on which set, and when its traffic goes back.

    It begins with the starter kit's base model and training settings, with fewer rows where the generators cannot make
    as many; edit the file for others. Where AGENTS.md holds the contract of agents, it is rendered again.
    """

    name: Annotated[str, Field(description="Name of the line of work."), ARGUMENT]
    set: SetOption = None
    description: Annotated[str, Field(description="What it does for whom, in a sentence."), ASK]
    metric: Annotated[
        str, Field(description="Live figure that is watched after a deployment, in one word: missed_red_flags."), ASK
    ]
    target: Annotated[str, Field(description="Name of what serves it.")] = "local"
    owner: Annotated[str | None, Field(description="Role that answers for it; the one that CODEOWNERS asks.")] = None

    @override
    @classmethod
    def offers(cls, workspace: Workspace, values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
        return {"set": set_names(workspace.files)}

    @override
    @classmethod
    def check(cls, workspace: Workspace, values: Mapping[str, Any], open_field: str) -> None:
        metric = values.get("metric")
        refuse_draft(Cluster, {"cluster": values["name"], **({"rollback": _rollback(metric)} if metric else {})})


def run(workspace: Workspace, request: NewClusterRequest) -> NewResult:
    """Write the cluster, and what the contract of agents says of it."""
    open_set = OpenSet(workspace, request.set)
    rule = open_set.evalset.value
    folder = f"clusters/{request.name}"
    kit, file = STARTER
    starter = yaml.safe_load(kit_files(kit, workspace.root)[file])
    draft = {
        "cluster": request.name,
        "domain": rule.domain,
        "owner": owner_of(workspace.files, f"{folder}/cluster.yaml", request.owner),
        "description": request.description,
        "base_model": starter["base_model"],
        "eval_set": open_set.name,
        "gate": rule.thresholds.model_dump(),
        "training": starter["training"] | {"rows": _possible_rows(open_set, starter["training"]["rows"])},
        "deployment": {"traffic_share": 0.1, "target": request.target},
        "rollback": _rollback(request.metric),
    }
    result = write_new(workspace, {f"{folder}/cluster.yaml": yaml_bytes(draft)}, folder)
    if contract_problem(workspace.files) is None:
        return result
    contract = agents_md.run(workspace, agents_md.AgentsMdRequest())
    return result.model_copy(update={"files": (*result.files, contract.file)})


def _rollback(metric: str) -> dict[str, Any]:
    return {"metric": metric, "max_drop": 0.05, "window_minutes": 60, "manual_hours": 48}


def _possible_rows(open_set: OpenSet, usual: int) -> int:
    """How many rows to ask for, so that no generator must make more than it can; ``usual`` without generators."""
    each = [_combinations(source.value) for source in open_set.files.generators]
    return min(usual, rows_within(min(each), len(each))) if each else usual


def _combinations(generator: Generator) -> int:
    return sum(
        math.prod(len(generator.slots.get(name, (name,))) for name in set(SLOT.findall(template.user)))
        for template in generator.templates
    )
