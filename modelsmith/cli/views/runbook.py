"""Views of runbooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelsmith.cli.page import Page, Part, Styled

if TYPE_CHECKING:
    from modelsmith.operations.runbook_list import RunbookListResult
    from modelsmith.operations.runbook_run import RunbookRunResult
    from modelsmith.operations.runbook_show import RunbookShowResult
    from modelsmith.operations.runbook_view import PlannedStep
    from modelsmith.operations.runbooks import ParameterView

_COLOURS = {
    "done": "green",
    "skipped": "dim",
    "waiting": "yellow",
    "failed": "red",
    "refused": "red",
    "planned": "cyan",
}


def listed(result: RunbookListResult, page: Page) -> None:
    """Page of what ``modelsmith runbook list`` gives."""
    for runbook in result.runbooks:
        page.line(Styled(runbook.runbook, "bold"), f"  {runbook.title}")
        page.line(f"owners {', '.join(runbook.owners) or 'nobody'}; {runbook.steps} steps", indent=2)
        _parameters(runbook.parameters, page)
    for broken in result.broken:
        page.line(Styled(broken.runbook, "red"), f"  cannot run: {broken.message}")
    if not result.runbooks and not result.broken:
        page.line("main has no runbooks")


def shown(result: RunbookShowResult, page: Page) -> None:
    """Page of what ``modelsmith runbook show`` gives."""
    page.rows(
        [
            ("runbook", f"{result.runbook}: {result.title}"),
            ("about", result.about),
            ("owners", ", ".join(result.owners) or "nobody"),
            ("digest", result.digest),
            ("main", result.main),
        ]
    )
    _parameters(result.parameters, page)
    page.gap()
    _plan(result.steps, page)


def played(result: RunbookRunResult, page: Page) -> None:
    """Page of what ``modelsmith runbook run`` gives."""
    page.rows(
        [
            ("runbook", result.runbook),
            ("digest", result.digest),
            ("run", result.run or "none: nothing was called"),
            ("state", Styled(result.state, _COLOURS[result.state])),
        ]
    )
    if result.state == "planned":
        page.gap()
        page.line("would be called:")
        _plan(result.plan, page)
        return
    page.gap()
    for step in result.steps:
        arguments = "".join(f" {name}={value}" for name, value in step.arguments.items())
        ended = "" if step.exit is None else f", ended with {step.exit}"
        head = f" {step.step}{ended}{', before' if step.before else ''}: {step.call}"
        page.line(Styled(f"{step.state:<8}", _COLOURS[step.state]), head, arguments)
    if result.state == "waiting":
        page.gap()
        page.line("asked: ", Styled(", ".join(result.waiting_for) or "nobody", "bold"))
        page.words(result.asks, indent=2)
    if result.state != "done":
        page.gap()
        page.line(f"to come: {', '.join(step.step for step in result.plan)}")


def _parameters(parameters: tuple[ParameterView, ...], page: Page) -> None:
    for parameter in parameters:
        needed = (
            "needed"
            if parameter.required
            else f"{parameter.default} when not given"
            if parameter.default is not None
            else "may be left out"
        )
        page.line(f"--param {parameter.name}=  {parameter.kind}, {needed}: {parameter.about}", indent=2)


def _plan(steps: tuple[PlannedStep, ...], page: Page) -> None:
    for step in steps:
        head: list[Part] = [Styled(step.step, "bold"), f"  {step.about}"]
        page.line(*head)
        page.line(f"$ {step.command}", indent=2)
        if step.when:
            page.line(f"only when {' and '.join(step.when)}", indent=2)
        if step.who:
            page.line(f"stops for {step.who}, unless {' and '.join(step.goes_on)}:", indent=2)
            page.words(step.asks, indent=3)
