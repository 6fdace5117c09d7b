"""One attempt to give a message to a subscriber, and what came of it. No answer can hold it up or fill memory."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

import anyio
import httpcore

from modelsmith.delivery.addresses import Network
from modelsmith.delivery.connecting import CheckedBackend, Refused
from modelsmith.delivery.message import Message
from modelsmith.delivery.subscribers import Subscriber

DEADLINE = 20.0
"""Seconds that an attempt may take, from looking the name up to the end of the answer."""
LARGEST_ANSWER = 16_384
"""Bytes of an answer that are read and thrown away, so that the connection can be used again; a longer one ends it."""
IDLE = 15.0
"""Seconds for which a connection is kept."""


class Outcome(NamedTuple):
    """Result of one attempt to deliver a message."""

    delivered: bool
    why: str = ""
    """In our own words: no address, no secret, and nothing that the receiver said."""
    retry_after: float | None = None
    """Seconds that the receiver asked for."""


class Sender:
    """Connections to subscribers. Redirects are not followed, cookies not kept, proxies not asked."""

    def __init__(self, allowed: Collection[Network]) -> None:
        """``allowed``: networks beside the internet that this clone allows; only they are spoken to without TLS."""
        context = ssl.create_default_context()
        # There is one connection for each subscriber, and no fewer: those that hang would have the others wait.
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=None,
                keepalive_expiry=IDLE,
                network_backend=CheckedBackend(allowed, internet=scheme == "https"),
            )
            for scheme in ("https", "http")
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    async def send(self, subscriber: Subscriber, message: Message) -> Outcome:
        """Make one attempt to deliver a message."""
        try:
            with anyio.fail_after(DEADLINE):
                return await self._exchange(subscriber, message)
        except TimeoutError:
            return Outcome(False, f"no answer within {DEADLINE:.0f} s")
        except Refused as refused:
            return Outcome(False, f"{refused}: modelsmith.webhook-allow says which networks are")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                return Outcome(False, "TLS fails: is its certificate believed on this machine?")
            return Outcome(False, f"it cannot be reached ({type(error).__name__})")

    async def _exchange(self, subscriber: Subscriber, message: Message) -> Outcome:
        pool = self._pools[subscriber.url.partition(":")[0].lower()]
        headers = message.headers(subscriber, datetime.now(UTC))
        async with pool.stream("POST", subscriber.url, headers=headers, content=message.body) as answer:
            size = 0
            async for part in answer.aiter_stream():
                size += len(part)
                if size > LARGEST_ANSWER:
                    break
            status = int(answer.status)
            after = next((value for name, value in answer.headers if name.lower() == b"retry-after"), b"")
        if 200 <= status < 300:
            return Outcome(True)
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        return Outcome(
            False, f"it answered {status}{hint}", float(after) if after.isdigit() and len(after) < 9 else None
        )
