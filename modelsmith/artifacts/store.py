"""The artifact store: sealed artifacts by digest, outside any clone, so that cleaning a work tree never costs a model.

Layout: ``<root>/sha256/<2>/<62>/`` holds an artifact's files, read-only, and its ``model.sig``; ``<root>/incoming/``
holds copies in the making. An artifact appears under its id in one rename, after its copy was checked and reached the
disk; a copy whose process died is removed by the next `put`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelsmith.artifacts.seal import verify_artifact
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.signing.files import SIGNATURE_FILE, list_files, sync_folder
from modelsmith.signing.oms import artifact_of

_ARTIFACT = re.compile(r"sha256:([0-9a-f]{2})([0-9a-f]{62})")
_BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})


class Store:
    """Artifacts under one root folder; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, directory: Path, artifact: str) -> Path:
        """Copy a sealed artifact in, with its signature when it has one; what is there already is checked and kept.

        Returns:
            The artifact's folder in the store.

        Raises:
            IntegrityFailure: as `seal.check`, for the copy or for what the store holds already.
            InvalidInput: ``invalid-artifact-id``, ``missing-directory``.
            InfrastructureFailure: ``disk-full``, ``store-not-writable``, ``store-failed``; no part of the artifact
                stays behind.
        """
        home = self._home(artifact)
        signature = directory / SIGNATURE_FILE
        if not home.is_dir():
            with self._incoming() as incoming:
                _copy(directory, incoming)
                verify_artifact(incoming, artifact)
                if signature.is_file() and not signature.is_symlink():
                    _copy_file(signature, incoming / SIGNATURE_FILE)
                    _refuse_other_subject(incoming / SIGNATURE_FILE, artifact)
                _sync_tree(incoming)
                if _settle(incoming, home):
                    return home
        self.verify(artifact)
        if signature.is_file() and not (home / SIGNATURE_FILE).exists():
            self.put_signature(artifact, signature)
        return home

    def get(self, artifact: str) -> Path | None:
        """The artifact's folder, or None when the store does not hold it or cannot be looked into.

        Its content is not read; `verify` does that.

        Raises:
            InvalidInput: ``invalid-artifact-id``.
        """
        home = self._home(artifact)
        try:
            return home if home.is_dir() else None
        except OSError:
            return None

    def verify(self, artifact: str) -> None:
        """Check every file of a stored artifact against its id.

        Raises:
            InvalidInput: ``unknown-artifact``, ``invalid-artifact-id``.
            IntegrityFailure: as `seal.check`.
        """
        home = self._known(artifact)
        try:
            verify_artifact(home, artifact)
        except IntegrityFailure as damage:
            mend = f"Remove {home}, then put the artifact in again from where it is whole."
            raise IntegrityFailure(damage.code, damage.message, mend, **damage.details) from None

    def put_signature(self, artifact: str, path: Path) -> Path:
        """Put ``model.sig`` beside a stored artifact, in place of an earlier one; it is trusted or not when read.

        Returns:
            The signature's place in the store.

        Raises:
            InvalidInput: ``unknown-artifact``, ``invalid-artifact-id``, ``missing-file``.
            IntegrityFailure: ``not-a-bundle``, ``wrong-subject`` for a signature of another artifact.
            InfrastructureFailure: as `put`.
        """
        target = self._known(artifact) / SIGNATURE_FILE
        if not path.is_file():
            raise InvalidInput(
                "missing-file", f"There is no signature at {path}.", "Sign the artifact first.", path=str(path)
            )
        with self._incoming() as incoming:
            copy = incoming / SIGNATURE_FILE
            _copy_file(path, copy)
            _refuse_other_subject(copy, artifact)
            copy.replace(target)
            sync_folder(target.parent)
        return target

    def _home(self, artifact: str) -> Path:
        match = _ARTIFACT.fullmatch(artifact)
        if match is None:
            raise InvalidInput(
                "invalid-artifact-id",
                f"{artifact[:80]!a} is not an artifact id.",
                "Use sha256: and 64 hex digits.",
            )
        return self.root / "sha256" / match[1] / match[2]

    def _known(self, artifact: str) -> Path:
        home = self.get(artifact)
        if home is None:
            raise InvalidInput(
                "unknown-artifact",
                f"The store does not hold {artifact}.",
                "Put it in, or name the right store.",
                artifact=artifact,
            )
        return home

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A folder of one's own on the store's file system; the ones whose process has died are removed first.

        A live one is locked by its process. One lock for all guards the moment between making a folder and locking it.
        """
        place = self.root / "incoming"
        try:
            place.mkdir(parents=True, exist_ok=True)
            with _lock(place, wait=True):
                for folder in place.iterdir():
                    with suppress(FileNotFoundError), _lock(folder, wait=False) as dead:
                        if dead:
                            shutil.rmtree(folder, ignore_errors=True)
                mine = Path(tempfile.mkdtemp(dir=place))
                mine.chmod(0o755)
                handle = _open_locked(mine, wait=False)
            try:
                yield mine
            finally:
                shutil.rmtree(mine, ignore_errors=True)
                if handle is not None:
                    os.close(handle)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> ModelsmithError:
        if error.errno in _FULL:
            return InfrastructureFailure(
                "disk-full",
                f"The store at {self.root} has no room.",
                "Free some space, then run it again.",
                root=str(self.root),
            )
        if error.errno in _DENIED:
            return InfrastructureFailure(
                "store-not-writable",
                f"The store at {self.root} may not be written.",
                "Choose another store, or its owner.",
                root=str(self.root),
            )
        return InfrastructureFailure(
            "store-failed",
            f"The store at {self.root} failed: {error.strerror}.",
            "Check the disk, then run it again.",
            root=str(self.root),
            reason=error.strerror,
        )


def _copy(source: Path, target: Path) -> None:
    for name, _ in list_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _copy_file(source / name, target / name)


def _copy_file(source: Path, target: Path) -> None:
    try:
        reader = source.open("rb")
    except OSError as error:
        raise InfrastructureFailure(
            "unreadable", f"{source.name} cannot be read: {error.strerror}.", "Check its permissions.", path=str(source)
        ) from error
    with reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, _BLOCK)
        writer.flush()
        os.fchmod(writer.fileno(), 0o444)
        os.fsync(writer.fileno())


def _sync_tree(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)


def _settle(incoming: Path, home: Path) -> bool:
    """Give the copy its name. False when another process has put the same artifact first."""
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        incoming.rename(home)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    for folder in (home.parent, home.parent.parent, home.parent.parent.parent):
        sync_folder(folder)
    return True


def _refuse_other_subject(signature: Path, artifact: str) -> None:
    if artifact_of(signature.read_bytes()) != artifact:
        raise IntegrityFailure(
            "wrong-subject", "The signature is of another artifact.", "Put the signature that was made for this one."
        )


def _open_locked(folder: Path, *, wait: bool) -> int | None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextmanager
def _lock(folder: Path, *, wait: bool) -> Iterator[bool]:
    handle = _open_locked(folder, wait=wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)
