"""What reaches the terminal: one JSON object or a view on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled, console_on, write_json
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.plaintext import visible
from modelsmith.schema.progress import Notify, Progress

if TYPE_CHECKING:
    from modelsmith.operations.contract import Result

PLAIN_EVERY_SECONDS = 5.0
"""How often progress prints a line where there is no terminal."""


def print_result(name: str, result: Result, as_json: bool) -> None:
    """The result as one JSON object, or as the view of that operation."""
    if as_json:
        write_json(result.model_dump(mode="json", by_alias=True))
        return
    from modelsmith.cli.views import render

    render(name, result, Page())


def print_error(error: ModelsmithError, as_json: bool) -> None:
    """An error object on stdout, or message and mend on stderr."""
    if as_json:
        write_json({**error.envelope(), "next": error.next and error.next.model_dump(mode="json")})
        return
    page = Page(sys.stderr)
    page.line(f"error ({error.code}): {error.message}", indent=0)
    for name in ("commit", "path"):
        value = error.details.get(name)
        if isinstance(value, str) and value not in error.message:
            page.line(f"{name}: {value}")
    problems = error.details.get("problems", [])
    if len(problems) == 1 and problems[0]["message"] in error.message:
        problems = []  # the error's own line and mend say it already
    for problem in problems:
        where = ":".join(str(part) for part in (problem["file"], problem["line"]) if part)
        field = f" {problem['field']}:" if problem["field"] else ""
        page.line(f"{where}:{field} {problem['message']}  -> {problem['mend']}")
    page.line(f"mend: {error.mend}")


def say(text: str, error: bool = False) -> None:
    """One line from the beginning of the line, on standard output or standard error."""
    Page(sys.stderr if error else sys.stdout).line(text, indent=0)


@contextmanager
def reporter(as_json: bool) -> Iterator[Notify]:
    """A progress sink, always on stderr: JSON lines for agents, bars on a terminal, a line now and then elsewhere."""
    if as_json or not sys.stderr.isatty():
        yield _now_and_then(write_progress if as_json else _say)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.fields[phase]:>9}", style="bold", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.description}", markup=False),
    )
    console = console_on(sys.stderr)
    page = Page.above(console)
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}
        rates = _Rates()

        def notify(progress: Progress) -> None:
            phase, message = (_narrow(visible(words)) for words in (progress.phase, progress.message))
            if not progress.total:
                page.line(Styled(f"{progress.phase:>9}", "bold"), f"  {progress.message}", indent=0)
                return
            task = tasks.get(phase)
            if task is None:
                task = tasks[phase] = bars.add_task("", total=progress.total, phase=phase, rate="")
            rate = rates.of(progress)
            speed = f"{rate:.1f}/s" if rate else ""
            bars.update(task, completed=progress.done, total=progress.total, description=message, rate=speed)
            if progress.done >= progress.total:
                del tasks[phase]

        yield notify


def _narrow(text: str) -> str:
    """Only what is one column wide everywhere: a bar is redrawn over itself, which a wrapped line is not."""
    return text.encode("ascii", "backslashreplace").decode()


def write_progress(progress: Progress, rate: float | None = None) -> None:
    """A sign of life as one JSON object on a line; `operations.contract.ProgressLine` is its form."""
    seconds_left, missing = progress.seconds_left, progress.total - progress.done
    if seconds_left is None and progress.total and (rate or not missing):
        seconds_left = missing / rate if rate else 0.0
    rounded = {
        "per_second": rate and round(rate, 3),
        "seconds_left": seconds_left if seconds_left is None else round(seconds_left, 1),
    }
    write_json(progress._asdict() | rounded, sys.stderr)


def _say(progress: Progress, rate: float | None) -> None:
    speed = f" ({rate:.1f}/s)" if rate else ""
    counted = f" {progress.done}/{progress.total}{speed}" if progress.total else ""
    say(f"{progress.phase}:{counted} {progress.message}", error=True)


def _now_and_then(write: Callable[[Progress, float | None], None]) -> Notify:
    last: dict[str, float] = {}
    rates = _Rates()

    def notify(progress: Progress) -> None:
        now = time.monotonic()
        rate = rates.of(progress)
        at_an_end = not 0 < progress.done < progress.total  # what begins says how long it will take
        if not progress.total or at_an_end or now - last.get(progress.phase, 0.0) >= PLAIN_EVERY_SECONDS:
            last[progress.phase] = now
            write(progress, rate)
            sys.stderr.flush()

    return notify


class _Rates:
    """How fast each phase goes, since the first that was heard of it."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def of(self, progress: Progress) -> float | None:
        """Units in a second; None while there is nothing to say."""
        now = time.monotonic()
        since, done_before = self._first.setdefault(progress.phase, (now, progress.done))
        if progress.done >= progress.total:
            del self._first[progress.phase]
        return (progress.done - done_before) / (now - since) if progress.done > done_before and now > since else None
