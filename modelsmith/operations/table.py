"""The table of operations: what command line, tools for agents, dashboard and runbooks are made of.

Importing it imports none of the operations.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from modelsmith.schema.errors import InvalidInput

if TYPE_CHECKING:
    from modelsmith.operations.contract import Request, Result
    from modelsmith.repository.workspace import Workspace

Role = Literal["operator", "reviewer", "promoter"]
"""Who an agent's session is: ``operator`` drives the loop, ``reviewer`` reads, ``promoter`` moves specialists on."""
Effect = Literal["reads", "writes", "proposes", "decides"]
"""The kind of change that an operation makes.

``reads``: nothing, beside a picture, or what a forge shows its readers, where its asker wants that. ``writes``: files
of the clone, or what it has measured. ``proposes``: pull requests at the forge; main moves only as far as the gate lets
it. ``decides``: the gate itself, by a person's verdict.
"""
Key = Literal["none", "listed", "person"]
"""Whose key an operation takes: nobody's, that of anyone in people.yaml (the harness too), or only a person's own."""

OPERATOR: tuple[Role, ...] = ("operator",)
LOOKERS: tuple[Role, ...] = ("operator", "reviewer")
MOVERS: tuple[Role, ...] = ("operator", "promoter")
EVERYONE: tuple[Role, ...] = get_args(Role)
PEOPLE: tuple[Role, ...] = ()
"""No role: no tool for agents is made of it."""


class Verb(NamedTuple):
    """An operation of the table, loaded."""

    request: type[Request]
    result: type[Result]
    run: Callable[[Workspace, Any], Result]


@dataclass(frozen=True)
class Operation:
    """One verb. ``name`` is the command line's words, ``module`` holds ``run(workspace, request) -> result``."""

    name: str
    module: str
    request: str
    """Type of the request, by its name in the module."""
    result: str
    roles: tuple[Role, ...]
    """Roles that may call it."""
    effect: Effect
    group: str
    summary: str
    key: Key = "none"
    replaces: bool = False
    """It can take away or write over what stands: traffic, an open pull request, a file that its asker names."""
    repeatable: bool = True
    """Called again with the same arguments, it changes nothing more."""
    anywhere: bool = False
    """Runs outside a promotion repository too."""
    long: bool = False
    """It may take minutes or hours: whoever cannot wait starts it as a job."""

    def load(self) -> Verb:
        """Import the module, and with it whatever heavy libraries the verb needs."""
        module = importlib.import_module(f"modelsmith.operations.{self.module}")
        return Verb(getattr(module, self.request), getattr(module, self.result), module.run)


def known_role(role: str | None) -> Role | None:
    """Role in ``MODELSMITH_ROLE``; None where it is not set.

    Raises:
        InvalidInput: ``no-such-role``.
    """
    valid = next((choice for choice in EVERYONE if choice == role), None)
    if role is not None and valid is None:
        raise InvalidInput(
            "no-such-role",
            f"MODELSMITH_ROLE is '{role}', which is no role",
            f"Set it to one of {', '.join(EVERYONE)}, or not at all.",
            role=role,
            roles=list(EVERYONE),
        )
    return valid


def require_role(operation: Operation, role: str | None) -> None:
    """Refuse what a session of this role may not call; without a role, nothing is refused.

    Raises:
        InvalidInput: ``no-such-role``, ``outside-role``.
    """
    if known_role(role) is not None and role not in operation.roles:
        needed = " or ".join(operation.roles)
        raise InvalidInput(
            "outside-role",
            f"`modelsmith {operation.name}` needs the role {needed}; this session's is {role}"
            if needed
            else f"`modelsmith {operation.name}` is for people; no role may call it, and this session's is {role}",
            f"Leave it to a session of the role {needed}."
            if needed
            else "A person runs it in a session of their own, where MODELSMITH_ROLE is not set.",
            operation=operation.name,
            role=role,
            roles=list(operation.roles),
        )


LOOP = "Run the loop"
LOOK = "Look"
DECIDE = "Decide"
RUN = "Follow a runbook"
SHARE = "Share the toolkit"
PROVE = "Prove"
SET_UP = "Set up"
AUTHOR = "Write your field"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "init",
        "init",
        "InitRequest",
        "InitResult",
        OPERATOR,
        "writes",
        SET_UP,
        "Make a promotion repository from a kit.",
        anywhere=True,
    ),
    Operation(
        "validate",
        "validate",
        "ValidateRequest",
        "ValidateResult",
        LOOKERS,
        "reads",
        SET_UP,
        "Check every governed file and name each mistake.",
    ),
    Operation(
        "doctor",
        "doctor",
        "DoctorRequest",
        "DoctorResult",
        LOOKERS,
        "reads",
        SET_UP,
        "Say what this machine and clone can and cannot do.",
    ),
    Operation(
        "schema export",
        "schema_export",
        "SchemaExportRequest",
        "SchemaExportResult",
        OPERATOR,
        "writes",
        SET_UP,
        "Write JSON Schemas of the governed files for editors.",
        replaces=True,
        anywhere=True,
    ),
    Operation(
        "new set",
        "new_set",
        "NewSetRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Begin an eval set: its rule and its rubric.",
    ),
    Operation(
        "new capability",
        "new_capability",
        "NewCapabilityRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Begin a skill: a case of each exam.",
    ),
    Operation(
        "new scenario",
        "new_scenario",
        "NewScenarioRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Add a case to an exam.",
        repeatable=False,
    ),
    Operation(
        "new scenarios",
        "new_scenarios",
        "NewScenariosRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Add the cases of a table.",
        repeatable=False,
    ),
    Operation(
        "new generator",
        "new_generator",
        "NewGeneratorRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Add practice for a skill.",
        repeatable=False,
    ),
    Operation(
        "new label",
        "new_label",
        "NewLabelRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Add an answer that you marked, for the judge.",
        repeatable=False,
    ),
    Operation(
        "new cluster",
        "new_cluster",
        "NewClusterRequest",
        "NewResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Begin a specialist's line of work.",
    ),
    Operation(
        "agents-md",
        "agents_md",
        "AgentsMdRequest",
        "AgentsMdResult",
        OPERATOR,
        "writes",
        AUTHOR,
        "Write the contract that agents read: AGENTS.md.",
    ),
    Operation(
        "capture",
        "capture",
        "CaptureRequest",
        "CaptureResult",
        OPERATOR,
        "proposes",
        AUTHOR,
        "Stage failures of production as pending cases, without what is private.",
        key="listed",
    ),
    Operation(
        "run-pending",
        "run_pending",
        "RunPendingRequest",
        "RunPendingResult",
        OPERATOR,
        "writes",
        LOOP,
        "What a model answers to pending cases; nothing scores it.",
    ),
    Operation(
        "accept-scenario",
        "accept_scenario",
        "AcceptScenarioRequest",
        "AcceptScenarioResult",
        OPERATOR,
        "proposes",
        AUTHOR,
        "Make a scenario of a pending case, by pull request.",
        key="listed",
    ),
    Operation(
        "iterate",
        "iterate",
        "IterateRequest",
        "IterateResult",
        OPERATOR,
        "proposes",
        LOOP,
        "Eval, diagnose, train and promote until a person must decide.",
        replaces=True,
        repeatable=False,
        long=True,
    ),
    Operation(
        "eval",
        "evaluate",
        "EvalRequest",
        "EvalResult",
        OPERATOR,
        "writes",
        LOOP,
        "Run the governed eval set against a cluster's model.",
        long=True,
    ),
    Operation(
        "eval-changes",
        "eval_changes",
        "EvalChangesRequest",
        "EvalChangesResult",
        OPERATOR,
        "writes",
        LOOP,
        "The governed eval of whatever a change is about, for CI.",
        replaces=True,
    ),
    Operation(
        "diagnose",
        "diagnose",
        "DiagnoseRequest",
        "DiagnoseResult",
        LOOKERS,
        "reads",
        LOOP,
        "Group an eval's failures and say what to train on.",
    ),
    Operation(
        "why",
        "why",
        "WhyRequest",
        "WhyResult",
        LOOKERS,
        "reads",
        LOOK,
        "What became of a failing scenario or pattern, iteration by iteration.",
    ),
    Operation(
        "review-synthetic",
        "review_synthetic",
        "ReviewSyntheticRequest",
        "ReviewSyntheticResult",
        LOOKERS,
        "reads",
        LOOP,
        "The training rows of an iteration: samples, balance, nearest scored texts.",
    ),
    Operation(
        "strike",
        "strike",
        "StrikeRequest",
        "StrikeResult",
        OPERATOR,
        "writes",
        LOOP,
        "Take rows out of an iteration before it trains on them.",
        replaces=True,
        repeatable=False,
    ),
    Operation(
        "train",
        "train",
        "TrainRequest",
        "TrainResult",
        OPERATOR,
        "writes",
        LOOP,
        "Train one stage on a run's failures, as a trial.",
        long=True,
    ),
    Operation(
        "export",
        "export",
        "ExportRequest",
        "ExportResult",
        OPERATOR,
        "proposes",
        LOOP,
        "Make weights that stand alone from an adapter, and test them.",
    ),
    Operation(
        "promote",
        "promote",
        "PromoteRequest",
        "PromoteResult",
        MOVERS,
        "proposes",
        LOOP,
        "Take a specialist to its next state by pull request.",
    ),
    Operation(
        "observe",
        "observe",
        "ObserveRequest",
        "ObserveResult",
        OPERATOR,
        "proposes",
        LOOP,
        "Repeat a specialist's eval as a second observer, and sign it.",
        repeatable=False,
    ),
    Operation(
        "rollback",
        "rollback",
        "RollbackRequest",
        "RollbackResult",
        MOVERS,
        "proposes",
        LOOP,
        "Undo the latest deployment; ask to clear the hold.",
        replaces=True,
    ),
    Operation(
        "live",
        "live",
        "LiveRequest",
        "LiveResult",
        LOOKERS,
        "reads",
        LOOK,
        "A deployment under watch against its incumbent, by live traffic.",
        replaces=True,
    ),
    Operation(
        "status",
        "status",
        "StatusRequest",
        "StatusResult",
        EVERYONE,
        "reads",
        LOOK,
        "Who serves, what waits for whom, and what to do next.",
    ),
    Operation(
        "results",
        "results",
        "ResultsRequest",
        "ResultsResult",
        LOOKERS,
        "reads",
        LOOK,
        "Results of an eval run, by tag.",
    ),
    Operation(
        "export-inspect",
        "export_inspect",
        "ExportInspectRequest",
        "ExportInspectResult",
        OPERATOR,
        "writes",
        LOOK,
        "An eval run as a log for inspect_ai's viewer.",
        replaces=True,
    ),
    Operation(
        "compare",
        "compare",
        "CompareRequest",
        "CompareResult",
        LOOKERS,
        "reads",
        LOOK,
        "Two eval runs side by side: which scenarios flipped.",
    ),
    Operation(
        "diff-rubric",
        "diff_rubric",
        "DiffRubricRequest",
        "DiffRubricResult",
        LOOKERS,
        "reads",
        LOOK,
        "What a rubric or scenario change does to verdicts and gates.",
    ),
    Operation(
        "lineage",
        "lineage",
        "LineageRequest",
        "LineageResult",
        LOOKERS,
        "reads",
        LOOK,
        "Where a specialist comes from, back to the base model.",
    ),
    Operation(
        "composite-history",
        "composite_history",
        "CompositeHistoryRequest",
        "CompositeHistoryResult",
        LOOKERS,
        "reads",
        LOOK,
        "How a cluster's composite moved: every run, its interval and what came of it.",
        replaces=True,
    ),
    Operation(
        "balance",
        "balance",
        "BalanceRequest",
        "BalanceResult",
        LOOKERS,
        "reads",
        LOOK,
        "What an eval set asks about and what its composite hangs on.",
        replaces=True,
    ),
    Operation(
        "route",
        "route",
        "RouteRequest",
        "RouteResult",
        LOOKERS,
        "reads",
        LOOK,
        "Where requests would go by the rules here, and what a change of rules moves.",
    ),
    Operation(
        "fleet",
        "fleet",
        "FleetRequest",
        "FleetResult",
        EVERYONE,
        "reads",
        LOOK,
        "This machine at work: clusters, jobs, GPUs.",
    ),
    Operation(
        "events",
        "events",
        "EventsRequest",
        "EventsResult",
        LOOKERS,
        "reads",
        LOOK,
        "What has happened in this clone, as typed events.",
    ),
    Operation(
        "evidence",
        "evidence",
        "EvidenceRequest",
        "EvidenceResult",
        LOOKERS,
        "reads",
        LOOK,
        "What a specialist's promotion rests on.",
    ),
    Operation(
        "jobs list",
        "jobs_list",
        "JobsListRequest",
        "JobsListResult",
        LOOKERS,
        "reads",
        LOOK,
        "Long operations that go on by themselves.",
    ),
    Operation(
        "jobs show",
        "jobs_show",
        "JobsShowRequest",
        "JobsShowResult",
        LOOKERS,
        "reads",
        LOOK,
        "One job: how far it is, and what came of it.",
    ),
    Operation(
        "jobs tail",
        "jobs_tail",
        "JobsTailRequest",
        "JobsTailResult",
        LOOKERS,
        "reads",
        LOOK,
        "The last lines of a job's log.",
    ),
    Operation(
        "jobs cancel",
        "jobs_cancel",
        "JobsCancelRequest",
        "JobsCancelResult",
        OPERATOR,
        "writes",
        LOOP,
        "End a job that runs or waits.",
        replaces=True,
    ),
    Operation(
        "jobs resume",
        "jobs_resume",
        "JobsResumeRequest",
        "JobsResumeResult",
        OPERATOR,
        "writes",
        LOOP,
        "Let a job go on that a reboot or a cancel ended.",
    ),
    Operation(
        "pr list",
        "pr_list",
        "PrListRequest",
        "PrListResult",
        EVERYONE,
        "reads",
        DECIDE,
        "Pull requests and what each waits for.",
    ),
    Operation(
        "pr show",
        "pr_show",
        "PrShowRequest",
        "PrShowResult",
        EVERYONE,
        "reads",
        DECIDE,
        "One pull request: evidence, gate and missing approvals.",
    ),
    Operation(
        "check",
        "check",
        "CheckRequest",
        "CheckedResult",
        EVERYONE,
        "reads",
        DECIDE,
        "The gate's seven answers about a pull request, for people and for CI.",
        replaces=True,
    ),
    Operation(
        "approvers",
        "approvers",
        "ApproversRequest",
        "ApproversResult",
        EVERYONE,
        "reads",
        DECIDE,
        "Who decides each step of a specialist's life.",
    ),
    Operation(
        "pr ask",
        "pr_ask",
        "PrAskRequest",
        "PrAskResult",
        MOVERS,
        "proposes",
        DECIDE,
        "Ask whoever must approve a pull request.",
    ),
    Operation(
        "pr open",
        "pr_open",
        "PrOpenRequest",
        "PrOpenResult",
        MOVERS,
        "proposes",
        DECIDE,
        "Propose the commits of a branch as a pull request.",
        key="listed",
    ),
    Operation(
        "pr merge",
        "pr_merge",
        "PrMergeRequest",
        "PrMergeResult",
        MOVERS,
        "proposes",
        DECIDE,
        "Merge a pull request whose gate is open.",
        key="listed",
    ),
    Operation(
        "pr receipts",
        "pr_receipts",
        "PrReceiptsRequest",
        "PrReceiptsResult",
        MOVERS,
        "proposes",
        DECIDE,
        "Add the receipts of what the forge merged by itself.",
        key="listed",
    ),
    Operation(
        "pr close",
        "pr_close",
        "PrCloseRequest",
        "PrCloseResult",
        MOVERS,
        "proposes",
        DECIDE,
        "Close a pull request without merging it.",
        key="listed",
        replaces=True,
    ),
    Operation(
        "approve",
        "approve",
        "ApproveRequest",
        "VerdictResult",
        PEOPLE,
        "decides",
        DECIDE,
        "Approve a change with your own key.",
        key="person",
        repeatable=False,
    ),
    Operation(
        "attest-reviews",
        "attest_reviews",
        "AttestReviewsRequest",
        "AttestReviewsResult",
        OPERATOR,
        "proposes",
        DECIDE,
        "Sign what GitHub says of reviews, in a workflow of main.",
        repeatable=False,
    ),
    Operation(
        "reject",
        "reject",
        "RejectRequest",
        "VerdictResult",
        PEOPLE,
        "decides",
        DECIDE,
        "Reject a change with your own key.",
        key="person",
        repeatable=False,
    ),
    Operation(
        "runbook list",
        "runbook_list",
        "RunbookListRequest",
        "RunbookListResult",
        EVERYONE,
        "reads",
        RUN,
        "The runbooks of main, and who owns them.",
    ),
    Operation(
        "runbook show",
        "runbook_show",
        "RunbookShowRequest",
        "RunbookShowResult",
        EVERYONE,
        "reads",
        RUN,
        "One runbook: what each step would call, and where a person is asked.",
    ),
    Operation(
        "runbook run",
        "runbook_run",
        "RunbookRunRequest",
        "RunbookRunResult",
        MOVERS,
        "proposes",
        RUN,
        "Run a runbook to its end or to the next person; it goes on where it stopped.",
        replaces=True,
        repeatable=False,
        long=True,
    ),
    Operation(
        "upstream status",
        "upstream_status",
        "UpstreamStatusRequest",
        "UpstreamStatusResult",
        LOOKERS,
        "reads",
        SHARE,
        "What changed in the toolkit's own repository, and what differs here.",
    ),
    Operation(
        "upstream pull",
        "upstream_pull",
        "UpstreamPullRequest",
        "UpstreamPullResult",
        OPERATOR,
        "writes",
        SHARE,
        "Bring the toolkit's changes into a branch; a team's files stay.",
    ),
    Operation(
        "upstream contribute",
        "upstream_contribute",
        "UpstreamContributeRequest",
        "UpstreamContributeResult",
        OPERATOR,
        "writes",
        SHARE,
        "Put a change on upstream's main, with nothing else of ours.",
    ),
    Operation(
        "verify",
        "verify",
        "VerifyRequest",
        "VerifyResult",
        LOOKERS,
        "reads",
        PROVE,
        "Replay the history offline: signatures, approvals, evidence.",
    ),
    Operation(
        "audit",
        "audit",
        "AuditRequest",
        "AuditResult",
        LOOKERS,
        "reads",
        PROVE,
        "What main took in from one date to another, sealed for an auditor.",
        replaces=True,
    ),
)


def find(name: str) -> Operation:
    """The operation of that name."""
    return next(operation for operation in OPERATIONS if operation.name == name)
