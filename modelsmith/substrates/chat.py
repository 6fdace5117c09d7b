"""How a conversation becomes tokens, and where the answer begins: the one place, so that training and serving agree."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat

Finish = Literal["stop", "length"]
_SENTINEL = 0xF0000
"""First of the private characters that stand for control tokens while a template is filled in."""
_PROMPT_TAIL = 32
"""Tokens at a prompt's end in which its template may have opened the thoughts."""
_WHERE = "under base_model in the cluster file"


class Answer(NamedTuple):
    """The answer of a model, without its thinking."""

    text: str
    finish: Finish


def turns(messages: Sequence[Message], system: str, chat: Chat) -> list[dict[str, str]]:
    r"""Role and content of each message, with the system prompt where this model takes it.

    >>> turns([Message(role="user", content="Hi")], "Be brief.", Chat(system="first-user"))
    [{'role': 'user', 'content': 'Be brief.\n\nHi'}]
    """
    turn_list = [{"role": message.role, "content": message.content} for message in messages]
    if chat.system == "role":
        return [{"role": "system", "content": system}, *turn_list]
    if turn_list and turn_list[0]["role"] == "user":
        return [{"role": "user", "content": f"{system}\n\n{turn_list[0]['content']}"}, *turn_list[1:]]
    return [{"role": "user", "content": system}, *turn_list]


def template_keywords(chat: Chat) -> dict[str, bool]:
    """Keywords for the chat template, beside the messages."""
    return {chat.switch: False} if chat.thinking == "off" else {}


def prompt_ids(tokenizer: Any, messages: Sequence[Message], system: str, chat: Chat) -> list[int]:
    """Tokens of system prompt and conversation by the tokenizer's own chat template, up to where the answer begins.

    What stands in a message is text: a control token's name in it is spelt out, and never becomes a turn.

    Raises:
        InvalidInput: ``no-chat-template`` when the base model brings none; ``chat-template-refuses`` when it does not
            take these messages; ``control-token`` where none of them can be spelt out; ``no-thinking-switch`` when it
            has no such keyword.
    """
    if not tokenizer.chat_template:
        raise InvalidInput(
            "no-chat-template",
            "The base model's tokenizer has no chat template.",
            "Choose an instruction-tuned base model, or add chat_template.jinja to its folder.",
        )
    require_switch(str(tokenizer.chat_template), chat)
    turn_list = turns(messages, system, chat)
    hidden = _Hidden(_control_tokens(tokenizer, chat), (turn["content"] for turn in turn_list))
    turn_list = [{"role": turn["role"], "content": hidden.hide(turn["content"])} for turn in turn_list]
    return _ids(tokenizer, _rendered(tokenizer, turn_list, chat), hidden)


def text_ids(tokenizer: Any, text: str, chat: Chat) -> list[int]:
    """Tokens of a text that holds no control token, whatever it says."""
    hidden = _Hidden(_control_tokens(tokenizer, chat), (text,))
    return _ids(tokenizer, hidden.hide(text), hidden)


def trained_answer(tokenizer: Any, prompt: Sequence[int], text: str, end: int, chat: Chat) -> list[int]:
    """Tokens of an answer that is learned after these of its prompt, with the token that ends it.

    Where the template has opened the thoughts, they are closed at once, since what stands in them is no answer.
    """
    opened = begins_thinking(tokenizer.decode(prompt[-_PROMPT_TAIL:]), chat)
    closing = _encoded(tokenizer, f"\n{chat.end}\n\n") if opened else []
    return [*closing, *text_ids(tokenizer, text, chat), end]


def answer_end(tokenizer: Any, ends: Sequence[int], chat: Chat) -> int:
    """The token that a trained answer ends with: what the template writes after an answer, if engines stop at it.

    ``ends``: the tokens at which they do. Otherwise it is the tokenizer's own, which may be another: Gemma's turns end
    with ``<end_of_turn>``, and its texts with ``<eos>``.
    """
    mark = chr(_SENTINEL)  # no letter: a template may write one in the name of its end token
    turn_list = [{"role": "user", "content": mark}, {"role": "assistant", "content": mark}]
    try:
        text = tokenizer.apply_chat_template(turn_list, tokenize=False, **template_keywords(chat))
    except Exception:  # a template may raise what it likes; then it says nothing about an answer's end
        return int(tokenizer.eos_token_id)
    after = _encoded(tokenizer, text.rpartition(mark)[2])
    return after[0] if after and after[0] in ends else int(tokenizer.eos_token_id)


def require_switch(template: str, chat: Chat) -> None:
    """Refuse ``thinking: off`` for a template that has no such keyword: it would change nothing, in silence.

    Raises:
        InvalidInput: ``no-thinking-switch``.
    """
    if chat.thinking == "off" and not re.search(rf"\b{re.escape(chat.switch)}\b", template):
        raise InvalidInput(
            "no-thinking-switch",
            f"The model's chat template knows no keyword {chat.switch}, so its thinking cannot be switched off.",
            f"Name the template's own keyword as chat.switch, or write chat.thinking: strip, {_WHERE}.",
            switch=chat.switch,
        )


def control_names(added: Iterable[tuple[str, bool]], template: str, chat: Chat) -> set[str]:
    """Names of tokens that mean something to the model beyond what they say.

    Of the tokens that were added to a vocabulary (name, and whether it is special) those are the special ones, and the
    others that the template writes; plain words and runs of spaces that some vocabularies add are text.
    """
    marks = (chat.begin, chat.end) if chat.thinking != "keep" else ()
    control = {name for name, special in added if special or name in template or name in marks}
    return {name for name in control if len(name) > 1 and not name.isspace()}


def begins_thinking(prompt: str, chat: Chat) -> bool:
    r"""Whether the template itself opens the thoughts, as DeepSeek-R1's does.

    >>> begins_thinking("<|Assistant|><think>\n", Chat(thinking="strip"))
    True
    """
    return chat.thinking == "strip" and prompt.rfind(chat.begin) > prompt.rfind(chat.end)


def answer_after(text: str, finish: Finish, chat: Chat, opened: bool | None = None) -> Answer:
    r"""The answer in what a model wrote, its thoughts taken away where that is asked for.

    Without an end of the thoughts there is an answer only if they never began; ``opened`` says whether the prompt had
    begun them, None where a server filled in the template: then what reached the limit may have been thoughts. Thoughts
    that reached the limit of new tokens count as cut off, and so do those that just stop.

    >>> answer_after("<think>So...</think>\n\nyes", "stop", Chat(thinking="strip"))
    Answer(text='yes', finish='stop')
    >>> answer_after("<think>So", "length", Chat(thinking="strip"))
    Answer(text='', finish='length')
    """
    if chat.thinking != "strip":
        return Answer(text, finish)
    _, mark, after = text.rpartition(chat.end)
    if chat.begin in after:
        return Answer("", "length")
    if mark:
        return Answer(after.lstrip(), finish)
    if opened or (opened is None and finish == "length"):
        return Answer("", "length")
    return Answer(text, finish)


def answer_in(tokenizer: Any, prompt: Sequence[int], tokens: list[int], finish: Finish, chat: Chat) -> Answer:
    """The answer in the tokens that a model wrote, without its end token.

    The marks around thoughts may be special tokens, which the answer has none of.
    """
    decode = tokenizer.decode
    if chat.thinking != "strip":
        return Answer(decode(tokens, skip_special_tokens=True), finish)
    opened = begins_thinking(decode(prompt[-_PROMPT_TAIL:]), chat)
    ends = decode(tokens).count(chat.end)
    after = bisect_left(range(len(tokens)), ends, key=lambda count: decode(tokens[:count]).count(chat.end))
    if not ends or after == len(tokens):
        return answer_after(decode(tokens), finish, chat, opened)
    joint = decode(tokens[:after]).rpartition(chat.end)[2]
    return Answer((joint + decode(tokens[after:], skip_special_tokens=True)).lstrip(), finish)


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


class _Hidden:
    """Control tokens' names that stand in a text, each behind a private character until the text is tokenised."""

    def __init__(self, control: Iterable[str], texts: Iterable[str]) -> None:
        joined = "\0".join(texts)
        names = sorted((name for name in control if name in joined), key=lambda name: (-len(name), name))
        used = set(joined)
        free = (chr(number) for number in range(_SENTINEL, 0x10FFFE) if chr(number) not in used)
        self._stand_ins = dict(zip(names, free, strict=False))
        if len(self._stand_ins) < len(names):
            raise InvalidInput(
                "control-token",
                "A text names control tokens, and leaves no private character of Unicode to stand for them.",
                "Leave the private characters out.",
            )
        self.names = {stand_in: name for name, stand_in in self._stand_ins.items()}

    def hide(self, text: str) -> str:
        """The text with stand-ins for the names; the longest name counts where two begin alike."""
        if not self._stand_ins:
            return text
        return re.sub("|".join(map(re.escape, self._stand_ins)), lambda match: self._stand_ins[match[0]], text)


def _ids(tokenizer: Any, text: str, hidden: _Hidden) -> list[int]:
    if not hidden.names:
        return _encoded(tokenizer, text)
    spelt = {
        stand_in: [*_encoded(tokenizer, name[:1]), *_encoded(tokenizer, name[1:])]
        for stand_in, name in hidden.names.items()
    }
    ids: list[int] = []
    for part in re.split(f"([{''.join(hidden.names)}])", text):
        if part in spelt:
            ids += spelt[part]
        elif part:
            ids += _encoded(tokenizer, part)
    return ids


def _encoded(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _control_tokens(tokenizer: Any, chat: Chat) -> set[str]:
    added = [(str(token.content), token.special) for token in tokenizer.added_tokens_decoder.values()]
    added += [(str(name), True) for name in tokenizer.all_special_tokens]
    return control_names(added, str(tokenizer.chat_template), chat)


def _rendered(tokenizer: Any, turn_list: list[dict[str, str]], chat: Chat) -> str:
    import jinja2

    try:
        text: str = tokenizer.apply_chat_template(
            turn_list, tokenize=False, add_generation_prompt=True, **template_keywords(chat)
        )
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        advice = (
            f"If it has no system message, write chat: {{system: first-user}} {_WHERE}; else change the roles of the "
            "scenario's messages."
        )
        raise InvalidInput(
            "chat-template-refuses",
            f"The model's chat template does not take these messages: {reason!a}.",
            advice if chat.system == "role" else "Change the roles of the scenario's messages.",
            roles=[turn["role"] for turn in turn_list],
        ) from error
    return text
