"""How a hook's refusal travels through ``git push``: one line of JSON, read back into the same error."""

from __future__ import annotations

import json
import re

from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
    WaitingForPerson,
)
from modelsmith.schema.plaintext import visible

_MARK = "modelsmith-refusal: "
_BROKEN = re.compile(
    r"^remote: .*(hooks/pre-receive: .*(not found|Permission denied|No such file)|No module named)", re.M
)
"""What a shell, or a Python without the toolkit, says in place of our hook."""
_KINDS: dict[int, type[ModelsmithError]] = {
    kind.exit: kind
    for kind in (InvalidInput, GateNotCleared, WaitingForPerson, IntegrityFailure, InfrastructureFailure)
}


def refusal_lines(error: ModelsmithError) -> str:
    """What a hook writes to standard error: a sentence for people and a line for `find_refusal`.

    Any git shows both to whoever pushes, as they are: the sentence is spelled out, the JSON is plain ASCII.
    """
    facts = {"exit": int(error.exit), "code": error.code, "message": error.message, "mend": error.mend}
    return f"modelsmith: {error.code}: {visible(error.message)}\n{_MARK}{json.dumps(facts, sort_keys=True)}\n"


def find_refusal(stderr: str) -> ModelsmithError | None:
    """The error that the other side's hook refused with, from what ``git push`` printed; None when no hook refused.

    A hook that says so in other words than `refusal_lines` refuses all the same: ``push-refused``.
    """
    for line in stderr.splitlines():
        _, mark, text = line.partition(_MARK)
        if not mark:
            continue
        try:
            facts = json.loads(text)
            return _KINDS[facts["exit"]](str(facts["code"]), str(facts["message"]), str(facts["mend"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    if "hook declined" not in stderr:
        return None
    if _BROKEN.search(stderr):
        return InfrastructureFailure(
            "broken-hook",
            "The forge's hook cannot run: the Python or the toolkit that it names is gone",
            "On the forge's host, as its user, with the toolkit in place: modelsmith hook install REPOSITORY.",
        )
    lines = [line.removeprefix("remote: ").strip() for line in stderr.splitlines() if line.startswith("remote: ")]
    return GateNotCleared(
        "push-refused",
        f"The forge's hook refused: {' '.join(lines) or 'without a word'}",
        "Do what the hook asks for, then run the command again.",
    )
