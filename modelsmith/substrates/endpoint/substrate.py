"""Completions from any OpenAI-compatible endpoint: vLLM, Groq, Fireworks, a team's own server.

Requests run in an event loop in a thread of its own; the port stays a plain iterator. Workers pull prompts, so that
forty thousand prompts are not forty thousand tasks, and wait while the reader is behind.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.key_named import key_named
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.source import Endpoint
from modelsmith.substrates.endpoint.client import ChatClient
from modelsmith.substrates.endpoint.facts import endpoint_facts
from modelsmith.substrates.endpoint.failures import Failure, in_a_row
from modelsmith.substrates.endpoint.loop_thread import Emit, LoopThread
from modelsmith.substrates.port import Completion, Prompt

IN_A_ROW = 10
"""Prompts that may fail for good one after the other before the batch is stopped."""
SPREAD_SECONDS = 0.05
"""Time over which the first requests are sent: those that start together end together, and then wait for each other."""


class EndpointSubstrate:
    """A model behind an HTTP API.

    One prompt is one request, sent up to ``max_attempts`` times; what every prompt would meet alike (a wrong key, an
    unknown model, a server that is not there) is raised once and ends the batch. Tokens are those that the server
    counts, 0 when it counts none.

    Args:
        endpoint: Address, model, name of the key's environment variable, and limits.
        facts: The engine, where the caller knows more of it than that it is a server.
        name: Whose endpoint it is, for errors; its model's when not given.
        environment: Where the key is looked up.
        sleep: Waits between attempts.

    Raises:
        InvalidInput: ``key-missing`` or ``key-unusable``.
        InfrastructureFailure: ``extra-missing`` without aiohttp.
    """

    facts: EngineFacts

    def __init__(
        self,
        endpoint: Endpoint,
        facts: EngineFacts | None = None,
        *,
        name: str | None = None,
        environment: Mapping[str, str] = os.environ,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name or endpoint.model
        self._client = ChatClient(endpoint, self._name, _authorization(endpoint.key_env, environment), sleep)
        self._workers = endpoint.max_connections
        self._thread: LoopThread | None = None
        self.facts = facts or endpoint_facts(endpoint)

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """Ask for each prompt once; yields answers as they come, in any order.

        Raises:
            InvalidInput: ``endpoint-key``, ``endpoint-unknown-model`` or ``endpoint-redirect``.
            InfrastructureFailure: ``endpoint-down``, ``endpoint-quota``, ``endpoint-model-changed``, or
                ``endpoint-failing`` after `IN_A_ROW` prompts failed one after the other.
        """
        if not prompts:
            return
        if self._thread is None:
            self._thread = LoopThread("modelsmith-endpoint", self._client.close)

        async def produce(emit: Emit[Completion]) -> None:
            waiting, watch = iter(prompts), _Watch(self._name)

            async def work() -> None:
                for prompt in waiting:
                    completion, failure = await self._client.ask(prompt, system, sampling)
                    watch.saw(failure)
                    await emit(completion)

            await _all(work, min(len(prompts), self._workers))

        yield from self._thread.stream(produce, ahead=2 * self._workers)

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None


class _Watch:
    """Decides when a batch is not worth going on with."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._answered = False
        self._failed_in_a_row = 0

    def saw(self, failure: Failure | None) -> None:
        """Take note of one prompt's end; raise what stops the batch.

        A prompt that is too long says nothing about the others.
        """
        if failure is None:
            self._answered, self._failed_in_a_row = True, 0
        elif failure.then == "stop" or (failure.error.code == "endpoint-down" and not self._answered):
            raise failure.error
        elif failure.error.code != "prompt-too-long":
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= IN_A_ROW:
                raise in_a_row(self._failed_in_a_row, failure.error, self._name)


async def _all(work: Callable[[], Coroutine[Any, Any, None]], workers: int) -> None:
    """Run so many workers, one begun after the other; the first of our errors ends all and is raised alone."""

    async def begin(number: int) -> None:
        await asyncio.sleep(number * SPREAD_SECONDS / workers)
        await work()

    stop: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(begin(number))
    except* ModelsmithError as errors:
        stop = errors.exceptions[0]
    if stop is not None:
        raise stop


def _authorization(key_env: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """The header that carries the key; the key itself is named nowhere else."""
    if key_env is None:
        return {}
    return {"Authorization": f"Bearer {key_named(key_env, environment)}"}
