"""A run's folder: what was asked, every observation, and the result. Observations are read one at a time.

``<cluster>/runs/<tag>/`` in the clone's private folder, under the git directory, holds ``request.json`` (canonical
JSON; a tag answers one request for good), ``observations.jsonl`` (append-only; one canonical JSON object a line,
written at once and synced by the batch), ``served.json`` (see `modelsmith.evaluation.served`) and ``result.json``.
Nothing in it proves that a model ever answered so, which is why it lies where no commit can put one.
One process writes at a time. A process may be killed at any moment: the next one cuts off a torn last line and goes on.
Two lines for one completion are legal only if all but the last are errors, or the lines are the same.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from modelsmith.evaluation.served import Served, ServedRole, model_changed
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json, is_canonical, sha256
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.plain_file import open_plain, read_plain
from modelsmith.schema.run import Observation, RunRequest, RunResult, VerdictRow
from modelsmith.signing.files import sync_folder, write_atomically

_TAG = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_Record = TypeVar("_Record", bound=Frozen)


class Line(NamedTuple):
    """Where an observation stands in its file."""

    number: int
    start: int
    length: int
    """Length in bytes, without the line's end."""
    failed: bool
    digest: bytes


def observation_key(observation: Observation | VerdictRow) -> str:
    """``<section>/<scenario>/<wording>/<repeat>``: the key of the prompt that it answers, or is the verdict on."""
    return f"{observation.section}/{observation.id}/{observation.wording}/{observation.repeat}"


class RunFolder:
    """One run on disk. Reading needs no lock; writing happens inside `opened`."""

    def __init__(self, private: Path, cluster: str, tag: str) -> None:
        """Address a run in the clone's private folder; nothing is created.

        Raises:
            InvalidInput: ``bad-tag``.
        """
        for name in (cluster, tag):
            if not _TAG.fullmatch(name) or ".." in name:
                raise InvalidInput(
                    "bad-tag",
                    f"'{name}' cannot name a run's folder.",
                    "Use lower-case letters, digits, dot, hyphen and underscore, at most 64 of them.",
                    name=name,
                )
        self.path = private / cluster / "runs" / tag
        self.cluster = cluster
        self.tag = tag
        self._file: int | None = None
        self._end = 0
        self._index: dict[str, Line] = {}
        self._served: Served | None = None

    @contextmanager
    def opened(self, request: RunRequest) -> Iterator[RunFolder]:
        """Hold the folder for writing, and mend what a killed process left.

        Raises:
            InvalidInput: ``tag-taken`` when the folder belongs to another request.
            InfrastructureFailure: ``busy`` when another process holds it; ``write-failed``.
            IntegrityFailure: ``observations-damaged``.
        """
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise InfrastructureFailure(
                    "busy",
                    f"Another process is writing run '{self.tag}'.",
                    "Wait until it has ended, or choose another --tag.",
                    tag=self.tag,
                ) from None
        try:
            self._adopt_request(request)
            with _writing(self.path):
                self._file = os.open(self.path / "observations.jsonl", os.O_RDWR | os.O_CREAT, 0o644)
                self._index = self._scan()
                self._end = _whole_lines_end(self._index)
                self._served = None
                os.ftruncate(self._file, self._end)
                sync_folder(self.path)
            yield self
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            lock.release()

    def request(self) -> RunRequest | None:
        """Request that the folder holds the answers to; None where no run was begun.

        Raises:
            IntegrityFailure: ``run-damaged``.
        """
        return self._load("request.json", RunRequest)

    def result(self) -> RunResult | None:
        """The result; None while the run is incomplete.

        Raises:
            IntegrityFailure: ``run-damaged``.
        """
        return self._load("result.json", RunResult)

    def answered(self) -> Mapping[str, Line]:
        """Keys of the prompts that have an observation, errors included; a torn last line does not count.

        Raises:
            IntegrityFailure: ``observations-damaged``.
        """
        return self._index if self._file is not None else self._scan()

    def observations(self, keys: Iterable[str] | None = None) -> Iterator[Observation]:
        """The latest observation for each of these keys, in their order; without keys for all, as they stand.

        Raises:
            IntegrityFailure: ``observations-damaged``.
        """
        index = self.answered()
        if not index:
            return
        with open_plain(self.path / "observations.jsonl") as file:
            for key in index if keys is None else keys:
                line = index[key]
                file.seek(line.start)
                yield self._parse(file.read(line.length), line.number)

    def append(self, batch: Sequence[Observation]) -> None:
        """Add observations; from then on only a power cut loses them, and after `sync` not even that.

        Interrupted, it may be called again with the same batch.

        Raises:
            InfrastructureFailure: ``write-failed`` (disk full, quota); what was there before is intact.
        """
        file = self._open_file()
        lines = [canonical_json(observation) for observation in batch]
        data = b"".join(line + b"\n" for line in lines)
        with _writing(self.path):
            try:
                if os.fstat(file).st_size > self._end:
                    os.ftruncate(file, self._end)
                size = 0
                while size < len(data):
                    size += os.pwrite(file, data[size:], self._end + size)
            except OSError:
                os.ftruncate(file, self._end)
                raise
        for line, observation in zip(lines, batch, strict=True):
            self._index[observation_key(observation)] = _line(len(self._index) + 1, self._end, line, observation)
            self._end += len(line) + 1

    def sync(self) -> None:
        """Sync what was added to disk.

        Raises:
            InfrastructureFailure: ``write-failed``.
        """
        with _writing(self.path):
            os.fsync(self._open_file())

    def hold_served(self, model_name: ServedRole, name: str) -> None:
        """Note under which name a server answers, or find that it is the name noted before, in an earlier call too.

        Raises:
            InfrastructureFailure: ``endpoint-model-changed``; ``write-failed``.
            IntegrityFailure: ``run-damaged``.
        """
        self._open_file()
        if self._served is None:
            self._served = self._load("served.json", Served) or Served()
        noted, now = getattr(self._served, model_name), sha256(name.encode("utf-8", "surrogatepass"))
        if noted is None:
            self._served = self._served.model_copy(update={model_name: now})
            with _writing(self.path):
                write_atomically(self.path / "served.json", canonical_json(self._served) + b"\n")
        elif noted != now:
            raise model_changed(model_name, self.tag)

    def write_result(self, result: RunResult) -> None:
        """Write ``result.json``, whole or not at all.

        Raises:
            InfrastructureFailure: ``write-failed``.
        """
        self._open_file()
        with _writing(self.path):
            write_atomically(self.path / "result.json", canonical_json(result) + b"\n")

    def _open_file(self) -> int:
        if self._file is None:
            raise InfrastructureFailure(
                "run-not-open", f"Run '{self.tag}' is not open for writing.", "Open the run folder first.", tag=self.tag
            )
        return self._file

    def _adopt_request(self, request: RunRequest) -> None:
        present = self.request()
        if present is None:
            with _writing(self.path):
                write_atomically(self.path / "request.json", canonical_json(request) + b"\n")
        elif present != request:
            differing = sorted(
                name for name in RunRequest.model_fields if getattr(present, name) != getattr(request, name)
            )
            raise InvalidInput(
                "tag-taken",
                f"Tag '{self.tag}' already holds another run: {', '.join(differing)} differ.",
                "Choose another --tag.",
                tag=self.tag,
                differing=differing,
            )

    def _load(self, name: str, kind: type[_Record]) -> _Record | None:
        try:
            data = read_plain(self.path / name)
        except FileNotFoundError:
            return None
        try:
            return kind.model_validate_json(data)
        except ValidationError as error:
            raise IntegrityFailure(
                "run-damaged",
                f"{name} of run '{self.tag}' cannot be read as what was written there.",
                "Run the eval again under a new tag.",
                tag=self.tag,
                problems=error.error_count(),
            ) from None

    def _scan(self) -> dict[str, Line]:
        index: dict[str, Line] = {}
        start = 0
        try:
            file = open_plain(self.path / "observations.jsonl")
        except FileNotFoundError:
            return index
        with file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                observation = self._parse(line[:-1], number)
                if not is_canonical(line[:-1], observation):
                    raise self._damaged(number, "was not written by Modelsmith")
                entry = _line(number, start, line[:-1], observation)
                before = index.pop(key := observation_key(observation), None)
                if before is not None and not before.failed and before.digest != entry.digest:
                    raise self._damaged(number, "answers a prompt for the second time")
                index[key] = entry
                start += len(line)
        return index

    def _parse(self, line: bytes, number: int) -> Observation:
        try:
            return Observation.model_validate_json(line)
        except ValidationError:
            raise self._damaged(number, "is no observation") from None

    def _damaged(self, number: int, problem: str) -> IntegrityFailure:
        return IntegrityFailure(
            "observations-damaged",
            f"Line {number} of observations.jsonl of run '{self.tag}' {problem}.",
            "Run the eval again under a new tag.",
            tag=self.tag,
            line=number,
        )


def _line(number: int, start: int, line: bytes, observation: Observation) -> Line:
    return Line(number, start, len(line), observation.error is not None, hashlib.sha256(line).digest())


def _whole_lines_end(index: Mapping[str, Line]) -> int:
    """Bytes up to the end of the last whole line."""
    return max((line.start + line.length + 1 for line in index.values()), default=0)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfrastructureFailure(
            "write-failed",
            f"The run folder '{path.name}' cannot be written: {error.strerror or type(error).__name__}.",
            "Make room or mend the permissions, then run the same command again; nothing is lost.",
            errno=error.errno,
        ) from error
