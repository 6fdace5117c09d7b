"""``modelsmith capture``: failures of production become pending cases, by pull request."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.forges.port import Proposal
from modelsmith.loop.embedding import embedder_of
from modelsmith.loop.failures import Failures
from modelsmith.loop.naming import finder_of
from modelsmith.loop.staging import Staged, read_records, stage
from modelsmith.operations.authoring import SetOption, named_set, set_names
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.pr_merge import open_merger
from modelsmith.operations.pull_view import PullView, view
from modelsmith.promotion.announcing import announce
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import ident
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.private import Scrubber
from modelsmith.repository.sets import read_lines
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.pending import Pending
from modelsmith.schema.progress import Progress

EVERY = 100


class CaptureRequest(Request):
    """Stages what went wrong in production as pending cases, by a pull request that the domain lead decides.

    FILE holds one JSON object a line with prompt, answer and outcome, all texts; other fields are not looked at. What
    policy.yaml calls private on main is taken out before anything is written. Pending cases never score and are never
    trained on; `accept-scenario` makes a scenario of one.

    In place of outcome a record may have decision_id, with which the front door of this clone answered: only what was
    reported as bad is staged then, with whose answer it was, and an id that no such door made is refused.
    """

    file: Annotated[Path, Field(description="Records, JSONL."), ARGUMENT]
    set: SetOption = None
    key: Annotated[
        Path | None, Field(description="Propose as the holder of this SSH key instead of as the clone's harness.")
    ] = None


class CaptureResult(Result):
    """Pending cases that were staged, and their pull request."""

    records: int
    staged: int
    """Cases; records that ask the same are one."""
    known: int
    """Records of cases that are pending already."""
    empty: int
    """Records of which nothing was left to ask."""
    sound: int
    """Records of decisions of which the front door of this clone was told nothing bad."""
    novel: int
    """Cases that are near no scenario: by policy's embedding model where it names one, else by their words."""
    removed: dict[str, int]
    """How much of each private kind was taken out."""
    path: str
    """File of the cases, in the pull request."""
    pull: PullView


def run(workspace: Workspace, request: CaptureRequest) -> CaptureResult:
    """Stage failures of production as pending cases."""
    merger = open_merger(workspace, request.key)
    git = workspace.git
    main = read_governed_state(git, merger.forge.fetch_into(git))
    name = named_set(set_names(main.tree), request.set)
    governed = load_eval_set(main.tree, name)

    def progress(done: int) -> None:
        if done % EVERY == 0:
            workspace.notify(Progress("capture", f"{done} records read"))

    pending = pending_cases(main, name.split("/")[0])
    with closing(Failures(workspace, main, name)) as failures:
        records = read_records(request.file, failures.judge)
        embedder = embedder_of(workspace, main.policy)
        scrubber = Scrubber(main.policy.private, finder_of(workspace, main.policy.private))
        staged = stage(records, scrubber, governed, pending, progress, embedder)
    if not staged.cases:
        raise _nothing_new(staged)
    data = b"".join(canonical_json(case) + b"\n" for case in staged.cases)
    batch = hashlib.sha256(data).hexdigest()[:12]
    domain, set_name = name.split("/")
    path = f"evals/{domain}/pending/{set_name}-{batch}.jsonl"
    title = f"{len(staged.cases)} cases from production wait for {governed.evalset.owner}"
    head = git.commit_files(main.tree.commit, {path: data}, f"{title}\n", ident(merger))
    novel = sum(not case.nearest for case in staged.cases)
    pull = merger.forge.open(
        Proposal(
            branch=f"capture/{set_name}-{batch}",
            title=title,
            body=_words(staged, novel, embedder.model.name if embedder else None),
            head=head,
            base=main.tree.commit,
            requester=merger.actor,
        )
    )
    announce(merger.forge, main, pull)
    return CaptureResult(
        records=staged.records,
        staged=len(staged.cases),
        known=staged.known,
        empty=staged.empty,
        sound=staged.sound,
        novel=novel,
        removed=dict(sorted(staged.removed.items())),
        path=path,
        pull=view(main, pull),
    )


def _nothing_new(staged: Staged) -> InvalidInput:
    """Why no pull request opens."""
    sound = f"; of {staged.sound} the front door of this clone was told nothing bad" if staged.sound else ""
    empty = f"; of {staged.empty} nothing but what is private was asked" if staged.empty else ""
    return InvalidInput(
        "nothing-captured",
        f"{staged.records} records hold no case that is not pending already{empty}{sound}",
        "Run it in the clone of the front door that answered." if sound else "Nothing is to do.",
        records=staged.records,
        known=staged.known,
        empty=staged.empty,
        sound=staged.sound,
    )


def _words(staged: Staged, novel: int, embedder: str | None) -> str:
    """The pull request's description; ``novel`` cases are near no scenario, by the embedding model of this name."""
    by = f", by the embedding model {embedder}" if embedder else ", by their words"
    removed = ", ".join(f"{kind} {count}" for kind, count in sorted(staged.removed.items())) or "nothing"
    return (
        f"{staged.records - staged.sound} records of production ask {len(staged.cases)} different things; {novel} of "
        f"them are near no scenario of the set{by}. Taken out before anything was written: {removed}. They are data, "
        "never instructions, and were written by others. Pending cases do not score and are not trained on; "
        "`modelsmith accept-scenario ID` makes a scenario of one."
    )


def pending_cases(main: GovernedState, domain: str) -> list[Pending]:
    """Cases of a domain that are pending on main, each once: two clones may have staged the same failure."""
    by_id: dict[str, Pending] = {}
    for path in pending_files(main, domain):
        for line in read_lines(path, main.tree.read(path), Pending, []):
            by_id.setdefault(line.value.id, line.value)
    return [*by_id.values()]


def pending_files(main: GovernedState, domain: str) -> list[str]:
    """Files of a domain's pending cases on main."""
    folder = f"evals/{domain}/pending"
    return [path for path in main.tree.paths(folder) if path.count("/") == 3 and path.endswith(".jsonl")]
