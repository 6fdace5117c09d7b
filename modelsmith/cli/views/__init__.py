"""Results for people: one view for each operation, in a module for each family; what has no view prints as fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelsmith.cli.page import Page
from modelsmith.cli.views import (
    agents,
    audit,
    change,
    clone,
    corpus,
    jobs,
    life,
    live,
    pull,
    routes,
    runbook,
    runs,
    signal,
    upstream,
)

if TYPE_CHECKING:
    from modelsmith.operations.contract import Result

View = Callable[[Any, Page], None]


def render(name: str, result: Result, page: Page) -> None:
    """Print the result of the operation of that name."""
    VIEWS.get(name, _fields)(result, page)


def _fields(result: Result, page: Page) -> None:
    page.rows([(name, str(value)) for name, value in result.model_dump(mode="json").items()])


VIEWS: dict[str, View] = {
    "init": clone.init,
    "validate": clone.validate,
    **{
        f"new {kind}": clone.new
        for kind in ("set", "capability", "scenario", "scenarios", "generator", "label", "cluster")
    },
    "agents-md": clone.agents_md,
    "doctor": clone.doctor,
    "iterate": life.iterate,
    "eval": runs.eval_view,
    "eval-changes": change.eval_changes_view,
    "diagnose": signal.diagnose,
    "why": signal.why,
    "capture": signal.capture,
    "run-pending": signal.run_pending,
    "accept-scenario": signal.accept_scenario,
    "review-synthetic": signal.review_synthetic,
    "strike": signal.strike,
    "train": signal.train,
    "diff-rubric": change.diff_rubric_view,
    "export": life.export,
    "promote": life.promote,
    "observe": life.observe,
    "rollback": life.rollback,
    "live": live.live,
    "status": clone.status,
    "results": runs.results_view,
    "compare": runs.compare,
    "lineage": life.lineage,
    "balance": corpus.balance,
    "composite-history": corpus.composite_history,
    "route": routes.route,
    "fleet": agents.fleet,
    "events": agents.events,
    "evidence": agents.evidence,
    "approvers": agents.approvers,
    "pr ask": agents.asked,
    "jobs list": jobs.listed,
    "jobs show": jobs.shown,
    "jobs tail": jobs.tail,
    "jobs cancel": jobs.changed,
    "jobs resume": jobs.changed,
    "pr list": pull.pr_list,
    "pr show": pull.pr_show,
    "check": pull.check,
    "pr open": pull.pr_open,
    "pr merge": pull.pr_merge,
    "pr receipts": pull.pr_receipts,
    "approve": pull.verdict_given,
    "reject": pull.verdict_given,
    "attest-reviews": pull.reviews_attested,
    "runbook list": runbook.listed,
    "runbook show": runbook.shown,
    "runbook run": runbook.played,
    "upstream status": upstream.status,
    "upstream pull": upstream.pull,
    "upstream contribute": upstream.contribute,
    "verify": clone.verify,
    "audit": audit.audited,
}
