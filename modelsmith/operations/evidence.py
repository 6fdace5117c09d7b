"""``modelsmith evidence``: what a specialist's promotion rests on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.governance.audiences import for_reviewers
from modelsmith.governance.states import record_folder
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.packets import PACKET_FILE
from modelsmith.repository.load import load_machine_file
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence
from modelsmith.schema.run import Headline
from modelsmith.schema.steps import step


class EvidenceRequest(Request):
    """The signed evidence of a specialist on main: its files by digest, the headline of each model, and the packet.

    It is immutable. Where it is missing, evaluate again; nobody puts it together by hand.
    """

    specialist: Annotated[str, Field(max_length=64, description="Specialist id."), ARGUMENT]


class EvidenceResult(Result):
    """The evidence bundle of a specialist."""

    specialist: str
    artifact: str
    folder: str
    """Where on main it lies."""
    files: dict[str, str]
    """Name and digest of each file, as the signed record lists them."""
    candidate: Headline
    incumbent: Headline
    attempts: int
    held_out_consulted: int
    packet: str
    """What reviewers read; empty where the evidence came without one."""


def run(workspace: Workspace, request: EvidenceRequest) -> EvidenceResult:
    """Read it from main; nothing is changed."""
    main = read_governed_state(workspace.git, "HEAD")
    history = main.histories.find(request.specialist)
    records = [record for record in history.records if EVIDENCE_FILE in record.evidence]
    if not records:
        raise InvalidInput(
            "no-evidence-yet",
            f"Main has no evidence of {history.specialist}",
            "See `{next}`: it is accepted with its evidence.",
            specialist=history.specialist,
        ).then(step("status", {}))
    folder = record_folder(records[-1])
    evidence = for_reviewers(load_machine_file(main.tree, f"{folder}/{EVIDENCE_FILE}", Evidence), main.policy.audiences)
    packet = f"{folder}/{PACKET_FILE}"
    return EvidenceResult(
        specialist=history.specialist,
        artifact=history.artifact,
        folder=folder,
        files=dict(records[-1].evidence),
        candidate=evidence.candidate.headline,
        incumbent=evidence.incumbent.headline,
        attempts=evidence.attempts,
        held_out_consulted=evidence.held_out_consulted,
        packet=main.tree.read(packet).decode("utf-8", "replace") if main.tree.exists(packet) else "",
    )
