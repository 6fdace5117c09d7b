"""The table that click commands, tools and docs are made of. Importing it imports none of the operations."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_type_hints

if TYPE_CHECKING:
    from modelsmith.operations.contract import Request, Result
    from modelsmith.repository.workspace import Workspace

Role = Literal["operator", "reviewer", "promoter"]
Effect = Literal["reads", "writes", "person"]
"""``person``: only with a person's own key; no tool for agents is made of it."""


class Verb(NamedTuple):
    """An operation, loaded."""

    request: type[Request]
    result: type[Result]
    run: Callable[[Workspace, Any], Result]


@dataclass(frozen=True)
class Operation:
    """One verb. ``name`` is the command line's words, ``module`` holds ``run(workspace, request) -> result``."""

    name: str
    module: str
    role: Role
    effect: Effect
    group: str
    summary: str
    anywhere: bool = False
    """Runs outside a promotion repository too."""

    def load(self) -> Verb:
        """Import the module, and with it whatever heavy libraries the verb needs."""
        run = importlib.import_module(f"modelsmith.operations.{self.module}").run
        types = get_type_hints(run)
        return Verb(types["request"], types["return"], run)


LOOP = "Run the loop"
LOOK = "Look"
DECIDE = "Decide"
PROVE = "Prove"
SET_UP = "Set up"
AUTHOR = "Write your field"

OPERATIONS: tuple[Operation, ...] = (
    Operation("init", "init", "operator", "writes", SET_UP, "Make a promotion repository from a kit.", anywhere=True),
    Operation("validate", "validate", "reviewer", "reads", SET_UP, "Check every governed file and name each mistake."),
    Operation("doctor", "doctor", "reviewer", "reads", SET_UP, "Say what this machine and clone can and cannot do."),
    Operation(
        "schema export",
        "schema_export",
        "reviewer",
        "writes",
        SET_UP,
        "Write JSON Schemas of the governed files for editors.",
        anywhere=True,
    ),
    Operation("new set", "new_set", "operator", "writes", AUTHOR, "Begin an eval set: its rule and its rubric."),
    Operation("new capability", "new_capability", "operator", "writes", AUTHOR, "Begin a skill: a case of each exam."),
    Operation("new scenario", "new_scenario", "operator", "writes", AUTHOR, "Add a case to an exam."),
    Operation("new scenarios", "new_scenarios", "operator", "writes", AUTHOR, "Add the cases of a table."),
    Operation("new generator", "new_generator", "operator", "writes", AUTHOR, "Add practice for a skill."),
    Operation("new label", "new_label", "operator", "writes", AUTHOR, "Add an answer that you marked, for the judge."),
    Operation("new cluster", "new_cluster", "operator", "writes", AUTHOR, "Begin a specialist's line of work."),
    Operation(
        "iterate",
        "iterate",
        "operator",
        "writes",
        LOOP,
        "Eval, diagnose, train and promote until a person must decide.",
    ),
    Operation("eval", "evaluate", "operator", "writes", LOOP, "Run the governed eval set against a cluster's model."),
    Operation("diagnose", "diagnose", "operator", "reads", LOOP, "Group an eval's failures and say what to train on."),
    Operation("promote", "promote", "promoter", "writes", LOOP, "Take a specialist to its next state by pull request."),
    Operation("rollback", "rollback", "promoter", "writes", LOOP, "Undo the latest deployment; ask to clear the hold."),
    Operation("status", "status", "reviewer", "reads", LOOK, "Who serves, what waits for whom, and what to do next."),
    Operation("results", "results", "reviewer", "reads", LOOK, "Results of an eval run, by tag."),
    Operation(
        "export-inspect", "export_inspect", "operator", "writes", LOOK, "An eval run as a log for inspect_ai's viewer."
    ),
    Operation("compare", "compare", "reviewer", "reads", LOOK, "Two eval runs side by side: which scenarios flipped."),
    Operation(
        "diff-rubric",
        "diff_rubric",
        "reviewer",
        "reads",
        LOOK,
        "What a rubric or scenario change does to verdicts and gates.",
    ),
    Operation(
        "lineage", "lineage", "reviewer", "reads", LOOK, "Where a specialist comes from, back to the base model."
    ),
    Operation(
        "composite-history",
        "composite_history",
        "reviewer",
        "reads",
        LOOK,
        "How a cluster's composite moved: every run, its interval and what came of it.",
    ),
    Operation(
        "balance", "balance", "reviewer", "reads", LOOK, "What an eval set asks about and what its composite hangs on."
    ),
    Operation("pr list", "pr_list", "reviewer", "reads", DECIDE, "Pull requests and what each waits for."),
    Operation(
        "pr show", "pr_show", "reviewer", "reads", DECIDE, "One pull request: evidence, gate and missing approvals."
    ),
    Operation("pr open", "pr_open", "promoter", "writes", DECIDE, "Propose the commits of a branch as a pull request."),
    Operation("pr merge", "pr_merge", "promoter", "writes", DECIDE, "Merge a pull request whose gate is open."),
    Operation("pr close", "pr_close", "promoter", "writes", DECIDE, "Close a pull request without merging it."),
    Operation("approve", "approve", "reviewer", "person", DECIDE, "Approve a change with your own key."),
    Operation("reject", "reject", "reviewer", "person", DECIDE, "Reject a change with your own key."),
    Operation(
        "verify", "verify", "reviewer", "reads", PROVE, "Replay the history offline: signatures, approvals, evidence."
    ),
)


def find(name: str) -> Operation:
    """The operation of that name."""
    return next(operation for operation in OPERATIONS if operation.name == name)
