"""What kind of artifact a folder holds: an adapter, or an export, whose weights stand alone. Its own files say it.

An export has ``export.json``, which is part of its identity. An adapter has none, as before there were exports. Each
kind has its own files, and none of the other's: what a loader would do with a mixture is the loader's choice, and no
eval would say which of the two had answered.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from modelsmith.artifacts.gguf_header import require_sound
from modelsmith.schema.canonical import canonical_json, parse_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.promotion import EXPORT_FILE, Export
from modelsmith.signing.loaded_files import leads_elsewhere

_LARGEST = 1 << 16
"""Bytes of ``export.json``: far above what it ever holds."""
_OF_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "base.json")
_CONFIG = "config.json"


def export_of(directory: Path) -> Export | None:
    """What the artifact says of itself where its weights stand alone; None for an adapter. See `seal.check` first.

    Raises:
        IntegrityFailure: ``wrong-kind`` when its ``export.json`` cannot be read.
    """
    path = directory / EXPORT_FILE
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _wrong(f"{EXPORT_FILE} cannot be read: {error.strerror}") from error
    try:
        return parse_canonical(EXPORT_FILE, data, Export)
    except IntegrityFailure as bad:
        raise _wrong(bad.message) from None


def require_kind(directory: Path, names: Collection[str]) -> None:
    """Refuse a folder whose files are not those of one kind of artifact; the header of a GGUF file is read.

    Args:
        directory: The artifact.
        names: Of every file in it.

    Raises:
        IntegrityFailure: ``wrong-kind``, ``unsafe-format`` for a GGUF file in anything but a GGUF export,
            ``gguf-header``.
    """
    files = sorted(name for name in names if name.endswith(".gguf"))
    export = export_of(directory) if EXPORT_FILE in names else None
    if files and (export is None or export.kind != "gguf"):
        raise IntegrityFailure(
            "unsafe-format",
            f"{files[0]} stands in an artifact that is no GGUF export.",
            "Bring it in with `modelsmith export SPECIALIST --as gguf --file FILE`.",
            file=files[0],
        )
    if export is None:
        return
    strange = sorted(name for name in names if name.rpartition("/")[2] in _OF_ADAPTERS)
    if strange:
        raise _wrong(f"{EXPORT_FILE} says that the weights stand alone, and {strange[0]} belongs to an adapter")
    weights = [name for name in names if name.endswith(".safetensors")]
    if export.kind == "merged":
        if _CONFIG not in names or not weights:
            raise _wrong(f"merged weights are {_CONFIG} and safetensors, and one of them is missing")
        if problem := leads_elsewhere(directory):
            raise _wrong(f"it holds {problem}")
        return
    if weights or len(files) != 1 or "/" in files[0]:
        raise _wrong("a GGUF export holds one GGUF file, and no other weights")
    require_sound(directory / files[0])


def lists(listing: bytes, export: Export | None) -> bool:
    """Whether a ``SHA256SUMS`` is of an artifact that says this of itself; None stands for an adapter.

    Digests of files are all there is to see, and what an export says of itself has one spelling.
    """
    lines = [line.partition("  ") for line in listing.decode("ascii", "replace").splitlines()]
    digests = {name: digest for digest, _, name in lines}
    if export is None:
        return EXPORT_FILE not in digests
    export_digest = sha256(canonical_json(export)).removeprefix("sha256:")
    return digests.get(EXPORT_FILE) == export_digest and not any(name in _OF_ADAPTERS for name in digests)


def gguf_file(directory: Path) -> Path:
    """The file of a GGUF export; see `require_kind` first."""
    return next(directory.glob("*.gguf"))


def _wrong(problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "wrong-kind",
        f"The artifact is of no known kind: {problem}.",
        "Make the export again with `modelsmith export`, or fetch the artifact from a store that you trust.",
        file=EXPORT_FILE,
    )
