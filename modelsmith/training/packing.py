"""Rows of one optimizer step as a single sequence. Heavy: imports torch; only the worker uses it.

Every row begins with the same system prompt, so its tokens are computed once and each row attends to them and to
itself. Positions restart after the shared beginning. The loss and its gradient are those of separate padded rows; only
the work is less, by the padding and all but one copy of the shared beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from modelsmith.substrates.attention import attending
from modelsmith.substrates.chat import common_prefix

IGNORED = -100
"""Label of a token that is not learned."""


class Tokens(NamedTuple):
    """A training row as tokens: prompt and answer apart."""

    prompt: list[int]
    answer: list[int]


def pack(rows: Sequence[Tokens]) -> dict[str, torch.Tensor]:
    """``input_ids``, ``position_ids`` and ``labels``, each (1, n), and a boolean ``attention_mask`` (1, 1, n, n)."""
    shared = common_prefix([row.prompt for row in rows])
    ids = list(rows[0].prompt[:shared])
    positions = list(range(shared))
    labels = [IGNORED] * shared
    owner = [-1] * shared
    for number, row in enumerate(rows):
        own = row.prompt[shared:]
        ids += own + row.answer
        positions += range(shared, shared + len(own) + len(row.answer))
        labels += [IGNORED] * len(own) + row.answer
        owner += [number] * (len(own) + len(row.answer))
    rows_of = torch.tensor(owner)
    order = torch.arange(len(ids))
    visible = (order[:, None] >= order) & ((rows_of == -1) | (rows_of[:, None] == rows_of))
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([labels]),
        "attention_mask": visible[None, None],
    }


class Packed(NamedTuple):
    """Answers to prompts as one sequence."""

    inputs: dict[str, torch.Tensor]
    """``input_ids`` and ``position_ids``, each (1, n), and a boolean ``attention_mask`` (1, 1, n, n)."""
    next_ids: torch.Tensor
    """(1, n): the token of the answer that follows at each position; `IGNORED` elsewhere."""
    rows: list[int]
    """The answers that are in it, in order; their tokens are what is not ignored."""


def pack_answers(rows: Sequence[Tokens], most: int) -> Iterator[Packed]:
    """Rows as a tree: the common beginning once, each distinct prompt once, and every answer to it beside the others.

    The last token of a prompt stands before each answer, since what follows it differs. A sequence gets further rows
    while it has no more than ``most`` tokens.
    """
    shared = common_prefix([row.prompt for row in rows])
    order = sorted(range(len(rows)), key=lambda number: (rows[number].prompt, number))
    while order:
        size, count = 0, 0
        for number in order:
            size += len(rows[number].answer) + 1
            if count and size > most:
                break
            count += 1
        yield _tree(rows, order[:count], shared)
        order = order[count:]


def as_seen(model: Any, packed: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the model is called with for a packed sequence, whatever its layers are; ``model`` without its adapter."""
    places = packed["position_ids"]
    return {
        "input_ids": packed["input_ids"],
        "position_ids": places,
        "attention_mask": attending(model, packed["attention_mask"], places, places),
    }


def logits_at(model: Any, packed: Mapping[str, torch.Tensor], chosen_places: torch.Tensor) -> torch.Tensor:
    """What the model says at some places of a packed sequence, as float32: (places, vocabulary).

    It is asked itself: some models scale or cap what their output embedding gives (Gemma 2, Granite, Cohere).

    Args:
        model: Without its adapter, as PEFT's ``get_base_model`` gives it; its layers have it nevertheless.
        packed: See `as_seen`.
        chosen_places: Boolean, (1, n) or shorter: the places.
    """
    where = chosen_places[0].nonzero()[:, 0]
    logits: torch.Tensor = model(**as_seen(model, packed), use_cache=False, logits_to_keep=where).logits[0].float()
    return logits


def _tree(rows: Sequence[Tokens], order: list[int], shared: int) -> Packed:
    ids = list(rows[order[0]].prompt[:shared])
    positions, labels = list(range(shared)), [IGNORED] * shared
    prompt_of, answer_of = [-1] * shared, [-1] * shared
    before: list[int] | None = None
    for number in order:
        prompt, answer = rows[number]
        own = [] if prompt == before else prompt[shared:-1]
        owner = prompt_of[-1] if prompt == before else number
        ids += [*own, prompt[-1], *answer]
        positions += range(shared, shared + len(own))
        positions += range(len(prompt) - 1, len(prompt) + len(answer))
        labels += [IGNORED] * len(own) + [*answer, IGNORED]
        prompt_of += [owner] * (len(own) + 1 + len(answer))
        answer_of += [-1] * len(own) + [number] * (1 + len(answer))
        before = prompt
    place, prompts, answers = torch.arange(len(ids)), torch.tensor(prompt_of), torch.tensor(answer_of)
    visible = (
        (place[:, None] >= place)
        & ((prompts == -1) | (prompts[:, None] == prompts))
        & ((answers == -1) | (answers[:, None] == answers))
    )
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": visible[None, None],
    }
    return Packed(inputs, torch.tensor([labels]), order)
