"""What a sealed artifact is: a folder of plain files whose ``SHA256SUMS`` is its identity.

An artifact holds an adapter, its tokenizer and chat template, ``base.json`` (which base model it adapts), a model
card, and ``SHA256SUMS`` over all of them. An export (see `kinds`) has weights that stand alone, and ``export.json`` in
place of ``base.json``. The artifact id is the SHA-256 of that list. No path, host or time enters, so a copy anywhere
has the same id, and ``sha256sum -c SHA256SUMS`` checks it without this package. ``model.sig`` lies beside
and is not part of the identity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from modelsmith.artifacts.kinds import require_kind
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.promotion import EXPORT_FILE, Export
from modelsmith.schema.source import BaseModelSource
from modelsmith.signing import oms
from modelsmith.signing.dsse import Trusted
from modelsmith.signing.files import (
    SUMS_FILE,
    Entry,
    clear_partials,
    compare,
    digests,
    list_files,
    measure,
    sums,
    write_atomically,
)

ADAPTER_CONFIG = "adapter_config.json"
BASE_FILE = "base.json"
CARD_FILE = "README.md"

_SAFE_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md", ".model", ".gguf"})
_SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._+/-]*)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UNORDERED = ("target_modules", "exclude_modules")


def describe(directory: Path, base: BaseModelSource) -> None:
    """Say which base model the adapter belongs to.

    Writes ``base.json`` and the model card, and scrubs ``adapter_config.json``.

    Raises:
        InvalidInput: ``invalid-adapter-config``, ``missing-directory``.
        InfrastructureFailure: ``artifact-not-written``.
    """
    clear_partials(directory)
    list_files(directory)
    about = {"name": base.name, "digest": base.digest, "license": base.license}
    _write(directory / BASE_FILE, canonical_json(about))
    _write(directory / CARD_FILE, _CARD.format(**{name: json.dumps(value) for name, value in about.items()}).encode())
    if (directory / ADAPTER_CONFIG).exists():
        scrub_adapter_config(directory / ADAPTER_CONFIG, base.name)


def describe_export(directory: Path, export: Export, license: str) -> None:
    """Say what the weights in the folder are and what they were made from: ``export.json`` and the model card.

    ``license`` is the base model's.

    Raises:
        InvalidInput: ``missing-directory``.
        InfrastructureFailure: ``artifact-not-written``.
    """
    clear_partials(directory)
    list_files(directory)
    _write(directory / EXPORT_FILE, canonical_json(export))
    words = {"name": export.base_model, "license": license, "digest": export.base_digest, "parent": export.parent}
    card = _EXPORT_CARD.format(kind=export.kind, **{name: json.dumps(value) for name, value in words.items()})
    _write(directory / CARD_FILE, card.encode())


def base_of(directory: Path) -> str:
    """Digest of the base model that a sealed artifact belongs to, as its own ``base.json`` says; see `check` first.

    Raises:
        IntegrityFailure: ``no-base`` when the artifact does not say it.
    """
    try:
        base_digest = json.loads(read_plain(directory / BASE_FILE))["digest"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base_digest = None
    if not isinstance(base_digest, str) or not _DIGEST.fullmatch(base_digest):
        raise IntegrityFailure(
            "no-base",
            f"The artifact does not say in {BASE_FILE} which base model it adapts.",
            "Train it again: an adapter over another base model than its own answers something else.",
            file=BASE_FILE,
        )
    return base_digest


def scrub_adapter_config(path: Path, base_name: str) -> None:
    """Put the base model's name where PEFT wrote the path of its folder, and put unordered lists in order.

    The artifact's identity then depends neither on where it was trained nor on a set's iteration order.

    Raises:
        InvalidInput: ``invalid-adapter-config``.
        InfrastructureFailure: ``artifact-not-written``.
    """
    config = _adapter_config(path)
    config["base_model_name_or_path"] = base_name
    for name in _UNORDERED:
        values = config.get(name)
        if isinstance(values, list):
            config[name] = sorted(values, key=str)
    try:
        scrubbed = canonical_json(config)
    except (ValueError, RecursionError):
        raise _not_a_config(path) from None
    _write(path, scrubbed)


def manifest(directory: Path) -> list[Entry]:
    """Name, SHA-256 (hex) and size of every file of the artifact, sorted; without ``SHA256SUMS`` and ``model.sig``.

    Raises:
        InvalidInput: ``missing-directory``.
        IntegrityFailure: ``unsafe-format`` for anything that could run code when loaded, ``unsafe-entry`` for links
            and special files, ``wrong-kind`` and ``gguf-header`` as `kinds.require_kind`.
    """
    return [entry for entry in _measure(directory) if entry.name != SUMS_FILE]


def seal(directory: Path) -> str:
    """Write ``SHA256SUMS``, whose digest is the artifact's id.

    Returns:
        The artifact id.

    Raises:
        InvalidInput: ``missing-directory``, ``empty-artifact``, ``invalid-adapter-config``.
        IntegrityFailure: ``unsafe-format``, ``unsafe-entry``, ``path-in-artifact``, ``wrong-kind``, ``gguf-header``.
        InfrastructureFailure: ``artifact-not-written``.
    """
    clear_partials(directory)
    files = digests(manifest(directory))
    if not files:
        raise InvalidInput(
            "empty-artifact",
            f"{directory} holds no files.",
            "Save the adapter into it first.",
            directory=str(directory),
        )
    if ADAPTER_CONFIG in files:
        _refuse_paths(_adapter_config(directory / ADAPTER_CONFIG).get("base_model_name_or_path"))
    listing = sums(files)
    _write(directory / SUMS_FILE, listing)
    return sha256(listing)


def verify_artifact(directory: Path, artifact: str) -> None:
    """Refuse a directory that is not exactly the sealed artifact.

    Raises:
        IntegrityFailure: ``not-sealed``, ``wrong-artifact``; ``file-added``, ``file-missing``, ``file-changed``,
            ``unsafe-format``, ``unsafe-entry``, ``wrong-kind`` or ``gguf-header``, naming the first such file.
        InvalidInput: ``missing-directory``.
    """
    _measured(directory, artifact)


def verify_signed(directory: Path, artifact: str, trusted: Sequence[Trusted]) -> None:
    """`check` and `oms.verify_directory`, reading every file once.

    Raises:
        ModelsmithError: as `check` and `oms.verify_directory`.
    """
    oms.verify_directory(directory, trusted, _measured(directory, artifact))


def _measured(directory: Path, artifact: str) -> dict[str, str]:
    """Every file's digest, measured."""
    measured = digests(_measure(directory))
    if SUMS_FILE not in measured:
        raise IntegrityFailure(
            "not-sealed", f"The artifact has no {SUMS_FILE}.", "Fetch it again with its listing.", file=SUMS_FILE
        )
    listing = read_plain(directory / SUMS_FILE)
    if sha256(listing) != artifact or f"sha256:{measured[SUMS_FILE]}" != artifact:
        raise IntegrityFailure(
            "wrong-artifact",
            f"{SUMS_FILE} has the digest {sha256(listing)}, so this is not the artifact {artifact}.",
            "Fetch the artifact again from a store that you trust.",
            file=SUMS_FILE,
        )
    compare({**_parse(listing), SUMS_FILE: measured[SUMS_FILE]}, measured, SUMS_FILE)
    return measured


def _measure(directory: Path) -> list[Entry]:
    names = [name for name, _ in list_files(directory)]
    for name in names:
        if name != SUMS_FILE and PurePosixPath(name).suffix not in _SAFE_SUFFIXES:
            raise IntegrityFailure(
                "unsafe-format",
                f"{name} is not in a format that loads without running code.",
                f"Keep {', '.join(sorted(_SAFE_SUFFIXES))} files only; save weights as safetensors.",
                file=name,
            )
    require_kind(directory, names)
    return measure(directory)


def _parse(listing: bytes) -> dict[str, str]:
    lines = [_SUMS_LINE.fullmatch(line) for line in listing.decode("ascii", "replace").split("\n")[:-1]]
    files = {line[2]: line[1] for line in lines if line}
    if sums(files) != listing:
        raise IntegrityFailure(
            "not-sealed",
            f"{SUMS_FILE} is not a sorted listing of plain names.",
            "Seal the artifact again.",
            file=SUMS_FILE,
        )
    return files


def _adapter_config(path: Path) -> dict[str, object]:
    try:
        config = json.loads(read_plain(path))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise _not_a_config(path)
    return config


def _not_a_config(path: Path) -> InvalidInput:
    return InvalidInput(
        "invalid-adapter-config",
        f"{path} is not an adapter's configuration.",
        "Save the adapter again with PEFT.",
        path=str(path),
    )


def _refuse_paths(base: object) -> None:
    text = str(base)
    if text.startswith(("~", ".", "file:")) or PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive:
        raise IntegrityFailure(
            "path-in-artifact",
            f"{ADAPTER_CONFIG} names its base model by a path of this machine.",
            "Scrub it before sealing.",
            file=ADAPTER_CONFIG,
        )


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise InfrastructureFailure(
            "artifact-not-written",
            f"{path.name} could not be written: {error.strerror}.",
            "Check the folder's permissions and the disk.",
            path=str(path),
        ) from error


_CARD = """---
base_model: {name}
library_name: peft
license: {license}
---

# Adapter for {name}

A LoRA adapter, sealed by Modelsmith. It belongs to one base model:

- name: {name}
- digest: {digest}
- licence: {license}

`sha256sum -c SHA256SUMS` checks every file. The SHA-256 of `SHA256SUMS` is the artifact id, under which the promotion
repository tells how it was trained, tested and approved.
"""

_EXPORT_CARD = """---
base_model: {name}
license: {license}
---

# {name}, specialised: {kind}

Weights that stand alone, sealed by Modelsmith: a base model and an adapter as one.

- base model: {name}
- its digest: {digest}
- its licence: {license}
- artifact id of the adapter: {parent}

`sha256sum -c SHA256SUMS` checks every file. The SHA-256 of `SHA256SUMS` is the artifact id, under which the promotion
repository tells how it was trained, tested and approved. It was tested as it is, not as its adapter.
"""
