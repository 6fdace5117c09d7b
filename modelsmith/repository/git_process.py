"""Git as a process: a command with its output, its failure as one of the errors, and its answers that cannot change."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from modelsmith.repository.answers import Answers, key_of
from modelsmith.repository.invocation import command, environment, git_failed, git_missing
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput

answers = Answers()
"""What git said about whole ids, in this process."""
_BLOCK = 1 << 20
_LISTED_BYTES = 1 << 28


class GitProcess:
    """Runs git on one repository: a work tree's root or a bare repository. Enclosing repositories are never found."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *args: str, input: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Run a git command and return its output.

        Raises:
            InfrastructureFailure: ``git-failed`` with the command and git's words; ``git-missing``.
        """
        process = self.attempt(args, input, env)
        if process.returncode:
            raise git_failed(args, process)
        return process.stdout

    def lasting(
        self,
        *args: str,
        ids: Sequence[str],
        paths: Sequence[str] = (),
        seconds: float | None = None,
        unless: Set[int] = frozenset(),
    ) -> bytes | None:
        """Output of a read-only command about objects, by their ``ids``; remembered when all are whole ids.

        None when it ends with a status of ``unless``, which is never remembered. Of ``paths`` alone is asked, if any.

        Raises:
            InfrastructureFailure: as `run`.
            GateNotCleared: ``over-limits`` when git takes longer than ``seconds``.
        """
        ids = [plain(oid) for oid in ids]
        named = ("--", *paths) if paths else ()
        key = key_of(self.path, self.plain_place(), (*args, *named), ids)
        cached = answers.get(key) if key else None
        if cached is not None:
            return cached
        process = self.attempt((*args, *ids, *named), seconds=seconds)
        if process.returncode in unless:
            return None
        if process.returncode:
            raise git_failed(args, process)
        if key:
            answers.keep(key, process.stdout)
        return process.stdout

    def text(self, *args: str, input: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """`run`, decoded and stripped."""
        return self.run(*args, input=input, env=env).decode("utf-8", "replace").strip()

    def attempt(
        self,
        args: Sequence[str],
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        folder: str | None = None,
        seconds: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a git command, whatever it ends with.

        Raises:
            InfrastructureFailure: ``git-missing``.
            GateNotCleared: ``over-limits`` when it takes longer than ``seconds``; it is stopped then.
        """
        try:
            return subprocess.run(
                command(folder or self.path, args),
                input=input,
                capture_output=True,
                env=environment(self.path, env),
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise over_limits(f"git {args[0]} takes longer than {seconds} seconds", "Rebase the proposal.") from None
        except (FileNotFoundError, PermissionError):
            raise git_missing() from None

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Start a git command that is spoken to through its pipes; what it says on stderr is lost.

        Raises:
            InfrastructureFailure: ``git-missing``.
        """
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                command(self.path, args), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment(self.path)
            )
        except (FileNotFoundError, PermissionError):
            raise git_missing() from None

    def listed(self, args: Sequence[str], most: int, ids: Sequence[str]) -> list[bytes]:
        """What a command lists, each followed by a NUL byte; it is stopped when that becomes too much.

        Remembered where it is about objects that ``ids`` name whole.
        """
        key = key_of(self.path, self.plain_place(), args, ids) if ids else None
        cached = answers.get(key) if key else None
        if cached is not None:
            return cached.split(b"\0")[:-1]
        blocks, count, size = [], 0, 0
        with self.start(*args) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            while block := process.stdout.read(_BLOCK):
                blocks.append(block)
                count += block.count(b"\0")
                size += len(block)
                if count > most or size > _LISTED_BYTES:
                    process.kill()
                    raise over_limits("It holds more files than are ever listed", "Split the proposal.")
        if process.returncode:
            self.run(*args)
        output = b"".join(blocks)
        if key:
            answers.keep(key, output)
        return output.split(b"\0")[:-1]

    def inside(self) -> str:
        """The folder in which git keeps this repository; git is asked only where it may lie elsewhere."""
        place = self.plain_place()
        return str(place.resolve()) if place else self.text("rev-parse", "--absolute-git-dir")

    def plain_place(self) -> Path | None:
        """That folder where it is plain to see; None for a linked work tree, or what is not a repository.

        A commit can put a file HEAD or config into a work tree, so that folder counts only where nothing is ``.git``.
        """
        inner = self.path / ".git"
        place = inner if os.path.lexists(inner) else self.path
        return place if not place.is_symlink() and (place / "HEAD").is_file() else None


def over_limits(problem: str, mend: str) -> GateNotCleared:
    """The refusal of something that is larger than anybody looks at."""
    return GateNotCleared("over-limits", problem, mend)


def missing_object(oid: str, problem: str) -> InfrastructureFailure:
    """The failure for an object that is not, or is not what it should be, in the object database."""
    return InfrastructureFailure(
        "missing-object",
        f"Object {oid} is {problem} in this repository",
        "Fetch the full history (`git fetch --unshallow`), then run `git fsck`.",
        object=oid,
    )


def plain(rev: str) -> str:
    """A revision that git cannot take for an option."""
    if not rev or rev.startswith("-"):
        raise InvalidInput(
            "bad-revision", f"{rev!r} does not name a commit", "Name a branch, tag or commit id.", rev=rev
        )
    return rev
