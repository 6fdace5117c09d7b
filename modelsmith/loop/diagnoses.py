"""What iterations diagnosed, kept in their folders, and what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from modelsmith.diagnosis.patterns import Past
from modelsmith.evaluation.results import RunFolder
from modelsmith.evaluation.summary import run_id
from modelsmith.promotion import records
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Slug
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.diagnosis import Diagnosis
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.run import Observation, RunResult
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
    diagnoses = []
    for path in workspace.cluster_folder(cluster).glob(f"iterations/*/{DIAGNOSIS_FILE}"):
        try:
            diagnosis = Diagnosis.model_validate_json(read_plain(path))
            if path.parent.name != f"{diagnosis.iteration:03d}":
                raise ValueError("it is another iteration's")
            diagnoses.append(diagnosis)
        except ValueError:
            raise InfrastructureFailure(
                "diagnosis-damaged",
                f"{path} is no diagnosis of this version.",
                "Move it away: it is a memory of what was tried, and nothing else is lost.",
                path=str(path),
            ) from None
    return sorted(diagnoses, key=lambda item: item.iteration)


def tried_before(workspace: Workspace, cluster: str, iteration: int | None) -> list[Past]:
    """Iterations before this one (all of them for None), with what each candidate went on to fail, oldest first."""
    return [
        Past(diagnosis, failed_in(workspace, cluster, records.candidate_tag(cluster, diagnosis.iteration)))
        for diagnosis in read_diagnoses(workspace, cluster)
        if iteration is None or diagnosis.iteration < iteration
    ]


def iteration_of(cluster: str, tag: str) -> int | None:
    """The first iteration that could have learned from a run with this tag; None for a run of no iteration."""
    match = re.fullmatch(rf"{re.escape(cluster)}-iter-(\d{{3,9}})-(.+)", tag)
    return int(match[1]) + (match[2] == "candidate") if match else None


class Answered(NamedTuple):
    """Scenarios that a whole run of this machine asked outside of held-out, and those that failed."""

    run: RunResult
    asked: frozenset[Slug]
    """Scenarios whose every answer was scored."""
    failed: frozenset[Slug]
    """Scenarios that fail in any wording."""


def answered_in(workspace: Workspace, cluster: str, tag: str) -> Answered | None:
    """Answers of a run; None where no whole run has that tag.

    Raises:
        IntegrityFailure: ``run-damaged``, ``observations-damaged`` when its answers are not those of its result.
    """
    folder = RunFolder(workspace.private, cluster, tag)
    run = folder.result()
    if run is None:
        return None
    answered, failed, unscored = set[Slug](), set[Slug](), set[Slug]()

    def noted() -> Iterator[Observation]:
        for observation in folder.observations():
            if observation.section != "held_out":
                answered.add(observation.id)
                if observation.row is None:
                    unscored.add(observation.id)
                elif not all(observation.row.points.values()):
                    failed.add(observation.id)
            yield observation

    same = (run.cluster, run.tag) == (cluster, tag)
    if run_id(run.question, run.weights, run.base, run.engine, noted()) != run.run_id or not same:
        raise IntegrityFailure(
            "run-damaged",
            f"The observations of run {tag} are not those it was recorded with",
            "Run the eval again.",
            tag=tag,
        )
    return Answered(run, frozenset(answered - unscored), frozenset(failed))


def failed_in(workspace: Workspace, cluster: str, tag: str) -> frozenset[Slug] | None:
    """Scenarios outside of held-out that a run fails in any wording; None where no whole run has that tag.

    Raises:
        IntegrityFailure: as `answered_in`.
    """
    answered = answered_in(workspace, cluster, tag)
    return None if answered is None else answered.failed
