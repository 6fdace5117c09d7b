"""Which operations are tools, and by which names agents know them.

A tool says nothing that the operations table says: types, roles, effects and texts are its operation's. What no tool
may ever be made of is a person's: approving, rejecting, keys. Nor does a tool take a path, since whoever calls it may
sit on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from modelsmith.mcp.names import Words
from modelsmith.mcp.schemas import answer_schema, input_schema, outline
from modelsmith.operations.contract import Result
from modelsmith.operations.table import OPERATIONS, Operation, Verb

ASKS = "ask_"
"""What the names of the tools begin with by which specialists are asked; a cluster's name follows."""
DESCRIBED = 1024
"""Characters of a tool's description, at most; an agent reads all of them at once."""


@dataclass(frozen=True)
class Tool:
    """One tool, by the name that agents know."""

    name: str
    operation: str
    named: Mapping[str, str] = field(default_factory=dict)
    """Argument of the tool -> field of the request."""
    without: tuple[str, ...] = ()
    """Fields of the request that are for the command line: they read or write beyond the clone and its forge."""

    @property
    def row(self) -> Operation:
        """Its operation's row of the table."""
        return _rows()[self.operation]

    def load(self) -> Verb:
        """The operation, with its types."""
        return self.row.load()

    def fields(self) -> dict[str, str]:
        """Argument -> field of the request, for each field that an agent may give."""
        names = {of: name for name, of in self.named.items()}
        request = self.load().request
        return {names.get(of, of): of for of in request.for_others() if of not in self.without}

    def description(self) -> str:
        """Description of the tool, for the model that chooses it."""
        row = self.row
        text = " ".join((self.load().request.__doc__ or "").split())
        return _begin_of(f"`{row.name}`: {row.summary} {text}".strip())

    def annotations(self) -> dict[str, bool]:
        """Hints by the protocol's names. No tool reaches beyond the clone, its forge and its models."""
        row = self.row
        return {
            "readOnlyHint": row.effect == "reads",
            "destructiveHint": row.replaces and row.effect != "reads",
            "idempotentHint": row.repeatable,
            "openWorldHint": False,
        }

    def schemas(self, in_the_end: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON Schema of the arguments, and in outline of the answer, as the list of tools shows them."""
        takes = input_schema(self.load().request, self.fields())
        return takes, outline(self.whole_answer(in_the_end))

    def whole_answer(self, in_the_end: bool = False) -> dict[str, Any]:
        """JSON Schema of the answer, with every field, what it means and which must be there."""
        return answer_schema(self.answer(in_the_end))

    def answer(self, in_the_end: bool = False) -> type[Result]:
        """What it answers, as a type: a long one at once, or ``in_the_end`` what its operation gives."""
        from modelsmith.operations.job_view import JobStarted

        return JobStarted if self.row.long and not in_the_end else self.load().result


def _begin_of(text: str) -> str:
    """The beginning of a text: as many whole sentences as may be shown."""
    return text if len(text) <= DESCRIBED else text[: text.rindex(". ", 0, DESCRIBED) + 1]


@cache
def _rows() -> dict[str, Operation]:
    return {operation.name: operation for operation in OPERATIONS}


_ALL = (
    Tool("modelsmith_status", "status"),
    Tool("modelsmith_fleet_status", "fleet"),
    Tool("modelsmith_fleet_health", "doctor"),
    Tool("modelsmith_composite_history", "composite-history"),
    Tool("modelsmith_balance", "balance"),
    Tool("modelsmith_eval_run", "eval"),
    Tool("modelsmith_eval_results", "results"),
    Tool("modelsmith_compare", "compare"),
    Tool("modelsmith_diagnose", "diagnose"),
    Tool("modelsmith_why", "why"),
    Tool("modelsmith_iterate", "iterate"),
    Tool("modelsmith_train_start", "train"),
    Tool("modelsmith_train_status", "jobs show", {"jobId": "job"}),
    Tool("modelsmith_jobs", "jobs list"),
    Tool("modelsmith_job_log", "jobs tail", {"jobId": "job"}),
    Tool("modelsmith_job_cancel", "jobs cancel", {"jobId": "job"}),
    Tool("modelsmith_job_resume", "jobs resume", {"jobId": "job"}),
    Tool("modelsmith_validate", "validate"),
    Tool("modelsmith_verify", "verify", without=("against",)),
    Tool("promote", "promote"),
    Tool("rollback", "rollback"),
    Tool("get_candidate", "pr show", without=("diff",)),
    Tool("request_approval", "pr ask"),
    Tool("pr_list", "pr list"),
    Tool("pr_merge", "pr merge"),
    Tool("evidence_bundle", "evidence"),
    Tool("policy_gate", "check", {"number": "pr"}, without=("range", "event", "report")),
    Tool("approver_chain", "approvers", {"number": "pr"}),
    Tool("lineage_query", "lineage"),
    Tool("review_synthetic", "review-synthetic"),
    Tool("diff_rubric", "diff-rubric"),
    Tool("modelsmith_strike", "strike"),
    Tool("accept_scenario", "accept-scenario", {"pass": "pass_"}),
    Tool("audit", "audit", {"from": "since", "to": "until"}),
    Tool("runbook_list", "runbook list"),
    Tool("runbook_show", "runbook show"),
    Tool("runbook_run", "runbook run", without=("dry_run",)),
    Tool("events", "events", without=("cloudevents",)),
)


def tools() -> Iterator[Tool]:
    """Every tool whose operation the table has."""
    return (tool for tool in _ALL if tool.operation in _rows())


def tools_of(role: str) -> Iterator[Tool]:
    """Tools that a session of the role may call."""
    return (tool for tool in tools() if role in tool.row.roles)


def tool_of(operation: str) -> Tool | None:
    """The tool that is made of an operation; None where none is."""
    return next((tool for tool in tools() if tool.operation == operation), None)


def find_tool(name: str) -> Tool | None:
    """The tool of that name; None where there is none."""
    return next((tool for tool in tools() if tool.name == name), None)


@cache
def steps() -> Words:
    """What a step to take next may be called: the operations of the table, which agents read beside each tool."""
    return dict.fromkeys(("operation", "call"), frozenset(_rows()))
