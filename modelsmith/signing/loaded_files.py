"""Whether a folder of weights is all that is loaded of it: what its own settings make a loader open, or run, elsewhere.

A digest speaks of the files that were listed. transformers joins a name from an index of shards to the folder as it
is, so ``../other.safetensors`` or a hidden file is loaded, too; ``adapter_config.json`` beside whole weights has it
load another base model than these; an attention implementation with a slash is code that it fetches from a hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import PLAIN_NAME

_LARGEST = 1 << 26
"""Bytes of a file of settings (64 MiB): an index of the largest models takes a tenth of it."""
_ADAPTER = "adapter_config.json"


def leads_elsewhere(folder: Path) -> str | None:
    """What of a folder with whole weights leads to other files or code, in words; None where nothing does.

    Raises:
        OSError: a file cannot be read.
    """
    return next(_settings_files(folder), None)


def _settings_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue  # no loader looks there
        if path.name == _ADAPTER:
            yield f"{name!a}, by which another base model is loaded"
            continue
        if not path.name.endswith(".index.json") and not path.name.startswith("config"):
            continue
        settings = _read(path)
        if settings is None:
            yield f"{name!a}, which is no JSON object of at most {_LARGEST >> 20} MiB, so what it leads to is not known"
        elif path.name.endswith(".index.json"):
            shards = settings.get("weight_map")
            for shard in sorted(map(str, shards.values())) if isinstance(shards, dict) else (path.name,):
                if not _lies_beside(path, shard):
                    yield f"{name!a}, which names no file beside it: {shard[:100]!a}"
        else:
            weights = settings.get("transformers_weights")
            if weights is not None and not _lies_beside(path, str(weights)):
                yield f"{name!a}, whose transformers_weights are no file beside it"
            for word in _implementations(settings):
                if "/" in word:
                    yield f"{name!a}, which asks for code of a hub: {word[:100]!a}"


def _lies_beside(path: Path, name: str) -> bool:
    return re.fullmatch(PLAIN_NAME, name) is not None and (path.parent / name).is_file()


def _implementations(config: dict[str, Any]) -> Iterator[str]:
    """How attention and experts are to be computed, as the whole or one of its parts says."""
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key.endswith("_implementation") or "_implementation_" in key:
                    yield json.dumps(inner)
                else:
                    waiting.append(inner)


def _read(path: Path) -> dict[str, Any] | None:
    """A file of settings; None for one that is no JSON object, or too large or too deep to be read here."""
    data = read_plain(path, _LARGEST + 1)
    try:
        settings = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None
