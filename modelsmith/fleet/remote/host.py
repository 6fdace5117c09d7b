"""The host's end of a connection: ``python -P -m modelsmith.fleet.remote.host FOLDER MODULE [HOME]``.

Whoever logs in decides which words are said, not where they act: jobs lie in FOLDER, workers run MODULE, base models
lie in HOME. So a key whose ``authorized_keys`` line forces this command can do no more than train here.

FOLDER holds ``jobs/ID`` (a job's folder, and all that its worker reads), ``control/ID`` (signs of its runs) and
``lock``. A job that came to its end and was fetched leaves nothing; of others everything goes after `KEPT_DAYS`.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from stat import S_IWOTH
from subprocess import DEVNULL
from typing import Final

from pydantic import TypeAdapter, ValidationError

from modelsmith import __version__
from modelsmith.fleet import start
from modelsmith.fleet.doors import DOORS_WORD, doors_folder
from modelsmith.fleet.folder import COMPLETE, HEARTBEAT_FILE, PUT_AWAY
from modelsmith.fleet.gpus import gpus
from modelsmith.fleet.held import is_held
from modelsmith.fleet.remote import files
from modelsmith.fleet.remote.facts import HostFacts
from modelsmith.fleet.remote.files import OddPlaceError
from modelsmith.fleet.remote.keeper import Ended, Run
from modelsmith.fleet.remote.wire import PIECE, PROTOCOL, Channel, Closed, Frame, Kind
from modelsmith.schema.base import Digest
from modelsmith.schema.children import start_apart
from modelsmith.schema.cluster import Devices
from modelsmith.schema.plain_file import open_plain, read_plain

KEPT_DAYS: Final = 30
"""Days after which what nobody has fetched is removed."""
_IDLE = 600.0
"""Seconds after which a session that hears nothing ends."""
_LOOK = 0.05
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_KEEPER = "modelsmith.fleet.remote.keeper"
_DIGESTS = TypeAdapter(list[Digest])
_COUNT = TypeAdapter[int](Devices)


class Session:
    """One connection of a submitter."""

    def __init__(self, channel: Channel, work: Path, module: str, home: Path) -> None:
        self._channel, self._work, self._module, self._home = channel, work, module, home
        self._job, self._models = "", list[str]()
        self._lock: int | None = None
        self._run: Run | None = None
        self._since, self._over, self._heard = 0, False, time.monotonic()
        self._patience = _IDLE
        self._shown: set[str] = set()

    def serve(self) -> None:
        """Answer until the other side is gone."""
        self._channel.greet()
        self._say("hello", __version__, number=PROTOCOL)
        while True:
            attached = self._run is not None and not self._over
            message = self._channel.receive(_LOOK if attached else self._patience)
            if message is None and time.monotonic() - self._heard > self._patience:
                return
            if message is not None:
                self._heard = time.monotonic()
                try:
                    self._answer(*message)
                except (OSError, OddPlaceError, ValidationError) as error:
                    self._say("refused", str(error)[:500])
            if self._run is not None and not self._over:
                self._look(self._run)

    def _say(
        self, kind: Kind, name: str = "", body: bytes = b"", number: int | None = None, digest: str | None = None
    ) -> None:
        self._channel.send(Frame(kind=kind, name=name, number=number, digest=digest), body)

    def _answer(self, frame: Frame, body: bytes) -> None:
        if frame.kind == "probe":
            self._say("facts", body=facts(self._work, self._home).model_dump_json().encode())
        elif frame.kind == "prepare":
            self._prepare(frame, body)
        elif frame.kind == "attach":
            self._attach(frame, body)
        elif not self._job:
            self._say("refused", "no job was named")
        elif frame.kind == "put":
            self._put(frame.name)
        elif frame.kind == "remove":
            files.remove(self._folder, frame.name)
        elif frame.kind == "start":
            self._start(frame)
        elif frame.kind == "ping" and self._run:
            os.utime(self._run.leash)
        elif frame.kind == "stop" and self._run:
            self._run.stop.write_text(str(frame.seconds))
        elif frame.kind == "list":
            self._say("ready", body=files.listed(self._folder).model_dump_json().encode())
        elif frame.kind == "get":
            self._get(frame.name)
        elif frame.kind == "clean":
            self._clean()

    @property
    def _folder(self) -> Path:
        return self._work / "jobs" / self._job

    @property
    def _control(self) -> Path:
        return self._work / "control" / self._job

    def _take_name(self, name: str) -> None:
        if not _ID.fullmatch(name):
            raise OddPlaceError(f"{name[:100]!a} is no job")
        self._job = name

    def _prepare(self, frame: Frame, body: bytes) -> None:
        """Take the host for a job; say what of it lies here already."""
        digests = _DIGESTS.validate_json(body)
        for digest in digests:
            if not model_folder(self._home, digest).is_dir():
                self._say("missing", str(model_folder(self._home, digest)), digest=digest)
                return
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(self._work)
        if self._lock is None:
            self._lock = _take_lock(self._work / "lock")
        if self._lock is None:
            self._say("busy")
            return
        self._take_name(frame.name)
        self._models = digests
        _forget_old(self._work, self._job)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(self._folder)
        self._control.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._say("ready", body=files.listed(self._folder).model_dump_json().encode())

    def _put(self, name: str) -> None:
        if self._lock is None:
            raise OddPlaceError("the host was not taken")
        with files.writing(self._folder, name) as file:
            while True:
                message = self._channel.receive(_IDLE)
                if message is None or message[0].kind not in ("piece", "end"):
                    raise Closed("a file did not come whole")
                if message[0].kind == "end":
                    break
                file.write(message[1])
        self._say("done")

    def _start(self, frame: Frame) -> None:
        """Start a worker in the folder; the locks go over to its keeper."""
        if self._lock is None:
            raise OddPlaceError("the host was not taken")
        devices = _COUNT.validate_python(frame.number)
        run = Run(self._control, secrets.token_hex(8))
        beats = self._folder / HEARTBEAT_FILE
        self._since = beats.stat().st_size if beats.exists() else 0
        run.leash.touch(mode=0o600)
        own = _take_lock(run.lock)
        assert own is not None
        models = [str(model_folder(self._home, digest)) for digest in self._models]
        words = [*models, DOORS_WORD, str(doors_folder(self._home))]
        try:
            with (self._control / "keeper.log").open("ab") as log:
                start_apart(
                    [sys.executable, "-P", start.__file__, _KEEPER, str(self._control), run.name, str(self._folder),
                     str(frame.seconds), str(devices), self._module, *words],
                    survives=True, stdin=DEVNULL, stdout=log, stderr=log, cwd=self._folder, pass_fds=(self._lock, own),
                )  # fmt: skip
        finally:
            os.close(own)
            os.close(self._lock)
            self._lock = None
        while not run.up.exists() and is_held(run.lock):
            time.sleep(_LOOK)
        if not run.up.exists():
            self._say("refused", f"no worker could be started: {_ended(run).why}")
            return
        self._run, self._over, self._patience = run, False, frame.seconds
        self._say("started", run.name, number=self._since)

    def _attach(self, frame: Frame, body: bytes) -> None:
        """Go on telling of a run, from where another connection left off."""
        job, _, name = frame.name.partition("/")
        self._take_name(job)
        run = Run(self._control, name)
        if not re.fullmatch("[0-9a-f]{16}", name) or not run.lock.exists():
            self._say("gone")
            return
        self._run, self._over, self._since = run, False, frame.number or 0
        self._shown, self._patience = set(body.decode().split()), frame.seconds
        with suppress(FileNotFoundError):
            os.utime(run.leash)
        self._say("started", name, number=self._since)

    def _look(self, run: Run) -> None:
        """Send what is new in the run."""
        over = not is_held(run.lock)
        beats = self._folder / HEARTBEAT_FILE
        with suppress(FileNotFoundError), open_plain(beats) as file:
            file.seek(self._since)
            while data := file.read(PIECE):
                self._say("lines", body=data, number=self._since)
                self._since += len(data)
        if over:
            ended = _ended(run)
            self._over = True
            self._say("ended", ended.why, number=ended.status)
            return
        for marker in sorted((self._folder / PUT_AWAY).glob(f"*/{COMPLETE}")):
            name = marker.parent.name
            if name not in self._shown:
                self._shown.add(name)
                with suppress(FileNotFoundError, OddPlaceError):
                    self._say("kept", name, body=files.listed(marker.parent).model_dump_json().encode())

    def _get(self, name: str) -> None:
        try:
            with open_plain(files.place_of(self._folder, name)) as file:
                while data := file.read(PIECE):
                    self._say("piece", body=data)
                    if self._run is not None:
                        with suppress(FileNotFoundError):
                            os.utime(self._run.leash)
        except FileNotFoundError:
            self._say("gone", name)
            return
        self._say("end", name)

    def _clean(self) -> None:
        """Remove a finished job from this host."""
        if self._run is not None and not self._over:
            raise OddPlaceError("its worker has not ended")
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self._control, ignore_errors=True)
        self._say("done")


def facts(work: Path, home: Path) -> HostFacts:
    """This host's facts: versions, processors, GPUs, room, models."""
    existing = next(folder for folder in (work, *work.parents) if folder.is_dir())
    lock = work / "lock"
    models = home / "models"
    return HostFacts(
        version=__version__,
        gpus=gpus(),
        processors=os.cpu_count() or 1,
        free_bytes=shutil.disk_usage(existing).free,
        writable=os.access(existing, os.W_OK),
        busy=lock.exists() and is_held(lock),
        models=tuple(sorted(path.name for path in models.glob("[0-9a-f]" * 64) if path.is_dir())[:1000]),
    )


def model_folder(home: Path, digest: str) -> Path:
    """Where a host has the base model of this digest."""
    return home / "models" / digest.removeprefix("sha256:")


def _require_own(work: Path) -> None:
    """Raise OddPlaceError where somebody else made the work folder, or anybody may write in it: rows lie there."""
    status = work.stat()
    if status.st_uid != os.geteuid() or status.st_mode & S_IWOTH:
        raise OddPlaceError("the work folder belongs to another user, or every user may write in it")


def _ended(run: Run) -> Ended:
    """How it ended; a keeper that could not say so was killed, and so is its worker, by the lifeline."""
    try:
        return Ended.model_validate_json(read_plain(run.ended))
    except (OSError, ValidationError):
        return Ended(status=-9)


def _take_lock(path: Path) -> int | None:
    """The lock, held by this process and its children; None where another process has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _forget_old(work: Path, but: str) -> None:
    """Remove jobs that nobody has come back for. The host is ours, so none of them works."""
    for folder in (work / "jobs").glob("*"):
        if folder.name != but and time.time() - folder.lstat().st_mtime > KEPT_DAYS * 86_400:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(work / "control" / folder.name, ignore_errors=True)


def main(work: str, module: str, home: str = "") -> None:
    """Serve the connection on standard input and output."""
    if not home:
        from modelsmith.repository.workspace import home as default_home

        home = str(default_home())
    with suppress(Closed):
        Session(Channel(0, 1), Path(work), module, Path(home)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
