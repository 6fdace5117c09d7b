"""What policy calls private, taken out of texts before anything is written. Pure.

A text is first brought to one form (NFKC, without characters that nobody sees): no look-alike sign and no joiner
inside an address hides it. Patterns are RE2's: their time grows with the text alone. Names of people have no form of
their own: a policy that expects them says how they look, or the records leave them out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from modelsmith.normal_form import normalized
from modelsmith.repository.secrets import find_secrets
from modelsmith.schema.assigned import is_shown
from modelsmith.schema.governance import Private, PrivateKind

SECRET: Final = "secret"  # noqa: S105 - a kind, no secret
UNSEEN: Final = "unseen"
"""Characters that nobody sees, or that steer a terminal."""


def _luhn(text: str) -> bool:
    digits = [int(one) for one in reversed(text) if one.isdigit()]
    doubled = (sum(divmod(2 * one, 10)) for one in digits[1::2])
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    plain = text.replace(" ", "").upper()
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(one, 36)) for one in moved)) % 97 == 1


def _phone(text: str) -> bool:
    return 9 <= sum(one.isdigit() for one in text) <= 15


_KINDS: Final[Mapping[PrivateKind, tuple[str, Callable[[str], bool]]]] = {
    "email": (r"[\pL\pN_.+%'-]+\s?@\s?[\pL\pN-]+(?:\.[\pL\pN-]+)+", lambda _: True),
    "url": (r"(?i)\b(?:https?|ftp|ssh|file|s3)://[^\s\"'<>]+", lambda _: True),
    "iban": (r"\b[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?\b", _iban),
    "card": (r"\p{Nd}(?:[ -]?\p{Nd}){12,18}", _luhn),
    "national-id": (r"\b\d{3}-\d{2}-\d{4}\b", lambda _: True),
    "ip": (r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f]{1,4}\b", lambda _: True),
    "phone": (r"\+?\(?\p{Nd}(?:[ ()./-]{0,2}\p{Nd}){8,14}", _phone),
}
"""In this order: what a longer form holds is no shorter one."""


_Rule = tuple[str, Any, Callable[[str], bool]]


class Scrubbed(NamedTuple):
    """A text without what is private."""

    text: str
    removed: Counter[str]
    """How much was taken out, by kind."""


class Scrubber:
    """A policy's rules, compiled once."""

    def __init__(self, private: Private) -> None:
        """Compile what the policy says.

        Raises:
            ValueError: a pattern of the policy is none of RE2's.
        """
        self._rules: list[_Rule] = [
            (name, _compiled(pattern), lambda _: True) for name, pattern in sorted(private.patterns.items())
        ]
        self._rules += [(name, _compiled(_KINDS[name][0]), _KINDS[name][1]) for name in _KINDS if name in private.kinds]

    def scrub(self, text: str) -> Scrubbed:
        """The text with ``[kind]`` in the place of each thing that is private; secrets take their whole line along."""
        removed: Counter[str] = Counter()
        plain = normalized("NFKC", text.replace("\r\n", "\n"))
        shown = "".join(one if one in "\n\t" or is_shown(one) else "" for one in plain)
        if len(shown) < len(plain):
            removed[UNSEEN] = len(plain) - len(shown)
        shown = re.sub(r"[^\S\n]+", " ", shown)
        shown = re.sub(r"\n{3,}", "\n\n", shown).strip()
        shown = _without_secrets(shown, removed)
        for name, pattern, holds in self._rules:
            shown = self._without(shown, name, pattern, holds, removed)
        return Scrubbed(shown, removed)

    @staticmethod
    def _without(text: str, name: str, pattern: Any, holds: Callable[[str], bool], removed: Counter[str]) -> str:
        parts, end = [], 0
        for match in pattern.finditer(text):
            if match.end() > match.start() >= end and holds(match.group()):
                parts += [text[end : match.start()], f"[{name}]"]
                end = match.end()
                removed[name] += 1
        return "".join((*parts, text[end:])) if parts else text


def _without_secrets(text: str, removed: Counter[str]) -> str:
    """The text without the lines of its secrets; of a key that goes on over lines nothing after its first is kept."""
    found = {one.line: one.rule for one in find_secrets(text)}
    if not found:
        return text
    lines, removed[SECRET] = text.split("\n"), len(found)
    for line in found:
        lines[line - 1] = f"[{SECRET}]"
    key = min((line for line, rule in found.items() if "private-key" in rule or "pkcs8" in rule), default=len(lines))
    return "\n".join(lines[:key])


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"{pattern!a} is no pattern of RE2: {error}") from None
