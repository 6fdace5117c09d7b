"""A run in short: its identity, and what answering cost. Both read the observations one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from modelsmith.evaluation.results import observation_key
from modelsmith.evaluation.statistics import percentile
from modelsmith.schema.canonical import digest, sha256
from modelsmith.schema.cluster import Prices
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import Question
from modelsmith.schema.run import Cost, EngineFacts, Observation
from modelsmith.schema.source import TokenPrices


def run_id(
    question: Question, weights: str, base: str | None, engine: EngineFacts, observations: Iterable[Observation]
) -> str:
    """Identity of a run: digest of question, weights, engine, verdicts and the digests of the completions.

    Weights that are an adapter are told together with the `base` beneath them.

    Tokens, times and the order of the observations do not enter.
    """
    facts = sorted(
        [
            observation_key(observation),
            observation.row.scenario,
            dict(observation.row.points),
            sha256(observation.completion.encode()),
        ]
        for observation in observations
        if observation.row is not None
    )
    return digest(
        {
            "question": question.model_dump(mode="json"),
            "weights": weights,
            **({"base": base} if base else {}),
            "engine": engine.model_dump(mode="json", exclude_none=True),
            "observations": facts,
        }
    )


class _Spent(NamedTuple):
    seconds: float
    wall: float
    prompt_tokens: int
    completion_tokens: int
    first_token: float | None


def cost(observations: Iterable[Observation], prices: Prices, tokens: TokenPrices | None = None) -> Cost:
    """Costs of answering: percentiles of request times, tokens, and money.

    The price is that of the machine for the time of generation or, where a server charges by `tokens`, of the tokens.

    Raises:
        InvalidInput: ``no-rows``.
    """
    spent = [
        _Spent(
            observation.seconds,
            observation.wall_seconds,
            observation.prompt_tokens,
            observation.completion_tokens,
            observation.first_token_seconds,
        )
        for observation in observations
    ]
    if not spent:
        raise InvalidInput("no-rows", "There is not one completion to reckon with.", "Run the eval first.")
    seconds = [spending.seconds for spending in spent]
    first = [spending.first_token for spending in spent if spending.first_token is not None]
    wall = sum(spending.wall for spending in spent)
    prompt_tokens = sum(spending.prompt_tokens for spending in spent)
    completion_tokens = sum(spending.completion_tokens for spending in spent)
    measured = Cost(
        p50_seconds=percentile(seconds, 0.50),
        p95_seconds=percentile(seconds, 0.95),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_per_second=completion_tokens / wall if wall > 0 else 0.0,
        first_token_p50_seconds=percentile(first, 0.50) if first else None,
        first_token_p95_seconds=percentile(first, 0.95) if first else None,
        cost_per_decision=prices.compute_per_hour * wall / 3600 / len(spent),
        currency=prices.currency,
    )
    return priced(measured, len(spent), prices, tokens)


def priced(measured: Cost, answers: int, prices: Prices, tokens: TokenPrices | None = None) -> Cost:
    """A run's cost at these prices: money follows from the time of generation, or from the tokens.

    The time is that in which the completion tokens came at the stated rate. Without a rate (nothing was generated, or
    in no time) it is unknown, and the price per hour leaves the stated cost as it is.
    """
    per_decision = measured.cost_per_decision
    if tokens is not None:
        prompt = measured.prompt_tokens * tokens.prompt_per_million
        per_decision = (prompt + measured.completion_tokens * tokens.completion_per_million) / 1_000_000 / answers
    elif not prices.compute_per_hour:
        per_decision = 0.0
    elif measured.tokens_per_second > 0:
        hours = measured.completion_tokens / measured.tokens_per_second / 3600
        per_decision = prices.compute_per_hour * hours / answers
    return measured.model_copy(update={"cost_per_decision": per_decision, "currency": prices.currency})
