"""``modelsmith accept-scenario``: a pending case becomes a scenario of the governed set, by pull request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from modelsmith.forges.port import Proposal
from modelsmith.loop.neighbours import Neighbours
from modelsmith.loop.taught import taught
from modelsmith.operations.authoring import OpenSet
from modelsmith.operations.capture import pending_cases, pending_files
from modelsmith.operations.contract import ARGUMENT, Cli, Request, Result
from modelsmith.operations.new_scenario import STEMS, case_draft, case_path
from modelsmith.operations.pr_merge import open_merger
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import ident
from modelsmith.repository.drafts import free_name, yaml_bytes
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.secrets import refuse_secret
from modelsmith.repository.sets import read_lines
from modelsmith.repository.tree import OverlaidTree
from modelsmith.repository.validate import validate
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import invalid
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.pending import Pending


class AcceptScenarioRequest(Request):
    """Makes a scenario of a pending case, in core, held-out or micro, and takes the case from the pending ones.

    Both in one pull request, which the owner of the set decides. What was asked is the case's; what a right answer is,
    a person says here: the model's own answer was wrong.
    """

    id: Annotated[str, Field(description="Id of the pending case."), ARGUMENT]
    capability: Annotated[str, Field(description="Skill under test.")]
    part: Annotated[Literal["core", "held-out", "micro"], Field(description="Exam that it is to belong to.")] = "core"
    answer: Annotated[
        tuple[str, ...], Field(min_length=1, description="The right answer, FIELD=VALUE. Repeat for each field.")
    ]
    pass_: Annotated[str, Field(description="What a right answer recognises here, for people."), Cli(option="--pass")]
    fail: Annotated[str, Field(description="The tempting wrong answer, and why it is wrong, for people.")]
    point: Annotated[str | None, Field(description="Rubric point that pass and fail speak of.")] = None
    risk: Annotated[Literal["low", "medium", "high"], Field(description="Damage when the answer is wrong.")]
    lens: Annotated[str, Field(description="Whose question it is, in one word: nurse, trader.")]
    outcome: Annotated[str, Field(description="What is at stake, in one word: delay, overpay.")]
    critical: Annotated[bool, Field(description="It must pass, whatever else does.")] = False
    key: Annotated[
        Path | None, Field(description="Propose as the holder of this SSH key instead of as the clone's harness.")
    ] = None


class AcceptScenarioResult(Result):
    """The scenario that was proposed, and its pull request."""

    scenario: str
    path: str
    pull: PullView


def run(workspace: Workspace, request: AcceptScenarioRequest) -> AcceptScenarioResult:
    """Propose a pending case as a scenario of the governed set."""
    for option, text in (("--pass", request.pass_), ("--fail", request.fail)):
        refuse_secret(option, text)
    merger = open_merger(workspace, request.key)
    git = workspace.git
    main = read_governed_state(git, merger.forge.fetch_into(git))
    case, other_files = _case(main, request.id)
    open_set = OpenSet(workspace, case.set, main.tree)
    open_set.require_capability(request.capability)
    name = free_name(f"{request.capability}-{STEMS[request.part]}", open_set.scenario_ids())
    draft = case_draft(open_set, request, request.capability, name, case.messages[-1].content)
    draft["messages"] = [message.model_dump(mode="json") for message in case.messages]
    target = case_path(open_set, request.part, request.capability, name)
    files: dict[str, bytes | None] = {target: yaml_bytes(draft), **other_files}
    _refuse_mistakes(main, open_set.folder, {target: yaml_bytes(draft)})
    taught_note = _taught(workspace, main, case, request.part)
    title = f"{case.id} becomes {name}, a scenario of {request.part}"
    head = git.commit_files(main.tree.commit, files, f"{title}\n", ident(merger))
    like = Neighbours(load_eval_set(main.tree, case.set)).by_words(case.messages[-1].content)
    near = ", ".join(f"{neighbour.scenario} {neighbour.similarity:.2f}" for neighbour in like) or "none"
    pull = merger.forge.open(
        Proposal(
            branch=f"accept/{case.id}",
            title=title,
            body=f"From {case.source}, asked {case.seen} times. Nearest scenarios: {near}.{taught_note}{_whose(case)}",
            head=head,
            base=main.tree.commit,
            requester=merger.actor,
        )
    )
    announce(merger.forge, main, pull)
    return AcceptScenarioResult(scenario=name, path=target, pull=view(main, pull))


def _taught(workspace: Workspace, main: GovernedState, case: Pending, part: str) -> str:
    """Sentence about trainings on this case.

    Raises:
        InvalidInput: ``trained-on`` for a case that is to be held out: whoever was trained on it knows the answer.
    """
    limit = float(load_eval_set(main.tree, case.set).evalset.separation.training_to_scored)
    text = "\n".join(message.content for message in case.messages)
    neighbours = taught(workspace, main, case.set, [text], limit)
    names = ", ".join(f"{name} {similarity:.2f}" for name, similarity in neighbours.near.items())
    if names and part == "held-out":
        raise InvalidInput(
            "trained-on",
            f"{case.id} comes too near to training rows of {names} (less than {limit:.2f} is allowed)",
            "Hold out another case, or accept this one with --part core.",
            id=case.id,
            specialists=[*neighbours.near],
        )
    sentence = f" Trained on a row that is as near: {names}." if names else ""
    return sentence + (f" Rows of {len(neighbours.unknown)} trainings do not lie here." if neighbours.unknown else "")


def _whose(case: Pending) -> str:
    """Whose answers went wrong, where the front door knows it."""
    names = ", ".join(f"{answer.by} (decision {answer.decision})" for answer in case.answered)
    return f" Answered by {names}." if names else ""


def _case(main: GovernedState, name: str) -> tuple[Pending, dict[str, bytes | None]]:
    """The pending case, and what is left without it of each file that has it: two clones may have staged it."""
    domains = sorted({path.split("/")[1] for path in main.tree.paths("evals") if path.split("/")[2:3] == ["pending"]})
    for domain in domains:
        matching, other_files = list[Pending](), dict[str, bytes | None]()
        for path in pending_files(main, domain):
            cases = [line.value for line in read_lines(path, main.tree.read(path), Pending, [])]
            rest = [case for case in cases if case.id != name]
            if len(rest) < len(cases):
                matching += [case for case in cases if case.id == name]
                other_files[path] = b"".join(canonical_json(case) + b"\n" for case in rest) or None
        if matching:
            return matching[0], other_files
    ids = [case.id for domain in domains for case in pending_cases(main, domain)]
    raise InvalidInput(
        "unknown-pending",
        f"Main has no pending case {name[:80]!a}",
        f"Name one of: {', '.join(ids[:10])}." if ids else "Stage some with `modelsmith capture FILE`, and merge.",
        known=ids[:100],
    )


def _refuse_mistakes(main: GovernedState, folder: str, files: dict[str, bytes]) -> None:
    before = {(p.file, p.field, p.message) for p in validate(main.tree, [folder]).problems}
    after = validate(OverlaidTree(main.tree, files), [folder]).problems
    caused = [problem for problem in after if (problem.file, problem.field, problem.message) not in before]
    if caused:
        raise invalid(caused)
