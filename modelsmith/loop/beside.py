"""Asking a model on a machine that also serves: between two answers it waits for a front door that is busy."""

from __future__ import annotations

import time
from collections.abc import Callable

from modelsmith.fleet.doors import doors_folder
from modelsmith.fleet.yielding import Yielding
from modelsmith.loop.engines import Target
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.progress import Progress


def waiting_for_doors(workspace: Workspace, cluster: Cluster, target: Target) -> Callable[[], None]:
    """What to call between two answers: it waits while a door is beyond the cluster's budget, and says so.

    Nobody waits where there is no budget, or where the answers come from an endpoint.
    """
    if cluster.beside_serving is None or target.endpoint is not None:
        return lambda: None
    yielding = Yielding(cluster.beside_serving, doors_folder(workspace.home), _sleep)

    def say(why: str, seconds: float) -> None:
        workspace.notify(Progress("eval", f"waits for the front door since {round(seconds)}s: {why}"))

    def wait() -> None:
        yielding.wait(say)

    return wait


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
