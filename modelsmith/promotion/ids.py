"""Names that main's governed files give to things."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set

_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
"""A `Slug` or an `Actor`."""


def known_ids(main: GovernedState, cluster: str) -> frozenset[str]:
    """Every name in the governed files that speak about the cluster: scenarios, capabilities, points, models, people.

    Whatever stands there has been approved and lies on main, so evidence that repeats it tells nothing new.

    Raises:
        InvalidInput: a governed file does not parse.
    """
    loaded = load_cluster(main.tree, cluster)
    governed = load_eval_set(main.tree, loaded.eval_set)
    scenarios = (*governed.core, *governed.micro, *governed.held_out)
    everything = (loaded, governed.evalset, governed.rubric, *scenarios, *governed.generators, main.people, main.policy)
    return frozenset(name for model in everything for name in _names(model))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, str):
        if _ID.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _names(key)
            yield from _names(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _names(item)
