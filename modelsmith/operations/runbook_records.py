"""What is kept of runs in a clone: a folder for each, a file for each step, chained and sealed by this machine.

A run is known by its content: the runbook's bytes, the parameters, and a count. A record is believed when this machine
wrote it, for this run, after the very record before it; a folder of runs that came from elsewhere proves nothing.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json, is_canonical
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.runbook_run import AuditedRun, RunOf, Sealed, StepRecord, audited
from modelsmith.signing.files import write_atomically

_KEY: Final = "runbooks.key"
_RUN: Final = "run.json"
_KEY_BYTES: Final = 32


class Runs:
    """The runs of one clone."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.private / "runbooks"
        self._key = workspace.home / _KEY

    def latest(self, runbook: str, digest: str, parameters: Mapping[str, JsonValue]) -> RunOf:
        """The last run of these bytes with these parameters; where there was none, the first to come."""
        first = RunOf(runbook=runbook, digest=digest, parameters=dict(parameters), number=1)
        numbers = [run.number for run in self._all() if run.model_copy(update={"number": 1}) == first]
        return first.model_copy(update={"number": max(numbers, default=1)})

    def records(self, run: RunOf) -> list[StepRecord]:
        """What is known of the run's steps, in order; nothing for one that has not begun.

        Raises:
            IntegrityFailure: ``bad-run-record``.
        """
        folder = self._of(run)
        records: list[StepRecord] = []
        if (folder / _RUN).is_file() and read_plain(folder / _RUN) != canonical_json(run):
            raise _bad(folder / _RUN, "is of another run")
        for path in sorted(folder.glob("[0-9][0-9].json")):
            record = self._read(path)
            previous = records[-1].digest if records else run.id
            if record.run != run.id or record.previous != previous or path.name != _name(len(records)):
                raise _bad(path, "does not follow from what is before it")
            records.append(record)
        return records

    def keep(self, run: RunOf, number: int, record: StepRecord) -> None:
        """Keep the record of a step, over what was known of it; steps are counted from 0."""
        folder = self._of(run)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _RUN).exists():
            write_atomically(folder / _RUN, canonical_json(run))
        write_atomically(folder / _name(number), canonical_json(Sealed(record=record, mac=self._mac(record))))

    def audit(self) -> Iterator[AuditedRun]:
        """Every run that has begun, by its id.

        Raises:
            IntegrityFailure: ``bad-run-record``.
        """
        for run in sorted(self._all(), key=lambda run: run.id):
            steps = tuple(audited(record) for record in self.records(run))
            yield AuditedRun(id=run.id, steps=steps, **run.model_dump())

    def _all(self) -> Iterator[RunOf]:
        for path in sorted(self._folder.glob(f"*/{_RUN}")):
            data = read_plain(path)
            try:
                run = RunOf.model_validate_json(data)
            except ValidationError:
                raise _bad(path, "cannot be read") from None
            if not is_canonical(data, run):
                raise _bad(path, "was not written by this machine")
            if self._of(run) != path.parent:
                raise _bad(path, "lies in the folder of another run")
            yield run

    def _of(self, run: RunOf) -> Path:
        return self._folder / run.id.removeprefix("sha256:")[:32]

    def _read(self, path: Path) -> StepRecord:
        data = read_plain(path)
        try:
            sealed = Sealed.model_validate_json(data)
        except ValidationError:
            raise _bad(path, "cannot be read") from None
        if not is_canonical(data, sealed) or not hmac.compare_digest(sealed.mac, self._mac(sealed.record)):
            raise _bad(path, "was not written by this machine, or was changed since")
        return sealed.record

    def _mac(self, record: StepRecord) -> str:
        return hmac.new(self._secret(), canonical_json(record), "sha256").hexdigest()

    def _secret(self) -> bytes:
        """This machine's key, made when it is first needed. Of several processes that make it, one wins for all."""
        try:
            self._key.parent.mkdir(parents=True, exist_ok=True)
            part = self._key.with_name(f"{_KEY}.{secrets.token_hex(4)}")
            if not self._key.exists():
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
                try:
                    os.link(part, self._key)
                except FileExistsError:
                    pass
                finally:
                    part.unlink()
            data = read_plain(self._key)
        except OSError as error:
            raise InfrastructureFailure(
                "not-writable", f"{self._key}: {error.strerror}", "Make it readable and writable for this user."
            ) from None
        if len(data) != _KEY_BYTES:
            raise _bad(self._key, "is no key of runbooks")
        return data


def _name(number: int) -> str:
    return f"{number + 1:02d}.json"


def _bad(path: Path, problem: str) -> IntegrityFailure:
    return IntegrityFailure(
        "bad-run-record",
        f"{path} {problem}",
        "Nothing of it is believed. Find out who put it there; then move the folder away, and run the runbook again.",
        path=str(path),
    )
