"""A job on a host, as whoever submitted it follows it: over one connection after another, if need be."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from modelsmith.fleet.executor import Beats, HostLostError
from modelsmith.fleet.folder import COMPLETE, HEARTBEAT_FILE, PUT_AWAY, is_whole, lines_since
from modelsmith.fleet.remote.connection import Connection
from modelsmith.fleet.remote.copying import MOST_READ, bring, bring_put_away, listed_in
from modelsmith.fleet.remote.files import OddPlaceError, place_of
from modelsmith.fleet.remote.wire import Frame, Kind, Listed
from modelsmith.schema.errors import ModelsmithError

_PING: Final = 1.0
"""Seconds between two words by which the worker's keeper knows that somebody is there."""
_MOST_BEATS: Final = MOST_READ
"""Bytes of heartbeats that a host may send."""
_KEPT: Final = 2
"""How many folders that a worker has put away lie here at most, as on the host."""
_FIRST_PAUSE: Final = 0.5
_LAST_PAUSE: Final = 10.0
"""Seconds between two tries to make a lost connection anew, at first and at most."""
_STOPPING: Final = 30.0
"""Seconds beyond the grace, for a worker to be killed and to be heard of."""
_ANSWER_SECONDS: Final = 600.0
_TRIES: Final = 2
"""How often files are brought that did not come as they were listed."""


class RemoteJob:
    """See `Submitted`."""

    def __init__(
        self,
        connection: Connection,
        again: Callable[[], Connection],
        fetched: Callable[[], None],
        folder: Path,
        run: str,
        since: int,
        patience: float,
    ) -> None:
        """Follow a run.

        Args:
            connection: On which it was started.
            again: Makes another connection.
            fetched: Called when everything that the worker left is here.
            folder: The job's.
            run: Its name on the host.
            since: Where its heartbeats begin.
            patience: Seconds for which a lost connection is mended.
        """
        self.since = since
        self._connection: Connection | None = connection
        self._again, self._fetched, self._folder, self._run, self._patience = again, fetched, folder, run, patience
        self._ended = self._is_fetched = False
        self._status: int | None = None
        self._pinged = self._next_try = 0.0
        self._lost: float | None = None
        self._pause = _FIRST_PAUSE
        self._kept: list[tuple[str, Listed]] = []

    def beats(self, since: int, seconds: float) -> Beats:
        """See `Submitted`. It may take some seconds longer where the connection has to be made anew.

        Raises:
            HostLostError: for longer than the stated time.
            IntegrityFailure, InfrastructureFailure: as `Connection`, where it was made anew.
        """
        until = time.monotonic() + seconds
        while not self._ended:
            self._pump(max(0.0, until - time.monotonic()))
            if time.monotonic() >= until:
                break
        lines, since = lines_since(self._folder / HEARTBEAT_FILE, since)
        return Beats(lines, since, self._status)

    def fetch(self) -> bool:
        """See `Submitted`. Of a whole result nothing stays on the host.

        Raises:
            HostLostError: for longer than the stated time.
            IntegrityFailure, InfrastructureFailure: as `Connection`, where it was made anew.
        """
        while not self._is_fetched:
            try:
                connection = self._connection or self._reconnect()
                if connection is None:
                    time.sleep(0.1)
                    continue
                self._bring_all(connection)
                self._is_fetched = True
                self._fetched()
                if is_whole(self._folder):
                    connection.say("clean")
                    self._ask(connection, "done")
                self._drop()
            except HostLostError as error:
                self._lose(error)
        return is_whole(self._folder)

    def stop(self, grace: float) -> None:
        """See `Submitted`. On a host that cannot be reached the worker ends by itself when the stated time is over.

        What it has put away is brought here.
        """
        if self._is_fetched:
            return
        until = time.monotonic() + grace + _STOPPING
        self._drop()  # whoever was interrupted may have left half a word on it
        self._next_try = 0.0
        with suppress(HostLostError, ModelsmithError):
            connection = self._reconnect()
            if connection is None:
                return
            if not self._ended:
                connection.say("stop", seconds=grace)
            while not self._ended and time.monotonic() < until:
                self._pump(0.2)
            if self._ended:
                self.fetch()

    def _pump(self, seconds: float) -> None:
        """Take what the host says, for so long at most; make the connection anew where it is lost."""
        try:
            connection = self._connection or self._reconnect()
            if connection is None:
                time.sleep(min(seconds, 0.1))
                return
            if time.monotonic() - self._pinged >= _PING:
                self._pinged = time.monotonic()
                connection.say("ping")
            self._hear(connection, min(seconds, _PING))
            self._lost, self._pause = None, _FIRST_PAUSE
            unhandled, self._kept = self._kept, []
            for file in unhandled:
                self._bring_kept(connection, *file)
        except HostLostError as error:
            self._lose(error)

    def _hear(self, connection: Connection, seconds: float) -> None:
        until = time.monotonic() + seconds
        message = connection.hear(seconds)
        while message is not None:
            self._take(connection, *message)
            message = None if self._ended or time.monotonic() > until else connection.hear(0)

    def _ask(self, connection: Connection, kind: Kind) -> bytes:
        """The body of the answer to the last question. Frames that come before it are handled, too."""
        until = time.monotonic() + _ANSWER_SECONDS
        while True:
            message = connection.hear(max(0.0, until - time.monotonic()))
            if message is None or time.monotonic() > until:
                raise connection.lost("it does not answer")
            if message[0].kind == kind:
                return message[1]
            self._take(connection, *message)

    def _take(self, connection: Connection, frame: Frame, body: bytes) -> None:
        """What the host says of the run, whenever it says it."""
        if frame.kind == "lines":
            size = self._beats_size()
            if frame.number != size or size + len(body) > _MOST_BEATS:
                raise connection.lost("its heartbeats do not fit together")
            try:
                with place_of(self._folder, HEARTBEAT_FILE).open("ab") as file:
                    file.write(body)
            except OddPlaceError as error:
                raise connection.lost(str(error)) from None
        elif frame.kind == "kept":
            self._kept = [*self._kept, (frame.name, listed_in(connection, body))][-_KEPT:]
        elif frame.kind == "ended":
            self._ended, self._status = True, -9 if frame.number is None else frame.number
        elif frame.kind == "refused":
            raise connection.refused(frame.name)
        else:
            raise connection.lost("it says something else")

    def _beats_size(self) -> int:
        try:
            return (self._folder / HEARTBEAT_FILE).stat().st_size
        except FileNotFoundError:
            return 0

    def _bring_kept(self, connection: Connection, name: str, theirs: Listed) -> None:
        """Have here what the worker has put away, and no more of it than the last ones."""

        def other(frame: Frame, body: bytes) -> None:
            self._take(connection, frame, body)

        with suppress(OddPlaceError):
            if COMPLETE in theirs.files and bring_put_away(connection, self._folder, name, theirs, other):
                for old in sorted(self._put_away(), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
                    shutil.rmtree(old, ignore_errors=True)

    def _put_away(self) -> list[Path]:
        return [path.parent for path in (self._folder / PUT_AWAY).glob(f"*/{COMPLETE}")]

    def _bring_all(self, connection: Connection) -> None:
        """Bring what the worker left; what did not come as it was listed is asked for once more."""

        def other(frame: Frame, body: bytes) -> None:
            self._take(connection, frame, body)

        for _ in range(_TRIES):
            connection.say("list")
            if bring(connection, self._folder, listed_in(connection, self._ask(connection, "ready")), other):
                break

    def _reconnect(self) -> Connection | None:
        """Another connection, on which the run is told from where the last one left off; None until it is time to try.

        Raises:
            HostLostError: this try failed, or the host does not know the run any more.
            IntegrityFailure, InfrastructureFailure: as `Connection`.
        """
        if time.monotonic() < self._next_try:
            return None
        connection = self._again()
        names = " ".join(path.name for path in self._put_away()).encode()
        connection.say("attach", self._run, names, number=self._beats_size(), seconds=self._patience)
        if connection.answer("started", "gone")[0].kind == "gone":
            self._patience = 0.0
            raise connection.lost("it does not know the job any more")
        self._connection = connection
        return connection

    def _lose(self, error: HostLostError) -> None:
        """Note that the connection is lost; the next try is a little later each time.

        Raises:
            HostLostError: it has been lost for the stated time.
        """
        self._connection, now = None, time.monotonic()
        first = now if self._lost is None else self._lost
        if now - first >= self._patience:
            raise error
        self._lost, self._next_try, self._pause = first, now + self._pause, min(2 * self._pause, _LAST_PAUSE)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
