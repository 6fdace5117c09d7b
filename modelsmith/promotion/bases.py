"""Which base model lies beneath a specialist, held against what main says: no adapter passes for one over another."""

from __future__ import annotations

from modelsmith.governance.routing import BASE
from modelsmith.governance.states import Life, record_folder
from modelsmith.promotion.main import Main
from modelsmith.repository.load import load_machine_file
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evidence import Evidence, RunEvidence
from modelsmith.schema.promotion import TRAINING_FILE, TrainingFacts
from modelsmith.schema.source import Chat


def base_beneath(main: Main, life: Life) -> str | None:
    """Digest of the base model that main says the specialist was trained over; None without training facts.

    The gate lets no candidate in that has none.
    """
    path = f"{record_folder(life.records[0])}/{TRAINING_FILE}"
    if not main.tree.exists(path):
        return None
    return load_machine_file(main.tree, path, TrainingFacts).base_digest


def wrong_parent(main: Main, facts: TrainingFacts) -> str | None:
    """What is wrong with going on from that parent, if anything: an adapter goes on over its own base only."""
    parent = main.history.lives.get(facts.parent)
    if parent is not None and base_beneath(main, parent) not in (None, facts.base_digest):
        return f"trained from {facts.parent}, which is an adapter over another base model"
    return None


def wrong_bases(main: Main, evidence: Evidence, cluster: Cluster) -> str | None:
    """What the evidence says about base models and main does not, if anything.

    Evidence from before bases were recorded names none. It is believed as its figures are: whoever invents a run can
    name the right base as well, and an honest toolkit names the one that it loaded.
    """
    if spoken_otherwise(evidence, cluster):
        return "the model was spoken to in another way than the cluster says (base_model.chat)"
    for run in (evidence.candidate, evidence.incumbent, *evidence.baselines):
        if run.base is not None and run.base != _due(main, run, evidence):
            return f"{run.model} was run over another base model than its own"
    return None


def same_engine(evidence: Evidence) -> bool:
    """Whether the incumbent ran on the candidate's engine; another base model may be spoken to in another way."""
    other = evidence.incumbent.engine
    if other is None:
        return True
    another = evidence.incumbent.base not in (None, evidence.training.base_digest)
    return another and other.model_copy(update={"chat": evidence.engine.chat}) == evidence.engine


def spoken_otherwise(evidence: Evidence, cluster: Cluster) -> bool:
    """Whether the candidate was spoken to in another way than the cluster says today."""
    return (evidence.engine.chat or Chat()) != cluster.base_model.chat


def _due(main: Main, run: RunEvidence, evidence: Evidence) -> str | None:
    if run.model == evidence.specialist:
        return evidence.training.base_digest
    life = main.history.lives.get(run.model)
    return None if run.model == BASE or life is None else base_beneath(main, life)
