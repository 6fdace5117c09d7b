"""A connection to a host: one process of OpenSSH's own client, whose other end is `fleet.remote.host`.

Nothing stands on its command line but what ``hosts.yaml`` says, and that is quoted for the shell there: job, models and
files are named in frames. A connection of the user's own (``ControlMaster``) is not shared: one connection
serves a whole training, and its end means something.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from modelsmith import __version__
from modelsmith.fleet.executor import HostLostError
from modelsmith.fleet.remote.facts import HostFacts
from modelsmith.fleet.remote.settings import Host
from modelsmith.fleet.remote.wire import PROTOCOL, Channel, Closed, Frame, Kind
from modelsmith.schema.children import start_apart
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, ModelsmithError

CONNECT_SECONDS: Final = 10
"""For which a host may take to let somebody in."""
ALIVE_EVERY: Final = 5
"""Seconds between two questions whether the other side is there; the third without an answer ends the connection."""
_BEGIN_SECONDS: Final = 120.0
"""For Python and the toolkit to start there, also on a busy host."""
_ANSWER_SECONDS: Final = 600.0
"""For one answer, such as the digests of all that a job put away."""
_MOST_WORDS: Final = 4096
_MODULE: Final = "modelsmith.fleet.remote.host"
_OPTIONS: Final = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ConnectionAttempts": "1",
    "ServerAliveInterval": str(ALIVE_EVERY),
    "ServerAliveCountMax": "3",
    "TCPKeepAlive": "yes",
    "ControlMaster": "no",
    "ControlPath": "none",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "EscapeChar": "none",
    "LogLevel": "ERROR",
}


def command(host: Host, module: str) -> list[str]:
    """The command line that logs in and starts the host's end there. Pure."""
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    user = ["-l", host.user] if host.user else []
    port = ["-p", str(host.port)] if host.port else []
    remote_command = [host.python, "-P", "-m", _MODULE, host.folder, module, *([host.home] if host.home else [])]
    return ["ssh", "-T", "-x", "-a", *options, *user, *port, "--", host.address, "exec " + shlex.join(remote_command)]


class Connection:
    """A host that has answered, with this very version of the toolkit."""

    def __init__(self, name: str, host: Host, module: str) -> None:
        """Log in.

        Raises:
            HostLostError: nobody answers there.
            IntegrityFailure: ``host-key``.
            InfrastructureFailure: ``ssh-missing``, ``host-login``, ``host-not-ready``, ``host-version``.
        """
        self.name = name
        if shutil.which("ssh") is None:
            raise InfrastructureFailure(
                "ssh-missing", "There is no `ssh` on this machine.", "Install OpenSSH's client."
            )
        self._process = start_apart(
            command(host, module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path("/")
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._words = _Words(self._process.stderr)
        self._channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno())
        try:
            self._channel.find_greeting(_BEGIN_SECONDS)
            answer = self._channel.receive(_BEGIN_SECONDS)
        except Closed as error:
            raise self._refusal(host, str(error)) from None
        except BaseException:
            self.close()
            raise
        if answer is None or answer[0].kind != "hello":
            raise self._refusal(host, "it says something else")
        if (answer[0].name, answer[0].number) != (__version__, PROTOCOL):
            self.close()
            raise InfrastructureFailure(
                "host-version",
                f"The host {name} has modelsmith {answer[0].name[:50]!a}, and this machine {__version__}.",
                f"Install the same build on both: `{host.python} -m pip install modelsmith=={__version__}` there.",
                host=name,
                found=answer[0].name[:50],
                expected=__version__,
            )

    def say(self, kind: Kind, name: str = "", body: bytes = b"", number: int | None = None, seconds: float = 0) -> None:
        """Send one frame to the host.

        Raises:
            HostLostError: nobody hears it.
        """
        try:
            self._channel.send(Frame(kind=kind, name=name, number=number, seconds=seconds), body)
        except Closed as error:
            raise self.lost(str(error)) from None

    def hear(self, seconds: float) -> tuple[Frame, bytes] | None:
        """The next word; None when none came in time.

        Raises:
            HostLostError: there will be none.
        """
        try:
            return self._channel.receive(seconds)
        except Closed as error:
            raise self.lost(str(error)) from None

    def answer(self, *kinds: Kind) -> tuple[Frame, bytes]:
        """The answer to what was just asked.

        Raises:
            HostLostError: it did not come.
            InfrastructureFailure: ``host-refused``: the host cannot do it, and says why.
        """
        answer = self.hear(_ANSWER_SECONDS)
        if answer is None:
            raise self.lost("it does not answer")
        if answer[0].kind == "refused":
            raise self.refused(answer[0].name)
        if answer[0].kind not in kinds:
            raise self.lost("it says something else")
        return answer

    def facts(self) -> HostFacts:
        """Facts that the host tells about itself.

        Raises:
            HostLostError, InfrastructureFailure: as `answer`.
        """
        self.say("probe")
        try:
            return HostFacts.model_validate_json(self.answer("facts")[1])
        except ValueError:
            raise self.lost("it says something else") from None

    def lost(self, why: str) -> HostLostError:
        """The error that says so; the connection is closed."""
        last_words = self._last_words()
        self.close()
        return HostLostError(self.name, last_words or why)

    def refused(self, why: str) -> InfrastructureFailure:
        """The error for a host that refused."""
        return InfrastructureFailure(
            "host-refused",
            f"The host {self.name} could not do what it was asked.",
            "See its disk and the permissions of its work folder, then run the command again.",
            host=self.name,
            reason=why[:300],
        )

    def close(self) -> None:
        """End the connection; the worker there is not touched."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _last_words(self) -> str:
        """The last lines of ssh or of the shell on the host."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        lines = self._words.text().decode("utf-8", "replace").splitlines()
        return " ".join(line.strip() for line in lines if line.strip("@ \r"))[:600]

    def _refusal(self, host: Host, why: str) -> Exception:
        """Why nobody was let in, or what is not ready there."""
        until = time.monotonic() + 5
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        last_words, status = self._last_words(), self._process.poll()
        self.close()
        return refusal(self.name, host, last_words, status) or HostLostError(self.name, last_words or why)


class _Words:
    """What ssh says beside the frames. The host's own words come that way too, so all of it is heard and few kept."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, b""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def text(self) -> bytes:
        """The beginning of what ssh printed. It waits for the end only briefly: another process may hold the pipe."""
        self._thread.join(1)
        return self._kept

    def _listen(self) -> None:
        with self._stream, suppress(OSError):
            while data := os.read(self._stream.fileno(), 65_536):
                self._kept = (self._kept + data)[:_MOST_WORDS]


def refusal(name: str, host: Host, stderr: str, status: int | None) -> ModelsmithError | None:
    """What only a person can mend, by the last words and the exit status of ssh; None where nobody answered. Pure."""
    login = shlex.join(
        [
            "ssh",
            *(["-p", str(host.port)] if host.port else []),
            f"{host.user}@{host.address}" if host.user else host.address,
        ]
    )
    if re.search("HOST IDENTIFICATION HAS CHANGED|host key .*has changed|REVOKED HOST KEY", stderr, re.I):
        return IntegrityFailure(
            "host-key",
            f"The host {name} has another key than the one that this machine knows: it may be somebody else.",
            "Nothing was sent. Ask whoever runs the host for its key's fingerprint; only if it is the new one, take "
            f"the old one out of known_hosts (`ssh-keygen -R {shlex.quote(host.address)}`) and log in once: `{login}`.",
            host=name,
        )
    if "Host key verification failed" in stderr or "host key is known" in stderr:
        return IntegrityFailure(
            "host-key",
            f"This machine does not know the key of the host {name}, so it cannot tell who it is.",
            f"Log in once by hand and compare the fingerprint that is shown with the host's own: `{login}`.",
            host=name,
        )
    if "Permission denied" in stderr or "Too many authentication failures" in stderr:
        return InfrastructureFailure(
            "host-login",
            f"The host {name} lets nobody in with the keys that are at hand without a question.",
            f"See that `{login} true` works without a password (a key without one, or an agent).",
            host=name,
            reason=stderr[:300],
        )
    if status is not None and 0 <= status < 255:
        return InfrastructureFailure(
            "host-not-ready",
            f"The toolkit does not start on the host {name}.",
            f"See that `{host.python}` is there and has modelsmith {__version__} with the extra `train`.",
            host=name,
            reason=stderr[:300],
        )
    return None
