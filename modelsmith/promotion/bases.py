"""What lies beneath a specialist, by what main says: an adapter over its own base model, nothing beneath an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelsmith.governance.routing import BASE
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_machine_file
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evidence import Evidence, RunEvidence
from modelsmith.schema.promotion import EXPORT_FILE, TRAINING_FILE, ExportFacts, TrainingFacts
from modelsmith.schema.source import Chat


def export_of(main: GovernedState, history: SpecialistHistory) -> ExportFacts | None:
    """What the specialist's first record says it was made from; None for one that was trained."""
    if not history.is_export:
        return None
    return load_machine_file(main.tree, f"{record_folder(history.records[0])}/{EXPORT_FILE}", ExportFacts)


def training_of(main: GovernedState, history: SpecialistHistory) -> TrainingFacts | None:
    """How the specialist was trained, or its parent, where it is an export; None without training facts.

    The gate lets no candidate in that has none.
    """
    export = export_of(main, history)
    trained = main.histories.by_specialist.get(export.parent) if export else history
    path = f"{record_folder(trained.records[0])}/{TRAINING_FILE}" if trained else ""
    return load_machine_file(main.tree, path, TrainingFacts) if main.tree.exists(path) else None


def base_beneath(main: GovernedState, history: SpecialistHistory) -> str | None:
    """Digest of the base model that main says the specialist was trained over; None without training facts.

    None too for an export: its weights stand alone.
    """
    facts = None if history.is_export else training_of(main, history)
    return facts.base_digest if facts else None


def parent_of(main: GovernedState, history: SpecialistHistory) -> str:
    """The specialist that it was trained or made from, or ``base``; ``base`` too without any facts."""
    export = export_of(main, history)
    if export:
        return export.parent
    facts = training_of(main, history)
    return facts.parent if facts else BASE


def ancestors_of(main: GovernedState, facts: TrainingFacts) -> tuple[tuple[SpecialistHistory, TrainingFacts], ...]:
    """The specialists that a training went on from, the nearest first, and how each was trained."""
    ancestors: list[tuple[SpecialistHistory, TrainingFacts]] = []
    while facts.parent != BASE:
        history = main.histories.find(facts.parent)
        training = training_of(main, history)
        assert training, "the gate lets no candidate in without it"
        ancestors.append((history, training))
        facts = training
    return tuple(ancestors)


def children_of(main: GovernedState, parent: SpecialistHistory) -> tuple[SpecialistHistory, ...]:
    """Specialists of its cluster that were trained or made from it, by id."""
    others = main.histories.of_cluster(parent.cluster)
    return tuple(history for history in others if parent_of(main, history) == parent.specialist)


def exports_of(main: GovernedState, parent: SpecialistHistory) -> tuple[SpecialistHistory, ...]:
    """Exports that were made from it, by id; no other specialist's facts are read."""
    return tuple(exports_by_parent(main, parent.cluster).get(parent.specialist, ()))


def exports_by_parent(main: GovernedState, cluster: str) -> Mapping[str, Sequence[SpecialistHistory]]:
    """Exports of a cluster by the specialist that each was made from; no other specialist's facts are read."""
    by_parent: dict[str, list[SpecialistHistory]] = {}
    for history in main.histories.of_cluster(cluster):
        if history.is_export:
            by_parent.setdefault(parent_of(main, history), []).append(history)
    return by_parent


def wrong_parent(main: GovernedState, facts: TrainingFacts) -> str | None:
    """What is wrong with going on from that parent, if anything: an adapter goes on over its own base only."""
    parent = main.histories.by_specialist.get(facts.parent)
    if parent is not None and parent.is_export:
        return f"trained from {facts.parent}, which is an export and no adapter"
    if parent is not None and base_beneath(main, parent) not in (None, facts.base_digest):
        return f"trained from {facts.parent}, which is an adapter over another base model"
    return None


def wrong_bases(main: GovernedState, evidence: Evidence, cluster: Cluster) -> str | None:
    """Contradictions between evidence and main about base models, if any.

    Evidence from before bases were recorded names none. It is believed as its figures are: whoever invents a run can
    name the right base as well, and an honest toolkit names the one that it loaded.
    """
    if spoken_otherwise(evidence, cluster):
        return "the model was spoken to in another way than the cluster says (base_model.chat)"
    for run in (evidence.candidate, evidence.incumbent, *evidence.baselines):
        if run.base is not None and run.base != _due(main, run, evidence):
            return f"{run.model} was run over another base model than its own"
    return None


def same_engine(main: GovernedState, evidence: Evidence) -> bool:
    """Whether the incumbent ran on the candidate's engine; another base model may be spoken to in another way."""
    other = evidence.incumbent.engine
    if other is None:
        return True
    another = _descends_from(main, evidence.incumbent) not in (None, evidence.training.base_digest)
    return another and other.model_copy(update={"chat": evidence.engine.chat}) == evidence.engine


def spoken_otherwise(evidence: Evidence, cluster: Cluster) -> bool:
    """Whether the candidate was spoken to in another way than the cluster says today."""
    return (evidence.engine.chat or Chat()) != cluster.base_model.chat


def _due(main: GovernedState, run: RunEvidence, evidence: Evidence) -> str | None:
    if run.model == evidence.specialist:
        return None if evidence.export else evidence.training.base_digest
    history = main.histories.by_specialist.get(run.model)
    return None if run.model == BASE or history is None else base_beneath(main, history)


def _descends_from(main: GovernedState, run: RunEvidence) -> str | None:
    """The base model that an adapter lies over, or that is part of an export."""
    history = main.histories.by_specialist.get(run.model)
    facts = training_of(main, history) if history is not None and history.is_export else None
    return facts.base_digest if facts else run.base
