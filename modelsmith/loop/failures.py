"""Failures of production as this clone's front door knows them: whose answer a decision was, and what came of it.

A record that names a decision needs no word of its own on how it ended: the id proves that this door made the decision,
and the outcome is what the application reported of it. Nothing of the id reaches a governed file but a digest.
"""

from __future__ import annotations

import sqlite3
from functools import cached_property
from typing import Final

from modelsmith.governance.window import Watched, watched
from modelsmith.live.ids import Ids, handle, known_key
from modelsmith.live.port import Decision
from modelsmith.live.store import STORE_FILE, Store
from modelsmith.loop.evals import BASE
from modelsmith.loop.staging import Judged, Refused
from modelsmith.loop.window import counts_unreadable, live_folder
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.rollbacks import deployment_of
from modelsmith.repository.load import cluster_names, load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.pending import Answered

_FORGED: Final = "no front door with this machine's key has made that decision id"


class Failures:
    """Looks decisions up. Nothing is opened before the first."""

    def __init__(self, workspace: Workspace, main: GovernedState, name: str) -> None:
        """For records that may become part of the eval set of this name."""
        self._workspace, self._main, self._set = workspace, main, name
        self._clusters = set(cluster_names(main.tree))
        self._metrics: dict[str, tuple[Watched, ...]] = {}

    @cached_property
    def _ids(self) -> Ids | None:
        key = known_key(self._workspace.home)
        return Ids(key) if key else None

    @cached_property
    def _store(self) -> Store | None:
        path = live_folder(self._workspace) / STORE_FILE
        return Store(path) if path.exists() else None

    def close(self) -> None:
        """Close what was opened."""
        if "_store" in self.__dict__ and self._store:
            self._store.close()

    def judge(self, sent_id: str) -> Judged | Refused:
        """Whose answer a decision was, and which outcomes were bad; or why the id is refused.

        Raises:
            InfrastructureFailure: ``counts-unreadable``, ``key-not-written``.
        """
        decision = self._ids.read(sent_id) if self._ids else None
        if decision is None:
            return Refused(_FORGED)
        if decision.stage == "shadow":
            return Refused("a shadow answer reached nobody, so it has no outcome")
        cluster = load_cluster(self._main.tree, decision.cluster) if decision.cluster in self._clusters else None
        if cluster is None or cluster.eval_set != self._set:
            return Refused(f"its decision belongs to {decision.cluster}, which is not measured by {self._set}")
        model_name = decision.specialist if decision.arm == "specialist" else decision.incumbent
        if model_name != BASE and model_name not in self._main.histories.by_specialist:
            return Refused(f"main knows no specialist {model_name}")
        return Judged(self._bad(decision), Answered(by=model_name, decision=handle(decision).hex()))

    def _bad(self, decision: Decision) -> str:
        """Reported outcomes that are bad by the contract of the deployment; none where nothing bad was reported."""
        if decision.specialist not in self._main.histories.by_specialist:
            return ""
        try:
            outcomes = self._store.outcomes(decision) if self._store else {}
        except (OSError, sqlite3.Error) as error:
            raise counts_unreadable(error) from None
        if not outcomes:
            return ""
        bad = [
            metric.name
            for metric in self._watched(decision.specialist)
            if outcomes.get(metric.name, metric.higher) != metric.higher
        ]
        return "; ".join(f"{name}: {'yes' if outcomes[name] else 'no'}" for name in bad)

    def _watched(self, specialist: str) -> tuple[Watched, ...]:
        if specialist not in self._metrics:
            self._metrics[specialist] = watched(deployment_of(self._main, specialist).contract.terms)
        return self._metrics[specialist]
