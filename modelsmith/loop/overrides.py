"""Asking a person to let an eval count that came out INCONCLUSIVE. The asking decides nothing."""

from __future__ import annotations

from modelsmith.evaluation.overridable import override_refusal
from modelsmith.evaluation.rows import verdict_rows
from modelsmith.governance.person_gates import override_role
from modelsmith.governance.states import SpecialistHistory
from modelsmith.ledger.ledger import ledger_of
from modelsmith.loop.context import open_context
from modelsmith.loop.evals import read_observations
from modelsmith.loop.exports import override_export
from modelsmith.loop.iteration import Ended, Judged, PhaseFields, ToPromote, Verdict, Waiting, WithCandidate
from modelsmith.loop.phases import promote_candidate
from modelsmith.loop.rollback import require_clean_reason
from modelsmith.loop.state import StateFile
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.records import is_assessment
from modelsmith.promotion.syncing import MainReader
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.run import RunResult
from modelsmith.schema.steps import step


def ask_override(
    harness: Harness, latest: MainReader, cluster: Cluster, history: SpecialistHistory, reason: str
) -> PullRequest:
    """The pull request in which a person may let the specialist's INCONCLUSIVE eval count; opened, or adopted.

    Afterwards `iterate`, or `export`, goes on from there. Asked again with another reason, it is proposed anew.

    Args:
        harness: Who asks and prepares.
        latest: Main as it is.
        cluster: The specialist's.
        history: A candidate that this clone has evaluated.
        reason: Why it is to count.

    Raises:
        InvalidInput: ``override-forbidden`` where policy names no role; ``nothing-to-override`` where there is no such
            eval, or nobody overrides it; ``private-reason``.
        InfrastructureFailure: ``busy`` while another process iterates the cluster.
    """
    main = latest.read()
    require_clean_reason(reason, main, cluster)
    if override_role(main.policy) is None:
        raise InvalidInput(
            "override-forbidden",
            "The policy of main lets nobody override an INCONCLUSIVE",
            "Add scenarios until the eval can tell. Or have the owners of policy.yaml name a role: `override: ROLE` in "
            "the transition eval-accepted.",
        )
    run = _assessment(harness.workspace, history)
    why = override_refusal(verdict_rows(read_observations(harness.workspace, run)), run.headline, run.rule)
    if why:
        raise _nothing(history, why)
    with harness.workspace.lock(f"iterate-{history.cluster}"):
        waiting = (
            override_export(harness, latest, history, reason)
            if history.is_export
            else _go_on(harness, latest, history, reason)
        )
    assert isinstance(waiting, Waiting)
    assert waiting.pull
    return harness.forge.get(waiting.pull)


def _go_on(harness: Harness, latest: MainReader, history: SpecialistHistory, reason: str) -> Waiting | Ended:
    """The iteration that ended with this candidate, taken up again at its promotion."""
    states = StateFile(harness.workspace)
    last = states.get(history.cluster)
    if not isinstance(last, WithCandidate) or last.specialist != history.specialist:
        raise _nothing(history, "this clone has begun another iteration since, or did not train it")
    verdict = Verdict(outcome=last.outcome if isinstance(last, Judged) else "INCONCLUSIVE", override=reason)
    now = PhaseFields(reason=last.reason, error=last.error)
    iteration = states.put(ToPromote(**last.known, **last.candidate, **verdict, **now))
    return states.put(promote_candidate(open_context(harness, iteration, latest), iteration))


def _assessment(workspace: Workspace, history: SpecialistHistory) -> RunResult:
    """The eval of the candidate's own weights by which it did not pass."""
    if history.state != "candidate":
        raise _nothing(history, f"it is {history.state}, so its eval counts already")
    runs = ledger_of(workspace).runs(cluster=history.cluster)
    own = (run for run in reversed(runs) if run.weights == history.artifact and run.is_complete)
    run = next((run for run in own if is_assessment(run.tag, history.cluster, run.model)), None)
    if run is None:
        raise _nothing(history, "this clone has no complete eval of it")
    return run


def _nothing(history: SpecialistHistory, why: str) -> InvalidInput:
    return InvalidInput(
        "nothing-to-override",
        f"No eval of {history.specialist} is to be overridden: {why}",
        "Only an INCONCLUSIVE with too few data is. For everything else run `{next}`.",
        specialist=history.specialist,
    ).then(step("iterate", {"cluster": history.cluster}))
