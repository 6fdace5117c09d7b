"""Target: the command line itself, with any arguments, in any environment and state of the repository, to any output.

A case is drawn from a number: words from the operations table with values that programs stumble over, variables, a
copy of a repository to which something was done, and where the output goes. The command runs in a fork, as the console
script does.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal, get_args
from unittest.mock import patch

import click

from fuzz.target import Target, scratch
from modelsmith.cli.commands import command_for
from modelsmith.cli.main import main
from modelsmith.operations.init import InitRequest
from modelsmith.operations.init import run as init
from modelsmith.operations.pr_open import PrOpenRequest
from modelsmith.operations.pr_open import run as propose
from modelsmith.operations.table import OPERATIONS
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.kits import kit_files
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit
from modelsmith.signing.keys import create_ssh_key

SECONDS = 120.0
"""Longest time of a command: far above what any of these needs, as the machine may be busy."""
ENDINGS = {int(code) for code in Exit} - {int(Exit.BUG)}

Output = Literal["file", "terminal", "closed", "full", "reader-left", "nothing-can-be-written"]

WORDS = (
    "", " ", "-", "--", "--json", "-x", ".", "..", "../x", "/", "/proc/x", "/dev/null", "/dev/full", "~nouser/x",
    "~", "x" * 300, "x" * 5000, "a/" * 600, "\udcff", "\x1b[2J", "[/x]", "\u202e", "\u2028", "é", "😀", "a\nb", "%s",
    "file", "file/x", "loop", "folder", "folder.svg", "x.svg", "x.json", "x.eval", "rtb-pricing", "../rtb-pricing",
    "adtech/rtb-root-cause", "evals", "promotions/x/y", "HEAD", "main", "main:README.md", "@{-1}", "a..b", "0" * 40,
    "refs/heads/main", "key", "key.pub", "platform=key.pub", "platform=~nouser/k", "=", "nope",
)  # fmt: skip
SENSIBLE = {
    "key": ("key", "../key"), "cluster": ("rtb-pricing",), "target": ("rtb-pricing", "adtech/rtb-root-cause"),
    "branch": ("docs", "main"), "directory": ("new", "file/x"), "forge": ("new.git",), "people": ("platform=key.pub",),
    "kit": ("adtech", "empty", "."), "domain": ("triage",), "roles": ("platform=ops",),
    "svg": ("x.svg", "folder.svg", "loop/x.svg"), "file": ("x.json", "file/x.eval"),
    "since": ("HEAD", "docs"), "to": ("main",), "revision": ("main", "docs"), "paths": ("evals", "promotions"),
}  # fmt: skip
NUMBERS = ("0", "1", "-1", "99", "4.0", "1e9", "9" * 30, "nan", "inf", "1", "x", "")
VARIABLES: dict[str, tuple[str | None, ...]] = {
    "LC_ALL": ("C", "xx_YY", "C.UTF-8"),
    "PYTHONIOENCODING": ("ascii", "latin-1"),
    "HOME": (None, "/nonexistent", "file", ""),
    "TMPDIR": ("/nonexistent", "file"),
    "MODELSMITH_HOME": ("", "/dev/null", "~nouser", "../..", "file", "\udcff", None),
    "XDG_DATA_HOME": ("relative", "/dev/null"),
    "PATH": ("", "/nonexistent"),
    "COLUMNS": ("1", "-5", "abc", "0"),
    "FORCE_COLOR": ("1",),
    "TERM": ("dumb", "nope"),
    "MODELSMITH_KEY_PASSWORD": ("x", "\udcff"),
    "GIT_DIR": ("/nonexistent", "file", ""),
    "GIT_WORK_TREE": ("/",),
    "GIT_INDEX_FILE": ("/dev/null",),
    "GIT_OBJECT_DIRECTORY": ("/nonexistent",),
    "GIT_QUARANTINE_PATH": ("/nonexistent", "clone/.git"),
    "GIT_CONFIG_GLOBAL": ("file", "/nonexistent", "folder"),
    "GIT_CONFIG_COUNT": ("1", "x"),
    "GIT_CONFIG_PARAMETERS": ("'core.worktree'='/'", "broken"),
    "GIT_TRACE": ("1", "2"),
    "GIT_NAMESPACE": ("x",),
}


@dataclass(frozen=True)
class Case:
    """One command."""

    words: tuple[str, ...]
    environment: Mapping[str, str | None]
    """What is set, or taken away."""
    state: str
    folder: str
    """Where the command runs, from the folder that holds the repository."""
    output: Output


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    status: int
    said: str
    """Everything that it wrote."""

    @property
    def broken(self) -> bool:
        """Whether it ended in a way that the contract does not know."""
        return self.status not in ENDINGS or "Traceback (most recent call last)" in self.said or "(bug)" in self.said


def case(number: int) -> Case:
    """The same for the same number."""
    draw = random.Random(number)
    names = draw.sample(sorted(VARIABLES), draw.choice((0, 0, 0, 1, 1, 2)))
    outputs: tuple[Output, ...] = get_args(Output)
    return Case(
        words=tuple(_words(draw)),
        environment={name: draw.choice(VARIABLES[name]) for name in names},
        state=draw.choice(("as-it-was", *STATES)),
        folder=draw.choice((*("clone",) * 10, *("clone/evals",) * 3, "clone/.git", "forge.git", ".", "gone")),
        output=draw.choice(("file", "file", "file", *outputs)),
    )


def _words(draw: random.Random) -> Iterator[str]:
    operation = draw.choice(OPERATIONS)
    if draw.random() < 0.03:
        yield from draw.sample(WORDS, draw.randint(0, 3))
        return
    yield from operation.name.split()
    for param in command_for(operation).params:
        if draw.random() > (0.9 if param.required else 0.3):
            continue
        if isinstance(param, click.Option):
            yield param.opts[0]
            if param.is_flag:
                continue
        yield draw.choice(_hostile(param) if draw.random() < 0.35 else _sensible(param))


def _hostile(param: click.Parameter) -> tuple[str, ...]:
    return NUMBERS if isinstance(param.type, type(click.INT) | type(click.FLOAT)) else WORDS


def _sensible(param: click.Parameter) -> tuple[str, ...]:
    """What leads further into a command."""
    if isinstance(param.type, click.Choice):
        return tuple(param.type.choices)
    if isinstance(param.type, type(click.INT) | type(click.FLOAT)):
        return ("1",)
    return SENSIBLE.get(param.name or "", WORDS)


def run(case: Case, place: Path) -> Ended:
    """Run the case in a copy of the template that is made at ``place``."""
    shutil.copytree(template(), place, symlinks=True)
    config = place / "clone/.git/config"
    config.write_text(config.read_text().replace(str(template()), str(place)))
    STATES.get(case.state, lambda _: None)(place)
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MODELSMITH_", "XDG_"))
    }
    safe = {
        "HOME": str(place), "MODELSMITH_HOME": str(place / "home"), "HF_HUB_OFFLINE": "1", "GIT_CONFIG_NOSYSTEM": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    values = {name: str(place / value) if value in ("file", "folder") else value
              for name, value in case.environment.items()}  # fmt: skip
    environment = {name: value for name, value in (inherited | safe | values).items() if value is not None}
    log = place / "said"
    log.touch()
    reader, writer = os.openpty() if case.output == "terminal" else (None, None)
    child = os.fork()
    if child == 0:
        _become(case, place, environment, log, writer)
    if writer is not None:
        os.close(writer)
    try:
        status, output = _wait(child, reader)
    finally:
        if reader is not None:
            os.close(reader)
        subprocess.run(["chmod", "-R", "u+rwX", str(place)], check=False, capture_output=True)
    return Ended(status, (log.read_bytes() + output).decode("utf-8", "replace"))


def _wait(child: int, terminal: int | None) -> tuple[int, bytes]:
    end, output = time.monotonic() + SECONDS, b""
    while time.monotonic() < end:
        if terminal is not None and select.select([terminal], [], [], 0)[0]:
            with suppress(OSError):
                output += os.read(terminal, 65536)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), output
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL, output


def _become(case: Case, place: Path, environment: dict[str, str], log: Path, terminal: int | None) -> None:
    """Be the command; never returns."""
    code: object = 1
    try:
        os.setsid()
        folder = place / case.folder
        if case.folder == "gone":
            folder.mkdir()
        os.chdir(folder if folder.is_dir() else place)
        if case.folder == "gone":
            folder.rmdir()
        _give_up_privileges()
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["modelsmith", *case.words]
        log_file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log_file, 2)
        os.dup2(_standard_output(case.output, log_file, terminal), 1)
        os.closerange(3, 256)
        encoding = environment.get("PYTHONIOENCODING", "utf-8")
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding=encoding, closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
        if case.output == "closed":
            os.close(1)
            sys.stdout = None  # type: ignore[assignment]
        if case.output == "nothing-can-be-written":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        main()
    except SystemExit as leave:
        code = leave.code
        with suppress(Exception):
            sys.stdout.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code if isinstance(code, int) else 1)


def _give_up_privileges() -> None:
    """Let permissions of files hold for root too, here and in every process started from here (capabilities(7))."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None)
    over = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for capability in over:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for part in range(3):
        sets[part] &= ~sum(1 << capability for capability in over)
    libc.capset(header, sets)


def _standard_output(output: Output, log: int, terminal: int | None) -> int:
    if output == "full":
        return os.open("/dev/full", os.O_WRONLY)
    if output == "reader-left":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return terminal if output == "terminal" and terminal is not None else log


@cache
def template() -> Path:
    """A promotion repository in which nothing has run, with a pull request, a key, and things that are in the way."""
    top = scratch() / "commandline"
    top.mkdir()
    create_ssh_key(top / "clone-key", "petra")
    empty = scratch() / "empty"
    empty.mkdir()
    variables = {"HOME": str(empty), "MODELSMITH_HOME": str(top / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
    with _in(top, variables), patch("modelsmith.operations.init.kit_files", _without_model):
        init(Workspace(top), InitRequest(directory=Path("clone"), forge="forge.git",
                                         people=("platform=clone-key.pub", "domain-lead=clone-key.pub")))  # fmt: skip
        git = Git(top / "clone")
        parent = git.rev("main")
        author = Ident("a", "a@a", datetime.now(UTC))
        git.update_ref("refs/heads/docs", git.commit_files(parent, {"page.md": b"A page.\n"}, "A page\n", author), None)
        request = PrOpenRequest(branch="docs", title="A page", key=top / "clone-key")
        propose(Workspace(top / "clone"), request)
    for folder in (top, top / "clone", top / "clone/evals"):
        for name in ("key", "key.pub"):
            shutil.copy(top / f"clone-{name}", folder / name)
        (folder / "file").write_text("text\n")
        (folder / "loop").symlink_to("loop")
        (folder / "folder.svg").mkdir()
    (top / "clone/.git/info").mkdir(exist_ok=True)
    (top / "clone/.git/info/exclude").write_text("key*\nfile\nloop\nfolder*\n")
    (top / "folder").mkdir()
    return top


def _without_model(kit: str, base: Path) -> dict[str, bytes]:
    """The kit, whose base model is nowhere: a command that needs one ends there."""
    return {name: data.replace(b"package://", b"file:///nowhere/") for name, data in kit_files(kit, base).items()}


@contextmanager
def _in(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    before, where = dict(os.environ), Path.cwd()
    try:
        os.chdir(folder)
        os.environ.update(variables)
        yield
    finally:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)


def _write(path: str, data: bytes | None) -> Callable[[Path], None]:
    """Put other bytes in a file's place, or nothing, or (None for a name in capitals) remove it."""

    def do(place: Path) -> None:
        target = place / path
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        if data is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    return do


def _git(*words: str) -> Callable[[Path], None]:
    def do(place: Path) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@a")
        subprocess.run(["git", "-C", place / "clone", *identity, *words], check=False, capture_output=True)

    return do


def _lock(path: str) -> Callable[[Path], None]:
    """Take everybody's permissions away; without effect for a user who may do everything."""
    return lambda place: (place / path).chmod(0)


def _linked(place: Path) -> None:
    _git("worktree", "add", "-q", "-b", "linked", str(place / "linked"))(place)
    (place / "clone").rename(place / "first")
    (place / "linked").rename(place / "clone")


def _sha256(place: Path) -> None:
    shutil.rmtree(place / "clone/.git")
    Git(place / "clone").init("--object-format=sha256")
    _git("config", "modelsmith.forge", f"file://{place}/forge.git")(place)


def _objects_lost(place: Path) -> None:
    for folder in sorted((place / "clone/.git/objects").glob("[0-9a-f]?"))[::3]:
        shutil.rmtree(folder)


_POLICY = "clone/.github/governance/policy.yaml"
STATES: dict[str, Callable[[Path], None]] = {
    "detached": _git("checkout", "-q", "--detach"),
    "unborn": _git("symbolic-ref", "HEAD", "refs/heads/nothing"),
    "no-main": _git("update-ref", "-d", "refs/heads/main"),
    "head-broken": _write("clone/.git/HEAD", b"\xff\n"),
    "ref-broken": _write("clone/.git/refs/heads/main", b"0123\n"),
    "ref-missing-object": _write("clone/.git/refs/heads/main", b"1" * 40 + b"\n"),
    "index-broken": _write("clone/.git/index", b"DIRCgarbage"),
    "index-locked": _write("clone/.git/index.lock", b""),
    "config-broken": _write("clone/.git/config", b"[core\n"),
    "config-empty": _write("clone/.git/config", b""),
    "config-bytes": _git("config", "modelsmith.forge", "\udcff"),
    "forge-unreachable": _git("config", "modelsmith.forge", "ssh://no-such-host.invalid/x.git"),
    "forge-ext": _git("config", "modelsmith.forge", "ext::sh -c false"),
    "forge-empty": _git("config", "modelsmith.forge", ""),
    "forge-gone": _write("forge.git", None),
    "forge-a-file": _write("forge.git", b"text"),
    "forge-headless": _write("forge.git/HEAD", b""),
    "forge-hook-gone": _write("forge.git/hooks/pre-receive", b"#!/bin/sh\nexec /gone/python -P -m modelsmith\n"),
    "keys-gone": _write("home", None),
    "keys-a-file": _write("home", b""),
    "policy-broken": _write(_POLICY, b"\xff\xfe{{{"),
    "policy-a-folder": lambda place: ((place / _POLICY).unlink(), (place / _POLICY).mkdir())[-1],
    "people-gone": _write("clone/.github/governance/people.yaml", None),
    "policy-committed-broken": lambda place: (_write(_POLICY, b"x")(place), _git("commit", "-qam", "x")(place))[-1],
    "nothing-tracked": _write("clone/.git", None),
    "git-a-file": _write("clone/.git", b"gitdir: /nowhere\n"),
    "private-a-file": _write("clone/.git/modelsmith", b""),
    "ledger-broken": _write("clone/.git/modelsmith/ledger.db", b"SQLite format 3\0garbage"),
    "state-broken": _write("clone/.git/modelsmith/state.json", b"{\xff"),
    "memory-broken": _write("clone/.git/modelsmith/verified.json", b"[]"),
    "merging": _write("clone/.git/MERGE_HEAD", b"1" * 40 + b"\n"),
    "shallow": _write("clone/.git/shallow", b"1" * 40 + b"\n"),
    "submodule": _git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub"),
    "name-of-bytes": lambda place: _write(os.fsdecode(b"clone/evals/\xff.yaml"), b"x")(place),
    "name-long": _write("clone/evals/" + "n" * 250 + ".yaml", b"x"),
    "bare": _git("config", "core.bare", "true"),
    "work-tree-elsewhere": _git("config", "core.worktree", "/nowhere"),
    "other-format": _git("config", "core.repositoryformatversion", "9"),
    "linked": _linked,
    "sha256": _sha256,
    "objects-lost": _objects_lost,
    "evals-locked": _lock("clone/evals"),
    "git-locked": _lock("clone/.git"),
    "forge-locked": _lock("forge.git"),
    "home-locked": _lock("home"),
}


def run_case(data: bytes) -> object:
    """Run the case that the bytes stand for."""
    number = int.from_bytes(data[:8])
    with tempfile.TemporaryDirectory(dir=scratch(), ignore_cleanup_errors=True) as folder:
        drawn = case(number)
        ended = run(drawn, Path(folder) / "place")
    if ended.broken:
        raise AssertionError(f"case {number} ended with {ended.status}: {drawn}\n{ended.said[-2000:]}")
    return ended


TARGETS = (Target("commandline", run_case, lambda: [number.to_bytes(8) for number in range(3)], slow=True),)
