"""Judges one part of main in a process of its own: ``start.py modelsmith.promotion.part_worker CLONE``.

Standard input brings the part as one line; it stays open as long as somebody waits for the answer. The answer is a line
for each change that was judged (how many steps of the part were passed), and at last one that says what was counted, or
that the part does not hold.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from modelsmith.promotion.parts import Counts, counted
from modelsmith.promotion.verify import Part
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.importing import COLLECT_AFTER


def question(part: Part, now: datetime) -> bytes:
    """The question that is sent to the process."""
    steps = [step.id for step in part.steps]
    return json.dumps([part.start, part.before, steps, part.tip, now.isoformat()]).encode() + b"\n"


def answer(line: bytes) -> int | Counts | None:
    """What a line of the process says: steps that are done, what it counted, or (None) that the part does not hold."""
    reply = json.loads(line)
    return Counts(*reply) if isinstance(reply, list) else reply


def main(clone: Path, request: bytes, out: TextIO) -> None:
    """Judge what was asked, and tell."""
    start, before, ids, tip, now = json.loads(request)

    def tell(reply: int | Counts | None) -> None:
        out.write(f"{json.dumps(reply)}\n")
        out.flush()

    result = None
    with suppress(Exception), ObjectReader(clone) as git:  # whoever asked meets what went wrong, and can say it
        part = Part(start, before, git.commits(ids), tip)
        result = counted(git, part, lambda step: tell(step.done - len(before)), datetime.fromisoformat(now))
    tell(result)


def _end_with_whoever_waits() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    gc.set_threshold(COLLECT_AFTER)  # as in a command: each round over all walks through every record of a long main
    asked = b""
    while not asked.endswith(b"\n") and (block := os.read(0, 1 << 20)):
        asked += block
    threading.Thread(target=_end_with_whoever_waits, daemon=True).start()
    main(Path(sys.argv[1]), asked, sys.stdout)
