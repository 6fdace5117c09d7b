"""How a conversation becomes tokens: the one place, so that training and serving see the same prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.scenario import Message


def prompt_ids(tokenizer: Any, messages: Sequence[Message], system: str) -> list[int]:
    """Tokens of system prompt and conversation by the tokenizer's own chat template, up to where the answer begins.

    Raises:
        InvalidInput: ``no-chat-template`` when the base model brings none.
    """
    if not tokenizer.chat_template:
        raise InvalidInput(
            "no-chat-template",
            "The base model's tokenizer has no chat template.",
            "Choose an instruction-tuned base model, or add chat_template.jinja to its folder.",
        )
    turns = [{"role": "system", "content": system}, *({"role": m.role, "content": m.content} for m in messages)]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """Length of the longest common prefix that leaves every sequence at least one token of its own.

    >>> common_prefix([[1, 2, 3], [1, 2, 4, 5]])
    2
    >>> common_prefix([[1, 2], [1, 2, 3]])
    1
    """
    first, last = min(sequences), max(sequences)
    limit = min(map(len, sequences)) - 1
    for i in range(limit):
        if first[i] != last[i]:
            return i
    return limit
