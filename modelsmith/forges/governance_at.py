"""Governance as one commit of main has it, and what an event's signatures come to by it."""

from __future__ import annotations

from functools import cached_property

from modelsmith.forges.events import LoggedEvent
from modelsmith.governance.gate import deciders
from modelsmith.governance.people import listed_keys
from modelsmith.repository.git import Git
from modelsmith.repository.load import load_codeowners, load_people, load_policy
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.governance import Limits, People, Policy
from modelsmith.schema.promotion import APPROVAL_NAMESPACE, EVENT_NAMESPACE
from modelsmith.schema.pull import Change, PullEvent
from modelsmith.signing import ssh


class Governance:
    """Holders of keys, and the repository's identity, at one commit of main."""

    def __init__(self, git: Git, commit: str) -> None:
        self.commit = commit
        self._tree = Revision(git, commit)

    @cached_property
    def people(self) -> People:
        """People and harnesses that main lists."""
        return load_people(self._tree)

    @cached_property
    def policy(self) -> Policy:
        """Main's rules for promotions."""
        return load_policy(self._tree)

    @property
    def repository(self) -> str:
        """The repository's identity."""
        return self.policy.repository

    @property
    def limits(self) -> Limits:
        """Budgets of a proposal."""
        return self.policy.limits

    def may_close(self, actor: str, opening: PullEvent, change: Change) -> bool:
        """Whether the actor opened or asked for a pull request, or could decide about a path of its change."""
        if actor in (opening.actor, opening.requester):
            return True
        return actor in deciders(self.policy, self.people, load_codeowners(self._tree), change)

    def verify(self, logged: LoggedEvent) -> None:
        """Check that an event is by whom it says it is; not whether the keys still count.

        Raises:
            IntegrityFailure: ``forged-event``, or as `ssh.verify`.
        """
        event = logged.event
        self._expect(logged, event.actor, logged.statement, logged.signature, EVENT_NAMESPACE)
        if logged.approval and logged.proof:
            statement, signature = logged.proof.statement.encode(), logged.proof.signature
            self._expect(logged, event.actor, statement, signature, APPROVAL_NAMESPACE)

    def _expect(self, logged: LoggedEvent, actor: str, payload: bytes, signature: str, namespace: str) -> None:
        keys = [ssh.AllowedKey(*key) for key in listed_keys(self.people)]
        try:
            signer = ssh.verify(payload, signature, namespace, keys).actor
        except IntegrityFailure as error:
            raise IntegrityFailure(
                error.code,
                f"Event {logged.commit[:12]} of pull request {logged.event.pull}: {error.message}",
                "Close this pull request and propose the change again.",
                pull=logged.event.pull,
                event=logged.commit,
            ) from None
        if signer != actor:
            raise forged(logged, f"speaks for {actor} but is signed by {signer}")


def forged(logged: LoggedEvent, problem: str) -> IntegrityFailure:
    """The error for an event that is not what it says it is."""
    return IntegrityFailure(
        "forged-event",
        f"Event {logged.commit[:12]} {problem}.",
        "Restore the pull request's ref from a trusted copy of the forge.",
        pull=logged.event.pull,
        event=logged.commit,
    )
