"""The validation window from main's side: what is under watch, what its counts come to, and the rollback that follows.

The front door counts and latches by itself (`modelsmith.live`). Here its counts become live evidence that an observer's
key signs, and a latch becomes the pull request that makes git agree, merged by the contract that people approved.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from modelsmith.governance.drift import baseline_of
from modelsmith.governance.routing import latest_deployment
from modelsmith.governance.states import SpecialistHistory, folder_of, record_folder
from modelsmith.governance.window import Judgement, judge, lopsided, tripped, watched
from modelsmith.ledger.ledger import ledger_of
from modelsmith.live.latch import Latched, Latches
from modelsmith.live.store import STORE_FILE, Store
from modelsmith.live.watching import Shadowed, Validated, Watching
from modelsmith.loop.promotions import note_advances
from modelsmith.loop.rollback import roll_back
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import Harness
from modelsmith.promotion.live import DUE, needs_live, read_live, seal_of, untimely
from modelsmith.promotion.pulls import branch_of
from modelsmith.promotion.rollbacks import deployment_of
from modelsmith.promotion.serving import routing_obeyed, traffic
from modelsmith.promotion.syncing import sync
from modelsmith.repository.load import load_cluster
from modelsmith.repository.paths import place
from modelsmith.repository.tree import read_each
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Event
from modelsmith.schema.canonical import canonical_json, digest, sha256
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.live import Counts
from modelsmith.schema.live_evidence import LIVE_FILE, LIVE_SIGNATURE, LiveEvidence
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.pull import PullRequest
from modelsmith.schema.steps import step
from modelsmith.signing.dsse import adopt_or_seal, statement
from modelsmith.signing.files import write_atomically

_settling = threading.Lock()
_LONGEST_REASON = 500


def live_folder(workspace: Workspace) -> Path:
    """Where a clone's counts and latches lie: under the git directory, which no commit reaches."""
    return workspace.private / "live"


def watching(main: GovernedState) -> tuple[Watching, ...]:
    """The deployment under watch of each cluster that has one, by cluster."""
    clusters = sorted({history.cluster for history in main.histories.by_specialist.values()})
    return tuple(window for name in clusters if (window := watching_of(main, name)))


def watching_of(main: GovernedState, cluster: str) -> Watching | None:
    """The deployment under watch of one cluster; None where none stands that a person approved."""
    history = latest_deployment(main.histories.of_cluster(cluster))
    if history is None or history.state != "customer-deployed":
        return None
    deployment = deployment_of(main, history.specialist)
    if deployment.approved_at is None:
        return None
    record = digest(deployment.record)
    return Watching(cluster, history.specialist, record, deployment.contract.terms, deployment.approved_at)


class WindowView(NamedTuple):
    """A window as it stands now: its terms, its counts, and what they come to."""

    watching: Watching
    counts: Counts | None
    judgement: Judgement
    at: datetime
    latched: Latched | None
    """What the latch says; None of one that is damaged, too."""
    is_latched: bool


def look(workspace: Workspace, main: GovernedState, cluster: str) -> WindowView:
    """Outcome of a window of this clone's door now; it changes nothing.

    Raises:
        InvalidInput: ``no-window`` where nothing is under watch by a rule.
        InfrastructureFailure: ``counts-unreadable``.
    """
    window = watching_of(main, cluster)
    if window is None or window.terms.rule is None:
        problem = "nothing is under watch" if window is None else f"the contract of {window.specialist} names no rule"
        raise InvalidInput(
            "no-window",
            f"{cluster} has no window: {problem}",
            "A deployment is watched when `rollback.rule` stood in the cluster file as it was approved; see `{next}`.",
            cluster=cluster,
        ).then(step("status", {}))
    now = datetime.now(UTC).replace(microsecond=0)
    counts = counts_of(live_folder(workspace), window.record, [metric.name for metric in watched(window.terms)])
    latches = Latches(live_folder(workspace) / "latches")
    judgement = judge(window.terms, counts, ended=now >= window.closes)
    return WindowView(window, counts, judgement, now, latches.read(window.record), latches.is_set(window.record))


def validated(main: GovernedState) -> tuple[Validated, ...]:
    """Specialists that serve all of a cluster's traffic since production validated them on live evidence."""
    clusters = sorted({history.cluster for history in main.histories.by_specialist.values()})
    return tuple(deployment for name in clusters if (deployment := _validated_of(main, name)))


def _validated_of(main: GovernedState, cluster: str) -> Validated | None:
    serving, ended = traffic(main, cluster).incumbent, last_ended(main, cluster, "production-validated")
    if ended is None or ended.watching.specialist != serving.specialist or watching_of(main, cluster):
        return None
    window, live = ended.watching, ended.live
    return Validated(cluster, window.specialist, serving.record, live.terms, live.at, baseline_of(live.counts))


class Ended(NamedTuple):
    """A window whose end main has a record of."""

    event: Event
    """The event that ended it: production-validated or rolled-back."""
    watching: Watching
    live: LiveEvidence
    """What it came to, as the front door signed it."""


def last_ended(main: GovernedState, cluster: str, event: Event | None = None) -> Ended | None:
    """The window of a cluster that was judged last; None where no record of main holds live evidence.

    With ``event``, only of those that it ended.

    Raises:
        IntegrityFailure: ``bad-file``.
    """
    records = [record for history in main.histories.of_cluster(cluster) for record in history.records]
    ended: Ended | None = None
    for record in records:
        if record.event in DUE and event in (None, record.event) and LIVE_FILE in record.evidence:
            live = read_live({LIVE_FILE: main.tree.read(f"{record_folder(record)}/{LIVE_FILE}")})
            opened = deployment_of(main, record.specialist).approved_at
            if live and opened and (ended is None or live.at >= ended.live.at):
                window = Watching(cluster, record.specialist, live.deployment, live.terms, opened)
                ended = Ended(record.event, window, live)
    return ended


def counts_of(folder: Path, record: str, metrics: Sequence[str]) -> Counts | None:
    """Counts of this clone's door for a record; None before the first decision.

    Raises:
        InfrastructureFailure: ``counts-unreadable``.
    """
    if not (folder / STORE_FILE).exists():
        return None
    try:
        with closing(Store(folder / STORE_FILE)) as store:
            return store.counts(record, metrics)
    except (OSError, sqlite3.Error) as error:
        raise counts_unreadable(error) from None


def counts_unreadable(error: OSError | sqlite3.Error) -> InfrastructureFailure:
    """The error for a store of live counts that cannot be read."""
    return InfrastructureFailure(
        "counts-unreadable",
        f"The door's counts cannot be read: {error}",
        "Ask on the machine of the front door.",
        path=STORE_FILE,
    )


def evidence_files(
    harness: Harness, main: GovernedState, window: Watching, counts: Counts, at: datetime
) -> dict[str, bytes]:
    """Live evidence of a window and its signature, by the door's own key.

    Raises:
        InvalidInput: ``no-door``, ``not-an-observer``.
    """
    return sealed_evidence(harness, main, window, counts, at, judge(window.terms, counts, ended=at >= window.closes))


def sealed_evidence(
    harness: Harness, main: GovernedState, window: Watching | Shadowed, counts: Counts, at: datetime, judged: Judgement
) -> dict[str, bytes]:
    """What counts came to and its signature, by the door's own key. Raises as `evidence_files`."""
    observer, key = _door(harness.workspace, main)
    live = LiveEvidence(
        cluster=window.cluster,
        specialist=window.specialist,
        observer=observer,
        deployment=window.record,
        routing=routing_obeyed(main, window.cluster),
        beside=_beside(window),
        terms=window.terms,
        counts=counts.until(at),
        at=at,
        outcome=judged.outcome,
        findings=judged.findings,
    )
    data, due = canonical_json(live), seal_of(live)
    stored = live_folder(harness.workspace) / "evidence" / f"{sha256(data).removeprefix('sha256:')}.sigstore.json"
    unsigned = statement(due.name, data, due.kind, due.predicate)
    sealed = adopt_or_seal(read_plain(stored) if stored.exists() else None, unsigned, key, main.observers[observer])
    stored.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(stored, sealed)
    return {LIVE_FILE: data, LIVE_SIGNATURE: sealed}


def _beside(window: Watching | Shadowed) -> str | None:
    return window.beside if isinstance(window, Shadowed) else None


def _door(workspace: Workspace, main: GovernedState) -> tuple[str, Path]:
    """The observer that this clone's front door is, and its signing key."""
    name, key = workspace.setting("door"), workspace.setting("doorkey")
    if not name or not key:
        raise InvalidInput(
            "no-door",
            "This clone does not say which observer its front door is",
            "Run `git config modelsmith.door NAME` and `git config modelsmith.doorkey FILE`, the observer's EC key.",
        )
    if not main.observers.get(name):
        raise InvalidInput(
            "not-an-observer",
            f"people.yaml lists no observer {name}, so what this door counts would not count",
            "Have its owners list this identity under `harness` with `observer: true` and a trust key of its own.",
            id=name,
            observers=sorted(main.observers),
        )
    return name, place(Path(key), workspace.root)


def validation_files(harness: Harness, main: GovernedState, history: SpecialistHistory) -> dict[str, bytes]:
    """Live evidence that production validates the specialist; nothing where its contract names no rule.

    Raises:
        GateNotCleared: ``window-inconclusive`` while the window cannot tell, ``window-worse`` when it is lost.
    """
    if not needs_live(main, history.specialist):
        return {}
    view = look(harness.workspace, main, history.cluster)
    back = step("rollback", {"cluster": history.cluster}, reason="WHY")
    reasons = "; ".join(view.judgement.reasons)
    if view.is_latched or view.judgement.outcome == "roll-back":
        raise GateNotCleared(
            "window-worse",
            f"{history.specialist} was worse than its contract allows: {reasons}",
            "Go back with `{next}`, unless the door has done so.",
            specialist=history.specialist,
        ).then(back)
    if view.judgement.outcome == "inconclusive" or view.counts is None:
        raise GateNotCleared(
            "window-inconclusive",
            f"The window of {history.specialist} cannot tell: {reasons}",
            "Let it go on: the door counts until it can tell, and the figures do not spoil. Or go back with `{next}`.",
            specialist=history.specialist,
            verdict="INCONCLUSIVE",
        ).then(back)
    return proposed(harness, main, history, "production-validated", view.watching) or evidence_files(
        harness, main, view.watching, view.counts, view.at
    )


def proposed(
    harness: Harness, main: GovernedState, history: SpecialistHistory, event: Event, window: Watching | Shadowed
) -> dict[str, bytes]:
    """Live evidence that this harness has proposed already, so that who asks again comes to the same pull request."""
    due = (history.cluster, history.specialist, len(history.records) + 1, event)
    folder, of = folder_of(*due), (window.record, routing_obeyed(main, history.cluster), _beside(window), window.terms)
    for pull in harness.forge.list("open"):
        if (pull.branch, pull.preparer) == (branch_of(*due), harness.actor):
            paths = {name: f"{folder}/{name}" for name in (LIVE_FILE, LIVE_SIGNATURE)}
            contents, _ = read_each(harness.workspace.revision(pull.head), list(paths.values()))
            files = {name: contents[path] for name, path in paths.items() if path in contents}
            live = read_live(files)
            if live and len(files) == len(paths) and (live.deployment, live.routing, live.beside, live.terms) == of:
                return files
    return {}


class Settled(NamedTuple):
    """A latch, and the pull request by which git agrees with it."""

    latch: Watching
    pull: PullRequest


def settle(harness: Harness) -> tuple[Settled, ...]:
    """For each latch of this clone whose deployment still stands on main: the rollback, merged where it is covered.

    Run again after anything: an open pull request is adopted, a merged one leaves nothing to do.

    Raises:
        ModelsmithError: the forge is down, or a rollback was refused; the others were asked for all the same. The latch
            holds, whatever happens here.
    """
    with _settling:
        main = read_governed_state(harness.workspace.git, sync(harness))
        latches = Latches(live_folder(harness.workspace) / "latches")
        settled: list[Settled] = []
        refused: list[ModelsmithError] = []
        for window in watching(main):
            if latches.is_set(window.record):
                try:
                    settled.append(Settled(window, _rolled_back(harness, main, window, latches.read(window.record))))
                except ModelsmithError as error:
                    refused.append(error)
        if settled:
            main = read_governed_state(harness.workspace.git, sync(harness))
        note_advances(ledger_of(harness.workspace), main)
        if refused:
            raise refused[0]
        return tuple(settled)


def _rolled_back(harness: Harness, main: GovernedState, window: Watching, latch: Latched | None) -> PullRequest:
    counts = latch.counts if latch else None
    if latch is None:
        with suppress(InfrastructureFailure):
            counts = counts_of(
                live_folder(harness.workspace), window.record, [metric.name for metric in watched(window.terms)]
            )
    at = latch.at if latch else datetime.now(UTC).replace(microsecond=0)
    files = _signed(harness, main, window, counts, at)
    reasons = tripped(window.terms, counts)
    why = "; ".join((*reasons, *lopsided(window.terms, counts))) if reasons else "what it counted is lost"
    reason = f"The front door took it back: {why}"[:_LONGEST_REASON]
    history, cluster = main.histories.find(window.specialist), load_cluster(main.tree, window.cluster)
    return roll_back(harness, main, cluster, history, reason, None, files)


def _signed(
    harness: Harness, main: GovernedState, window: Watching, counts: Counts | None, at: datetime
) -> dict[str, bytes]:
    """Live evidence of a loss; nothing where it cannot be signed, or a clock was wrong.

    The contract covers a rollback without it.
    """
    if counts is None or not tripped(window.terms, counts):
        return {}
    try:
        files = evidence_files(harness, main, window, counts, at)
    except InvalidInput:
        return {}
    live = read_live(files)
    assert live
    return {} if untimely(live, deployment_of(main, window.specialist), datetime.now(UTC)) else files
