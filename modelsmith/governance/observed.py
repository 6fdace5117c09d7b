"""Where a second observer's observation lies: a folder of its own among the records of the specialist. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from modelsmith.schema.pull import Change

PROMOTIONS = "promotions"


class ObservedFolder(NamedTuple):
    """An observation's folder, read from its path."""

    cluster: str
    specialist: str
    observer: str
    """Id of the harness that observed."""
    number: int
    """Position among this observer's observations of the specialist; the first is 1."""


_FOLDER = re.compile(
    r"promotions/([a-z0-9][a-z0-9._-]*)/(iter-[0-9]{3,}-[0-9a-f]{8})/observed-([A-Za-z0-9][A-Za-z0-9._-]*)-([0-9]{2,})",
    re.ASCII,
)


def observed_path(cluster: str, specialist: str, observer: str, number: int) -> str:
    """Folder of an observation: ``promotions/<cluster>/<specialist>/observed-<observer>-<NN>``."""
    return f"{PROMOTIONS}/{cluster}/{specialist}/observed-{observer}-{number:02d}"


def parse_observed(folder: str) -> ObservedFolder | None:
    """Read an observation's folder from its path; None for any other folder and any other spelling.

    >>> parse_observed("promotions/rtb-pricing/iter-001-0a1b2c3d/observed-ci-01")
    ObservedFolder(cluster='rtb-pricing', specialist='iter-001-0a1b2c3d', observer='ci', number=1)
    """
    match = _FOLDER.fullmatch(folder)
    if match is None:
        return None
    parsed = ObservedFolder(match[1], match[2], match[3], int(match[4]))
    return parsed if parsed.number and observed_path(*parsed) == folder else None


def observed_in(change: Change) -> ObservedFolder | None:
    """The observation that a change brings, by its first path that lies in such a folder; None for any other change."""
    for path in change.paths:
        parsed = parse_observed("/".join(path.path.split("/")[:4]))
        if parsed:
            return parsed
    return None
