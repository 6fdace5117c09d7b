"""What a pull request's change of eval sets or clusters does, as a page for its readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import suppress

from modelsmith.evidence.pull_page import LONGEST, rubric_page
from modelsmith.operations.diff_rubric import DiffRubricRequest
from modelsmith.operations.diff_rubric import run as diff_rubric
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import CLUSTER_DEFAULTS
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.pull import PullRequest


def change_page(workspace: Workspace, pull: PullRequest) -> str:
    """The rendered difference of each cluster that the change is about, as far as a page goes; empty when of none.

    No model is asked. What cannot be read is left out: the gate says why, and nothing depends on this.
    """
    page = ""
    for cluster in changed_clusters(workspace, pull.base, pull.head):
        with suppress(ModelsmithError):
            rubric_diff = diff_rubric(workspace, DiffRubricRequest(cluster=cluster, since=pull.base, to=pull.head))
            rubric_part = rubric_page(
                cluster, rubric_diff.change, rubric_diff.effects, rubric_diff.lost_gates, pull.number
            )
            page += rubric_part if len(page) + len(rubric_part) < LONGEST else ""
    return page


def changed_clusters(workspace: Workspace, base: str, head: str) -> Iterator[str]:
    """Clusters, as they are at ``head``, whose settings or eval set differ from ``base``.

    Settings are a cluster's own file and what all clusters share. One whose file cannot be read is among them.
    """
    proposed = Revision(workspace.git, head)
    changed = [path.path for path in workspace.git.change(base, head).paths]
    for path in sorted(proposed.paths("clusters")):
        _, name, *rest = path.split("/")
        if rest == ["cluster.yaml"] and _differs(proposed, name, {path, CLUSTER_DEFAULTS}, changed):
            yield name


def _differs(proposed: Revision, cluster: str, settings: Set[str], changed: Sequence[str]) -> bool:
    if not settings.isdisjoint(changed):
        return True
    try:
        folder = f"evals/{load_cluster(proposed, cluster).eval_set}/"
    except ModelsmithError:
        return True
    return any(path.startswith(folder) for path in changed)
