"""How jobs are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Styled

if TYPE_CHECKING:
    from modelsmith.operations.job_view import JobView
    from modelsmith.operations.jobs_cancel import JobsCancelResult
    from modelsmith.operations.jobs_list import JobsListResult
    from modelsmith.operations.jobs_resume import JobsResumeResult
    from modelsmith.operations.jobs_show import JobsShowResult
    from modelsmith.operations.jobs_tail import JobsTailResult

_COLOURS = {"done": "green", "failed": "red", "interrupted": "yellow", "cancelled": "yellow"}


def listed(result: JobsListResult, page: Page) -> None:
    """Page of what ``modelsmith jobs list`` gives."""
    for job in result.jobs:
        page.line(
            Styled(f"{job.status:<12}", _COLOURS.get(job.status, "")),
            f" {job.job}  {job.operation} {job.cluster}  {_how_far(job)}",
        )
    if result.queued:
        page.line(f"{result.queued} wait for their turn")
    if result.older:
        page.line(f"and {result.older} older; --all shows them")
    elif not result.jobs:
        page.line("no jobs")


def shown(result: JobsShowResult, page: Page) -> None:
    """Page of what ``modelsmith jobs show`` gives."""
    _job(result.job, page)
    if result.error:
        page.rows([("error", str(result.error.get("message", ""))), ("mend", str(result.error.get("mend", "")))])


def changed(result: JobsCancelResult | JobsResumeResult, page: Page) -> None:
    """``modelsmith jobs cancel`` and ``jobs resume``."""
    _job(result.job, page)


def tail(result: JobsTailResult, page: Page) -> None:
    """Page of what ``modelsmith jobs tail`` gives."""
    page.words("\n".join(result.lines), most=len(result.lines))


def _job(job: JobView, page: Page) -> None:
    page.rows(
        [
            ("job", job.job),
            ("operation", f"{job.operation} {job.cluster}"),
            ("asked", job.asked_at),
            ("status", (Styled(job.status, _COLOURS.get(job.status, "")), f"  {_how_far(job)}")),
        ]
    )


def _how_far(job: JobView) -> str:
    if job.exit is not None:
        return f"exit code {job.exit}"
    counted = f" {job.done}/{job.total}" if job.total else ""
    remaining = f", about {job.minutes_left} minutes left" if job.minutes_left is not None else ""
    return f"{job.message}{counted}{remaining}"
