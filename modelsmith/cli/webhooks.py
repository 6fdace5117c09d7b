"""``modelsmith webhooks``: events to other programs. Addresses and secrets come by standard input, never as words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelsmith.cli.groups import PlainGroup
from modelsmith.cli.page import Page, write_json
from modelsmith.cli.serving import refuse_agents
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit, InfrastructureFailure, InvalidInput

if TYPE_CHECKING:
    from modelsmith.operations.contract import Result
    from modelsmith.operations.webhooks import WebhookSecret, WebhooksList, WebhooksSent

LONGEST = 4096
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@click.group(cls=PlainGroup)
def webhooks() -> None:
    """Send events to other programs, signed by Standard Webhooks; docs/events.md shows how to receive them."""


@webhooks.command("add")
@click.argument("name")
@click.option("--event", "events", multiple=True, help="Only this event, such as promotion.pending_approval.")
@click.option("--form", default="cloudevents", show_default=True, help="cloudevents, slack or teams.")
@AS_JSON
def add_one(name: str, events: tuple[str, ...], form: str, as_json: bool) -> None:
    """Add the subscriber NAME; its address is asked for.

    Where there is no terminal, the address is read from standard input. It hears what happens from now on. The
    secret that signs is shown this once.
    """
    refuse_agents("add a receiver of events")
    url = click.prompt("Address", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline(LONGEST).strip()
    with _the_extra():
        from modelsmith.operations.webhooks import EVENT_NAMES, FORMS, add
    if form not in FORMS or not set(events) <= set(EVENT_NAMES):
        names = ", ".join(FORMS if form not in FORMS else EVENT_NAMES)
        raise InvalidInput("usage", "There is no such form or event", f"Say one of {names}.")
    _show_secret(add(_workspace(), name, url, events, form), as_json)  # type: ignore[arg-type]


@webhooks.command("list")
@AS_JSON
def list_all(as_json: bool) -> None:
    """Subscribers, how far behind each is, and why."""
    with _the_extra():
        from modelsmith.operations.webhooks import listed
    result = listed(_workspace())
    if not _as_json(result, as_json):
        _show_list(result)


@webhooks.command("remove")
@click.argument("name")
@AS_JSON
def remove_one(name: str, as_json: bool) -> None:
    """Remove a subscriber, with its secrets and dead letters."""
    refuse_agents("remove a receiver of events")
    with _the_extra():
        from modelsmith.operations.webhooks import remove
    _show_secret(remove(_workspace(), name), as_json)


@webhooks.command("rotate")
@click.argument("name")
@click.option("--end", is_flag=True, help="The old secret signs no more.")
@AS_JSON
def rotate_one(name: str, end: bool, as_json: bool) -> None:
    """Sign by a new secret too, shown this once.

    Both sign until the receiver has the new one and you end the rotation with --end.
    """
    refuse_agents("rotate a secret")
    with _the_extra():
        from modelsmith.operations.webhooks import rotate
    _show_secret(rotate(_workspace(), name, end), as_json)


@webhooks.command("test")
@click.argument("name")
@AS_JSON
def test_one(name: str, as_json: bool) -> int:
    """Send one message of the type webhook.test, once."""
    refuse_agents("send to a receiver")
    with _the_extra():
        from modelsmith.operations.webhooks import test
    return _show_sent(test(_workspace(), name), as_json)


@webhooks.command("deliver")
@click.option("--follow", is_flag=True, help="Keep running: deliver what happens, and retry what is due.")
@AS_JSON
def deliver_all(follow: bool, as_json: bool) -> int:
    """Deliver to every subscriber what is due, in order.

    It remembers how far each is. Killed at any moment, it goes on where it was: an event may come twice then, with
    the same id.
    """
    with _the_extra():
        from modelsmith.operations.webhooks import delivered
    return _show_sent(delivered(_workspace(), follow), as_json)


@webhooks.command("redeliver")
@click.argument("name")
@AS_JSON
def redeliver_all(name: str, as_json: bool) -> int:
    """Send again what was given up.

    Events keep their ids. It ends at the first that fails.
    """
    refuse_agents("send to a receiver")
    with _the_extra():
        from modelsmith.operations.webhooks import redelivered
    return _show_sent(redelivered(_workspace(), name), as_json)


def _workspace() -> Workspace:
    return Workspace.find(place(Path.cwd(), Path("/")))


def _as_json(result: Result, as_json: bool) -> bool:
    if as_json:
        write_json(result.model_dump(mode="json"))
    return as_json


def _show_secret(result: WebhookSecret, as_json: bool) -> None:
    if not _as_json(result, as_json):
        rows = [("secret", f"{result.secret}   (shown this once)")] if result.secret else []
        Page().rows([("subscriber", result.name), ("host", result.host), *rows])


def _show_list(result: WebhooksList) -> None:
    page = Page()
    for subscriber in result.subscribers:
        which = ", ".join(subscriber.events) or "all events"
        counts = f"{subscriber.behind} behind, {subscriber.dead} given up"
        page.line(f"{subscriber.name}  {subscriber.host}  {subscriber.form}  {which}  {counts}")
        if subscriber.failure:
            page.line(f"failing: {subscriber.failure}", indent=2)
        if subscriber.rotating:
            page.line("two secrets sign: end the rotation with --end", indent=2)
    if not result.subscribers:
        page.line("nobody is sent events")


def _show_sent(result: WebhooksSent, as_json: bool) -> int:
    if not _as_json(result, as_json):
        page = Page()
        page.line(f"{result.delivered} delivered, {result.failed} failed, {result.dead} given up")
        if result.why:
            page.line(f"failed: {result.why}", indent=2)
    return int(Exit.INFRASTRUCTURE if result.failed else Exit.DONE)


@contextmanager
def _the_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InfrastructureFailure(
            "extra-missing", "Webhooks need the events extra.", "Run: pip install 'modelsmith[events]'"
        ) from error
