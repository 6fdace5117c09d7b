"""The decision of a local forge's ``pre-receive`` hook. Runs the toolkit that is installed there; the push is data."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from modelsmith.forges.pre_receive import check_push, parse_updates
from modelsmith.forges.reader import OUTLINES
from modelsmith.forges.refusal import refusal_lines
from modelsmith.repository.kept_facts import GOVERNED, KeptFacts
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.workspace import home
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.importing import importing
from modelsmith.schema.system import known_failures

if TYPE_CHECKING:
    from modelsmith.operations.push_to_main import PushToMain


def run(stdin: str) -> int:
    """Judge every update that git announces on stdin; returns the hook's exit status, the reason is on stderr."""
    try:
        with known_failures():
            _check(stdin)
    except ModelsmithError as error:
        sys.stderr.write(refusal_lines(error))
        return 1
    return 0


def _check(stdin: str) -> None:
    now = datetime.now(UTC)

    @cache
    def gate() -> PushToMain:
        """Imported when main is to move: most pushes only add a word to a pull request."""
        with importing():
            from modelsmith.operations.push_to_main import PushToMain

        return PushToMain(git, now, governed)

    with ObjectReader(Path(os.environ.get("GIT_DIR", ".")).resolve()) as git:
        logs, governed = (KeptFacts(_home(), kind, str(git.path)) for kind in (OUTLINES, GOVERNED))
        check_push(
            git,
            parse_updates(stdin),
            lambda *push: gate().decide(*push),
            lambda *due: gate().receipts(*due),
            facts=(logs, governed),
        )
        logs.save()
        governed.save()


def _home() -> Path | None:
    with suppress(InvalidInput):
        return home()
    return None
