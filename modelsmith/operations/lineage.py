"""``modelsmith lineage``: where a specialist comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelsmith.governance.audiences import for_reviewers
from modelsmith.governance.routing import BASE
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pull_view import OverrideView, override_view
from modelsmith.promotion.bases import children_of, export_of, parent_of, training_of
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.histories import RECEIPTS
from modelsmith.promotion.overrides import override_of
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.repository.load import load_machine_file
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.promotion import ExportFacts, Receipt, TrainingFacts
from modelsmith.schema.steps import step


class LineageRequest(Request):
    """Follows a specialist or artifact id back to the base model: training, eval run, every event and its approvers.

    Of an export, what it was made from comes next, with the training. It also says what descends from the specialist
    that is named: retiring that retires none of these.

    A deprecated specialist stays addressable.
    """

    id: Annotated[str, Field(description="Specialist id or artifact id, or the beginning of one."), ARGUMENT]


class EventView(Frozen):
    """One event of a history."""

    sequence: int
    event: str
    state: str
    pull: int | None
    approvers: tuple[str, ...]


class Ancestor(Frozen):
    """One specialist on the way back."""

    specialist: str
    cluster: str
    artifact: str
    state: str
    composite: float | None
    eval_run: str | None
    training: TrainingFacts | None
    """None for an export: its training is its parent's, which comes next."""
    export: ExportFacts | None
    """What an export was made from; None for a specialist that was trained."""
    override: OverrideView | None
    """Who let its eval count although it came out INCONCLUSIVE, and why; None for one that passed."""
    events: tuple[EventView, ...]


class Descendant(Frozen):
    """A specialist that was trained or made from another."""

    specialist: str
    state: str
    how: Literal["trained", "merged", "gguf"]


class LineageResult(Result):
    """The specialist first, then each parent; the last one was trained from the base model."""

    ancestors: tuple[Ancestor, ...]
    base_model: str
    base_digest: str
    descendants: tuple[Descendant, ...]
    """What was trained or made from the first one, directly."""


def run(workspace: Workspace, request: LineageRequest) -> LineageResult:
    """Follow a specialist's lineage."""
    main = read_governed_state(workspace.git, "HEAD")
    ancestors: list[Ancestor] = []
    name = _resolve(main, request.id)
    while name != BASE:
        ancestors.append(_ancestor(main, name))
        name = parent_of(main, main.histories.find(name))
    oldest = ancestors[-1].training
    if oldest is None:
        raise IntegrityFailure(
            "no-training",
            f"Main does not say how {ancestors[-1].specialist} was trained.",
            "Compare with a clone that verifies.",
            specialist=ancestors[-1].specialist,
        )
    children = children_of(main, main.histories.find(ancestors[0].specialist))
    return LineageResult(
        ancestors=tuple(ancestors),
        base_model=oldest.base_model,
        base_digest=oldest.base_digest,
        descendants=tuple(_descendant(main, history) for history in children),
    )


def _descendant(main: GovernedState, history: SpecialistHistory) -> Descendant:
    export = export_of(main, history)
    how = export.export.kind if export else "trained"
    return Descendant(specialist=history.specialist, state=history.state, how=how)


def _resolve(main: GovernedState, text: str) -> str:
    digest = text if text.startswith("sha256:") else f"sha256:{text}"
    histories = main.histories.by_specialist
    matches = (
        [text]
        if text in histories
        else [
            name for name, history in histories.items() if name.startswith(text) or history.artifact.startswith(digest)
        ]
    )
    if len(matches) != 1:
        count = "More than one" if matches else "No"
        raise InvalidInput(
            "unknown-id",
            f"{count} specialist or artifact begins with '{text}'",
            "See `{next}` for the ids.",
            text=text,
        ).then(step("status", {}))
    return matches[0]


def _ancestor(main: GovernedState, name: str) -> Ancestor:
    history = main.histories.find(name)
    training = None if history.is_export else training_of(main, history)
    export = export_of(main, history)
    evaluated = [record for record in history.records if record.eval_run]
    events = []
    for record in history.records:
        path = f"{record_folder(record)}/{RECEIPTS}/{MERGE_RECEIPT}"
        receipt = load_machine_file(main.tree, path, Receipt) if main.tree.exists(path) else None
        events.append(
            EventView(
                sequence=record.sequence,
                event=record.event,
                state=record.to_state,
                pull=receipt.pull if receipt else None,
                approvers=tuple(sorted(receipt.approvals)) if receipt else (),
            )
        )
    return Ancestor(
        specialist=name,
        cluster=history.cluster,
        artifact=history.artifact,
        state=history.state,
        composite=evaluated[-1].composite if evaluated else None,
        eval_run=evaluated[-1].eval_run if evaluated else None,
        training=for_reviewers(training, main.policy.audiences) if training else None,
        export=for_reviewers(export, main.policy.audiences) if export else None,
        override=override_view(override_of(main, history)),
        events=tuple(events),
    )
