"""The executor of a host that OpenSSH reaches: the port's three verbs over one connection, mended where it is lost.

The job's folder here is what counts. Before a worker is started the host's copy is made the same; while it works, its
heartbeats and what it puts away come here as they are made; when it has ended, all that it left. So wherever a host is
lost, another one goes on from here.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import StringConstraints, ValidationError

from modelsmith.fleet.executor import Submitted
from modelsmith.fleet.remote.connection import Connection
from modelsmith.fleet.remote.copying import bring, listed_in, push
from modelsmith.fleet.remote.following import RemoteJob
from modelsmith.fleet.remote.settings import Host
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically

MEMORY: Final = ".remote.json"
_AGAIN: Final = 0.5
"""Seconds between two questions whether a host is free."""


class Memory(Frozen):
    """A job folder's record of the hosts that it was sent to."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """Its name there, which says nothing of this machine."""
    behind: str | None = None
    """Host that may have more of the job than the folder here, since its last worker was not fetched."""


class SshExecutor:
    """Runs jobs on one host."""

    def __init__(
        self, name: str, host: Host, module: str, models: Sequence[tuple[str, Path]] = (), devices: int = 1
    ) -> None:
        """Run this module of the toolkit there.

        Args:
            name: The host's, for people.
            host: Where it is.
            module: The worker's.
            models: Base models that the job names, by digest, and where they lie here; the worker is told where they
                lie there, after the folder.
            devices: In how many processes there the worker runs, as `LocalExecutor` takes them.
        """
        self.name = name
        self._host, self._module, self._models, self._devices = host, module, models, devices

    def submit(self, folder: Path) -> Submitted:
        """Start a worker there; while the host works on another job, wait.

        Raises:
            HostLostError: the host cannot be reached.
            IntegrityFailure, InfrastructureFailure: as `Connection`; ``host-lacks-model``, ``host-refused``
                (also where no worker can be started there).
        """
        while True:
            job = self.submit_if_free(folder)
            if job is not None:
                return job
            time.sleep(_AGAIN)

    def submit_if_free(self, folder: Path) -> Submitted | None:
        """The same; None while the host works on another job."""
        memory = _read(folder)
        connection = Connection(self.name, self._host, self._module)
        try:
            connection.say("prepare", memory.id, json.dumps([digest for digest, _ in self._models]).encode())
            answer, body = connection.answer("ready", "busy", "missing")
            if answer.kind == "busy":
                connection.close()
                return None
            if answer.kind == "missing":
                raise self._lacks(connection, answer.digest)
            theirs = listed_in(connection, body)
            if memory.behind == self.name:
                bring(connection, folder, theirs)
            push(connection, folder, theirs)
            _write(folder, memory.model_copy(update={"behind": self.name}))
            return self._start(connection, folder, memory.id)
        except BaseException:
            connection.close()
            raise

    def _start(self, connection: Connection, folder: Path, id: str) -> RemoteJob:
        connection.say("start", number=self._devices, seconds=self._host.lost_seconds)
        started = connection.answer("started")[0]

        def again() -> Connection:
            return Connection(self.name, self._host, self._module)

        def fetched() -> None:
            _write(folder, Memory(id=id))

        run, since = f"{id}/{started.name}", started.number or 0
        return RemoteJob(connection, again, fetched, folder, run, since, self._host.lost_seconds)

    def _lacks(self, connection: Connection, digest: str | None) -> Exception:
        """The error that says so, in this machine's words: where to copy what is not a host's to say."""
        local = dict(self._models).get(digest or "")
        if digest is None or local is None:
            return connection.lost("it says something else")
        place = f"models/{digest.removeprefix('sha256:')}"
        place = f"{self._host.home}/{place}" if self._host.home else f"{place} of MODELSMITH_HOME"
        return InfrastructureFailure(
            "host-lacks-model",
            f"The host {self.name} does not have the base model {digest[:19]}...",
            f"Copy the folder {local} to {place} there, such as by `scp -r`. Its digest is checked before it is used.",
            host=self.name,
            digest=digest,
        )


def nothing_behind(folder: Path) -> None:
    """Note that no host has more of the job than the folder here, since it goes on from this one."""
    if (folder / MEMORY).exists():
        _write(folder, _read(folder).model_copy(update={"behind": None}))


def _read(folder: Path) -> Memory:
    try:
        return Memory.model_validate_json(read_plain(folder / MEMORY))
    except (OSError, ValidationError):
        return Memory(id=secrets.token_hex(16))


def _write(folder: Path, memory: Memory) -> None:
    write_atomically(folder / MEMORY, canonical_json(memory))
