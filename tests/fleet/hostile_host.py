"""A host that lies: it names files that are not its to write, and sends other bytes than it listed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from pathlib import Path

from modelsmith import __version__
from modelsmith.fleet.remote.wire import PROTOCOL, Channel, Closed, Frame


def main(lies: str) -> None:
    """Play a host whose worker ends at once; ``lies`` is JSON: contents by name, null for others than listed."""
    files = json.loads(Path(lies).read_bytes())
    listed = {
        name: "sha256:" + hashlib.sha256((text or "as listed").encode()).hexdigest() for name, text in files.items()
    }
    channel = Channel(0, 1)

    def say(kind, name="", body=b"", number=None):
        channel.send(Frame(kind=kind, name=name, number=number), body)

    channel.greet()
    say("hello", __version__, number=PROTOCOL)
    started = False
    while True:
        message = channel.receive(60)
        if message is None:
            return
        kind, name = message[0].kind, message[0].name
        if kind == "prepare":
            say("ready", body=b'{"files": {}}')
        elif kind == "end" or kind == "clean":
            say("done")
        elif kind == "start":
            started = True
            say("started", "0" * 16, number=0)
            say("kept", "../../kept", body=json.dumps({"files": listed}).encode())
            say("ended", number=0)
        elif kind == "list":
            say("ready", body=json.dumps({"files": listed}).encode())
        elif kind == "get" and started:
            say("piece", body=(files.get(name) or "something else").encode())
            say("end", name)


if __name__ == "__main__":
    with contextlib.suppress(Closed):
        main(sys.argv[1])
