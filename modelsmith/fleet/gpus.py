"""The GPUs of this machine, as NVIDIA's own tool (which asks NVML) tells them."""

from __future__ import annotations

import shutil
import subprocess

from modelsmith.schema.base import Frozen

_FIELDS = "name,utilization.gpu,memory.used,memory.total"
_SECONDS = 10.0


class Gpu(Frozen):
    """One GPU of a host, by what is known of it."""

    name: str
    busy: int | None
    """Per cent of the last moment in which it worked; None where it does not say."""
    memory_used_mib: int
    memory_total_mib: int


def gpus() -> tuple[Gpu, ...]:
    """Every GPU; none where the tool is missing or has nothing to say."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        process = subprocess.run(
            [tool, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
        return parsed(process.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def parsed(table: str) -> tuple[Gpu, ...]:
    """The lines of the tool's table.

    Raises:
        ValueError: a line is none of it.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines() if line.strip()]
    return tuple(
        Gpu(
            name=name,
            busy=int(busy) if busy.isdecimal() else None,
            memory_used_mib=int(used),
            memory_total_mib=int(total),
        )
        for name, busy, used, total in rows
    )
