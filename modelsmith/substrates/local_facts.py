"""What the in-process engine is, told without loading it: torch and transformers take seconds to import."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.source import Chat

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Without one of these no GPU can be used, and torch need not be asked."""


def local_facts(chat: Chat) -> EngineFacts:
    """Facts of `modelsmith.substrates.local.TransformersSubstrate` on this machine.

    Raises:
        InfrastructureFailure: ``extra-missing`` when torch or transformers is not installed.
    """
    return _facts().model_copy(update={"chat": chat})


@cache
def _facts() -> EngineFacts:
    try:
        versions = f"transformers {version('transformers')}, torch {version('torch')}"
    except PackageNotFoundError as error:
        raise InfrastructureFailure(
            "extra-missing",
            f"The in-process engine needs {error.name}, which is not installed.",
            "Run `pip install 'modelsmith[train]'`, or let the cluster name another engine.",
            module=error.name,
        ) from None
    cuda = _has_cuda()
    return EngineFacts(
        substrate="transformers",
        version=versions,
        dtype="bfloat16" if cuda else "float32",
        device="cuda" if cuda else "cpu",
    )


def _has_cuda() -> bool:
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import torch

    return bool(torch.cuda.is_available())
