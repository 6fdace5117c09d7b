"""What a pull request's change of eval sets or clusters does, as a page for its readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from modelsmith.evidence.pull_page import LONGEST, rubric_page
from modelsmith.operations.diff_rubric import DiffRubricRequest
from modelsmith.operations.diff_rubric import run as diff_rubric
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.pull import PullRequest


def change_page(workspace: Workspace, pull: PullRequest) -> str:
    """The rendered difference of each cluster that the change is about, as far as a page goes; empty when of none.

    No model is asked. What cannot be read is left out: the gate says why, and nothing depends on this.
    """
    page = ""
    for cluster in changed_clusters(workspace, pull.base, pull.head):
        with suppress(ModelsmithError):
            found = diff_rubric(workspace, DiffRubricRequest(cluster=cluster, since=pull.base, to=pull.head))
            more = rubric_page(cluster, found.change, found.effects, found.lost_gates, pull.number)
            page += more if len(page) + len(more) < LONGEST else ""
    return page


def changed_clusters(workspace: Workspace, base: str, head: str) -> Iterator[str]:
    """Clusters, as they are at ``head``, whose own settings differ from ``base``, or whose eval set does."""
    proposed = Revision(workspace.git, head)
    changed = [path.path for path in workspace.git.change(base, head).paths]
    for path in sorted(proposed.paths("clusters")):
        _, name, *rest = path.split("/")
        if rest != ["cluster.yaml"]:
            continue
        with suppress(ModelsmithError):
            eval_set = load_cluster(proposed, name).eval_set
            if any(one == path or one.startswith(f"evals/{eval_set}/") for one in changed):
                yield name
