"""What main knows of the time since an incumbent was accepted: what stood then, who changed it, which candidates came.

The base model was never accepted; its time begins where main first has the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from modelsmith.evaluation.change.set_change import set_change
from modelsmith.evidence.trail import SetMerge, Trail, rule_changes, set_changes
from modelsmith.governance.routing import BASE
from modelsmith.governance.states import SpecialistHistory, record_folder
from modelsmith.promotion.freshness import evidence_of
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import RECEIPTS
from modelsmith.promotion.receipts import MERGE_RECEIPT
from modelsmith.promotion.root import GOVERNANCE
from modelsmith.promotion.rule import effective_rule
from modelsmith.repository.load import load_cluster, load_eval_set, load_machine_file
from modelsmith.repository.tree import Revision
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evidence import Evidence, Since
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.promotion import Receipt

MERGES_TOLD = 10
"""Merges that changed cluster or eval set, of which a packet tells, the latest: each costs two readings of the set."""


def since(main: GovernedState, cluster: Cluster, incumbent: str) -> Since:
    """Question and limits of the incumbent when it was accepted.

    Raises:
        InvalidInput: main has no such specialist, or never had such a cluster.
    """
    if incumbent != BASE:
        accepted_evidence = evidence_of(main, main.histories.find(incumbent))
        return Since(
            question=accepted_evidence.question,
            eval_set_version=accepted_evidence.eval_set_version,
            rule=accepted_evidence.rule,
        )
    for commit in (*_touching(main, cluster, main.tree.commit), main.tree.commit):
        with suppress(InvalidInput):
            first, governed = _set_at(main, commit, cluster.cluster)
            version = governed.evalset.version
            return Since(question=governed.question(), eval_set_version=version, rule=effective_rule(governed, first))
    raise InvalidInput(
        "unknown-cluster",
        f"Main never had the cluster {cluster.cluster}",
        "Name one that it has.",
        cluster=cluster.cluster,
    )


def candidates_since(main: GovernedState, cluster: str, incumbent: str) -> tuple[SpecialistHistory, ...]:
    """Specialists of later iterations than the incumbent's, oldest first."""
    histories = main.histories.of_cluster(cluster)
    iteration = 0 if incumbent == BASE else main.histories.find(incumbent).iteration
    later = [history for history in histories if history.iteration > iteration]
    return tuple(sorted(later, key=lambda history: (history.iteration, history.specialist)))


def trail(main: GovernedState, cluster: Cluster, evidence: Evidence) -> Trail:
    """What a reviewer should know of the time since the incumbent, as far as main tells it.

    Of candidates only those before this one: what is proposed stays as it was rendered while the loop goes on.
    """
    incumbent = evidence.incumbent.model
    models = {run.model for run in evidence.earlier} | {evidence.specialist}
    commits = _changing(main, cluster, incumbent)
    return Trail(
        merges=tuple(_merges(main, cluster, commits[-MERGES_TOLD:])),
        before=max(0, len(commits) - MERGES_TOLD),
        untold=tuple(
            history.specialist
            for history in candidates_since(main, cluster.cluster, incumbent)
            if history.iteration < int(evidence.specialist.split("-")[1])
            and history.specialist not in models
            and not history.accepted
        ),
    )


def _changing(main: GovernedState, cluster: Cluster, incumbent: str) -> list[str]:
    """Merges since the incumbent that changed files of the cluster or its eval set, oldest first."""
    if incumbent == BASE:
        return _touching(main, cluster, main.tree.commit)[1:]
    accepted = next(record for record in main.histories.find(incumbent).records if record.event == "eval-accepted")
    path = f"{record_folder(accepted)}/{RECEIPTS}/{MERGE_RECEIPT}"
    merge = load_machine_file(main.tree, path, Receipt).merge
    return _touching(main, cluster, main.tree.commit, f"^{merge}")


def _merges(main: GovernedState, cluster: Cluster, commits: Sequence[str]) -> Iterator[SetMerge]:
    """Those that changed what is asked or what has to be reached."""
    for commit in commits:
        try:
            before, then = _set_at(main, f"{commit}^1", cluster.cluster)
            after, now = _set_at(main, commit, cluster.cluster)
        except InvalidInput:
            changes: tuple[str, ...] = ("the cluster or its eval set could not be read before or after it",)
        else:
            changes = rule_changes(effective_rule(then, before), effective_rule(now, after))
            changes += set_changes(set_change(then, now))
        if changes:
            receipt = _receipt(main, commit)
            yield (
                SetMerge(receipt.pull, receipt.requested_by, tuple(receipt.approvals), changes)
                if receipt
                else SetMerge(None, "", (), changes)
            )


def _touching(main: GovernedState, cluster: Cluster, *commits: str) -> list[str]:
    """Commits of main, oldest first, in which the cluster's files or its eval set differ from the commit before."""
    paths = (f"clusters/{cluster.cluster}/cluster.yaml", "clusters/defaults.yaml", f"evals/{cluster.eval_set}")
    output = main.tree.git.lasting("rev-list", "--first-parent", "--reverse", ids=commits, paths=paths)
    return (output or b"").decode().split()


def _set_at(main: GovernedState, commit: str, cluster: str) -> tuple[Cluster, GovernedSet]:
    tree = Revision(main.tree.git, commit)
    then = load_cluster(tree, cluster)
    return then, load_eval_set(tree, then.eval_set)


def _receipt(main: GovernedState, merge: str) -> Receipt | None:
    """The receipt of a merge that was not a promotion."""
    git = main.tree.git
    digest = git.change(f"{merge}^1", merge).digest().removeprefix("sha256:")[:16]
    for path in main.tree.paths(f"{GOVERNANCE}/{RECEIPTS}"):
        if path.endswith(f"-{digest}/{MERGE_RECEIPT}"):
            receipt = load_machine_file(main.tree, path, Receipt)
            if receipt.merge == merge:
                return receipt
    return None
