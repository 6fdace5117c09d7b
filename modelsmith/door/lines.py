"""What a verified main says: for each cluster who answers which share, and what the models were evaluated with."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from modelsmith.artifacts.store import Store
from modelsmith.door.asking import Governed
from modelsmith.door.format_checks import Format
from modelsmith.governance.routing import BASE
from modelsmith.governance.states import SpecialistHistory
from modelsmith.live.port import Stage
from modelsmith.points.format_points import format_points
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.serving import Arm, shadow, shadowed_as, traffic
from modelsmith.promotion.weights import check_copy
from modelsmith.repository.load import load_cluster
from modelsmith.repository.tree import Revision
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.evalset import EvalSet
from modelsmith.schema.rubric import Rubric, RubricPoint

LoadedAs = tuple[str, Arm, str]
"""The key of a loaded model: two models with different keys are loaded apart."""


@dataclass(frozen=True)
class Line:
    """Routing of one cluster's traffic, and the commit of main that it comes from."""

    cluster: Cluster
    commit: str
    """Commit of main that says so."""
    incumbent: Arm
    watched: Arm | None
    """The specialist under watch; None where none is."""
    share: float
    """Share of requests that the watched specialist gets."""
    governed: Governed
    format: Format
    """The format that its answers are checked for."""
    standing: frozenset[str] = frozenset()
    """Specialists of the cluster that main has deployed and not taken back."""
    shadow: Arm | None = None
    """Who gets copies of the incumbent's requests; nobody gets to see its answers."""
    shadowed_as: str = ""
    """Name under which its copies are counted."""

    @property
    def stage(self) -> Stage:
        """Stage of the deployment: a canary, or all traffic."""
        return "canary" if self.watched else "full"

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Everyone who may have to answer."""
        return (self.incumbent, self.watched) if self.watched else (self.incumbent,)

    def loaded_as(self, arm: Arm) -> LoadedAs:
        """What makes the model of one of its arms, once it is loaded, another one."""
        base = self.cluster.base_model
        return self.cluster.cluster, arm, f"{base.digest} {base.chat!r}"


def read_line(main: GovernedState, name: str) -> Line:
    """A cluster's traffic as main has it.

    Raises:
        ModelsmithError: a governed file does not parse.
    """
    cluster = load_cluster(main.tree, name)
    incumbent, watched, share = traffic(main, name)
    evalset = _evalset(main.tree, cluster)
    chat = cluster.base_model.chat
    copied = shadow(main, name) if cluster.deployment.shadow_share else None
    governed = Governed(evalset.prompt.system, evalset.sampling, chat)
    return Line(
        cluster, main.tree.commit, incumbent, watched, share, governed,
        Format(_format_points(main.tree, cluster, evalset), chat),
        frozenset(history.specialist for history in main.histories.of_cluster(name) if history.routed),
        copied,
        shadowed_as(main, cluster, copied) if copied else "",
    )  # fmt: skip


def check_artifact(workspace: Workspace, main: GovernedState, line: Line, arm: Arm) -> None:
    """Refuse an artifact that is at hand and is not, byte for byte, the one of the record, with the signature on main.

    Raises:
        IntegrityFailure: as `check_copy`.
    """
    if arm.specialist == BASE or arm.artifact is None:
        return
    history: SpecialistHistory = main.histories.by_specialist[arm.specialist]
    folder = Store(workspace.store(line.cluster.store)).get(arm.artifact)
    if folder is not None:
        check_copy(main, history, folder)


def _evalset(tree: Revision, cluster: Cluster) -> EvalSet:
    path = f"evals/{cluster.eval_set}/evalset.yaml"
    return parse_yaml(path, tree.read(path), EvalSet)


def _format_points(tree: Revision, cluster: Cluster, evalset: EvalSet) -> tuple[RubricPoint, ...]:
    path = posixpath.normpath(f"evals/{cluster.eval_set}/{evalset.rubric}")
    return format_points(parse_yaml(path, tree.read(path), Rubric).points)
