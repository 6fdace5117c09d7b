"""Runs a command that must not outlive whoever started it: ``python lifeline.py GRACE COMMAND...``.

The command gets a process group of its own. When standard input closes, because the starter asks for an end or has
died, the group is told to end, and what still runs after GRACE seconds is killed. When the command ends by itself, what
it left behind is killed, and its exit status is passed on (128 and the signal's number when a signal ended it).

Standard library only: it must start in no time.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping

_LONGEST_SOCKET = 107
"""Bytes of the path of a socket, by Linux's ``sun_path``."""
_SOCKET = "/00000000-0000-4000-8000-000000000000"
"""How vLLM names sockets."""


def main(grace: float, command: list[str]) -> int:
    """Run the command to its end; see the module."""
    folder = _folder()
    try:
        return _run(grace, command, os.environ | _extra_environment(folder))
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _run(grace: float, command: list[str], environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment)
    ended = threading.Event()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        _signal(process.pid, signal.SIGTERM)
        if not ended.wait(grace):
            _signal(process.pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = process.wait()
    ended.set()
    _signal(process.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _folder() -> str | None:
    """A new folder for temporary files; None where there is no room, or a socket in it had too long a name."""
    with contextlib.suppress(OSError):
        folder = tempfile.mkdtemp(prefix="ms-")
        if len(os.fsencode(folder + _SOCKET)) <= _LONGEST_SOCKET:
            return folder
        os.rmdir(folder)
    return None


def _extra_environment(folder: str | None) -> dict[str, str]:
    """Variables that the command's environment adds to our own."""
    if folder is None:
        return {}
    variables = {} if "TORCHINDUCTOR_CACHE_DIR" in os.environ else {"TORCHINDUCTOR_CACHE_DIR": _compiled()}
    return {"TMPDIR": folder} | variables


def _compiled() -> str:
    """Where torch keeps what it compiles, by its own rule for ``TORCHINDUCTOR_CACHE_DIR``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # nobody has this process's number
        user = f"uid_{os.getuid()}"
    return os.path.join(tempfile.gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", user))


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
