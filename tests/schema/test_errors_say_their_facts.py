"""What an error says in its sentence about one thing, `details` says too: agents read no prose."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import modelsmith

KINDS = {"InvalidInput", "GateNotCleared", "WaitingForPerson", "IntegrityFailure", "InfrastructureFailure"}
BEFORE_ANY_RESULT = {"cli/commands.py", "cli/main.py", "operations/init.py"}
"""Where options are read: the sentence quotes what was typed."""

PROSE = {"problem", "action"}
"""Variables that hold part of the sentence, not a fact."""


def silent(root: Path) -> Iterator[str]:
    """Errors whose sentence has a variable by its own name, and whose details are empty."""
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for call in ast.walk(ast.parse(path.read_text())) if name not in BEFORE_ANY_RESULT else ():
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") not in KINDS or call.keywords:
                continue
            if len(call.args) == 3 and isinstance(call.args[1], ast.JoinedStr):
                parts = [part.value for part in call.args[1].values if isinstance(part, ast.FormattedValue)]
                names = {part.id for part in parts if isinstance(part, ast.Name) and not part.id.isupper()}
                if names - PROSE:
                    yield f"{name}:{call.lineno}: {', '.join(sorted(names))}"


def test_an_error_that_speaks_of_something_names_it_in_its_details():
    assert list(silent(Path(modelsmith.__file__).parent)) == []
