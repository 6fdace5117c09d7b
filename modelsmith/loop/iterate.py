"""The loop of one cluster: phases that a kill cannot spoil, each doing again only what is not already there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from modelsmith.governance.routing import render_routing
from modelsmith.loop import phases
from modelsmith.loop.desk import Desk, open_desk
from modelsmith.loop.evals import ledger_of
from modelsmith.loop.promotions import note_advances
from modelsmith.loop.state import Iteration, Phase, StateFile
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.judge import judge
from modelsmith.promotion.main import read_main
from modelsmith.promotion.pulls import sync
from modelsmith.repository.load import load_cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.progress import Progress
from modelsmith.schema.pull import PullRequest

PHASES: dict[Phase, Callable[[Desk, Iteration], Iteration]] = {
    "eval": phases.eval_reference,
    "diagnose": phases.diagnose_failures,
    "train": phases.train_candidate,
    "seal": phases.seal_candidate,
    "assess": phases.assess_candidate,
    "promote": phases.promote_candidate,
}
ENDS: tuple[Phase, ...] = ("waiting", "done")


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
            states = StateFile(workspace.iterate)
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
        if last.phase == "waiting" and last.pull is not None:
            pull = self.harness.forge.get(last.pull)
            if pull.status == "open" and not self._rejected(pull, main):
                return last
            return self._begin(main, last)
        if last.phase == "done" or not self.harness.workspace.git.is_ancestor(last.commit, main):
            return self._begin(main, last)
        return last

    def _rejected(self, pull: PullRequest, main: str) -> bool:
        """Whether an owner said no to the waiting pull request; then it is closed, for its answer has come."""
        refusals = judge(self.harness.workspace.git, pull, main, datetime.now(UTC)).decision.refusals
        no = next((refusal for refusal in refusals if refusal.code == "rejected"), None)
        if no is not None:
            self.harness.forge.close(pull.number, no.sentence)
        return no is not None

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
