"""What must not be sent to a server that fills in the chat template itself: it reads control tokens anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.source import Chat
from modelsmith.substrates.chat import control_names, require_switch
from modelsmith.substrates.port import Prompt

_TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")


def names_in_folder(model: Path, chat: Chat) -> frozenset[str]:
    """Names of the control tokens of the tokenizer in a model's folder; none where it has no tokenizer.

    Raises:
        InvalidInput: ``no-thinking-switch`` (see `require_switch`).
    """
    template = "".join(_text(model / name) for name in _TEMPLATES)
    if template:
        require_switch(template, chat)
    try:
        added = json.loads(_text(model / "tokenizer.json"))["added_tokens"]
        return frozenset(
            control_names(((str(token["content"]), bool(token["special"])) for token in added), template, chat)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return frozenset()


def control_token_in(prompt: Prompt, system: str, names: Iterable[str]) -> InvalidInput | None:
    """Why this prompt is not sent, if it is not: a text in it would become a turn, or end the conversation."""
    joined = "\0".join((system, *(message.content for message in prompt.messages)))
    tokens = sorted(name for name in names if name in joined)
    if not tokens:
        return None
    return InvalidInput(
        "control-token",
        f"The prompt holds {tokens[0]!a}, which this model reads as a control token, and a vLLM server cannot be told "
        "that it is text.",
        "Write it otherwise in the scenario, or evaluate with engine: transformers, which spells it out.",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
