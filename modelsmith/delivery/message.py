"""Pure: what a subscriber is sent, and its signature by Standard Webhooks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from standardwebhooks.webhooks import Webhook

from modelsmith import __version__
from modelsmith.delivery.envelope import CONTENT_TYPE
from modelsmith.delivery.subscribers import Form, Subscriber

FIRST_WAIT, FACTOR, LONGEST_WAIT = 5.0, 5.0, 6 * 3600.0
ATTEMPTS = 8
"""After which an event is a dead letter; the waits between them come to about half a day."""
_SHOWN = 300
"""Characters of each field in a chat."""


class Message(NamedTuple):
    """One event for one subscriber."""

    id: str
    """The event's: a receiver that has had it does nothing."""
    body: bytes
    content_type: str

    def headers(self, subscriber: Subscriber, now: datetime) -> list[tuple[str, str]]:
        """Of one attempt: a signature by each secret over id, time of the attempt and body (Standard Webhooks 1.0)."""
        text = self.body.decode("ascii")
        signed = [Webhook(secret).sign(self.id, now, text) for secret in subscriber.secrets]
        return [
            ("content-type", self.content_type),
            ("user-agent", f"modelsmith/{__version__}"),
            ("webhook-id", self.id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(signed)),
        ]


def wait(attempt: int, draw: float, retry_after: float | None = None) -> float:
    """Seconds until an event is tried again after its ``attempt``-th failure.

    Five times as long each time, and between half of that and all of it, so that not everybody comes back at once.

    Args:
        attempt: Failures so far, from 1.
        draw: Evenly between 0 and 1.
        retry_after: What the receiver asked for (``Retry-After``), in seconds; never shortens the wait.
    """
    longest = min(LONGEST_WAIT, FIRST_WAIT * FACTOR ** min(attempt - 1, 20))
    return max(longest * (0.5 + draw / 2), min(retry_after or 0.0, LONGEST_WAIT))


def message(envelope: str, form: Form) -> Message:
    """The CloudEvent, which is one line of JSON in ASCII, in the form that the subscriber reads."""
    event = json.loads(envelope)
    if form == "cloudevents":
        return Message(event["id"], envelope.encode("ascii"), CONTENT_TYPE)
    facts = _facts(event)
    body = _slack(event, facts) if form == "slack" else _teams(event, facts)
    return Message(event["id"], json.dumps(body).encode("ascii"), "application/json")


def _facts(event: Mapping[str, Any]) -> dict[str, str]:
    """Facts of an event that people read: each field in a line, and nothing empty."""
    facts = {name: value for name, value in event["data"].items() if name not in ("name", "cluster")}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
        if value not in (None, [], {})
    }
    return {name: " ".join(text.split())[:_SHOWN] for name, text in texts.items()}


def _slack(event: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    """For an incoming webhook. ``plain_text`` has no markup, and without ``<`` no text calls a person or a channel."""
    lines = [f"{event['type']}: {event['subject']}", *(f"{name}: {text}" for name, text in facts.items())]
    return {
        "text": _without_calls(lines[0]),
        "blocks": [
            {"type": "section", "text": {"type": "plain_text", "text": _without_calls(line), "emoji": False}}
            for line in lines
        ],
    }


def _without_calls(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(event: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    """An Adaptive Card for a workflow "when a webhook request is received". Its texts are read as Markdown."""
    title = {
        "type": "TextBlock",
        "weight": "Bolder",
        "wrap": True,
        "text": _plain(f"{event['type']}: {event['subject']}"),
    }
    rows = {
        "type": "FactSet",
        "facts": [{"title": _plain(name), "value": _plain(text)} for name, text in facts.items()],
    }
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, rows],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]()#<>])", r"\\\1", text)
