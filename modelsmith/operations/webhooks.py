"""``modelsmith webhooks``: who is sent events, and what an operator does about it.

No row of the table and no tool: adding and rotating hand out secrets, and delivering keeps running.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from secrets import token_hex
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from modelsmith.delivery.delivering import deliver, redeliver, try_out
from modelsmith.delivery.keeping import Mailbox, Place
from modelsmith.delivery.source import source_of
from modelsmith.delivery.subscribers import MOST, Form, Subscriber, Subscribers, new_secret, webhooks_folder
from modelsmith.operations.contract import Result
from modelsmith.operations.events import event_number, newest
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMS: tuple[str, ...] = get_args(Form)
EVENT_NAMES: tuple[str, ...] = tuple(kind.model_fields["name"].default for kind in EVENTS)


class WebhookSecret(Result):
    """A secret, shown this once."""

    name: str
    host: str
    secret: str | None
    """For the receiver's library of Standard Webhooks; null where a rotation was ended."""


class WebhookView(Frozen):
    """A subscriber, without its address and secrets."""

    name: str
    host: str
    form: str
    events: tuple[str, ...]
    """None for all."""
    behind: int
    """Events of the ledger that it has not come to yet."""
    failure: str
    """Why the last attempt failed; empty where it did not."""
    dead: int
    """Events that were given up: `webhooks redeliver` sends them again."""
    rotating: bool
    """Whether two secrets sign."""


class WebhooksList(Result):
    """Subscribers, by name."""

    subscribers: tuple[WebhookView, ...]


class WebhooksSent(Result):
    """Messages that were delivered, and those that were not."""

    delivered: int
    failed: int
    """Tried in vain, and tried again later."""
    dead: int
    """Given up, or left as they were."""
    why: str = ""


def add(workspace: Workspace, name: str, url: str, events: Sequence[str], form: Form) -> WebhookSecret:
    """Add a subscriber, which hears what happens from now on.

    Raises:
        InvalidInput: ``bad-subscriber``; ``subscriber-exists``.
        InfrastructureFailure: ``too-many-subscribers``.
        IntegrityFailure: as `webhooks_folder` and `Subscribers.all`.
    """
    folder = webhooks_folder(workspace)
    try:
        subscriber = Subscriber(
            name=name,
            url=url,
            secrets=(new_secret(),),
            events=tuple(sorted(set(events))),
            form=form,
            added_at=datetime.now(UTC),
        )
    except ValidationError as error:
        field = str(error.errors(include_input=False)[0]["loc"][0])
        raise InvalidInput(
            "bad-subscriber",
            f"{field}: it cannot stand",
            "A name has a-z, 0-9 and -; an address begins with https:// and holds no user, no space and no #.",
            field=field,
        ) from None

    def added(others: tuple[Subscriber, ...]) -> tuple[Subscriber, ...]:
        _refuse_another(others, subscriber)
        Mailbox(folder, name).stand(Place(cursor=newest(workspace)))
        return (*others, subscriber)

    Subscribers(folder).change(added)
    return WebhookSecret(name=name, host=subscriber.host, secret=subscriber.secrets[0])


def _refuse_another(others: tuple[Subscriber, ...], new: Subscriber) -> None:
    if any(subscriber.name == new.name for subscriber in others):
        raise InvalidInput(
            "subscriber-exists",
            f"There is a subscriber {new.name} already",
            "Remove it first, or choose another name.",
        )
    if len(others) >= MOST:
        raise InfrastructureFailure(
            "too-many-subscribers", f"A clone has at most {MOST} subscribers", "Remove one, or let one pass events on."
        )


def listed(workspace: Workspace) -> WebhooksList:
    """Every subscriber, and how far it is."""
    folder, end = webhooks_folder(workspace), event_number(newest(workspace))
    rows = []
    for subscriber in Subscribers(folder).all():
        mailbox = Mailbox(folder, subscriber.name)
        place = mailbox.place()
        rows.append(
            WebhookView(
                name=subscriber.name,
                host=subscriber.host,
                form=subscriber.form,
                events=subscriber.events,
                behind=max(0, end - event_number(place.cursor)),
                failure=place.failure,
                dead=len(mailbox.dead()),
                rotating=len(subscriber.secrets) > 1,
            )
        )
    return WebhooksList(subscribers=tuple(rows))


def remove(workspace: Workspace, name: str) -> WebhookSecret:
    """Remove a subscriber, with its secrets, its cursor and its dead letters."""
    folder = webhooks_folder(workspace)
    subscriber = Subscribers(folder).find(name)
    Subscribers(folder).change(lambda all_: tuple(subscriber for subscriber in all_ if subscriber.name != name))
    Mailbox(folder, name).forget()
    return WebhookSecret(name=name, host=subscriber.host, secret=None)


def rotate(workspace: Workspace, name: str, end: bool) -> WebhookSecret:
    """Let a new secret sign beside the old one; with ``end`` the old one signs no more.

    Raises:
        InvalidInput: ``rotation`` where one is under way already, or none is to be ended; ``unknown-subscriber``.
    """
    subscribers = Subscribers(webhooks_folder(workspace))
    old = subscribers.find(name)
    if end != (len(old.secrets) > 1):
        raise InvalidInput(
            "rotation",
            f"No rotation of {name} is under way" if end else f"A rotation of {name} is under way: two secrets sign",
            "Begin one without --end." if end else "Give the receiver the new secret, then end it with --end.",
        )
    fresh = None if end else new_secret()
    secrets = (old.secrets[0],) if fresh is None else (fresh, old.secrets[0])
    changed = old.model_copy(update={"secrets": secrets})
    subscribers.change(lambda all_: tuple(changed if subscriber == old else subscriber for subscriber in all_))
    return WebhookSecret(name=name, host=old.host, secret=fresh)


def test(workspace: Workspace, name: str) -> WebhooksSent:
    """Send a message of the type ``webhook.test``, once."""
    subscriber = Subscribers(webhooks_folder(workspace)).find(name)
    event = {
        "specversion": "1.0",
        "id": f"test-{token_hex(8)}",
        "source": source_of(workspace),
        "type": "webhook.test",
        "subject": name,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {"message": "A test of Modelsmith: nothing has happened."},
    }
    outcome = try_out(workspace, subscriber, json.dumps(event))
    return WebhooksSent(delivered=int(outcome.delivered), failed=int(not outcome.delivered), dead=0, why=outcome.why)


def delivered(workspace: Workspace, follow: bool) -> WebhooksSent:
    """Deliver what is due; with ``follow`` until interrupted."""
    counts = deliver(workspace, follow)
    return WebhooksSent(delivered=counts["delivered"], failed=counts["failed"], dead=counts["dead"])


def redelivered(workspace: Workspace, name: str) -> WebhooksSent:
    """Send dead letters again, oldest first, until one fails."""
    folder = webhooks_folder(workspace)
    count, why = redeliver(workspace, Subscribers(folder).find(name))
    return WebhooksSent(delivered=count, failed=int(bool(why)), dead=len(Mailbox(folder, name).dead()), why=why)
