"""What a workflow of GitHub's is run for: which repository, and which proposal. From the runner's own words, as data.

The variables and the event's file are the runner's (GitHub's "Variables reference", "Webhook events and payloads");
nothing is taken from them but a repository's name, numbers and ids of commits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelsmith.forges.github.place import SCHEME, Place
from modelsmith.forges.github.token import Token
from modelsmith.repository.git import Git
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput


class EventProposal(NamedTuple):
    """The proposal that an event speaks of: a pull request's number, or commits that a merge queue made."""

    number: int | None
    made: tuple[str, str] | None
    """Commit that they were made on, and the last of them."""


def place_of_workflow(environment: Mapping[str, str]) -> str | None:
    """The repository that this process runs a workflow of, as a clone's setting names it; None outside of one."""
    server, name = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if environment.get("GITHUB_ACTIONS") != "true" or not server or not name:
        return None
    return f"{SCHEME}{server}/{name}"


def proposal_of(environment: Mapping[str, str]) -> EventProposal:
    """The proposal of the event that started the workflow.

    Raises:
        InvalidInput: ``no-event`` outside of a workflow, or where its event is of no proposal.
    """
    kind, path = environment.get("GITHUB_EVENT_NAME", ""), environment.get("GITHUB_EVENT_PATH", "")
    event = _read(Path(path)) if path else {}
    number = _value_at(event, "pull_request", "number") or _input(event)
    if isinstance(number, int) and 0 < number < 10**9:
        return EventProposal(number, None)
    base, head = _value_at(event, "merge_group", "base_sha"), _value_at(event, "merge_group", "head_sha")
    if is_commit_id(base) and is_commit_id(head):
        return EventProposal(None, (base, head))
    problem = f"The event {kind!a} is of no pull request" if kind else "No workflow of GitHub's runs here"
    raise InvalidInput("no-event", problem, "Name the pull request: --pr N.", event=kind)


def is_commit_id(name: object) -> bool:
    """Whether it is the whole id of a commit."""
    return isinstance(name, str) and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) is not None


def fetch_commit(place: Place, token: Token, git: Git, commit: str) -> None:
    """Bring a commit into the clone that no branch of it has: what a merge queue made. Nothing is checked out.

    Raises:
        InfrastructureFailure: as `Git.run`.
    """
    quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=")
    git.run("fetch", *quiet, place.url, commit, env=token.for_git(place))


def _read(path: Path) -> dict[str, Any]:
    try:
        event = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise InfrastructureFailure(
            "unreadable-event", "The event's file cannot be read", "Run the workflow again.", path=str(path)
        ) from None
    return event if isinstance(event, dict) else {}


def _value_at(event: Mapping[str, Any], *names: str) -> Any:
    value: Any = event
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _input(event: Mapping[str, Any]) -> int | None:
    """The number that a person gave when starting the workflow by hand (``workflow_dispatch``)."""
    number = _value_at(event, "inputs", "number")
    return (
        int(number)
        if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 10
        else None
    )
