"""GitHub's merge queue, which REST does not speak of. A pull request in it is not merged."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from modelsmith.forges.github.faces import read_answer
from modelsmith.forges.github.rest import Rest
from modelsmith.schema.errors import WaitingForPerson
from modelsmith.schema.steps import step

LOOK = """\
query($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    pullRequest(number: $number) {
      id
      mergeQueueEntry { position state }
      timelineItems(last: 1, itemTypes: [ADDED_TO_MERGE_QUEUE_EVENT, REMOVED_FROM_MERGE_QUEUE_EVENT]) {
        nodes { __typename ... on RemovedFromMergeQueueEvent { reason } }
      }
    }
  }
}
"""
ENTER = """\
mutation($id: ID!, $head: GitObjectID!) {
  enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $head}) {
    mergeQueueEntry { position state }
  }
}
"""


class _Entry(BaseModel):
    position: int
    state: str


class _Last(BaseModel):
    kind: Annotated[str, Field(alias="__typename")]
    reason: str | None = None


class _Items(BaseModel):
    nodes: tuple[_Last, ...]


class _QueueAnswer(BaseModel):
    id: str
    entry: Annotated[_Entry | None, Field(alias="mergeQueueEntry")]
    last: Annotated[_Items, Field(alias="timelineItems")]


class Queue:
    """The queue of one repository's main."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def enter(self, number: int, head: str) -> WaitingForPerson:
        """Put a pull request with this head into the queue, unless it is there; what to say of it.

        Raises:
            ModelsmithError: as `Rest.do`; GitHub refuses what its rules do not let in.
        """
        look = self._look(number)
        entry, reason = look.entry, ""
        if entry is None:
            removed = [node for node in look.last.nodes if node.kind == "RemovedFromMergeQueueEvent"]
            if removed:
                reason = f"; the queue had taken it out before, because: {removed[-1].reason or 'it did not say'}"
            facts = {"id": look.id, "head": head}
            data = self._rest.graphql(f"queue pull request {number}", ENTER, facts)
            entry = read_answer(_Entry, _inner(data, "enqueuePullRequest", "mergeQueueEntry"))
        return WaitingForPerson(
            "queued",
            f"Pull request {number} is in GitHub's merge queue at place {entry.position} ({entry.state.lower()}), "
            f"which is not merged{reason}",
            "When the queue has merged it, run `{next}` again: it adds the receipts that main needs to verify.",
            number=number,
            position=entry.position,
        ).then(step("pr merge", {"number": number}))

    def _look(self, number: int) -> _QueueAnswer:
        facts = {"owner": self._rest.place.owner, "name": self._rest.place.name, "number": number}
        data = self._rest.graphql("look into the merge queue", LOOK, facts, again=True)
        return read_answer(_QueueAnswer, _inner(data, "repository", "pullRequest"))


def _inner(data: Any, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data
