"""A second observer: the eval of a sealed artifact repeated here, signed with this clone's own key, and proposed.

With it the training, where that is asked for (`loop.retrain`).

Nothing that this clone answered before is taken over: an observation has runs, cache and ledger of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelsmith.artifacts.store import Store
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.evidence.bundle import Run
from modelsmith.evidence.sanitise import assert_clean, machine_names
from modelsmith.evidence.second_look import TrainedAgain, compare_look, second_look
from modelsmith.forges.port import Proposal
from modelsmith.governance.observed import observed_path
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.loop.engines import Target
from modelsmith.loop.evals import BASE, EvalSpec, evaluate, read_observations, target_of
from modelsmith.loop.retrain import require_trained, rows_at_hand, train_again
from modelsmith.promotion.bases import export_of
from modelsmith.promotion.freshness import evidence_of, outdated
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Harness, ident
from modelsmith.promotion.ids import known_ids
from modelsmith.promotion.observers import Required, backing, count_sentence, next_number, predicate_of
from modelsmith.promotion.pulls import Signed, merge_pull, open_with
from modelsmith.promotion.syncing import sync
from modelsmith.repository.load import load_cluster, load_eval_set
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
from modelsmith.signing.dsse import seal, statement


@dataclass(frozen=True)
class Observed:
    """Result of an observation: the agreement, and its pull request."""

    agreement: Agreement
    pull: PullRequest | None
    """Pull request of the observation; None when main had this observer's agreement already."""


@dataclass(frozen=True)
class Retrain:
    """The training is to be repeated, too."""

    rows: Path | None
    """File with a copy of the rows, where this clone has none."""


def observe(
    harness: Harness, specialist: str, artifact: Path | None, threads: int | None, again: Retrain | None = None
) -> Observed:
    """Repeat the eval that the specialist was accepted on, and propose what came of it.

    An observer whose agreement stands on main is done, unless the training is still to be repeated. One that disagreed
    looks again, with everything asked anew.

    Args:
        harness: The observer: identity, keys and forge of this clone.
        specialist: Whose evidence is repeated.
        artifact: Folder with a copy of the sealed artifact, where the store does not hold it yet.
        threads: CPU threads of the engine; all cores when not given.
        again: Whether the training is repeated, too, and from which rows.

    Raises:
        InvalidInput: ``unknown-specialist``, ``no-evidence``, ``not-an-observer``, ``stale-evidence``,
            ``weights-missing``; as `train_again`.
        IntegrityFailure: the artifact is not what main names.
        InfrastructureFailure: the engine, or the training, failed.
        GateNotCleared: the observation was refused.
    """
    main = read_governed_state(harness.workspace.git, sync(harness))
    history = main.histories.find(specialist)
    evidence = evidence_of(main, history)
    _require_observer(main, harness.actor)
    former = next(
        (agreement for agreement in backing(main, history).agreeing if agreement.observer == harness.actor), None
    )
    if former and (again is None or former.retrained):
        return Observed(former, None)
    reasons = outdated(main, history)
    if reasons:
        raise InvalidInput(
            "stale-evidence",
            f"{specialist} cannot be observed: {'; '.join(reasons)}",
            "Observe a specialist whose evidence answers what main asks today.",
            specialist=specialist,
        )
    number = next_number(main, history, harness.actor)
    apart = _Apart(harness.workspace, main, history, number, threads)
    if again is not None:
        require_trained(history)
        rows = rows_at_hand(harness.workspace, history, evidence.training, again.rows)
    candidate, incumbent = apart.runs(evidence, artifact)
    trained = apart.trained(evidence, rows, incumbent) if again is not None else None
    accepted = next(record for record in history.records if record.event == "eval-accepted")
    digest = sha256(main.tree.read(f"{record_folder(accepted)}/{EVIDENCE_FILE}"))
    look = second_look(harness.actor, number, evidence, digest, candidate, incumbent, trained)
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


class _Apart:
    """Where an observation is made: runs, jobs and caches of its own; interrupted, it goes on where it stopped."""

    def __init__(
        self, workspace: Workspace, main: GovernedState, history: SpecialistHistory, number: int, threads: int | None
    ) -> None:
        self.main, self.history, self.threads = main, history, threads
        self.workspace = workspace.apart(f"observed/{history.specialist}-{number:02d}")
        self.cluster = load_cluster(main.tree, history.cluster)
        self.governed = load_eval_set(main.tree, self.cluster.eval_set)

    def runs(self, evidence: Evidence, artifact: Path | None) -> tuple[Run, Run]:
        """The specialist's run and the incumbent's, made here and now."""
        if artifact is not None:
            Store(self.workspace.store(self.cluster.store)).put(artifact, self.history.artifact)
        before = _incumbent(self.workspace, self.main, self.cluster, evidence)
        candidate = target_of(self.workspace, self.cluster, self.history.specialist, self.history.artifact)
        incumbent = self._run("incumbent", before, None)
        return self._run("candidate", candidate, incumbent.result), incumbent

    def trained(self, evidence: Evidence, rows: Path, incumbent: Run) -> TrainedAgain:
        """The training repeated from these rows, with a run of what came of it where that is another artifact."""
        artifact = train_again(self.workspace, self.main, self.history, evidence.training, rows)
        run = None
        if artifact != self.history.artifact:
            again = target_of(self.workspace, self.cluster, self.history.specialist, artifact)
            run = self._run("retrained", again, incumbent.result)
        return TrainedAgain(evidence.training.rows_digest, artifact, run)

    def _run(self, tag: str, target: Target, against: RunResult | None) -> Run:
        tree = self.main.tree.folder_id(self.governed.folder)
        assert tree
        spec = EvalSpec(self.cluster, self.governed, tree, tag)
        result = evaluate(self.workspace, spec, target, against, self.threads)
        return Run(result, verdict_rows(read_observations(self.workspace, result)))


def _incumbent(workspace: Workspace, main: GovernedState, cluster: Cluster, evidence: Evidence) -> Target:
    model = evidence.incumbent.model
    target = target_of(workspace, cluster, model, None if model == BASE else main.histories.find(model).artifact)
    if target.weights == evidence.incumbent.weights:
        return target
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
    path, signature = f"{folder}/{OBSERVATION_FILE}", f"{folder}/{OBSERVATION_SIGNATURE}"
    pull = open_with(harness, main, branch, Signed(path, data, signature, due, main.observers[harness.actor]))
    if pull is None:
        files = {path: data, signature: seal(due, harness.signer)}
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


def refuse_unobserved(main: GovernedState, history: SpecialistHistory, needed: Required) -> None:
    """Go on only when the policy's observers have spoken and agree.

    Raises:
        WaitingForPerson: ``unobserved`` while too few agree, naming who could still observe.
        GateNotCleared: ``observers-disagree``, with each difference by scenario.
    """
    backing_now = backing(main, history) if needed.observers else None
    if backing_now is None:
        return
    if backing_now.disagreeing:
        raise GateNotCleared(
            "observers-disagree",
            f"{history.specialist}: {'; '.join(agreement.sentence for agreement in backing_now.disagreeing)}",
            "Find out whose machine is wrong. Nothing is deployed while a listed observer stands by another result.",
            specialist=history.specialist,
            observations=[agreement.model_dump(mode="json") for agreement in backing_now.disagreeing],
        )
    if not needed.is_met(backing_now):
        short = len(backing_now.agreeing) < needed.observers
        counted = {agreement.observer for agreement in backing_now.agreeing} if short else set(backing_now.retrained)
        free = sorted(set(main.observers) - counted)
        observer_names = ", ".join(free) or "an observer, and people.yaml lists none"
        observed = export_of(main, history) if not short else None
        name = observed.parent if observed else history.specialist
        again = (
            " --retrain" if len(backing_now.retrained) < needed.retrained and not (history.is_export and short) else ""
        )
        raise WaitingForPerson(
            "unobserved",
            f"{history.specialist} lacks observers that the policy requires: {count_sentence(backing_now, needed)}",
            f"In the clone of {observer_names}: `modelsmith observe {name}{again}`. "
            f"Then `modelsmith promote {history.cluster}`.",
            waiting_for=list(free),
            specialist=history.specialist,
        )
