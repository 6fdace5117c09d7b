"""``python stop_at.py POINT WORD...``: runs ``modelsmith WORD...`` and stops it at a point of its work.

POINT is ``MODULE:NAME[.ATTRIBUTE] NUMBER before|after SIGNAL|PAUSE``: the process sends itself the signal before or
after the call of that number of the function; with PAUSE it prints ``paused`` on standard error and sleeps until it is
killed.
The product itself knows nothing of this.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from typing import Any


def stop(action: str) -> None:
    if action == "PAUSE":
        print("paused", file=sys.stderr, flush=True)
        time.sleep(600)
    os.kill(os.getpid(), signal.Signals[action])


def obey_ctrl_c() -> None:
    """A shell that runs the tests in the background has told its children to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def arm(point: str) -> None:
    target, number, moment, action = point.split()
    module, _, name = target.partition(":")
    holder: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        holder = getattr(holder, part)
    real, calls = getattr(holder, last), 0

    @functools.wraps(real, updated=())
    def stand_in(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        due = calls == int(number)
        if due and moment == "before":
            stop(action)
        result = real(*args, **named)
        if due and moment == "after":
            stop(action)
        return result

    setattr(holder, last, stand_in)


if __name__ == "__main__":
    obey_ctrl_c()
    arm(sys.argv[1])
    sys.argv = ["modelsmith", *sys.argv[2:]]
    from modelsmith.cli.main import main

    main()
