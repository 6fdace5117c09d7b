"""The loop of one cluster: phases that a kill cannot spoil, each doing again only what is not already there."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from modelsmith.evaluation.scoring import judged_points
from modelsmith.governance.routing import hold_of, render_routing
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop import phases
from modelsmith.loop.context import open_context
from modelsmith.loop.diagnoses import read_diagnoses
from modelsmith.loop.iteration import (
    Ended,
    Fault,
    Iteration,
    ToAssess,
    ToDo,
    ToEval,
    ToPromote,
    ToSeal,
    ToTrain,
    Untrained,
    Waiting,
    WithCandidate,
)
from modelsmith.loop.promotions import note_advances
from modelsmith.loop.state import StateFile
from modelsmith.loop.stopping import Assessed, Stop, assessed, costs_more, recommendation, stop_of, stretch_of
from modelsmith.loop.terms import asks, changed_terms, pinned
from modelsmith.promotion.checks import FRESH
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.merge_decision import decide_merge
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.diagnosis import Diagnosis
from modelsmith.schema.errors import Exit, GateNotCleared, InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.progress import Progress
from modelsmith.schema.steps import step

TAKEN = ("tag-taken", "job-folder-taken")
"""Errors that an iteration cannot outlive: what lies under its number answers something else."""


@dataclass(frozen=True)
class Loop:
    """One call of `iterate` after the other finds its way by this."""

    harness: Harness
    cluster: str
    latest: MainReader
    began: float = field(default_factory=time.monotonic)

    def run(self, max_iterations: int | None, restart: bool, review_rows: bool = False) -> Iteration:
        """Go on from where the last call ended, to a person's gate, to nothing left to do, or to the limit.

        With ``restart`` whatever is unfinished is left behind, and a new iteration begins. With ``review_rows`` it ends
        before training, in the phase ``train``, so that a person can read the rows.

        Raises:
            InvalidInput: ``dirty-tree``, ``diverged-main``, an unknown cluster.
            InfrastructureFailure: ``busy`` when another process iterates this cluster.
        """
        workspace = self.harness.workspace
        workspace.require_clean()
        with workspace.lock(f"iterate-{self.cluster}"):
            states = StateFile(workspace)
            main = self._main()
            limit = max_iterations or load_cluster(main.tree, self.cluster).loop.max_iterations
            last = states.get(self.cluster)
            iteration = self._abandon(last, main) if restart else self._resume(last, main)
            if iteration != last:
                states.put(iteration)
            first = iteration.number
            while True:
                iteration = states.put(self._through(states, iteration, review_rows))
                if isinstance(iteration, ToEval):  # in place of one that main has outrun, which counts as none
                    first += 1
                    if stop := self.stop():
                        return states.put(replace(iteration, reason=stop.sentence))
                    continue
                if not isinstance(iteration, Ended) or iteration.outcome != "FAIL":
                    return iteration
                if iteration.number - first + 1 >= limit:
                    return iteration
                if stop := self.stop():
                    return states.put(iteration.stopped(stop.sentence, stop.recommended))
                workspace.notify(
                    Progress("iterate", f"iteration {iteration.number} failed; the next answers its failures")
                )
                iteration = states.put(self._begin(self._main(), iteration))

    def stop(self) -> Stop | None:
        """The registered reason against another iteration of this call, by main's cluster file."""
        tree = self._main().tree
        cluster = load_cluster(tree, self.cluster)
        judged = bool(judged_points(load_eval_set(tree, cluster.eval_set).rubric))
        evals, diagnosed = self._past()
        stretch = stretch_of(cluster, evals, diagnosed) if cluster.stage_by_stage else None
        hours = (time.monotonic() - self.began) / 3600
        stop = stop_of(cluster.loop, evals, hours, diagnosed, stretch, judged=judged, prices=cluster.prices)
        if stop is None or stop.kind != "plateau":
            return stop
        return stop._replace(recommended=recommendation(cluster, diagnosed, judged=judged))

    def _past(self) -> tuple[list[Assessed], list[Diagnosis]]:
        """Outcomes of candidates and diagnoses of iterations, oldest first."""
        workspace = self.harness.workspace
        evals = assessed(ledger_of(workspace).runs(cluster=self.cluster), self.cluster)
        return evals, read_diagnoses(workspace, self.cluster)

    def _stages(self, cluster: Cluster) -> tuple[int | None, str]:
        """How many stages the next iteration runs, None for all; and why it takes one more, where it does."""
        if not cluster.stage_by_stage:
            return None, ""
        stretch = stretch_of(cluster, *self._past())
        if not stretch.plateau or stretch.following is None:
            return stretch.stages, ""
        number = stretch.stages + 1
        why = f"{stretch.plateau}; stage {number} of {len(cluster.stages)}, {stretch.following.method}, is taken"
        self.harness.workspace.notify(Progress("iterate", why))
        return number, why

    @property
    def overdue(self) -> bool:
        """Whether hours or cost are spent that the cluster's file here registers, where main may be out of reach."""
        cluster = load_cluster(self.harness.workspace.files, self.cluster)
        most, spent = cluster.loop.max_hours, (time.monotonic() - self.began) / 3600
        return (most is not None and spent >= most) or costs_more(cluster.loop, cluster.prices, spent)

    def _through(self, states: StateFile, iteration: Iteration, review_rows: bool) -> Iteration:
        """Phase after phase to the iteration's end; what one fails with is kept, to be shown and for the next call.

        Where main has outrun it meanwhile, the one that begins in its place comes back: nobody waits for a training
        that is refused afterwards, and an unattended loop does not end with it.
        """
        try:
            context = open_context(self.harness, iteration, self.latest)
            while not isinstance(iteration, Waiting | Untrained | Ended):
                if review_rows and isinstance(iteration, ToTrain):
                    break
                iteration = states.put(phases.do_phase(context, iteration))
                if isinstance(iteration, ToTrain | ToSeal) and (why := self._outlived(iteration, self._main())):
                    return self._abandon(iteration, self._main(), why)
        except ModelsmithError as error:
            if error.code in TAKEN:
                error.mend = "Leave this iteration behind: `{next}`."
                error.then(step("iterate", {"cluster": self.cluster}, restart=True))
            failed = replace(iteration, error=Fault.of(error))
            with contextlib.suppress(InfrastructureFailure):
                states.put(failed)
            begun_anew = self._begun_instead(failed)
            if begun_anew is None:
                raise
            return begun_anew
        return iteration

    def _begun_instead(self, failed: Iteration) -> Iteration | None:
        """The iteration in place of one that failed, where main's files have changed under it; None where not."""
        if isinstance(failed, Waiting | Untrained | Ended):
            return None
        try:
            main = self._main()
            why = self._outlived(failed, main)
            return self._abandon(failed, main, why) if why else None
        except ModelsmithError:
            return None

    def _main(self) -> GovernedState:
        """The forge's main, which the clone must not have left."""
        git = self.harness.workspace.git
        main = self.latest.read()
        local = git.rev("HEAD")
        if local is None or not git.is_ancestor(local, main.tree.commit):
            raise InvalidInput(
                "diverged-main",
                "This clone has commits that main of the forge does not have",
                "Propose them with `modelsmith pr open`, or check out main.",
            )
        return main

    def _resume(self, last: Iteration | None, main: GovernedState) -> Iteration:
        """The iteration to work on: the unfinished one, the one that waits, or a new one."""
        if last is None:
            return self._begin(main, None)
        if isinstance(last, Waiting):
            return self._waited(last, main)
        if isinstance(last, Untrained | Ended) or not self.harness.workspace.git.is_ancestor(
            last.commit, main.tree.commit
        ):
            return self._begin(main, last)
        why = self._outlived(last, main)
        return self._abandon(last, main, why) if why else last

    def _outlived(self, last: ToDo, main: GovernedState) -> str:
        """Why main leaves no sense in going on with an unfinished iteration; empty while there is some.

        What a phase failed with is mended on main or on this machine. The first makes a new iteration, since this one
        keeps to the files of its commit. A candidate that passed is not given up for what may go by itself, but main
        takes no evidence that answers another question than its own, or passed by another rule.
        """
        then = self.harness.workspace.revision(last.commit)
        candidate = last.specialist if isinstance(last, ToAssess | ToPromote) else None
        """None before main knows what it was trained from."""
        if candidate is None and self._retired(last.reference, main):
            return f"{last.reference} is deprecated"
        if last.error and (not isinstance(last, ToPromote) or last.error.exit != Exit.INFRASTRUCTURE):
            changed = pinned(then, self.cluster) != pinned(main.tree, self.cluster)
            return f"it stopped at {last.error.code}, and main's files have changed since" if changed else ""
        if candidate is None:
            return changed_terms(then, main.tree, self.cluster)
        if asks(then, self.cluster) == asks(main.tree, self.cluster) or self._routed(candidate, main):
            return ""
        return "main asks another question, or judges by another rule, by now"

    def _abandon(self, last: Iteration | None, main: GovernedState, why: str = "somebody asked for it") -> Iteration:
        """Begin anew; what the harness had open for the unfinished candidate is closed, runs and ledger stay."""
        if last and not isinstance(last, Untrained | Ended):
            reason = f"Iteration {last.number} is left behind: {why}"
            self.harness.workspace.notify(Progress("iterate", reason))
            self._close_pulls(last, reason)
        return self._begin(main, last)

    def _close_pulls(self, last: Iteration, reason: str) -> None:
        ours = f"promote/{self.cluster}/iter-{last.number:03d}-"
        if isinstance(last, WithCandidate):
            ours = f"promote/{self.cluster}/{last.specialist}/"
        for pull in self.harness.forge.list("open"):
            if pull.preparer == self.harness.actor and pull.branch.startswith(ours):
                self.harness.forge.close(pull.number, reason)

    def _waited(self, last: Waiting, main: GovernedState) -> Iteration:
        """What to do now with an iteration that ended at a person: wait on, go on, or begin the next one.

        When an owner said no, or main asks another question by now, its pull request is closed and a new iteration
        begins. Anything else that shuts the gate (main has moved on beneath it) is mended by proposing it again. One
        that `modelsmith promote` has replaced is left for its successor. After an override of the candidate's eval the
        iteration goes on.
        """
        again = phases.promoting(last)
        if last.pull is None:
            return again
        forge = self.harness.forge
        pull = forge.get(last.pull)
        if pull.status == "closed":
            ours = (other for other in forge.list("open") if other.preparer == self.harness.actor)
            pull = next((other for other in ours if other.branch == pull.branch), pull)
            last = replace(last, pull=pull.number)
        history = main.histories.by_specialist.get(last.specialist)
        if pull.status == "merged" and history is not None and history.state == "eval-accepted":
            return again
        if pull.status != "open":
            return self._begin(main, last)
        hold = hold_of(self.cluster, main.histories.of_cluster(self.cluster))
        if hold and history is not None and history.state != "candidate":
            forge.close(pull.number, hold.sentence)
            return again
        try:
            decision = decide_merge(main, pull, datetime.now(UTC)).decision
        except GateNotCleared:
            return again
        stale = any(check.name == FRESH and not check.passed for check in decision.checks)
        if stale or any(refusal.code == "rejected" for refusal in decision.refusals):
            forge.close(pull.number, "; ".join(refusal.sentence for refusal in decision.refusals))
            return self._begin(main, last)
        return again if decision.refusals else last

    def _retired(self, specialist: str, main: GovernedState) -> bool:
        """Whether nothing may be trained from the specialist any more."""
        history = main.histories.by_specialist.get(specialist)
        return history is not None and history.state == "deprecated"

    def _routed(self, specialist: str, main: GovernedState) -> bool:
        """Whether the specialist has been deployed: then nothing is left to propose or to close."""
        history = main.histories.by_specialist.get(specialist)
        return history is not None and history.routed

    def _begin(self, main: GovernedState, last: Iteration | None) -> ToEval:
        note_advances(ledger_of(self.harness.workspace), main)
        histories = main.histories.of_cluster(self.cluster)
        recorded = max((record.iteration for history in histories for record in history.records), default=0)
        cluster = load_cluster(main.tree, self.cluster)
        serving = render_routing(self.cluster, histories, cluster.deployment.traffic_share).serving[-1]
        stages, why = self._stages(cluster)
        reference_changed = last is None or last.reference != serving.specialist
        return ToEval(
            cluster=self.cluster,
            number=max(recorded, last.number if last else 0, last_number(self.harness.workspace, self.cluster)) + 1,
            commit=main.tree.commit,
            reference=serving.specialist,
            stages=stages,
            reason=why,
            lesson=None if last is None or reference_changed else phases.lesson_of(last),
        )


def last_number(workspace: Workspace, cluster: str) -> int:
    """The highest iteration that left something in this clone, also when its state is lost: no number is used twice."""
    folder = workspace.cluster_folder(cluster)
    names = [f"{cluster}-iter-{path.name}" for path in folder.glob("iterations/*")]
    names += [path.name for path in folder.glob("runs/*")]
    number = re.compile(rf"{re.escape(cluster)}-iter-(\d{{3,9}})(?:-.+)?")
    return max((int(match[1]) for name in names if (match := number.fullmatch(name))), default=0)
