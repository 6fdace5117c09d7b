"""What iterations diagnosed, kept in their folders, and what became of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelsmith.diagnosis.patterns import Past
from modelsmith.evaluation.results import RunFolder
from modelsmith.promotion import records
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Slug
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.diagnosis import Diagnosis
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

DIAGNOSIS_FILE: Final = "diagnosis.json"


def write_diagnosis(folder: Path, diagnosis: Diagnosis) -> None:
    """Keep it in the iteration's folder."""
    write_atomically(folder / DIAGNOSIS_FILE, canonical_json(diagnosis))


def read_diagnoses(workspace: Workspace, cluster: str) -> list[Diagnosis]:
    """What the iterations of a cluster diagnosed, oldest first; those of other machines are not here.

    Raises:
        InfrastructureFailure: ``diagnosis-damaged`` when a file is none.
    """
    found = []
    for path in workspace.cluster_folder(cluster).glob(f"iterations/*/{DIAGNOSIS_FILE}"):
        try:
            found.append(Diagnosis.model_validate_json(read_plain(path)))
        except ValidationError:
            raise InfrastructureFailure(
                "diagnosis-damaged",
                f"{path} is no diagnosis of this version.",
                "Move it away: it is a memory of what was tried, and nothing else is lost.",
                path=str(path),
            ) from None
    return sorted(found, key=lambda one: one.iteration)


def tried_before(workspace: Workspace, cluster: str, iteration: int | None) -> list[Past]:
    """Iterations before this one (all of them for None), with what each candidate went on to fail, oldest first."""
    return [
        Past(one, failed_in(workspace, cluster, records.candidate_tag(cluster, one.iteration)))
        for one in read_diagnoses(workspace, cluster)
        if iteration is None or one.iteration < iteration
    ]


def iteration_of(cluster: str, tag: str) -> int | None:
    """The first iteration that could have learned from a run with this tag; None for a run of no iteration."""
    found = re.fullmatch(rf"{re.escape(cluster)}-iter-(\d{{3,9}})-(.+)", tag)
    return int(found[1]) + (found[2] == "candidate") if found else None


def failed_in(workspace: Workspace, cluster: str, tag: str) -> set[Slug] | None:
    """Scenarios outside of held-out that a run fails in any wording; None where no whole run has that tag."""
    folder = RunFolder(workspace.private, cluster, tag)
    if folder.result() is None:
        return None
    rows = (observation.row for observation in folder.observations())
    return {row.id for row in rows if row and row.section != "held_out" and not all(row.points.values())}
