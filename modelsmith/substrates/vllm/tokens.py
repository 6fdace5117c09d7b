"""Tokens to tokens by a running server: what a trainer samples with. Nothing is spelled out and read again.

vLLM's ``/v1/completions`` takes a prompt as ids and gives ids back (``return_token_ids``), each with its
log-probability before temperature (``logprobs``). Where answers end is said with the request (``stop_token_ids``), and
the server's own idea of it is off (``ignore_eos``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.substrates.vllm.server import VllmServer

ANSWER_SECONDS = 1800.0
"""Longest time for all answers to one prompt."""


class TokenRequest(NamedTuple):
    """A request for completions of one prompt."""

    prompt: Sequence[int]
    answers: int
    limit: int
    """Most tokens of an answer."""
    temperature: float
    """0 takes the likeliest token; then there is one answer."""
    seed: int
    """The same seed draws the same; each answer has a seed of its own, counted on from this."""


class TokenAnswer(NamedTuple):
    """An answer of the server as tokens, with their log probabilities."""

    tokens: list[int]
    """With the end token, where it came to an end."""
    ended: bool
    """Whether an end token ended it, and not the limit."""
    log_probs: list[float]
    """Of each token, by the server, in nats, at temperature 1."""


def ask_tokens(
    server: VllmServer, model: str, request: TokenRequest, ends: frozenset[int], vocabulary: int
) -> list[TokenAnswer]:
    """The server's answers to one prompt, in order.

    Args:
        server: The running server.
        model: What `VllmServer.load_adapter` returned, or ``BASE``.
        request: The prompt, and what is asked of it.
        ends: Tokens that end an answer.
        vocabulary: How many tokens there are.

    Raises:
        InfrastructureFailure: ``vllm-died``; ``vllm-reply`` when no reply comes, or one that is not what was asked for.
    """
    status, body = server.ask(
        "/v1/completions",
        {
            "model": model,
            "prompt": list(request.prompt),
            "n": request.answers,
            "max_tokens": request.limit,
            "temperature": request.temperature,
            "seed": request.seed,
            "ignore_eos": True,
            "stop_token_ids": sorted(ends),
            "return_token_ids": True,
            "logprobs": 0,
        },
        ANSWER_SECONDS,
    )
    if status != 200:
        server.require_alive()
        raise _unfit(f"it replied with status {status}")
    return read_reply(body, request, ends, vocabulary)


def read_reply(body: bytes, request: TokenRequest, ends: frozenset[int], vocabulary: int) -> list[TokenAnswer]:
    """The answers that a reply of vLLM's completions API holds, in order. Pure.

    Raises:
        InfrastructureFailure: ``vllm-reply``: it holds others than were asked for, or no tokens.
    """
    try:
        choices = json.loads(body)["choices"]
        replies = {choice["index"]: _token_answer(choice) for choice in choices}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise _unfit("it does not say which tokens it wrote") from None
    if len(choices) != request.answers or replies.keys() != set(range(request.answers)):
        raise _unfit(f"it holds {len(choices)} answers, and {request.answers} were asked for")
    for reply in replies.values():
        if why := _wrong(reply, request, ends, vocabulary):
            raise _unfit(why)
    return [replies[number] for number in range(request.answers)]


def _token_answer(choice: Any) -> TokenAnswer:
    tokens, log_probs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    if not all(type(token) is int for token in tokens):
        raise ValueError
    return TokenAnswer(list(tokens), choice["finish_reason"] == "stop", [float(log_prob) for log_prob in log_probs])


def _wrong(reply: TokenAnswer, request: TokenRequest, ends: frozenset[int], vocabulary: int) -> str | None:
    tokens = reply.tokens
    if not tokens or len(tokens) != len(reply.log_probs) or not all(map(math.isfinite, reply.log_probs)):
        return "an answer's tokens and their log-probabilities are not as many"
    if not all(0 <= token < vocabulary for token in tokens):
        return "an answer holds a token that the model does not have"
    if not ends.isdisjoint(tokens[:-1]):
        return "an answer goes on after its end"
    if reply.ended != (tokens[-1] in ends) or not (reply.ended or len(tokens) == request.limit):
        return "an answer stops where it does not end"
    return None if len(tokens) <= request.limit else "an answer is longer than its limit"


def _unfit(why: str) -> InfrastructureFailure:
    return InfrastructureFailure(
        "vllm-reply",
        f"The vLLM server's reply is not what was asked for: {why}.",
        "Read the server's log; take the version of vLLM that `make vllm` installs.",
        reason=why,
    )
