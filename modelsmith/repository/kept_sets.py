"""Eval sets that were read and checked before, kept under the git directory: 1,000 YAML files take seconds.

A set is kept under the digest of its files' names and bytes and of the toolkit's version; a file that does not carry
the digest of itself is not there. Only a command that asks a model uses this; whoever decides a gate reads the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from modelsmith import __version__
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree, read_each
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

KEPT = 8
"""Sets that are kept; the oldest go."""
_SETS: TypeAdapter[GovernedSet] = TypeAdapter(GovernedSet)


def load_kept_eval_set(tree: WorkTree, name: str, folder: Path) -> GovernedSet:
    """An eval set from `folder`, where these very files were read before; else as `load_eval_set` reads it.

    Raises:
        InvalidInput: as `load_eval_set`.
    """
    path = folder / f"{_address(tree, name)}.json"
    cached = _read(path)
    if cached is not None:
        return cached
    governed = load_eval_set(tree, name)
    _write(path, governed)
    return governed


def _address(tree: WorkTree, name: str) -> str:
    contents, refused = read_each(tree, tree.paths(f"evals/{name}"))
    listed = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(contents.items())]
    return hashlib.sha256(json.dumps([__version__, name, listed, sorted(refused)]).encode()).hexdigest()


def _read(path: Path) -> GovernedSet | None:
    try:
        seal, _, body = read_plain(path).partition(b"\n")
        if seal != _seal(path, body):
            return None
        digests, _, values = body.partition(b"\n")
        governed = _SETS.validate_json(values)
        governed.__dict__["digests"] = json.loads(digests)
    except (OSError, ValueError, ValidationError):
        return None
    return governed


def _write(path: Path, governed: GovernedSet) -> None:
    body = json.dumps(governed.digests).encode() + b"\n" + _SETS.dump_json(governed, by_alias=True)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _seal(path, body) + b"\n" + body)
        oldest_first = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for old in oldest_first[:-KEPT]:
            old.unlink()


def _seal(path: Path, body: bytes) -> bytes:
    return hashlib.sha256(f"modelsmith set {path.name}\n".encode() + body).hexdigest().encode()
