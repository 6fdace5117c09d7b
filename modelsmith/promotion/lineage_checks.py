"""A candidate's ``training.json`` against main: trained as main says, on what main says, for what main asks."""

from __future__ import annotations

from modelsmith.governance.audiences import audience
from modelsmith.governance.routing import BASE
from modelsmith.promotion.bases import wrong_parent
from modelsmith.promotion.evidence_checks import candidate_facts, refuse_kept_back
from modelsmith.promotion.main import Main
from modelsmith.promotion.proposed import Promotion, refuse
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.canonical import content_digest
from modelsmith.schema.promotion import TRAINING_FILE, TrainingFacts


def check_training(promotion: Promotion) -> str:
    """Base, parent, settings, generators and rubric are main's; the rows themselves stay on the machine."""
    facts, main, record = candidate_facts(promotion), promotion.main, promotion.record
    refuse_kept_back(main, TRAINING_FILE, facts)
    for field in ("final_loss", "toolkit"):
        withheld = audience(TrainingFacts, field, main.policy.audiences) == "operator"
        refuse(getattr(facts, field) is None and not withheld, f"{TRAINING_FILE} leaves {field} out")
    _refuse_parent(main, record.cluster, facts.parent)
    otherwise = wrong_parent(main, facts)
    refuse(otherwise is not None, otherwise or "")
    cluster = load_cluster(main.tree, record.cluster)
    source, training = cluster.base_model, cluster.training
    refuse(
        (facts.base_model, facts.base_digest) != (source.name, source.digest),
        "trained from another base model than the cluster's",
    )
    governed = load_eval_set(main.tree, cluster.eval_set)
    refuse(facts.reward != governed.rubric_digest, "rows were checked with another rubric than the eval's")
    stated = (facts.method, facts.hyperparameters, facts.steps, facts.seed)
    due = (training.method, content_digest(training), training.steps, training.seed + record.iteration - 1)
    refuse(stated != due, "trained by other settings than the cluster's, as main has them")
    refuse(facts.rows > training.rows, f"trained on {facts.rows} rows, and the cluster says {training.rows} at most")
    known = {one.id: content_digest(one) for one in governed.generators}
    strange = sorted(name for name, digest in facts.generators.items() if known.get(name) != digest)
    refuse(bool(strange), f"rows come from generators that main does not have: {', '.join(strange)}")
    refuse(not facts.generators, "no generator is named that made the rows")
    return f"{facts.rows} rows, {facts.method}, rubric equals the eval's"


def _refuse_parent(main: Main, cluster: str, name: str) -> None:
    """Training goes on from the base model, or from a specialist of the cluster that is not retired."""
    parent = main.history.lives.get(name)
    refuse(name != BASE and (parent is None or parent.cluster != cluster), f"{cluster} has no specialist {name}")
    refuse(parent is not None and parent.state == "deprecated", f"trained from {name}, which is deprecated")
