"""``modelsmith export-inspect``: a run as a log that inspect_ai's viewer opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.evidence.inspect_log import inspect_log
from modelsmith.loop.evals import read_observations
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.results import find_run
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput

_SUFFIXES = (".eval", ".json")


class ExportInspectRequest(Request):
    """Writes the run as FILE, a log that ends in .eval (compressed) or .json; open it with `inspect view`.

    A sample is one wording of a scenario, an epoch one repeat, each rubric point a score. Needs the inspect extra and
    the eval set as the run asked it. The log holds the model's answers: keep it where the clone may be read. Held-out
    samples carry verdicts only, without message, answer, reference or reason.
    """

    file: Annotated[Path, Field(description="Log to write, ending in .eval or .json."), ARGUMENT]
    tag: Annotated[str, Field(description="Tag of the run; a wrong one lists the known.")]


class ExportInspectResult(Result):
    """The log that was written."""

    file: str
    tag: str
    run_id: str
    samples: int
    withheld: int
    """Held-out samples, written without any text."""


def run(workspace: Workspace, request: ExportInspectRequest) -> ExportInspectResult:
    """Write a run as a log of inspect_ai."""
    if request.file.suffix not in _SUFFIXES:
        raise InvalidInput(
            "not-a-log",
            f"{request.file} ends in neither .eval nor .json",
            "Give the log a name like run.eval.",
            file=str(request.file),
        )
    if request.file.exists():
        raise InvalidInput(
            "file-exists", f"{request.file} exists", "Remove it, or choose another name.", file=str(request.file)
        )
    part = request.file.with_name(f".{request.file.name}.partial{request.file.suffix}")
    for path in (request.file, part):
        refuse_links(workspace.root, path)
    result = find_run(workspace, request.tag)
    governed = load_eval_set(workspace.files, result.eval_set)
    log = inspect_log(result, governed, read_observations(workspace, result))
    from inspect_ai.log import write_eval_log

    try:
        request.file.parent.mkdir(parents=True, exist_ok=True)
        write_eval_log(log, part)
        part.replace(request.file)
    except OSError as error:
        raise InfrastructureFailure(
            "write-failed",
            f"{request.file} cannot be written: {error.strerror}",
            "Choose another place, or make room.",
            file=str(request.file),
            reason=error.strerror,
        ) from None
    samples = log.samples or []
    return ExportInspectResult(
        file=str(request.file),
        tag=result.tag,
        run_id=result.run_id,
        samples=len(samples),
        withheld=sum(sample.metadata["section"] == "held_out" for sample in samples),
    )
