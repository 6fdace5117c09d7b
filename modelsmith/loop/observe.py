"""A second observer: the eval of a sealed artifact repeated here, signed with this clone's own key, and proposed.

Nothing that this clone answered before is taken over: an observation has runs, cache and ledger of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelsmith.artifacts.store import Store
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evidence.bundle import Run
from modelsmith.evidence.sanitise import assert_clean, machine_names
from modelsmith.evidence.second_look import compare_look, second_look
from modelsmith.forges.port import Proposal
from modelsmith.governance.observed import observed_path
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.loop.engines import Target
from modelsmith.loop.evals import BASE, EvalSpec, evaluate, read_observations, target_of
from modelsmith.promotion.freshness import evidence_of, outdated
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.observers import backing, next_number, predicate_of
from modelsmith.promotion.pulls import ident, merge_pull, sync
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.tree import read_each
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import GateNotCleared, InvalidInput, WaitingForPerson
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence
from modelsmith.schema.observed import (
    OBSERVATION_FILE,
    OBSERVATION_SIGNATURE,
    OBSERVATION_TYPE,
    Agreement,
    SecondLook,
)
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.run import RunResult
from modelsmith.signing.dsse import holds, seal, statement


@dataclass(frozen=True)
class Observed:
    """What an observer has come to."""

    agreement: Agreement
    pull: PullRequest | None
    """Pull request of the observation; None when main had this observer's agreement already."""


def observe(harness: Harness, specialist: str, artifact: Path | None, threads: int | None) -> Observed:
    """Repeat the eval that the specialist was accepted on, and propose what came of it.

    An observer whose agreement stands on main is done. One that disagreed looks again, with everything asked anew.

    Args:
        harness: The observer: identity, keys and forge of this clone.
        specialist: Whose evidence is repeated.
        artifact: Folder with a copy of the sealed artifact, where the store does not hold it yet.
        threads: CPU threads of the engine; all cores when not given.

    Raises:
        InvalidInput: ``unknown-specialist``, ``no-evidence``, ``not-an-observer``, ``stale-evidence``,
            ``weights-missing``.
        IntegrityFailure: the artifact is not what main names.
        InfrastructureFailure: the engine failed.
        GateNotCleared: the observation was refused.
    """
    main = read_governed_state(harness.workspace.git, sync(harness))
    history = main.histories.find(specialist)
    evidence = evidence_of(main, history)
    _require_observer(main, harness.actor)
    known = next((one for one in backing(main, history).agreeing if one.observer == harness.actor), None)
    if known:
        return Observed(known, None)
    reasons = outdated(main, history)
    if reasons:
        raise InvalidInput(
            "stale-evidence",
            f"{specialist} cannot be observed: {'; '.join(reasons)}",
            "Observe a specialist whose evidence answers what main asks today.",
            specialist=specialist,
        )
    number = next_number(main, history, harness.actor)
    candidate, incumbent = _runs(harness.workspace, main, history, evidence, number, artifact, threads)
    accepted = next(record for record in history.records if record.event == "eval-accepted")
    digest = sha256(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_FILE}"))
    look = second_look(harness.actor, number, evidence, digest, candidate, incumbent)
    pull = _propose(harness, main, look)
    return Observed(compare_look(look, evidence, main.policy.observer_flips), pull)


def _require_observer(main: GovernedState, actor: str) -> None:
    if main.observers.get(actor):
        return
    raise InvalidInput(
        "not-an-observer",
        f"people.yaml lists no observer {actor}, so what this clone sees would not count",
        "Have its owners list this identity under `harness` with `observer: true` and a trust key of its own.",
        id=actor,
        observers=sorted(main.observers),
    )


def _runs(
    workspace: Workspace,
    main: GovernedState,
    history: SpecialistHistory,
    evidence: Evidence,
    number: int,
    artifact: Path | None,
    threads: int | None,
) -> tuple[Run, Run]:
    """The specialist's run and the incumbent's, made here and now; interrupted, they go on where they stopped."""
    cluster = load_cluster(main.tree, history.cluster)
    governed = load_eval_set(main.tree, cluster.eval_set)
    tree = main.tree.folder_id(governed.folder)
    assert tree
    if artifact is not None:
        Store(workspace.store(cluster.store)).put(artifact, history.artifact)
    apart = workspace.apart(f"observed/{history.specialist}-{number:02d}")

    def run(tag: str, target: Target, against: RunResult | None) -> RunResult:
        return evaluate(apart, EvalSpec(cluster, governed, tree, tag), target, against, threads)

    before = _incumbent(apart, main, cluster, evidence)
    incumbent = run("incumbent", before, None)
    candidate = run("candidate", target_of(apart, cluster, history.specialist, history.artifact), incumbent)
    first, second = (Run(one, verdict_rows(read_observations(apart, one))) for one in (candidate, incumbent))
    return first, second


def _incumbent(workspace: Workspace, main: GovernedState, cluster: Cluster, evidence: Evidence) -> Target:
    model = evidence.incumbent.model
    found = target_of(workspace, cluster, model, None if model == BASE else main.histories.find(model).artifact)
    if found.weights == evidence.incumbent.weights:
        return found
    raise InvalidInput(
        "stale-evidence",
        f"The evidence counts regressions against other weights of {model} than main has now",
        "Observe a specialist whose evidence answers what main asks today.",
        specialist=evidence.specialist,
    )


def _propose(harness: Harness, main: GovernedState, look: SecondLook) -> PullRequest:
    """The observation's pull request: opened or adopted, and merged unless this repository asks a person for that."""
    folder = observed_path(look.cluster, look.specialist, look.observer, look.number)
    data = canonical_json(look)
    due = statement(OBSERVATION_FILE, data, OBSERVATION_TYPE, predicate_of(look))
    branch = f"observe/{folder.removeprefix('promotions/')}"
    title = f"{look.specialist}: observed by {look.observer}"
    pull = _open_already(harness, main, branch, folder, data, due)
    if pull is None:
        files = {
            f"{folder}/{OBSERVATION_FILE}": data,
            f"{folder}/{OBSERVATION_SIGNATURE}": seal(due, harness.signer),
        }
        assert_clean(data, machine_names(), lambda: known_ids(main, look.cluster))
        git = harness.workspace.git
        head = git.commit_files(main.tree.commit, dict(files), f"{title}\n", ident(harness))
        body = f"The eval of {look.specialist}, repeated by {look.observer}; the checks say what it comes to."
        pull = harness.forge.open(
            Proposal(branch=branch, title=title, body=body, head=head, base=main.tree.commit, requester=harness.actor)
        )
    try:
        return merge_pull(harness, pull.number)
    except WaitingForPerson:
        return pull


def _open_already(
    harness: Harness, main: GovernedState, branch: str, folder: str, data: bytes, due: dict[str, object]
) -> PullRequest | None:
    """An open pull request of the same observation, sealed by a key that still counts."""
    names = [f"{folder}/{OBSERVATION_FILE}", f"{folder}/{OBSERVATION_SIGNATURE}"]
    for pull in harness.forge.list("open"):
        if (pull.branch, pull.preparer) != (branch, harness.actor):
            continue
        files, _ = read_each(harness.workspace.revision(pull.head), names)
        if files.get(names[0]) == data and holds(files.get(names[1], b""), due, main.observers[harness.actor]):
            return pull
    return None


def refuse_unobserved(main: GovernedState, history: SpecialistHistory, needed: int) -> None:
    """Go on only when the policy's observers have spoken and agree.

    Raises:
        WaitingForPerson: ``unobserved`` while too few agree, naming who could still observe.
        GateNotCleared: ``observers-disagree``, with each difference by scenario.
    """
    found = backing(main, history) if needed else None
    if found is None:
        return
    if found.disagreeing:
        raise GateNotCleared(
            "observers-disagree",
            f"{history.specialist}: {'; '.join(one.sentence for one in found.disagreeing)}",
            "Find out whose machine is wrong. Nothing is deployed while a listed observer stands by another result.",
            specialist=history.specialist,
            observations=[one.model_dump(mode="json") for one in found.disagreeing],
        )
    if len(found.agreeing) < needed:
        spoken = {one.observer for one in found.agreeing}
        free = sorted(set(main.observers) - spoken)
        who = ", ".join(free) or "an observer, and people.yaml lists none"
        raise WaitingForPerson(
            "unobserved",
            f"{history.specialist} has {len(found.agreeing)} of {needed} agreeing observers that the policy requires",
            f"In the clone of {who}: `modelsmith observe {history.specialist}`. "
            f"Then `modelsmith promote {history.cluster}`.",
            waiting_for=list(free),
            specialist=history.specialist,
        )
