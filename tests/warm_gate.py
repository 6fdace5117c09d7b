"""The gate of a forge without the half second that its imports take.

git runs the forge's hook, and the hook has a process that has imported the gate fork: what runs in the fork is what the
hook's own Python would run, with the standard files, folder and environment that git gave the hook. A forge has such a
hook after `stand_in`. Its last line is still the installed one, and that is what runs without a warm process (fixture
``installed_hook``, for tests about the hook's own) and for whoever sets ``PYTHONPATH``.
"""

from __future__ import annotations

import marshal
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ForkingMixIn, UnixStreamServer

from warm import import_everything, inherit, leave_with, run

CLIENT = Path(__file__).with_name("warm_hook.py")
GATE = ("modelsmith", "hook", "pre-receive")


def stand_in(forge: Path, *words: str) -> None:
    """Let a forge's hook be done by the warm process: the gate, or another script and its arguments."""
    hook = forge / "hooks" / "pre-receive"
    asked = shlex.join((sys.executable, "-IS", str(CLIENT), *(words or GATE)))
    shebang, installed = hook.read_text().split("\n", 1)
    line = f'test -z "$WARM_GATE" || test -n "$PYTHONPATH" || exec {asked}'
    hook.write_text("\n".join((shebang, line, installed)))


@contextmanager
def warm_gate() -> Iterator[None]:
    """While this lasts, hooks with a stand-in that are run from here find their process."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "gate")
        server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE)
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        os.environ["WARM_GATE"] = address
        try:
            yield
        finally:
            del os.environ["WARM_GATE"]
            server.kill()
            server.communicate()


class Server(ForkingMixIn, UnixStreamServer):
    """Forks for each hook that calls."""

    max_children = 1_000
    request_queue_size = 128


class Hook(BaseRequestHandler):
    """One hook that waits: this is a fork already, which minds another."""

    def handle(self) -> None:
        asked, files, _, _ = socket.recv_fds(self.request, 1 << 16, 3)
        while more := self.request.recv(1 << 16):
            asked += more
        child = os.fork()
        if child == 0:
            folder, words, environment = marshal.loads(asked[1:])
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            inherit(*files)
            leave_with(lambda: run(words))
        _, status = os.waitpid(child, 0)
        self.request.sendall(b"%d" % os.waitstatus_to_exitcode(status))


def serve(address: str) -> None:
    """Until the one who started this is gone."""
    starter = os.getppid()
    import_everything()
    with Server(address, Hook) as server:
        server.timeout = 1
        print("ready", flush=True)
        while os.getppid() == starter:
            server.handle_request()


if __name__ == "__main__":
    serve(sys.argv[1])
