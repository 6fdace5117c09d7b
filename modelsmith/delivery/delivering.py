"""Events to subscribers, to each in order from its cursor on, until stopped or until there is no more."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom
from typing import Protocol

import anyio
import anyio.to_thread

from modelsmith.delivery.addresses import networks
from modelsmith.delivery.envelope import line as written
from modelsmith.delivery.keeping import DeadLetter, Mailbox, Place
from modelsmith.delivery.message import ATTEMPTS, LONGEST_WAIT, Message, message, wait
from modelsmith.delivery.sending import Outcome, Sender
from modelsmith.delivery.source import source_of
from modelsmith.delivery.subscribers import Subscriber, Subscribers, webhooks_folder
from modelsmith.ledger.ledger import ledger_of
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.events import Recorded

PAGE = 100
LOOK_EVERY = 1.0
"""Seconds between two looks for new events and new subscribers."""
KEEP_EVERY = 0.25
"""Seconds of deliveries that a kill has sent again, at most: the cursor is written that often."""


class Sends(Protocol):
    """A sender: makes one attempt to deliver a message."""

    async def send(self, subscriber: Subscriber, message: Message) -> Outcome:
        """Make one attempt to deliver a message."""


def allowed_sender(workspace: Workspace) -> Sender:
    """A sender that goes where this clone's ``modelsmith.webhook-allow`` lets it.

    Raises:
        InvalidInput: ``bad-network``.
    """
    return Sender(networks(workspace.settings("webhook-allow")))


class Delivery:
    """One process that delivers. A second one in the same clone is kept out by its caller's lock."""

    def __init__(self, workspace: Workspace, follow: bool, random: Random | None = None) -> None:
        """``follow``: wait for what is due later and for new events; else end when nothing more is due now."""
        self._workspace = workspace
        self._follow = follow
        self._folder: Path = webhooks_folder(workspace)
        self._subscribers = Subscribers(self._folder)
        self._ledger = ledger_of(workspace)
        self._source = source_of(workspace)
        self._random = random or SystemRandom()
        self.counts: Counter[str] = Counter()
        """How many were ``delivered``, ``failed`` for now, and given up (``dead``)."""

    async def run(self, sender: Sends) -> None:
        """Deliver to every subscriber side by side: one that hangs holds up no other."""
        served: set[str] = set()

        async def serve(name: str) -> None:
            await self._serve(sender, name)
            served.discard(name)

        async with anyio.create_task_group() as tasks:
            while True:
                names = {subscriber.name for subscriber in self._subscribers.all()}
                for name in names - served:
                    served.add(name)
                    tasks.start_soon(serve, name)
                if not self._follow:
                    return
                await anyio.sleep(LOOK_EVERY)

    async def _serve(self, sender: Sends, name: str) -> None:
        """One subscriber, until it is removed, or until nothing more is due."""
        mailbox = Mailbox(self._folder, name)
        place, added_at = Place(), None
        while (subscriber := self._find(name)) is not None:
            if subscriber.added_at != added_at:
                place, added_at = mailbox.place(), subscriber.added_at
            page = await anyio.to_thread.run_sync(self._page, place.cursor)
            if page is None:
                place = Place()
                continue
            place = await self._give(sender, subscriber, mailbox, place, page)
            ended = len(page) < PAGE and (not page or place.cursor == page[-1].cursor)
            if place.attempts or ended:
                if not self._follow:
                    return
                await anyio.sleep(min(_seconds_left(place), LOOK_EVERY) if place.attempts else LOOK_EVERY)

    async def _give(
        self, sender: Sends, subscriber: Subscriber, mailbox: Mailbox, place: Place, page: list[Recorded]
    ) -> Place:
        """Give a page, as far as nothing fails and the subscriber stays as it was; where it stands then."""
        written_at = time.monotonic()
        stood = place
        try:
            for recorded in page:
                if subscriber.events and recorded.event.name not in subscriber.events:
                    place = Place(cursor=recorded.cursor)
                    continue
                if _seconds_left(place) > 0:
                    return place
                line = written(recorded, self._source)
                outcome = await sender.send(subscriber, message(line, subscriber.form))
                place = self._after(mailbox, place, recorded, line, outcome)
                if place.attempts:
                    return place
                if time.monotonic() - written_at > KEEP_EVERY:
                    mailbox.stand(place)
                    stood, written_at = place, time.monotonic()
                    if self._find(subscriber.name) != subscriber:
                        return place
            return place
        finally:
            current = self._find(subscriber.name)
            if place != stood and current and current.added_at == subscriber.added_at:
                mailbox.stand(place)

    def _after(self, mailbox: Mailbox, place: Place, recorded: Recorded, line: str, outcome: Outcome) -> Place:
        if outcome.delivered:
            self.counts["delivered"] += 1
            return Place(cursor=recorded.cursor)
        attempts = place.attempts + 1
        if attempts < ATTEMPTS:
            self.counts["failed"] += 1
            later = time.time() + wait(attempts, self._random.random(), outcome.retry_after)
            return Place(cursor=place.cursor, attempts=attempts, due=later, failure=outcome.why)
        self.counts["dead"] += 1
        mailbox.bury(DeadLetter(id=recorded.id, name=recorded.event.name, reason=outcome.why, envelope=line))
        return Place(cursor=recorded.cursor, failure=outcome.why)

    def _find(self, name: str) -> Subscriber | None:
        return next((subscriber for subscriber in self._subscribers.all() if subscriber.name == name), None)

    def _page(self, cursor: str | None) -> list[Recorded] | None:
        """Events after the cursor; None where the ledger was made anew, and all of them are told again."""
        try:
            return self._ledger.events(cursor, PAGE)
        except InvalidInput:
            return None


def _seconds_left(place: Place) -> float:
    """Seconds until it is tried again; none where that lies further off than any wait, as after a step of the clock."""
    ahead = place.due - time.time()
    return ahead if 0 < ahead <= LONGEST_WAIT else 0.0


def deliver(workspace: Workspace, follow: bool) -> Counter[str]:
    """Deliver what is due; with ``follow`` until interrupted.

    Raises:
        InfrastructureFailure: ``busy`` where another process delivers for this clone.
    """
    delivery = Delivery(workspace, follow)

    async def run() -> None:
        async with allowed_sender(workspace) as sender:
            await delivery.run(sender)

    with workspace.lock("webhooks"):
        try:
            anyio.run(run)
        except BaseExceptionGroup as group:
            raise _first(group) from None
    return delivery.counts


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def redeliver(workspace: Workspace, subscriber: Subscriber) -> tuple[int, str]:
    """Send what was given up again, oldest first, until one fails; how many arrived, and why it ended early."""
    mailbox = Mailbox(webhooks_folder(workspace), subscriber.name)

    async def run() -> tuple[int, str]:
        count = 0
        async with allowed_sender(workspace) as sender:
            for letter in mailbox.dead():
                outcome = await sender.send(subscriber, message(letter.envelope, subscriber.form))
                if not outcome.delivered:
                    return count, outcome.why
                mailbox.unbury({letter.id})
                count += 1
        return count, ""

    return anyio.run(run)


def try_out(workspace: Workspace, subscriber: Subscriber, envelope: str) -> Outcome:
    """Send one message to a subscriber, once, and say how it ended."""

    async def run() -> Outcome:
        async with allowed_sender(workspace) as sender:
            return await sender.send(subscriber, message(envelope, subscriber.form))

    return anyio.run(run)
