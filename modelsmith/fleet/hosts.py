"""Which executor a cluster's ``hosts`` mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelsmith.fleet.executor import Executor, LocalExecutor
from modelsmith.schema.cluster import AVAILABLE_HOSTS, LOCAL
from modelsmith.schema.errors import InvalidInput


def executor_on(hosts: Sequence[str], module: str, *places: Path) -> Executor:
    """The executor of the first host that this version knows; module and places as `LocalExecutor` takes them.

    Raises:
        InvalidInput: ``host-not-available`` when it knows none.
    """
    if LOCAL in hosts:
        return LocalExecutor(module, *places)
    raise InvalidInput(
        "host-not-available",
        f"This version cannot train on: {', '.join(hosts) or 'no host'}.",
        f"Write hosts: [{', '.join(AVAILABLE_HOSTS)}].",
        hosts=list(hosts),
    )
