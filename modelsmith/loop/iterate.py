"""The loop of one cluster: phases that a kill cannot spoil, each doing again only what is not already there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from modelsmith.governance.routing import hold_of, render_routing
from modelsmith.loop import phases
from modelsmith.loop.desk import Desk, open_desk
from modelsmith.loop.evals import ledger_of
from modelsmith.loop.promotions import note_advances
from modelsmith.loop.state import Iteration, Phase, StateFile
from modelsmith.promotion.checks import FRESH
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.judge import judge
from modelsmith.promotion.main import read_main
from modelsmith.promotion.pulls import sync
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.schema.errors import GateNotCleared, InvalidInput
from modelsmith.schema.progress import Progress

PHASES: dict[Phase, Callable[[Desk, Iteration], Iteration]] = {
    "eval": phases.eval_reference,
    "diagnose": phases.diagnose_failures,
    "train": phases.train_candidate,
    "seal": phases.seal_candidate,
    "assess": phases.assess_candidate,
    "promote": phases.promote_candidate,
}
ENDS: tuple[Phase, ...] = ("waiting", "done")
BEFORE_CANDIDATE: tuple[Phase, ...] = ("eval", "diagnose", "train", "seal")
"""Phases after which main knows what the candidate was trained from."""


@dataclass(frozen=True)
class Loop:
    """One call of `iterate` after the other finds its way by this."""

    harness: Harness
    cluster: str

    def run(self, max_iterations: int | None) -> Iteration:
        """Go on from where the last call ended, to a person's gate, to nothing left to do, or to the limit.

        Raises:
            InvalidInput: ``dirty-tree``, ``diverged-main``, an unknown cluster.
            InfrastructureFailure: ``busy`` when another process iterates this cluster.
        """
        workspace = self.harness.workspace
        workspace.require_clean()
        with workspace.lock(f"iterate-{self.cluster}"):
            states = StateFile(workspace)
            main = self._main()
            limit = max_iterations or load_cluster(workspace.revision(main), self.cluster).loop.max_iterations
            iteration = self._resume(states.get(self.cluster), main)
            first = iteration.number
            while True:
                desk = open_desk(self.harness, iteration)
                while iteration.phase not in ENDS:
                    iteration = states.put(PHASES[iteration.phase](desk, iteration))
                states.put(iteration)
                again = iteration.phase == "done" and iteration.outcome == "FAIL" and iteration.specialist is not None
                if not again or iteration.number - first + 1 >= limit:
                    return iteration
                workspace.notify(Progress("iterate", f"iteration {iteration.number}: {iteration.reason}"))
                iteration = states.put(self._begin(self._main(), iteration))

    def _main(self) -> str:
        """Commit of the forge's main, which the clone must not have left."""
        workspace = self.harness.workspace
        main = sync(self.harness)
        local = workspace.git.rev("HEAD")
        if local is None or not workspace.git.is_ancestor(local, main):
            raise InvalidInput(
                "diverged-main",
                "This clone has commits that main of the forge does not have",
                "Propose them with `modelsmith pr open`, or check out main.",
            )
        return main

    def _resume(self, last: Iteration | None, main: str) -> Iteration:
        """The iteration to work on: the unfinished one, the one that waits, or a new one."""
        if last is None:
            return self._begin(main, None)
        if last.phase == "waiting":
            return self._waited(last, main)
        if last.phase == "done" or not self.harness.workspace.git.is_ancestor(last.commit, main):
            return self._begin(main, last)
        early = last.phase in BEFORE_CANDIDATE
        gone = early and (self._retired(last.reference, main) or self._terms(last.commit) != self._terms(main))
        return self._begin(main, last) if gone else last

    def _waited(self, last: Iteration, main: str) -> Iteration:
        """What to do now with an iteration that ended at a person: wait on, go on, or begin the next one.

        When an owner said no, or main asks another question by now, its pull request is closed and a new iteration
        begins. Anything else that shuts the gate (main has moved on beneath it) is mended by proposing it again. One
        that `modelsmith promote` has replaced is left for its successor.
        """
        again = last.model_copy(update={"phase": "promote", "pull": None})
        if last.pull is None:
            return again
        git, forge = self.harness.workspace.git, self.harness.forge
        pull = forge.get(last.pull)
        if pull.status == "closed":
            ours = (other for other in forge.list("open") if other.preparer == self.harness.actor)
            pull = next((other for other in ours if other.branch == pull.branch), pull)
            last = last.model_copy(update={"pull": pull.number})
        if pull.status != "open":
            return self._begin(main, last)
        hold = hold_of(self.cluster, read_main(git, main).history.of_cluster(self.cluster))
        if hold:
            forge.close(pull.number, hold.sentence)
            return again
        try:
            decision = judge(git, pull, main, datetime.now(UTC)).decision
        except GateNotCleared:
            return again
        stale = any(check.name == FRESH and not check.passed for check in decision.checks)
        if stale or any(refusal.code == "rejected" for refusal in decision.refusals):
            forge.close(pull.number, "; ".join(refusal.sentence for refusal in decision.refusals))
            return self._begin(main, last)
        return again if decision.refusals else last

    def _terms(self, commit: str) -> tuple[object, ...]:
        """What a training is bound by: a candidate that was trained by other terms than main's is refused."""
        tree = self.harness.workspace.revision(commit)
        cluster = load_cluster(tree, self.cluster)
        governed = load_eval_set(tree, cluster.eval_set)
        return cluster.base_model, cluster.training, governed.rubric_digest, governed.generators

    def _retired(self, specialist: str, main: str) -> bool:
        """Whether nothing may be trained from the specialist any more."""
        life = read_main(self.harness.workspace.git, main).history.lives.get(specialist)
        return life is not None and life.state == "deprecated"

    def _begin(self, commit: str, last: Iteration | None) -> Iteration:
        main = read_main(self.harness.workspace.git, commit)
        note_advances(ledger_of(self.harness.workspace), main)
        lives = main.history.of_cluster(self.cluster)
        recorded = max((record.iteration for life in lives for record in life.records), default=0)
        share = load_cluster(main.tree, self.cluster).deployment.traffic_share
        serving = render_routing(self.cluster, lives, share).serving[-1]
        reference_changed = last is None or last.reference != serving.specialist
        failed = last is not None and last.outcome == "FAIL" and not reference_changed
        return Iteration(
            cluster=self.cluster,
            number=max(recorded, last.number if last else 0) + 1,
            phase="eval",
            commit=commit,
            reference=serving.specialist,
            lesson=phases.candidate_tag(last) if failed and last else None,
        )
