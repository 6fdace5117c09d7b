"""``modelsmith validate``: every mistake in every governed file, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.repository.budgets import work_tree_problems
from modelsmith.repository.paths import inside
from modelsmith.repository.secrets import name_problems, secret_problems
from modelsmith.repository.validate import reserved, validate
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import sort_key
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import Exit


class ValidateRequest(Request):
    """Names file, line, field and mend for every mistake; with PATHs, only what lies below them.

    It also says how near the nearest held-out and core texts are to each other.
    """

    paths: Annotated[tuple[Path, ...], Field(description="Files or folders; all when none is given."), ARGUMENT] = ()


class ProblemView(Frozen):
    """One mistake."""

    file: str
    line: int | None
    field: str
    message: str
    mend: str


class Nearest(Frozen):
    """The nearest pair of two groups of texts that must stay apart."""

    similarity: float
    limit: float
    first: str
    second: str


class ValidateResult(Result):
    """What was checked and what is wrong."""

    valid: bool
    files: int
    kinds: dict[str, int]
    problems: tuple[ProblemView, ...]
    nearest: dict[str, Nearest]
    """By eval set."""

    @override
    def exit_code(self) -> Exit:
        return Exit.DONE if self.valid else Exit.INVALID


def run(workspace: Workspace, request: ValidateRequest) -> ValidateResult:
    """Check the work tree as it is on disk, and that git tracks nothing that no commit may hold."""
    report = validate(workspace.files, tuple(inside(workspace.root, path) for path in request.paths))
    tracked = workspace.git.run("ls-files", "-z").decode("utf-8", "replace").split("\0")
    large = work_tree_problems(workspace.git, workspace.files, report.paths)
    secrets = [*name_problems(report.paths), *secret_problems(workspace.files, report.paths)]
    problems = (*reserved(tracked[:-1]), *sorted([*report.problems, *large, *secrets], key=sort_key))
    return ValidateResult(
        valid=not problems,
        files=report.files,
        kinds=report.kinds,
        problems=tuple(ProblemView(**vars(problem)) for problem in problems),
        nearest={name: Nearest(**vars(pair)) for name, pair in report.nearest.items()},
    )
