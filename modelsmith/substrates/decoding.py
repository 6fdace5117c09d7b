"""Tokens to tokens: the decoding that the in-process engine and a trainer share. Heavy: imports torch.

The prompts' common beginning is computed once, keys and values lie in buffers that are never reallocated, and finished
sequences leave the batch. Of one prompt several answers can be drawn: it is computed once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from modelsmith.substrates.attention import over_padding, window_of
from modelsmith.substrates.chat import common_prefix

COMPACT_BELOW = 0.75
"""Share of unfinished sequences at which the finished ones leave the batch; moving the buffers costs about a step."""

Choose = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""The next token of each sequence: from logits (rows, vocabulary), and the number of the sequence of each row."""


class DecodedSequence(NamedTuple):
    """The tokens that one sequence was continued with."""

    number: int
    """Of the sequence: its prompt's, times the answers to each prompt, plus its own among them."""
    tokens: list[int]
    """With the end token, where it came to an end."""
    ended: bool
    """Whether an end token ended it, and not the limit."""
    seconds: float
    """Since its batch began."""


def share(model: Any, prompts: Sequence[list[int]]) -> Cache:
    """Keys and values of the tokens that all prompts begin with."""
    length = common_prefix(prompts)
    cache = _cache(model, 1, length)
    if length:
        ids = torch.tensor([prompts[0][:length]], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def decode(
    model: Any,
    prompts: Sequence[list[int]],
    shared: Cache,
    choose: Choose,
    *,
    limit: int,
    ends: torch.Tensor,
    pad: int,
    answers: int = 1,
) -> list[DecodedSequence]:
    """Go on from each prompt, ``answers`` times over, up to an end token or ``limit`` new tokens.

    They are given as they finish. ``shared`` is that of these prompts, or of more (`share`).
    """
    begin = time.perf_counter()
    shared_length, device = shared.get_seq_length(), model.device
    tails = [prompt[shared_length:] for prompt in prompts]
    width = max(map(len, tails))
    cache = _cache(model, len(prompts), shared_length + width + limit)
    for ours, theirs in zip(cache.layers, shared.layers, strict=True):
        ours.begin_with(theirs)
    step = torch.tensor([[pad] * (width - len(t)) + t for t in tails], device=device)
    starts = torch.tensor([[width - len(t)] for t in tails], device=device)
    columns = torch.arange(width + limit, device=device)
    visible = torch.cat([columns.new_ones(len(tails), shared_length), (columns >= starts).long()], dim=1)
    shared_places = torch.arange(shared_length, device=device).expand(len(tails), -1)
    places = torch.cat([shared_places, (shared_length + columns - starts).clamp(min=0)], dim=1)
    window = window_of(model)
    windowed = window is not None and window < places.shape[1]
    total = len(prompts) * answers
    tokens: list[list[int]] = [[] for _ in range(total)]
    rows = list(range(total))
    outputs: dict[int, DecodedSequence] = {}
    at = slice(shared_length, shared_length + width)
    while True:
        filled = visible[:, : at.stop]
        logits = model(
            input_ids=step,
            attention_mask=over_padding(model, filled, at.start, places[:, : at.stop]) if windowed else filled,
            position_ids=places[:, at],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if len(logits) < len(rows):
            each = torch.arange(len(prompts), device=device).repeat_interleave(answers)
            cache.batch_select_indices(each)
            logits, visible, places = logits[each], visible[each], places[each]
        next_tokens = choose(logits.float(), rows)
        ended = torch.isin(next_tokens, ends).tolist()
        for number, token, end in zip(rows, next_tokens.tolist(), ended, strict=True):
            if number not in outputs:
                tokens[number].append(token)
                if end or len(tokens[number]) == limit:
                    outputs[number] = DecodedSequence(number, tokens[number], end, time.perf_counter() - begin)
        if len(outputs) == total:
            return list(outputs.values())
        unfinished = [row for row, number in enumerate(rows) if number not in outputs]
        if len(unfinished) <= len(rows) * COMPACT_BELOW:
            cache.batch_select_indices(torch.tensor(unfinished, device=device))
            next_tokens, visible, places = next_tokens[unfinished], visible[unfinished], places[unfinished]
            rows = [rows[row] for row in unfinished]
        step, at = next_tokens[:, None], slice(at.stop, at.stop + 1)


def for_small_batches(weight: torch.Tensor) -> torch.Tensor:
    """The weight of a linear layer stored input-major.

    With few rows, as in decoding, MKL multiplies by such a matrix twice as fast.
    """
    return weight.t().contiguous().t()


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the model's generation settings, and the tokenizer's."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None})


def _cache(model: Any, batch: int, capacity: int) -> Cache:
    return Cache(layers=[_Buffer(batch, capacity) for _ in range(model.config.num_hidden_layers)])


class _Buffer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer in a buffer of fixed capacity, so that a step writes its own tokens only."""

    is_sliding = False

    def __init__(self, batch: int, capacity: int) -> None:
        super().__init__()
        self._shape = (batch, capacity)
        self._length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        batch, capacity = self._shape
        self.keys = key_states.new_empty(batch, key_states.shape[1], capacity, key_states.shape[3])
        self.values = value_states.new_empty(batch, value_states.shape[1], capacity, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[2]
        self.keys[:, :, self._length : end] = key_states
        self.values[:, :, self._length : end] = value_states
        self._length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def begin_with(self, other: _Buffer) -> None:
        """Start every sequence with the tokens of a cache of one sequence."""
        if other.get_seq_length():
            self.update(other.keys.expand(self._shape[0], -1, -1, -1), other.values.expand(self._shape[0], -1, -1, -1))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these sequences and drop the others."""
        self.keys, self.values = self.keys[indices], self.values[indices]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        return self._length

    def get_max_length(self) -> int:
        return self._shape[1]
