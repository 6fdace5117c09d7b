"""The registry of error codes: what each means and what mends it, for agents and for docs/errors.md."""

from __future__ import annotations

import sys
from importlib import resources
from typing import NamedTuple

import yaml

from modelsmith.schema.errors import Exit


class ErrorCode(NamedTuple):
    """One error code: its class, exit code, meaning and mend."""

    code: str
    exit: Exit
    meaning: str
    """One sentence, true of every place that raises it."""
    mend: str
    """The next thing to do in general words; the error itself names file, place and command."""


def error_codes() -> dict[str, tuple[ErrorCode, ...]]:
    """All of them, by topic, in the order in which they are written in ``error_codes.yaml``."""
    text = resources.files("modelsmith.schema").joinpath("error_codes.yaml").read_text(encoding="utf-8")
    topics: dict[str, dict[str, tuple[int, str, str]]] = yaml.safe_load(text)
    return {
        topic: tuple(
            ErrorCode(code, Exit(exit_code), meaning, mend) for code, (exit_code, meaning, mend) in rows.items()
        )
        for topic, rows in topics.items()
    }


def errors_page() -> str:
    """docs/errors.md: one table for each topic."""
    lines = [_INTRODUCTION]
    for topic, codes in error_codes().items():
        lines += [f"## {topic}", "", "| Code | Exit | Meaning | Mend |", "|---|---|---|---|"]
        lines += [f"| `{entry.code}` | {int(entry.exit)} | {entry.meaning} | {entry.mend} |" for entry in codes]
        lines.append("")
    return "\n".join(lines)


_INTRODUCTION = """# Error codes

Every command that fails ends with one of these codes. Here you look up what a code means and whose move it is.

With `--json` the error is one object: `{code, message, mend, details, next}`. `message` and `mend` name the file, the
place and the command of this case and may change; code and exit code stay. A code has one exit code, wherever it
arises. `next` is the command of `mend` as operation and arguments, where it can be called as it stands, else null.
The exit codes are explained in [For agents](agents.md#exit-codes).

This page is made of `modelsmith/schema/error_codes.yaml`: `python -m modelsmith.schema.error_codes > docs/errors.md`.
A test holds every place in the code that raises an error to that file. `modelsmith schema export --results` writes
the same as JSON (`results/error-codes.json`).
"""

if __name__ == "__main__":
    sys.stdout.write(errors_page())
