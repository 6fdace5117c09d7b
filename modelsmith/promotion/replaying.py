"""Replay of main by as many processes as the machine has cores, where main is long; see `parts` for why that holds.

The last part is judged here, each of the others by a process. Their answers are taken in the order of the parts, and
what does not hold, and why, is the answer of a replay from there to main's end. A process that ended without an answer
has said nothing, and then nothing is said of main.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from subprocess import DEVNULL, PIPE
from threading import Thread

from modelsmith.fleet import start as starter
from modelsmith.promotion import part_worker
from modelsmith.promotion.part_worker import answer, question
from modelsmith.promotion.parts import Counts, clean_cuts, cut, joined
from modelsmith.promotion.verify import Part, Replay, replay, replay_part
from modelsmith.repository.commits import Commit
from modelsmith.repository.git import Git
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.children import start_apart
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.progress import Notify, Progress

LEAST_STEPS = 200
"""Steps of a part. Judging fewer takes no longer than a process needs to start and to read main."""
MOST_PARTS = 8
"""Processes, this one included: each may take 300 MiB, and reads main once more."""
_LOOK = 0.2
"""Seconds after which somebody who waits is told how far the others are."""


def replay_line(git: Git, start: str, steps: Sequence[Commit], notify: Notify, now: datetime) -> Replay:
    """As `replay`, by several processes where the steps are many and git is an `ObjectReader`.

    Raises:
        IntegrityFailure: as `replay`.
        InfrastructureFailure: as `replay`; ``process-ended`` when one of the processes was killed.
    """
    most = min(MOST_PARTS, _processors(), len(steps) // LEAST_STEPS)
    cuts = clean_cuts(git, steps, most) if isinstance(git, ObjectReader) else []
    return replay_apart(git, cut(start, steps, cuts), notify, now) if cuts else replay(git, start, steps, notify, now)


def replay_apart(git: Git, parts: Sequence[Part], notify: Notify, now: datetime) -> Replay:
    """Judge parts of a line at the same time. Raises as `replay_line`."""
    others: list[Counts | None] = []
    with ExitStack() as running:
        try:
            processes = [running.enter_context(_judging(git.path, part, now)) for part in parts[:-1]]
        except OSError:  # no more processes can be started, and this one is enough
            return joined(git, parts, [None], None, notify, now)
        display = _JointProgress(parts, processes, notify)
        last = _last(git, parts[-1], display, now)
        for process in processes:
            while not process.has_ended(_LOOK):
                display.waiting()
            others.append(process.counts())
            if others[-1] is None:
                break
            display.waiting()
    return joined(git, parts, others, last, notify, now)


def _processors() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Doubt(Exception):
    """Another part does not hold, so the last need not be judged to its end."""


class _Process:
    """A process that judges a part, and what it has said so far."""

    def __init__(self, clone: Path, part: Part, now: datetime) -> None:
        self.done = 0
        """Steps of the part that it has passed."""
        self.refused = False
        """Whether it has said that the part does not hold."""
        self._counts: Counts | None = None
        command = [
            sys.executable,
            "-I" if sys.flags.isolated else "-P",
            starter.__file__,
            part_worker.__name__,
            str(clone),
        ]
        self._process = start_apart(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        self._listener = Thread(target=self._listen, args=(question(part, now),), daemon=True)
        self._listener.start()

    def has_ended(self, seconds: float) -> bool:
        """Whether it has said all that it will say; waits for that at most so long."""
        self._listener.join(seconds)
        return not self._listener.is_alive()

    def counts(self) -> Counts | None:
        """What it counted in a part that holds, None for one that does not; asked when it has ended.

        Raises:
            InfrastructureFailure: ``process-ended``.
        """
        if self._counts is None and not self.refused:
            raise InfrastructureFailure(
                "process-ended",
                f"A process that judged a part of main ended before it had an answer (status {self.end()})",
                "Run it again. If memory has run out, close other programs, or let it use one core: `taskset -c 0`.",
            )
        return self._counts

    def end(self) -> int:
        """Stop it where it still runs; its status."""
        self._process.kill()
        self._listener.join()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert pipe
                pipe.close()
        return status

    def _listen(self, request: bytes) -> None:
        """Ask, and hear all answers. What is asked through stays open: the process ends itself when it closes."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(OSError, ValueError):
            self._process.stdin.write(request)
            self._process.stdin.flush()
            for line in self._process.stdout:
                reply = answer(line)
                if isinstance(reply, int):
                    self.done = reply
                    continue
                self._counts, self.refused = reply, reply is None
                return


@contextmanager
def _judging(clone: Path, part: Part, now: datetime) -> Iterator[_Process]:
    process = _Process(clone, part, now)
    try:
        yield process
    finally:
        process.end()


class _JointProgress:
    """The progress of all parts together, for whoever waits."""

    def __init__(self, parts: Sequence[Part], processes: Sequence[_Process], notify: Notify) -> None:
        self._before, self._total = len(parts[-1].before), sum(len(part.steps) for part in parts)
        self._processes, self._notify = processes, notify
        self._done_here = self._reported = 0

    def here(self, progress: Progress) -> None:
        """A change of the last part was judged. Raises `_Doubt`."""
        if any(process.refused for process in self._processes):
            raise _Doubt
        self._done_here = progress.done - self._before
        self._tell(progress.message)

    def waiting(self) -> None:
        """Report that earlier changes are still being replayed."""
        self._tell("earlier changes")

    def _tell(self, message: str) -> None:
        total = self._done_here + sum(process.done for process in self._processes)
        if total > self._reported:
            self._reported = total
            self._notify(Progress("verify", message, total, self._total))


def _last(git: Git, part: Part, display: _JointProgress, now: datetime) -> Replay | ModelsmithError | None:
    """What the last part comes to if the others hold; None where that is not known."""
    try:
        return replay_part(git, part, display.here, now)
    except (_Doubt, ValueError):
        return None
    except ModelsmithError as error:
        return error
