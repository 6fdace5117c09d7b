"""What a host says of itself when it is looked at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelsmith.fleet.gpus import Gpu
from modelsmith.schema.base import Frozen

_Count = Annotated[int, Field(ge=0)]


class HostFacts(Frozen):
    """Of one host, by its own word."""

    version: Annotated[str, Field(max_length=100)]
    """Version of the toolkit on the host."""
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=64)]
    processors: _Count
    free_bytes: _Count
    """Where its work folder lies."""
    writable: bool
    busy: bool
    """It works on a job now."""
    models: Annotated[tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Field(max_length=1000)]
    """Digests of the base models that lie there, without a look at their bytes."""
