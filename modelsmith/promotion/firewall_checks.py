"""The firewall's certificate against main: policy's limits, main's scored texts, the candidate's rows."""

from __future__ import annotations

from collections.abc import Mapping

from modelsmith.diagnosis.certificate import nearest_of, scored_parts
from modelsmith.promotion.bases import ancestors_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.proposed import refuse
from modelsmith.schema.base import ScoredPart
from modelsmith.schema.evidence import Ancestor, Evidence, Firewall
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet


def refuse_firewall(evidence: Evidence, main: GovernedState, governed: GovernedSet) -> None:
    """The certificate is there where policy asks for it, within its limits, and about these batches and this set.

    These are the candidate's own and those of every specialist that training went on from: whoever goes on from an
    adapter knows what that was taught. Figures are the machine's word here, since the rows stay there; `verify`
    computes them again where they lie.
    """
    rule, certificate = main.policy.firewall, evidence.firewall
    refuse(
        rule is not None and certificate is None,
        "policy asks for the firewall's certificate, and the evidence has none",
    )
    if certificate is None:
        return
    refuse(certificate.rows != evidence.training.rows_digest, "the firewall's certificate is about other training rows")
    stated = [(ancestor.specialist, ancestor.rows) for ancestor in certificate.ancestors]
    past = [
        (ancestor_history.specialist, facts.rows_digest)
        for ancestor_history, facts in ancestors_of(main, evidence.training)
    ]
    refuse(stated != past, "the firewall's certificate is about other rows than those of the adapters that came before")
    other = "the firewall's certificate and nearest.training_to_scored contradict each other"
    refuse(nearest_of(certificate) != evidence.nearest.training_to_scored, other)
    due = {part: len(texts) for part, texts in scored_parts(governed).items()}
    _refuse_batch(certificate, main.policy, due, "a training row")
    for ancestor in certificate.ancestors:
        _refuse_batch(ancestor, main.policy, due, f"a training row of {ancestor.specialist}")


def _refuse_batch(certificate: Firewall | Ancestor, policy: Policy, due: Mapping[ScoredPart, int], row: str) -> None:
    """One batch; ``row`` is what a row of it is called."""
    stated = [(part.part, part.texts) for part in certificate.parts]
    refuse(stated != list(due.items()), "the firewall's certificate is about other scored texts than main's")
    _refuse_meaning(certificate, policy, row)
    rule = policy.firewall
    for part in certificate.parts if rule else ():
        assert rule
        over = f"{row} comes nearer to {part.part} than policy allows:"
        refuse(part.overlap > rule.most_overlap, f"{over} overlap {part.overlap}, and {rule.most_overlap} at most")
        refuse(
            part.similarity > rule.most_similarity,
            f"{over} similarity {part.similarity}, and {rule.most_similarity} at most",
        )


def _refuse_meaning(certificate: Firewall | Ancestor, policy: Policy, row: str) -> None:
    """What the certificate says of meaning is by policy's model and limits, and within them; or neither says any."""
    most = policy.firewall.most_cosine if policy.firewall else {}
    stated, model = certificate.meaning, policy.embedding
    lacks = "policy asks how near the training rows come in meaning, and the firewall's certificate does not say it"
    refuse(bool(most) and stated is None, lacks)
    refuse(
        not most and stated is not None, "the firewall's certificate speaks of meaning, for which policy has no limit"
    )
    if stated is None or model is None:
        return
    other = (stated.model, stated.settings) != (model.digest, model.identity)
    refuse(other, "the firewall's certificate is by another embedding model, or other settings of it, than policy's")
    limits = [(part.part, part.most_cosine) for part in stated.parts]
    refuse(limits != sorted(most.items()), "the firewall's certificate is by other limits of meaning than policy's")
    for part in stated.parts:
        words = f"{row} comes nearer to {part.part} than policy allows: cosine {part.cosine}, and below"
        refuse(part.cosine >= part.most_cosine, f"{words} {part.most_cosine} it must be")
