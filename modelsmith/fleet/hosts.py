"""Which executor a cluster's ``hosts`` mean on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from modelsmith.fleet.doors import DOORS_WORD, doors_folder
from modelsmith.fleet.executor import Beats, Executor, HostLostError, LocalExecutor, Submitted
from modelsmith.fleet.remote.executor import SshExecutor, nothing_behind
from modelsmith.fleet.remote.settings import FILE, load_hosts
from modelsmith.schema.cluster import LOCAL
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.steps import step

_FIRST_LOOK: Final = 1.0
_LAST_LOOK: Final = 15.0
"""Seconds between two looks whether a host is free, at first and at most: each is a login there."""
TOLD_EVERY: Final = 60.0
"""Seconds between two words about a wait for one."""


class Model(NamedTuple):
    """A base model that a job names; a host has its own copy."""

    digest: str
    folder: Path
    """Where it lies here."""


def executor_on(
    home: Path,
    hosts: Sequence[str],
    module: str,
    models: Sequence[Model],
    report: Callable[[str], None],
    devices: int = 1,
) -> Executor:
    """The executor of the hosts that this machine knows: the first free one works, and where it is lost, the next.

    Args:
        home: `MODELSMITH_HOME`, whose ``hosts.yaml`` says where hosts are.
        hosts: Names, as the cluster file has them.
        module: The worker's.
        models: Base models that the worker is told of after the folder.
        report: Hears what somebody who waits should know.
        devices: As `LocalExecutor` takes them; as many on each host.

    Raises:
        InvalidInput: ``host-not-available`` when this machine knows none of them; ``invalid-file``.
    """
    strange = [name for name in hosts if name != LOCAL]
    known_hosts = load_hosts(home).hosts if strange else {}
    unknown = [name for name in strange if name not in known_hosts]
    executors: dict[str, LocalExecutor | SshExecutor] = {}
    for name in hosts:
        if name == LOCAL:
            executors[name] = LocalExecutor(
                module, *(model.folder for model in models), Path(DOORS_WORD), doors_folder(home), devices=devices
            )
        elif name in known_hosts:
            executors[name] = SshExecutor(name, known_hosts[name], module, models, devices)
    if not executors:
        raise InvalidInput(
            "host-not-available",
            f"This machine knows none of the cluster's hosts: {', '.join(hosts) or 'it names none'}.",
            f"Say in {home / FILE} where {unknown[0] if unknown else 'one'} is (docs/machines.md, Hosts), or have the "
            f"cluster's `hosts` name {LOCAL}.",
            hosts=list(hosts),
        )
    if unknown:
        report(f"this machine does not know {', '.join(unknown)} ({home / FILE}); it trains on {', '.join(executors)}")
    return executors[LOCAL] if executors.keys() == {LOCAL} else Pool(executors, report)


@dataclass
class Pool:
    """Hosts in the order in which they are taken."""

    executors: Mapping[str, LocalExecutor | SshExecutor]
    report: Callable[[str], None]
    lost: dict[str, HostLostError] = field(default_factory=dict)
    """Those that were given up: no job goes there again."""

    def submit(self, folder: Path) -> Submitted:
        """Start a worker on the first host that is free; wait where none is.

        Raises:
            HostLostError: a host cannot be reached; asked again, the next one is taken.
            InvalidInput, IntegrityFailure, InfrastructureFailure: as `SshExecutor`; ``host-unreachable`` when none is
                left.
        """
        last_report, pause = -TOLD_EVERY, _FIRST_LOOK
        while True:
            remaining = {name: executor for name, executor in self.executors.items() if name not in self.lost}
            if not remaining:
                raise unreachable(self.lost)
            for name, executor in remaining.items():
                try:
                    job = (
                        self._here(executor, folder)
                        if isinstance(executor, LocalExecutor)
                        else executor.submit_if_free(folder)
                    )
                except HostLostError as error:
                    self.lost[name] = error
                    raise
                if job is not None:
                    self.report(f"on the host {name}")
                    return _OfPool(self, name, job)
            if time.monotonic() - last_report >= TOLD_EVERY:
                last_report = time.monotonic()
                self.report(f"waits for a host: {', '.join(remaining)} are at work on other jobs")
            time.sleep(pause)
            pause = min(2 * pause, _LAST_LOOK)

    def _here(self, executor: LocalExecutor, folder: Path) -> Submitted:
        nothing_behind(folder)
        return executor.submit(folder)


class _OfPool:
    """A job on one of the hosts; the pool remembers where that one was lost."""

    def __init__(self, pool: Pool, name: str, job: Submitted) -> None:
        self.since, self.stop = job.since, job.stop
        self._pool, self._name, self._job = pool, name, job

    def beats(self, since: int, seconds: float) -> Beats:
        with self._noted():
            return self._job.beats(since, seconds)

    def fetch(self) -> bool:
        with self._noted():
            return self._job.fetch()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except HostLostError as error:
            self._pool.lost[self._name] = error
            raise


def unreachable(lost: Mapping[str, HostLostError]) -> InfrastructureFailure:
    """The error where no host is left."""
    return InfrastructureFailure(
        "host-unreachable",
        f"No host can be reached: {'; '.join(f'{name} ({error.why[:200]})' for name, error in lost.items())}.",
        "`{next}` looks at each. Run the command again when one answers: it goes on from what was fetched.",
        hosts=list(lost),
    ).then(step("doctor", {}))
