"""``modelsmith export``: an adapter as weights that stand alone, with an eval and a history of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.exports import ExportSettings, export
from modelsmith.loop.phases import candidate_tag, reference_tag
from modelsmith.loop.running import noting
from modelsmith.operations.contract import ARGUMENT, Cli, Request, Result
from modelsmith.promotion.harness import open_harness
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit, InvalidInput
from modelsmith.schema.run import RunResult
from modelsmith.schema.steps import Step, step


class ExportRequest(Request):
    """Makes weights that stand alone from an accepted adapter, and takes them through the gates of the harness.

    An export is a specialist of its own: what is served is what was tested, so it answers the whole eval set itself,
    compared with the model that serves. It has an id, records and evidence of its own, and its parent's training.

    --as merged merges base model and adapter into safetensors. --as gguf takes in a FILE that was made elsewhere, with
    llama.cpp's tools: Modelsmith writes none. The file's header is read strictly, and the file is evaluated as
    transformers reads it, each weight as the file gives it.

    Ends with 3 when it does not clear the gate: then it is not evaluated again. Killed or interrupted at any point, the
    same command goes on from there. `modelsmith promote` asks for its deployment.
    """

    specialist: Annotated[str, Field(description="Specialist id of the adapter."), ARGUMENT]
    kind: Annotated[Literal["merged", "gguf"], Field(description="What to make of it."), Cli(option="--as")]
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        Field(description="Of merged weights; float32 when not given. bfloat16 takes half the room and rounds them."),
    ] = None
    file: Annotated[Path | None, Field(description="GGUF file to take in, one whole file.")] = None


class ExportResult(Result):
    """The export, and the state that it has reached."""

    cluster: str
    parent: str
    """Specialist that it was made from."""
    kind: str
    specialist: str
    artifact: str
    state: str
    outcome: str | None
    reason: str
    reference: RunResult | None
    """Run of the model that serves."""
    candidate: RunResult | None
    next: dict[str, Step]
    """The next steps, by label."""

    @override
    def exit_code(self) -> Exit:
        return Exit.GATE_NOT_CLEARED if self.state == "candidate" else Exit.DONE


def run(workspace: Workspace, request: ExportRequest) -> ExportResult:
    """Make an export of a specialist and take it through its gates."""
    export_settings = _settings_of(request)
    harness = open_harness(workspace)
    latest = MainReader(harness)
    noted = noting(workspace, latest.read().histories.find(request.specialist).cluster)
    iteration = export(open_harness(noted), request.specialist, export_settings)
    state = latest.read().histories.find(iteration.specialist).state
    steps: dict[str, Step] = {"lineage": step("lineage", {"id": iteration.specialist})}
    if state == "artifact-exported":
        steps["promote"] = step("promote", {"cluster": iteration.cluster, "specialist": iteration.specialist})
    return ExportResult(
        cluster=iteration.cluster,
        parent=request.specialist,
        kind=request.kind,
        specialist=iteration.specialist,
        artifact=iteration.artifact,
        state=state,
        outcome=iteration.outcome,
        reason=iteration.reason,
        reference=_run(workspace, iteration.cluster, reference_tag(iteration)),
        candidate=_run(workspace, iteration.cluster, candidate_tag(iteration)),
        next=steps,
    )


def _settings_of(request: ExportRequest) -> ExportSettings:
    if request.kind == "merged":
        if request.file is not None:
            raise _usage("--file goes with --as gguf: merged weights are made here", "Leave --file out.")
        return ExportSettings("merged", request.dtype or "float32")
    if request.dtype is not None:
        raise _usage("--dtype goes with --as merged: a GGUF file says its types itself", "Leave --dtype out.")
    if request.file is None:
        raise _usage(
            "Modelsmith writes no GGUF file",
            "Export as merged, convert that with llama.cpp's convert_hf_to_gguf.py, and name the file with --file.",
        )
    if not request.file.is_file():
        raise InvalidInput(
            "missing-file", f"There is no file at {request.file}", "Name a GGUF file.", path=str(request.file)
        )
    return ExportSettings("gguf", file=request.file)


def _usage(problem: str, mend: str) -> InvalidInput:
    return InvalidInput("not-exportable", f"{problem}.", mend)


def _run(workspace: Workspace, cluster: str, tag: str) -> RunResult | None:
    runs = ledger_of(workspace).runs(tag, cluster)
    return runs[-1] if runs else None
