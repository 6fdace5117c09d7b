"""Whether a specialist was trained on a text that is to be scored: it would know the answer, and its figures would lie.

Rows lie on the machine that trained, and are believed where they give the digest that main has of them.
"""

from __future__ import annotations

from typing import NamedTuple

from modelsmith.diagnosis.firewall import ScoredText, nearest_rows
from modelsmith.loop.lineage import kept_rows
from modelsmith.promotion.bases import training_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster
from modelsmith.repository.workspace import Workspace


class Taught(NamedTuple):
    """Whose training rows come near to a text."""

    near: dict[str, float]
    """Similarity of the nearest row, by specialist; only where it reaches the limit."""
    unknown: tuple[str, ...]
    """Specialists whose rows do not lie here."""


def taught(workspace: Workspace, main: GovernedState, set_name: str, text: str, limit: float) -> Taught:
    """Look at the rows of every specialist of the clusters that are scored by this set."""
    near, unknown = dict[str, float](), list[str]()
    scored = [ScoredText("", text)]
    names = sorted({path.split("/")[1] for path in main.tree.paths("clusters") if path.endswith("/cluster.yaml")})
    for cluster in (one for one in names if load_cluster(main.tree, one).eval_set == set_name):
        for history in main.histories.of_cluster(cluster):
            facts = None if history.is_export else training_of(main, history)
            if facts is None:
                continue
            folder = workspace.cluster_folder(cluster) / "iterations" / f"{history.iteration:03d}"
            rows = kept_rows(folder, facts)
            if rows is None:
                unknown.append(history.specialist)
                continue
            for found in nearest_rows(rows, scored, 1):
                if found.similarity >= limit:
                    near[history.specialist] = found.similarity
    return Taught(near, tuple(unknown))
