"""One prompt to an OpenAI-compatible server and its answer back: connections, attempts, and waiting in between."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.source import Chat, Endpoint
from modelsmith.substrates.chat import answer_after
from modelsmith.substrates.endpoint import failures
from modelsmith.substrates.endpoint.allowed import is_loopback
from modelsmith.substrates.endpoint.api import Answer, LimitName, StreamReader, read_answer, request_body
from modelsmith.substrates.endpoint.concurrency import AdaptiveLimit, Gate
from modelsmith.substrates.endpoint.failures import Failure
from modelsmith.substrates.endpoint.retries import delay
from modelsmith.substrates.port import Completion, Prompt

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 16 * 2**20
"""Bytes of one answer; a larger one is not read to its end."""
_CONNECT_SECONDS = 10.0
_PIECE = 64 * 1024

Reply = tuple[Answer | Failure, float | None]
"""What one request brought, and the seconds to the first token of a stream."""


class ChatClient:
    """Belongs to one event loop, but for its making.

    Raises:
        InfrastructureFailure: ``extra-missing`` without aiohttp.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        authorization: Mapping[str, str],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        try:
            import aiohttp
        except ImportError:
            raise InfrastructureFailure(
                "extra-missing",
                "Endpoints need the extra `endpoint`.",
                "Install it with `pip install 'modelsmith[endpoint]'`.",
            ) from None
        self._aiohttp = aiohttp
        self._endpoint = endpoint
        self._name = name
        self._url = endpoint.url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **authorization}
        self._proxy = proxy_of(endpoint.url)
        self._sleep = sleep
        self._gate = Gate(AdaptiveLimit(endpoint.max_connections))
        self._limit_name: LimitName = "max_tokens"
        self._model: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, prompt: Prompt, system: str, sampling: Sampling) -> tuple[Completion, Failure | None]:
        """Send one prompt until it is answered or has failed for good."""
        attempt = 1
        while True:
            epoch = await self._gate.enter()
            begin = time.perf_counter()
            result: Answer | Failure | None = None
            try:
                result, first = await self._send(prompt, system, sampling)
            finally:
                self._gate.leave(
                    epoch,
                    answered=isinstance(result, Answer),
                    pushed_back=isinstance(result, Failure) and result.pushed_back,
                )
            seconds = time.perf_counter() - begin
            if isinstance(result, Answer):
                result = self._of_one_model(result)
            if isinstance(result, Answer):
                return _completed(prompt, result, seconds, first, self._endpoint.chat), None
            if result.then != "retry" or attempt == self._endpoint.max_attempts:
                result.error.details |= {"endpoint": self._name, "model": self._endpoint.model}
                return Completion(prompt.key, "", "error", 0, 0, seconds, result.error), result
            await self._wait(result, prompt.key, attempt)
            attempt += 1

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _send(self, prompt: Prompt, system: str, sampling: Sampling) -> Reply:
        body = request_body(
            self._endpoint.model,
            prompt.messages,
            system,
            sampling,
            self._limit_name,
            stream=self._endpoint.stream,
            omit=self._endpoint.omit,
            chat=self._endpoint.chat,
        )
        begin = time.perf_counter()
        http = self._aiohttp
        try:
            async with self._open_session().post(
                self._url, data=body, headers=self._headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                if response.status == 200 and response.content_type == "text/event-stream":
                    return await _read_stream(response, begin)
                reply = await _read(response)
        except http.ConnectionTimeoutError as error:
            return failures.unreachable(type(error).__name__, self._name), None
        except TimeoutError:
            return failures.timed_out(self._endpoint.timeout_seconds), None
        except http.ClientPayloadError:
            return failures.truncated(), None
        except http.ClientResponseError:
            return failures.malformed("it is not HTTP"), None
        except (http.ClientError, OSError, ValueError) as error:
            return failures.unreachable(type(error).__name__, self._name), None
        if isinstance(reply, Failure):
            return reply, None
        if response.status == 200:
            return read_answer(reply), None
        if self._limit_name == "max_tokens" and failures.wants_other_limit(response.status, reply):
            self._limit_name = "max_completion_tokens"
            return await self._send(prompt, system, sampling)
        failure = failures.of_status(
            response.status,
            response.headers,
            reply,
            model=self._endpoint.model,
            key_env=self._endpoint.key_env,
            now=time.time(),
        )
        return failure, None

    async def _wait(self, failure: Failure, key: str, attempt: int) -> None:
        """Wait before the next attempt; when the server has named a time, nobody else is sent meanwhile either."""
        if failure.after is None:
            await self._sleep(delay(key, attempt))
            return
        self._gate.pause()
        try:
            await self._sleep(failure.after)
        finally:
            self._gate.resume()
        await self._sleep(delay(key, 1))

    def _of_one_model(self, answer: Answer) -> Answer | Failure:
        self._model = self._model or answer.model
        return answer if answer.model in (None, self._model) else failures.two_models()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            seconds = self._endpoint.timeout_seconds
            self._session = self._aiohttp.ClientSession(
                connector=self._aiohttp.TCPConnector(limit=self._endpoint.max_connections),
                timeout=self._aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
                cookie_jar=self._aiohttp.DummyCookieJar(),
            )
        return self._session


def _completed(prompt: Prompt, answer: Answer, seconds: float, first: float | None, chat: Chat) -> Completion:
    parts = answer if answer.separated else answer_after(answer.text, answer.finish, chat)
    return Completion(
        key=prompt.key,
        text=parts.text,
        finish=parts.finish,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        seconds=seconds,
        first_token_seconds=first,
        served=answer.model,
    )


async def _read(response: aiohttp.ClientResponse) -> bytes | Failure:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_chunked(_PIECE):
        size += len(piece)
        if size > LARGEST_ANSWER:
            response.close()
            return failures.too_large(LARGEST_ANSWER)
        pieces.append(piece)
    return b"".join(pieces)


async def _read_stream(response: aiohttp.ClientResponse, begin: float) -> Reply:
    reader = StreamReader()
    first: float | None = None
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > LARGEST_ANSWER:
            response.close()
            return failures.too_large(LARGEST_ANSWER), None
        if reader.feed(piece) and first is None:
            first = time.perf_counter() - begin
    return reader.end(), first


def proxy_of(url: str) -> str | None:
    """The proxy that the environment (``HTTPS_PROXY``, ``NO_PROXY``) names for this address."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
