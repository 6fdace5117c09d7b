"""Rows of one optimizer step as a single sequence. Heavy: imports torch; only the worker uses it.

Every row begins with the same system prompt, so its tokens are computed once and each row attends to them and to
itself. Positions restart after the shared beginning. The loss and its gradient are those of separate padded rows; only
the work is less, by the padding and all but one copy of the shared beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from modelsmith.substrates.chat import common_prefix

IGNORED = -100
"""Label of a token that is not learned."""


class Tokens(NamedTuple):
    """A row as tokens."""

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
