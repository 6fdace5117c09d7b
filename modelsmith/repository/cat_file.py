"""Processes of ``git cat-file``, kept for the next question: to start one takes longer than most answers do.

A process is lent to one reader at a time, so no two threads share one. It answers as a new one would: names and loose
objects are looked up each time, and packs again when an object is missing. Only what a repository gained in another way
(an alternate) it may not know, so what is missing is believed of a new process only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from modelsmith.repository.invocation import Place, command, environment, git_missing, place_of

_MOST_IDLE = 4
_AT_ONCE = 100
"""Questions that are sent before an answer is read; they must fit into a pipe."""


class Ended(Exception):
    """The process is gone. Whoever needs to know why runs a git command that tells."""


class CatFile:
    """One ``git cat-file --batch-command``; what it says on stderr is lost.

    Raises:
        InfrastructureFailure: ``git-missing``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.used = False
        """Whether it was lent before."""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        words, pipe = command(self._path, ("cat-file", "--batch-command")), subprocess.PIPE
        try:
            return subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment(self._path)
            )
        except (FileNotFoundError, PermissionError):
            raise git_missing() from None

    def ask(self, *questions: str) -> None:
        """Send questions; their answers come in this order."""
        assert self._process.stdin
        try:
            self._process.stdin.write("".join(f"{question}\n" for question in questions).encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Ended from None

    def line(self) -> str:
        """The next line that it answers."""
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise Ended
        return answer.decode("utf-8", "replace").rstrip("\n")

    def take(self, count: int) -> bytes:
        """The next bytes that it answers."""
        assert self._process.stdout
        data = self._process.stdout.read(count)
        if len(data) != count:
            raise Ended
        return data

    def find(self, name: str, kind: str) -> str | None:
        """Id of what a name means when it is of this kind; None when that is not known here."""
        self.ask(f"info {name}^{{{kind}}}")
        facts = self.line().split(" ")
        return facts[0] if len(facts) == 3 and facts[1] == kind else None

    def restart(self) -> None:
        """Go on with a new process."""
        self.end()
        self.used = False
        self._process = self._start()

    def end(self) -> None:
        """Stop the process at once."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()


_idle: list[tuple[Place, CatFile]] = []
"""Whom each can answer, and the process; the one that was used last comes last. A child of this process has none."""
os.register_at_fork(after_in_child=_idle.clear)


@contextmanager
def lent(path: Path) -> Iterator[CatFile]:
    """A process for a repository. All its answers are read when this ends; after an error it is not used again."""
    repository = place_of(path)
    process = _take(repository) or CatFile(path)
    try:
        yield process
    except BaseException:
        process.end()
        raise
    process.used = True
    if repository:
        _idle.append((repository, process))
    if not repository or len(_idle) > _MOST_IDLE:
        (_idle.pop(0)[1] if repository else process).end()


def kind(path: Path, oid: str) -> str | None:
    """What an object is, by its whole id; None when it is not known here."""
    return next((kind for kind, _ in sizes(path, [oid]).values()), None)


def find(path: Path, name: str, kind: str) -> str | None:
    """Id of an object that a name leads to, as `CatFile.find`, by a process that is lent."""
    with suppress(Ended), lent(path) as process:
        return process.find(name, kind)
    return None


def read(path: Path, oids: Collection[str], kind: str) -> dict[str, bytes]:
    """Contents of those of the objects that are known here and of this kind."""
    contents: dict[str, bytes] = {}
    with suppress(Ended), lent(path) as process:
        for oid in _ask_each(process, "contents", oids):
            facts = process.line().split(" ")
            if len(facts) != 3:
                continue
            data = process.take(int(facts[2]))
            process.take(1)
            if facts[:2] == [oid, kind]:
                contents[oid] = data
    return contents


def sizes(path: Path, oids: Collection[str]) -> dict[str, tuple[str, int]]:
    """Kind and size of those of the objects that are known here."""
    kinds_and_sizes: dict[str, tuple[str, int]] = {}
    with suppress(Ended), lent(path) as process:
        for oid in _ask_each(process, "info", oids):
            facts = process.line().split(" ")
            if len(facts) == 3:
                kinds_and_sizes[oid] = facts[1], int(facts[2])
    return kinds_and_sizes


def _ask_each(process: CatFile, verb: str, oids: Collection[str]) -> Iterator[str]:
    """Each of the objects, when its answer is the next to be read."""
    waiting = iter(oids)
    while some := list(islice(waiting, _AT_ONCE)):
        process.ask(*(f"{verb} {oid}" for oid in some))
        yield from some


def _take(repository: Place | None) -> CatFile | None:
    """The process that was used last for this repository."""
    for at in reversed(range(len(_idle))):
        if _idle[at][0] == repository:
            return _idle.pop(at)[1]
    return None
