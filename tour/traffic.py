"""Simulated customers: they ask the door over HTTP, and report whether they won, as an application would."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping

import aiohttp

AT_ONCE = 8


async def _trade(door: str, cluster: str, metric: str, wins: Mapping[str, float], number: int) -> Counter[str]:
    chance, answered, turns = random.Random(number), Counter[str](), asyncio.Semaphore(AT_ONCE)

    async def ask_one(session: aiohttp.ClientSession, serial: int) -> None:
        note = f"Bid rate fell by {serial % 40 + 10} percent at {serial % 24:02d}:00. Why?"
        fields = {"model": cluster, "messages": [{"role": "user", "content": note}], "max_tokens": 4}
        async with turns:
            async with session.post(f"{door}/v1/chat/completions", json=fields) as answer:
                answer.raise_for_status()
                specialist, decision = (answer.headers[f"x-modelsmith-{name}"] for name in ("specialist", "decision"))
            won = int(chance.random() < wins.get(specialist, wins["others"]))
            report = {"decision_id": decision, "metric": metric, "value": won, "idempotency_key": decision}
            async with session.post(f"{door}/v1/feedback", json=report):
                answered[specialist] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(ask_one(session, serial) for serial in range(number)))
    return answered


def trade(door: str, cluster: str, metric: str, wins: Mapping[str, float], number: int) -> Counter[str]:
    """Ask so many times; the answers by specialist.

    Args:
        door: Its address, without a path.
        cluster: Whom to ask.
        metric: What is reported: 1 for a win, 0 for none.
        wins: Probability of a win by specialist, and of all ``others``. This, and not the answer, decides: customers
            are simulated.
        number: How many requests.
    """
    return asyncio.run(_trade(door, cluster, metric, wins, number))
