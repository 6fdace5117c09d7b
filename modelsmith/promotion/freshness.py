"""Evidence that expires: what main has changed since a specialist was evaluated and approved."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.promotion.bases import spoken_otherwise
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.rule import effective_rule
from modelsmith.promotion.serving import all_serving
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.canonical import parse_canonical
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence


@dataclass(frozen=True)
class Stale:
    """A deployed specialist whose promotion rests on what main no longer says."""

    cluster: str
    specialist: str
    reasons: tuple[str, ...]
    renewal: str
    """The step that a person or agent takes to renew it."""


@lru_cache(maxsize=16)
def read_evidence(data: bytes) -> Evidence:
    """Content of ``evidence.json``; nothing of it is proven by reading it. Raises IntegrityFailure (``bad-file``)."""
    return parse_canonical(EVIDENCE_FILE, data, Evidence)


def evidence_of(main: GovernedState, history: SpecialistHistory) -> Evidence:
    """The evidence that the specialist was accepted on.

    Raises:
        InvalidInput: ``no-evidence`` for one that was never accepted.
    """
    accepted = next((record for record in history.records if record.event == "eval-accepted"), None)
    if accepted is None:
        raise InvalidInput(
            "no-evidence",
            f"{history.specialist} was promoted without an eval",
            "Promote a specialist that was evaluated.",
            specialist=history.specialist,
        )
    return read_evidence(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_FILE}"))


def outdated(main: GovernedState, history: SpecialistHistory) -> tuple[str, ...]:
    """What the specialist's eval no longer answers, in sentences; none when main still asks the same by the same rule.

    Raises:
        InvalidInput: cluster or eval set do not load.
    """
    evidence = evidence_of(main, history)
    cluster = load_cluster(main.tree, history.cluster)
    governed = load_eval_set(main.tree, cluster.eval_set)
    current = governed.question()
    reasons: list[str] = []
    if evidence.rubric != governed.rubric_digest:
        reasons.append("the rubric changed since it was evaluated")
    elif evidence.question.core != current.core:
        reasons.append(
            "the core or micro scenarios, the prompt, the sampling or the judge changed since it was evaluated"
        )
    elif evidence.question.held_out != current.held_out:
        reasons.append("the held-out scenarios changed since it was evaluated")
    if evidence.rule != effective_rule(governed, cluster):
        reasons.append("the gate's registered rule changed since it was evaluated")
    if evidence.training.base_digest != cluster.base_model.digest:
        reasons.append("the cluster names another base model than it was trained from")
    elif spoken_otherwise(evidence, cluster):
        reasons.append("the cluster has the model spoken to in another way than when it was evaluated")
    return tuple(reasons)


def stale_deployments(main: GovernedState) -> tuple[Stale, ...]:
    """Every specialist that carries traffic and rests on stale evidence or on an older policy, by id."""
    stale = []
    for name in sorted(all_serving(main)):
        history = main.histories.by_specialist[name]
        try:
            reasons = outdated(main, history)
        except InvalidInput as error:
            reasons = (f"what it was evaluated on no longer loads: {error.message}",)
        renewal = (
            f"`modelsmith eval --cluster {history.cluster} --model {name}` shows whether it still clears the gate; "
            f"`modelsmith iterate {history.cluster}` prepares a successor on today's evidence"
        )
        if history.records[-1].policy != main.policy_digest:
            if not reasons:
                renewal = (
                    f"its evidence stands; the next promotion of {history.cluster} is decided under today's policy"
                )
            reasons = (*reasons, "the policy changed since it was approved")
        if reasons:
            stale.append(Stale(history.cluster, name, reasons, renewal))
    return tuple(stale)


def require_readable(main: GovernedState) -> None:
    """What `verify` and `status` read of main besides its rules and histories: each cluster's settings, and who serves.

    An eval set is not asked for: where it does not load, `stale_deployments` says so and ends nothing.

    Raises:
        ModelsmithError: as these would end with.
    """
    clusters = {path.split("/")[1] for path in main.tree.paths("clusters") if path.endswith("/cluster.yaml")}
    for name in sorted(clusters | {history.cluster for history in main.histories.by_specialist.values()}):
        load_cluster(main.tree, name)
    for name in sorted(all_serving(main)):
        with suppress(InvalidInput):
            evidence_of(main, main.histories.by_specialist[name])
