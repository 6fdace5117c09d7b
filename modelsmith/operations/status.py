"""``modelsmith status``: who serves, what runs or waits for whom, what failed, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modelsmith.forges.port import Forge
from modelsmith.governance.hold import hold_clearers
from modelsmith.governance.routing import hold_of, render_routing
from modelsmith.governance.states import SpecialistHistory
from modelsmith.ledger.ledger import Ledger
from modelsmith.loop.iteration import Ended, Fault, Iteration, ToDo, Waiting, WithCandidate
from modelsmith.loop.phases import ended_of
from modelsmith.loop.promotions import FORWARD
from modelsmith.loop.running import running
from modelsmith.loop.standing import Blocked, RunState, standing
from modelsmith.loop.state import StateFile
from modelsmith.operations.contract import Request, Result
from modelsmith.operations.pull_view import PullView, UnreadableView, unreadable_views, view
from modelsmith.promotion.bases import export_of, exports_by_parent
from modelsmith.promotion.freshness import Stale, stale_deployments
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.promotion.observers import backing, count_sentence, disagreements, required
from modelsmith.promotion.overrides import override_of
from modelsmith.promotion.records import is_assessment
from modelsmith.repository.kept_facts import GOVERNED, KeptFacts
from modelsmith.repository.load import load_cluster
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.base import Frozen
from modelsmith.schema.diagnosis import Recommendation
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.run import Outcome, RunResult
from modelsmith.schema.steps import Step, shell_line, step

PROMOTE = "promote/"
"""Branches of promotions. No other pull request is shown here, so no other is judged."""


class StatusRequest(Request):
    """One block for each cluster: who serves, what runs, why it stopped, specialists, open gates, next step."""


class ServingView(Frozen):
    """A specialist that serves, and its share of the traffic."""

    specialist: str
    share: float


class SpecialistView(Frozen):
    """One specialist, with its state and what its eval came to."""

    specialist: str
    state: str
    iteration: int
    composite: float | None
    verdict: Outcome | None
    """What its eval came to, by the rule of that day; None when neither main nor this clone knows one."""
    stale: tuple[str, ...] = ()
    """Of a deployed one: why its evidence no longer speaks of what main asks."""
    export: str = ""
    """Of an export, what it is and of whom: ``merged export of iter-001-c82c9078``."""
    exports: tuple[str, ...] = ()
    """Exports made from it; they have histories of their own, and stay when it is retired."""
    overridden: str = ""
    """Who let its INCONCLUSIVE eval count, and why; empty for one that passed."""
    observers: str = ""
    """How many second observers agree, and who does not, where its next step asks for some; empty elsewhere."""


class WaitingView(Frozen):
    """An open pull request."""

    number: int
    title: str
    gate: str
    waiting_for: tuple[str, ...]
    decides: str
    """The same in words: where several approvals are missing, ``and`` stands between them."""


class HoldView(Frozen):
    """Why nothing is deployed to a cluster now."""

    specialist: str
    """The specialist that was rolled back."""
    waiting_for: tuple[str, ...]
    """Roles one of which clears the hold."""


class RunningView(Frozen):
    """Progress of a process that iterates the cluster."""

    phase: str
    message: str
    done: int
    total: int
    """A total of 0 means that there is nothing to count."""
    seconds_left: float | None
    """Until this step ends, if it goes on as it did."""


class ClusterStatus(Frozen):
    """One cluster: who serves, where its loop stands, what waits."""

    cluster: str
    base_model: str
    serving: tuple[ServingView, ...]
    iteration: int | None
    phase: str | None
    state: RunState
    """Of the run: where the loop stands, in the words of who governs it."""
    blocked_by: Blocked | None
    """Quality, governance or infrastructure, where the state is blocked."""
    reason: str
    recommended: Recommendation | None
    """What to do instead of another iteration, where the last one ended at a plateau."""
    running: RunningView | None
    """None when nobody iterates the cluster in this clone."""
    error: Fault | None
    """The error that the iteration's phase ended with last."""
    composite: float | None
    """Composite of the newest evaluated specialist."""
    threshold: float
    specialists: tuple[SpecialistView, ...]
    waiting: tuple[WaitingView, ...]
    renewal: str
    """What renews stale evidence; empty when none is stale."""
    hold: HoldView | None
    """None when a specialist may be deployed."""
    next: Step
    why: str
    """What the next step is for, and who decides; empty where the command says it."""


class StatusResult(Result):
    """How every cluster stands."""

    clusters: tuple[ClusterStatus, ...]
    unreadable: tuple[UnreadableView, ...] = ()
    """Pull requests whose log cannot be relied on; they hide nothing else."""


def run(workspace: Workspace, request: StatusRequest) -> StatusResult:
    """Read it from main, the forge's open pull requests and the loop's state; nothing is changed."""
    with ObjectReader(workspace.root) as git:
        facts = KeptFacts(workspace.home, GOVERNED, str(workspace.root))
        result = _status(workspace, git, facts)
        facts.save()
        return result


def _status(workspace: Workspace, git: ObjectReader, facts: KeptFacts) -> StatusResult:
    commit = git.rev("HEAD") or "HEAD"
    pulls: tuple[PullView, ...] = ()
    unreadable: tuple[UnreadableView, ...] = ()
    forge = open_forge(workspace) if workspace.setting("forge") else None
    if forge:
        commit = forge.fetch_into(git)
    main = read_governed_state(git, commit, facts)
    if forge:
        pulls_open, doubtful = forge.survey("open")
        pulls = tuple(view(main, pull) for pull in pulls_open if pull.branch.startswith(PROMOTE))
        unreadable = unreadable_views(doubtful)
    names = sorted({p.split("/")[1] for p in main.tree.paths("clusters") if p.endswith("/cluster.yaml")})
    states = StateFile(workspace)
    stale = stale_deployments(main)
    return StatusResult(
        unreadable=unreadable,
        clusters=tuple(
            _cluster(
                main,
                name,
                _settled(forge, states.get(name)),
                pulls,
                [item for item in stale if item.cluster == name],
                _running(workspace, name),
                _assessed(workspace, name),
            )
            for name in names
        ),
    )


def _running(workspace: Workspace, cluster: str) -> RunningView | None:
    current = running(workspace, cluster)
    if current is None:
        return None
    fields = current.model_dump(include={"phase", "message", "done", "total"})
    return RunningView(**fields, seconds_left=current.seconds_left)


def _assessed(workspace: Workspace, cluster: str) -> dict[str, RunResult]:
    """The latest run of each artifact as a candidate or an export, where this clone has a ledger."""
    ledger = Ledger(workspace.private / "ledger.db")
    runs = ledger.runs(cluster=cluster) if ledger.path.is_file() else []
    return {run.weights: run for run in runs if is_assessment(run.tag, cluster, run.model)}


def _settled(forge: Forge | None, iteration: Iteration | None) -> Iteration | None:
    """The iteration as it stands now that people may have decided about what it waits for."""
    if forge is None or not isinstance(iteration, Waiting) or iteration.pull is None:
        return iteration
    status = forge.get(iteration.pull).status
    if status == "open":
        return iteration
    return replace(ended_of(iteration, f"pull request {iteration.pull} is {status}"), error=iteration.error)


def _cluster(
    main: GovernedState,
    name: str,
    iteration: Iteration | None,
    pulls: tuple[PullView, ...],
    outdated: Sequence[Stale],
    now: RunningView | None,
    assessed: dict[str, RunResult],
) -> ClusterStatus:
    cluster = load_cluster(main.tree, name)
    path = f"evals/{cluster.eval_set}/evalset.yaml"
    evalset = parse_yaml(path, main.tree.read(path), EvalSet)
    histories = main.histories.of_cluster(name)
    routing = render_routing(name, histories, cluster.deployment.traffic_share)
    waiting = tuple(
        WaitingView(
            number=pull.number, title=pull.title, gate=pull.gate, waiting_for=pull.waiting_for, decides=pull.decides
        )
        for pull in pulls
        if pull.branch.startswith(f"{PROMOTE}{name}/")
    )
    stale = {deployment.specialist: deployment for deployment in outdated}
    exports = exports_by_parent(main, name)
    specialists = tuple(
        _specialist(
            main,
            history,
            stale.get(history.specialist),
            assessed.get(history.artifact),
            exports.get(history.specialist, ()),
        )
        for history in sorted(histories, key=lambda history: (history.iteration, history.is_export))
    )
    cluster_hold = hold_of(name, histories)
    hold = (
        HoldView(specialist=cluster_hold.specialist, waiting_for=hold_clearers(main.policy)) if cluster_hold else None
    )
    evaluated = [specialist.composite for specialist in specialists if specialist.composite is not None]
    then, why = _next(name, iteration, waiting, hold)
    name_of = iteration.specialist if isinstance(iteration, WithCandidate) else None
    of = next((history.state for history in histories if history.specialist == name_of), None)
    stands = standing(iteration, of, running=now is not None, on_hold=cluster_hold is not None)
    return ClusterStatus(
        cluster=name,
        base_model=cluster.base_model.name,
        serving=tuple(ServingView(specialist=serving.specialist, share=serving.share) for serving in routing.serving),
        iteration=iteration.number if iteration else None,
        phase=iteration.phase if iteration else None,
        state=stands.state,
        blocked_by=stands.blocked_by,
        reason=iteration.reason if iteration else "",
        recommended=iteration.recommended if isinstance(iteration, Ended) else None,
        running=now,
        error=iteration.error if iteration and not now else None,
        composite=evaluated[-1] if evaluated else None,
        threshold=max(cluster.gate.composite, evalset.thresholds.composite),
        specialists=specialists,
        waiting=waiting,
        renewal="; ".join(deployment.renewal for deployment in stale.values()),
        hold=hold,
        next=then,
        why="" if now else why,
    )


def _specialist(
    main: GovernedState,
    history: SpecialistHistory,
    stale: Stale | None,
    run: RunResult | None,
    exports: Sequence[SpecialistHistory],
) -> SpecialistView:
    override = override_of(main, history)
    accepted = history.accepted
    export = export_of(main, history)
    return SpecialistView(
        specialist=history.specialist,
        state=history.state,
        iteration=history.iteration,
        composite=run.headline.composite.value if run and not accepted else history.composite,
        verdict="INCONCLUSIVE" if override else "PASS" if accepted else run.headline.verdict if run else None,
        stale=stale.reasons if stale else (),
        export=export.description if export else "",
        exports=tuple(child.specialist for child in exports),
        overridden=f"{', '.join(override.approved_by)}: {override.override.reason}" if override else "",
        observers=_observers(main, history),
    )


def _observers(main: GovernedState, history: SpecialistHistory) -> str:
    following = FORWARD.get(history.state)
    needed = required(main, following) if following else None
    if needed is None or not needed.observers:
        return ""
    observations = backing(main, history)
    return "; ".join([count_sentence(observations, needed), *disagreements(observations)])


def _next(
    name: str, iteration: Iteration | None, waiting: tuple[WaitingView, ...], hold: HoldView | None
) -> tuple[Step, str]:
    iterate = step("iterate", {"cluster": name})
    if hold and not any(pull.gate in ("open", "waiting") for pull in waiting):
        clear = step("rollback", {"cluster": name}, clear_hold=True)
        return clear, f"{' or '.join(hold.waiting_for)} decides about it"
    if waiting:
        pull = waiting[0]
        if pull.gate == "open":
            return step("pr merge", {"number": pull.number}), ""
        show = step("pr show", {"number": pull.number})
        if pull.gate in ("closed", "conflict"):
            return show, f"its gate is shut; `{shell_line(iterate)}` proposes it again or goes on without it"
        return show, f"{pull.decides or 'its author'} decides about it"
    if iteration and iteration.error:
        return iterate, f"once this is mended: {iteration.error.mend}"
    if isinstance(iteration, ToDo):
        return iterate, f"it goes on at {iteration.phase}"
    return iterate, ""
