"""Reading the logs of a forge: from refs and signed events to pull requests that can be relied on."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import NamedTuple

from pydantic import ValidationError

from modelsmith.forges.chains import MOST_LINKS, Link, read_chains
from modelsmith.forges.events import (
    EVENT_FILES,
    LoggedEvent,
    check_log,
    fold_pull,
    is_closed,
    opened,
    parse_event,
    review_of,
)
from modelsmith.forges.governance_at import Governance, forged
from modelsmith.forges.port import Unreceipted
from modelsmith.forges.receipted import receipts_on
from modelsmith.governance.shape import promotion_folder
from modelsmith.repository.first_parents import FirstParents
from modelsmith.repository.git import Git
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.refs import local_refs
from modelsmith.repository.tree import Revision, read_each
from modelsmith.schema.errors import GateNotCleared, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.promotion import RECORD_FILE, Receipt
from modelsmith.schema.pull import Elsewhere, PullEvent, PullRequest

MAIN = "refs/heads/main"
PULLS = "refs/modelsmith/pulls/"
_PULL = re.compile(rf"{PULLS}([1-9][0-9]{{0,8}})")
OUTLINES = "outlines of logs, 1"
"""Facts about logs: an `Outline` by the id of a log's last event."""
_FEW = 4
"""Heads of which git is asked one by one whether main contains them."""


class Outline(NamedTuple):
    """What a log says without being read again: which proposal it is, and whether anybody objected in it."""

    pull: int
    head: str
    actor: str
    """The person who opened it."""
    closed: bool
    objected: bool
    """Whether it holds a verdict that is not an approval."""


_NO_OBJECTION = ",false]"
"""How an outline ends, as it is kept, of a log without objections. There are thousands, and few are parsed."""


class Reader:
    """Reads one bare repository. What it has verified once it remembers while it lives; objects never change.

    With ``kept``, logs that lay there before are not read to learn that they are about something else. What they say
    follows from the ids of their last events, and those that matter are read. ``governed`` is the same for receipts.
    """

    def __init__(self, git: Git, facts: KeptFacts | None = None, governed: KeptFacts | None = None) -> None:
        self.git = git
        self._facts = facts
        self._governed = governed
        self._outlines: dict[str, Outline] = {}
        self._kept_outlines: dict[str, str] = {}
        self._governance: dict[str, Governance] = {}
        self._verified: set[tuple[str, str]] = set()
        self._read: dict[str, tuple[Link, ...] | ModelsmithError] = {}
        self._logs: dict[str, tuple[LoggedEvent, ...]] = {}
        self._records: dict[str, tuple[str, str] | None] = {}
        self._beside: dict[tuple[str, str], bool] = {}
        self._merges_by_main: dict[str, tuple[dict[str, str], dict[str, int]]] = {}

    def main(self) -> str:
        """Commit of main. Raises InvalidInput (``no-main``)."""
        commit = self.git.rev(MAIN)
        if commit is None:
            raise InvalidInput("no-main", "The forge has no branch main.", "Push main to it first.")
        return commit

    def tips(self) -> dict[int, str]:
        """Number and last event of every pull request. Read this before main: a merge then never looks false.

        All logs are read together; what of one cannot be read is raised where that one is asked for.
        """
        listed = local_refs(self.git, PULLS).items()
        found = {number: tip for ref, tip in listed if (number := pull_number(ref))}
        kept = self._facts.text if self._facts else None
        self._kept_outlines |= {tip: known for tip in found.values() if (known := kept(tip))} if kept else {}
        self._chains([tip for tip in found.values() if tip not in self._kept_outlines])
        return dict(sorted(found.items()))

    def perhaps_of(self, head: str, tips: Mapping[int, str]) -> list[int]:
        """Numbers of pull requests without those of which it is known that they propose another commit."""
        outlines = self._kept_outlines
        return [number for number, tip in tips.items() if tip not in outlines or head in outlines[tip]]

    def outline(self, tip: str) -> Outline:
        """Outline of the log up to ``tip``; raises as `log`."""
        if tip in self._kept_outlines:
            return Outline(*json.loads(self._kept_outlines[tip]))
        if tip not in self._outlines:
            log = self.log(tip)
            objected = any(event.approval and event.approval.verdict != "approve" for event in log)
            first = opened(log)
            self._outlines[tip] = Outline(first.pull, first.head, first.actor, is_closed(log), objected)
            if self._facts:
                self._facts.add(tip, self._outlines[tip])
        return self._outlines[tip]

    def governance(self, commit: str) -> Governance:
        """Governance at a commit of main: who may sign there."""
        if commit not in self._governance:
            self._governance[commit] = Governance(self.git, commit)
        return self._governance[commit]

    def log(self, tip: str) -> tuple[LoggedEvent, ...]:
        """Events up to ``tip``, oldest first, in good order; signatures are not checked.

        Raises IntegrityFailure (``bad-event``, ``damaged-object``), InfrastructureFailure (``missing-object``).
        """
        if tip not in self._logs:
            chain = self._chains([tip])[tip]
            if isinstance(chain, ModelsmithError):
                raise chain
            self._logs[tip] = _parse(chain)
        return self._logs[tip]

    def merge_of(self, opening: PullEvent | Outline, main: str) -> str | None:
        """The merge commit by which main took in this pull request.

        Two may have the same head: main's receipts say whose merge it is. `modelsmith verify` finds one without any.
        """
        if self._is_beside(opening.head, main):
            return None
        merges, numbers = self._merges(main)
        merge = merges.get(opening.head)
        return merge if merge and numbers.get(merge, opening.pull) == opening.pull else None

    def _is_beside(self, head: str, main: str) -> bool:
        """Whether main surely does not contain a head: git finds that quickly, however many merges a main has.

        Of a few heads; whoever asks about more is better served by the merges. False says nothing.
        """
        if main in self._merges_by_main or len(self._beside) >= _FEW or self.git.rev(head) != head:
            return False
        if (head, main) not in self._beside:
            self._beside[head, main] = not self.git.is_ancestor(head, main)
        return self._beside[head, main]

    def unreceipted(self, tips: Mapping[int, str], main: str) -> tuple[Unreceipted, ...]:
        """Merges of opened commits after the last one with receipts, oldest first.

        Anybody may open a commit again that somebody else has opened; whose merge it is, receipts will say.
        """
        numbers = self._merges(main)[1]
        merges: list[str] = []
        for commit in self.git.first_parent_log(main)[::-1]:
            if commit.id in numbers:
                break
            merges += [commit.id] if len(commit.parents) == 2 else []
        if not merges:
            return ()
        pulls_by_merge: dict[str, list[int]] = {}
        for number, tip in tips.items():
            with suppress(ModelsmithError):
                if merge := self.merge_of(opened(self.log(tip)), main):
                    pulls_by_merge.setdefault(merge, []).append(number)
        return tuple(
            Unreceipted(merge, tuple(pulls_by_merge[merge])) for merge in reversed(merges) if merge in pulls_by_merge
        )

    def merged_numbers(self, main: str) -> Set[int]:
        """Numbers of the pull requests that a main's receipts say were merged."""
        return frozenset(self._merges(main)[1].values())

    def line(self, main: str) -> Set[str]:
        """Commits of main along its first parents: what main has been."""
        return FirstParents(self.git, main)

    def pull(self, number: int, tips: Mapping[int, str], main: str) -> PullRequest:
        """One pull request with every signature of a key checked; whether a key still counts is for the gate.

        What workflows attested is for the gate alone, and is not verified here.

        The keys are those that main lists today while it is open; for a merged one, those of the main it was merged
        into; for a closed one, which decides nothing any more, those of main at each event. A key that is listed
        there no more, but was on the main that the event names, is authentic too: the gate finds that it speaks for
        nobody now.

        Raises IntegrityFailure for what nobody signed who ever held the key.
        """
        log = self.log(tips[number])
        first = opened(log)
        if first.pull != number:
            raise IntegrityFailure(
                "bad-event",
                f"Pull request {number} holds the events of {first.pull}.",
                "Restore the ref.",
                number=number,
                pull=first.pull,
            )
        self.check_repository(log, main)
        merge = self.merge_of(first, main)
        pull = fold_pull(log, merge)
        for logged in log:
            if logged.attestation is not None:
                continue
            self._verify_or_remember(logged, self._trusted(log, logged, merge, main), main)
        if merge and merge not in self._merges(main)[1]:
            pull = pull.model_copy(update={"unreceipted": True})
        if pull.status != "open" and not pull.unreceipted:
            return pull
        others = {other: tip for other, tip in tips.items() if other != number}
        return pull.model_copy(update={"elsewhere": tuple(self._elsewhere(first, others, main))})

    def _elsewhere(self, opening: PullEvent, others: Mapping[int, str], main: str) -> Iterator[Elsewhere]:
        """Rejections of the same in other logs, and withdrawals. What cannot be relied on says nothing."""
        outlines = self._kept_outlines
        for number, tip in others.items():
            if tip in outlines and outlines[tip].endswith(_NO_OBJECTION):
                continue
            with suppress(ModelsmithError):
                outline = self.outline(tip)
                if outline.pull != number or not outline.objected:
                    continue
                log = self.log(tip)
                objections = [event for event in log if event.approval and event.approval.verdict != "approve"]
                if not self._same(opening, opened(log), objections):
                    continue
                self.check_repository(log, main)
                merge = self.merge_of(opened(log), main)
                for objection in objections:
                    with suppress(ModelsmithError):
                        self._verify_or_remember(objection, self._trusted(log, objection, merge, main), main)
                        assert objection.approval
                        yield Elsewhere(pull=number, review=review_of(objection.approval, objection.proof))

    def _same(self, opening: PullEvent, other: PullEvent, objections: Sequence[LoggedEvent]) -> bool:
        """Whether what was said of another pull request was said of this one's change, or promotion record."""
        if opening.change in {other.change, *(objection.event.change for objection in objections)}:
            return True
        if opening.head not in self._records:
            self._records[opening.head] = _record(self.git, opening)
        record = self._records[opening.head]
        return record is not None and self.git.list_tree(other.head, record[0]).get(record[0], ("", ""))[1] == record[1]

    def check_repository(self, log: Sequence[LoggedEvent], main: str) -> None:
        """Refuse a log about a repository that main neither is nor was when the pull request was opened.

        One that was opened before the identity changed is authentic; the gate finds that it decides nothing now.

        Raises IntegrityFailure (``forged-event``).
        """
        first, now = opened(log), self.governance(main).repository
        if first.repository == now:
            return
        exists = self.git.rev(first.base) and self.git.is_ancestor(first.base, main)
        if not exists or self.governance(first.base).repository != first.repository:
            raise forged(log[0], f"is about repository {first.repository}, not {now}")

    def status(self, tip: str, main: str) -> str:
        """Status of a pull request without checking signatures: enough to leave it out of a list."""
        outline = self.outline(tip)
        return "merged" if self.merge_of(outline, main) else "closed" if outline.closed else "open"

    def verify(self, logged: LoggedEvent, trusted: str) -> None:
        """Check one event's signatures by the keys listed at the commit ``trusted``."""
        if (logged.commit, trusted) not in self._verified:
            self.governance(trusted).verify(logged)
            self._verified.add((logged.commit, trusted))

    def _verify_or_remember(self, logged: LoggedEvent, trusted: str, main: str) -> None:
        """`verify`, where the key may have been taken out of people.yaml since the event."""
        try:
            self.verify(logged, trusted)
        except IntegrityFailure as error:
            then = logged.event.base
            if error.code == "bad-signature" or not self.git.rev(then) or not self.git.is_ancestor(then, main):
                raise
            try:
                self.verify(logged, then)
            except IntegrityFailure:
                raise error from None

    def _trusted(self, log: Sequence[LoggedEvent], logged: LoggedEvent, merge: str | None, main: str) -> str:
        if is_closed(log):
            if not self.git.is_ancestor(logged.event.base, main):
                raise forged(logged, "names a main that never was")
            return logged.event.base
        return self.git.text("rev-parse", f"{merge}^1") if merge else main

    def _chains(self, tips: Collection[str]) -> dict[str, tuple[Link, ...] | ModelsmithError]:
        self._read |= read_chains(self.git, [tip for tip in tips if tip not in self._read], EVENT_FILES)
        return self._read

    def _merges(self, main: str) -> tuple[dict[str, str], dict[str, int]]:
        """Merge commits of main by head, and the numbers that its receipts give them."""
        if main not in self._merges_by_main:
            line = reversed(self.git.first_parents(main).items())
            merges = {parents[1]: commit for commit, parents in line if len(parents) == 2}
            self._merges_by_main[main] = merges, _merged_numbers(Revision(self.git, main), self._governed)
        return self._merges_by_main[main]


def _merged_numbers(tree: Revision, facts: KeptFacts | None) -> dict[str, int]:
    """Number of the pull request by merge commit; receipts that cannot be read are for others to report."""
    receipts, unread = receipts_on(tree, facts)
    numbered = {receipted.path: (receipted.merge, receipted.pull) for receipted in receipts}
    for path, data in read_each(tree, unread)[0].items():
        with suppress(ValidationError):
            receipt = Receipt.model_validate_json(data)
            numbered[path] = receipt.merge, receipt.pull
    return dict(numbered[path] for path in sorted(numbered, key=lambda path: (path.startswith("."), path)))


def _record(git: Git, opening: PullEvent) -> tuple[str, str] | None:
    """Path and blob of the promotion record that a proposal adds; None for what nobody merges, as its gate says."""
    try:
        change = git.change(opening.base, git.merge_tree(opening.base, opening.head))
    except GateNotCleared as error:
        if error.code == "several-bases":
            return None
        raise
    records = (path for path in change.paths if path.path == f"{promotion_folder(path.path)}/{RECORD_FILE}")
    return next(((path.path, path.new_blob) for path in records), None)


def _parse(chain: Sequence[Link]) -> tuple[LoggedEvent, ...]:
    if len(chain) > MOST_LINKS:
        raise IntegrityFailure("bad-event", "A pull request's log is longer than any may be.", "Restore the ref.")
    if not chain:
        raise IntegrityFailure("bad-event", "A pull request's ref holds no commit.", "Restore the ref.")
    root, *links = chain
    log = tuple(parse_event(link.commit, link.parents, link.files) for link in links)
    check_log(log)
    if root.files:
        raise IntegrityFailure("bad-event", "A pull request's log has no empty root.", "Restore the ref.")
    return log


def pull_number(ref: str) -> int | None:
    """Number of the pull request that a ref holds; None for any other ref or spelling."""
    match = _PULL.fullmatch(ref)
    return int(match[1]) if match else None
