"""``hosts.yaml`` in `MODELSMITH_HOME`: where this machine's hosts are. No commit reaches it.

A cluster file gives names of hosts only, and a name is looked up here: so nobody who writes a proposal can say where to
log in, as whom, or what is run there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints, field_validator

from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.base import Frozen, Slug
from modelsmith.schema.cluster import LOCAL
from modelsmith.schema.plain_file import read_own

FILE: Final = "hosts.yaml"

_Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._:-]{0,252}[A-Za-z0-9])?$")]
_User = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
_Absolute = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]{0,1000}$")]


class Host(Frozen):
    """One host, as OpenSSH reaches it and as the toolkit lies there."""

    address: _Address
    """Name or address; also one of ``~/.ssh/config``, which says keys, jump hosts and the like."""
    user: _User | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    python: _Absolute
    """Interpreter there that has this version of the toolkit, with the extra ``train``."""
    folder: _Absolute
    """Where jobs lie there while they are worked on; the user's own. Who shares it works one job at a time."""
    home: _Absolute | None = None
    """`MODELSMITH_HOME` there: base models lie in ``models/``, named by their digest. The user's default when not
    set."""
    lost_seconds: Annotated[float, Field(ge=5, le=86_400)] = 120.0
    """For how long a lost connection is mended. Then the worker there puts its work away, and the next host goes on."""


class Hosts(Frozen):
    """The file; without one this machine knows no host but itself."""

    hosts: dict[Slug, Host] = {}

    @field_validator("hosts")
    @classmethod
    def _is_another(cls, hosts: dict[str, Host]) -> dict[str, Host]:
        if LOCAL in hosts:
            raise ValueError(f"`{LOCAL}` is this machine itself")
        return hosts


def load_hosts(home: Path) -> Hosts:
    """The hosts that this machine knows.

    Raises:
        InvalidInput: ``invalid-file``; ``others-may-write``.
    """
    file = home / FILE
    try:
        return parse_yaml(str(file), read_own(file), Hosts)
    except FileNotFoundError:
        return Hosts()
