"""What policy calls private, taken out of texts before anything is written. Pure.

A text is first brought to one form (NFKC, without characters that nobody sees): no look-alike sign and no joiner
inside an address hides it. Patterns are RE2's: their time grows with the text alone. Names of people have no form of
their own: a policy that expects them names a model that finds them, or says how they look.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from modelsmith.normal_form import normalized
from modelsmith.repository.encoded import Run, encoded
from modelsmith.repository.secrets import find_plain
from modelsmith.schema.assigned import is_shown
from modelsmith.schema.governance import Private, PrivateKind

Places = Callable[[str], Sequence[tuple[int, int]]]
"""Where names stand in a text, from and to, in order and apart."""
NAME: Final = "name"
SECRET: Final = "secret"  # noqa: S105 - a kind, no secret
TAKEN_OUT: Final = re.compile(r"\[[a-z0-9._-]+\]")
"""What stands in the place of what was taken out."""
UNSEEN: Final = "unseen"
"""Characters that nobody sees, or that steer a terminal."""
UNREAD: Final = "encoded"
"""What is spelled otherwise, in a text that has more of it than anybody reads."""


_ALIKE: Final = {
    **dict.fromkeys(map(ord, "\u058a\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u30fb\u30fc\u00ad"), "-"),
    **dict.fromkeys(map(ord, "\u3002\u00b7\u2022\u2219\u22c5\u06d4\u0589"), "."),
}
"""Signs that people and programs write for a hyphen or a full stop, each by one character: places stay the same."""
_AS_WRITTEN: Final = {**_ALIKE, ord("_"): "-"}
"""For forms of ours, in which an underscore stands between words: `host_10.1.2.3`."""
_DATE: Final = re.compile(r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?!\d)")


class _Removal(NamedTuple):
    """What of a match is to be taken out, from its beginning, and where to look on."""

    taken: int
    on: int


def _all(text: str) -> _Removal:
    return _Removal(len(text), len(text))


def _none(on: int = 1) -> _Removal:
    return _Removal(0, on)


def _card(text: str) -> _Removal:
    """The longest run of whole groups from the first on that is a card's number: a date or a count may stand beside."""
    groups = [*_DIGITS.finditer(text)]
    if len(groups[0].group()) < _CARD_GROUP:
        return _none(groups[0].end())
    lengths = (j for j in range(len(groups), 0, -1) if _is_card("".join(group.group() for group in groups[:j])))
    end = groups[last - 1].end() if (last := next(lengths, 0)) else 0
    return _Removal(end, end) if end else _none(groups[0].end())


def _is_card(number: str) -> bool:
    if not 13 <= len(number) <= 19:
        return False
    digits = [int(character) for character in reversed(number)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> _Removal:
    """How far an IBAN goes from the beginning on: a word that follows may look like its last group."""
    ends = [match.end() for match in _WORDS.finditer(text)]
    end = next((end for end in reversed(ends) if _is_iban(text[:end])), 0)
    return _Removal(end, end) if end else _none()


def _is_iban(text: str) -> bool:
    plain = re.sub("[ -]", "", text.translate(_ALIKE)).upper()
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _phone(text: str) -> _Removal:
    """All of it, where it has as many digits as numbers have; after a day it begins anew."""
    if day := _DATE.match(text):
        return _none(day.end())
    return _all(text) if 9 <= sum(character.isdigit() for character in text) <= 15 else _none()


def _address(text: str) -> _Removal:
    """All of it, unless it is two colons as programs write them between names."""
    if "::" not in text:
        return _all(text)
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return _none()
    return _all(text) if any(character.isdigit() for character in text) else _none()


_SPELLINGS: Final = 3
"""How many spellings within one another are read."""
_MOST_READ: Final = 1000
"""Runs in other spellings that are read of one text, those within others too; further ones are taken out unread."""
_CARD_GROUP: Final = 3
"""Digits of a card's first group, at least: fewer begin a row of figures, and each of these would be tried."""
_DIGITS: Final = re.compile(r"\d+")
_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_AT = r"(?:\s?@\s?|%40|&#64;|&#x40;|&commat;|\\u0040|\s?[(\[{<]\s?(?:at|@)\s?[)\]}>]\s?)"
_DOT = r"(?:\.|%2e|\s?[(\[{<]\s?(?:dot|\.)\s?[)\]}>]\s?)"
_SPOKEN: Final = r"\s(?:dot|punkt|punto|ponto)\s"
"""A full stop as a transcript of speech has it."""
_KINDS: Final[Mapping[PrivateKind, tuple[str, Callable[[str], _Removal]]]] = {
    "email": (
        rf"(?i)(?:\"[^\"\n]{{1,64}}\"|[\pL\pM\pN_.+%'!#$&*/=?^`{{|}}~-]+){_AT}"
        rf"(?:[\pL\pM\pN-]+(?:{_DOT}[\pL\pM\pN-]+)+|\[[0-9a-f.:]+\])"
        rf"|[\pL\pM\pN.+-]+(?:{_SPOKEN}[\pL\pM\pN.+-]+)*\s(?:at|arroba)\s[\pL\pM\pN-]+(?:{_SPOKEN}[\pL\pM\pN-]+)+",
        _all,
    ),
    "url": (r"(?i)\b(?:[a-z][a-z0-9+.-]{1,20}(?:://|%3a%2f%2f)[^\s\"'<>]+|www\.[^\s\"'<>.]+\.[^\s\"'<>]+)", _all),
    "iban": (r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b", _iban),
    "card": (r"\p{Nd}(?:[ ._-]?\p{Nd}){12,18}", _card),
    "national-id": (r"\b\d{3}-\d{2}-\d{4}\b", _all),
    "ip": (
        r"\b(?:\d{1,3}(?:\.|[(\[{]\.[)\]}])){3}\d{1,3}\b|\b(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f]{1,4}\b"
        r"|(?:\b[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6})?::(?:[0-9A-Fa-f]{1,4}:){0,6}"
        r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{1,4})?\b",
        _address,
    ),
    "phone": (r"\+?\(?\p{Nd}(?:[ ()._/-]{0,3}\p{Nd}){8,14}", _phone),
}
"""In this order: what a longer form holds is no shorter one."""


class _Rule(NamedTuple):
    name: str
    pattern: Any
    holds: Callable[[str], _Removal]
    """Function that finds the private part of a match."""
    alike: Mapping[int, str]
    """Signs that stand for one another."""


class Scrubbed(NamedTuple):
    """A text without what is private."""

    text: str
    removed: Counter[str]
    """How much was taken out, by kind."""


class Scrubber:
    """A policy's rules, compiled once."""

    def __init__(self, private: Private, names: Places | None = None) -> None:
        """Compile what the policy says; ``names`` finds names, and is there exactly where the policy asks for it.

        Raises:
            ValueError: a pattern of the policy is none of RE2's; what finds names is missing.
        """
        if (private.names is None) != (names is None):
            raise ValueError("names are found by the model of the policy, and by nothing else")
        self._names = names
        self._rules: list[_Rule] = [
            _Rule(name, _compiled(pattern), _all, _ALIKE) for name, pattern in sorted(private.patterns.items())
        ]
        self._rules += [
            _Rule(name, _compiled(pattern), holds, _AS_WRITTEN)
            for name, (pattern, holds) in _KINDS.items()
            if name in private.kinds
        ]

    def scrub(self, text: str) -> Scrubbed:
        """The text with ``[kind]`` in the place of each thing that is private; secrets take their whole line along.

        What is spelled in base64, hexadecimal or by escapes is read, too, and spelled out where it holds such a thing.
        """
        return self._scrubbed(text, _SPELLINGS, [])

    def _scrubbed(self, text: str, spellings: int, reads: list[Run]) -> Scrubbed:
        removed: Counter[str] = Counter()
        plain = normalized("NFKC", text.replace("\r\n", "\n"))
        visible = "".join(character if character in "\n\t" or is_shown(character) else "" for character in plain)
        if len(visible) < len(plain):
            removed[UNSEEN] = len(plain) - len(visible)
        visible = re.sub(r"[^\S\n]+", " ", visible)
        visible = re.sub(r"\n{3,}", "\n\n", visible).strip()
        visible = _without_secrets(visible, removed)
        if spellings:
            visible = self._without_encoded(visible, spellings, reads, removed)
        for rule in self._rules:
            visible = self._without(visible, rule, removed)
        return Scrubbed(self._without_names(visible, removed), removed)

    def _without_names(self, text: str, removed: Counter[str]) -> str:
        """The text without names, but for words that stand for what was taken out."""
        if self._names is None:
            return text
        marks = [match.span() for match in TAKEN_OUT.finditer(text) if removed[match.group()[1:-1]]]
        parts, end = [], 0
        for start, stop in self._names(text):
            if not any(start < right and from_ < stop for from_, right in marks):
                parts += [text[end:start], f"[{NAME}]"]
                end = stop
                removed[NAME] += 1
        return "".join((*parts, text[end:]))

    def _without_encoded(self, text: str, spellings: int, reads: list[Run], removed: Counter[str]) -> str:
        """The text without runs that say something private in another spelling, within which may be a further one."""
        parts, end, read_to = [], 0, 0
        for run in sorted(encoded(text), key=lambda run: (run.start, -run.end)):
            if run.start < end or run.end <= read_to:
                continue
            if len(reads) >= _MOST_READ:
                replaced, counts = f"[{UNREAD}]", Counter({UNREAD: 1})
            else:
                reads.append(run)
                replaced, counts = self._scrubbed(run.says, spellings - 1, reads)
            read_to = run.end if run.complete else read_to
            del counts[UNSEEN]
            if counts:
                kinds = "".join(f"[{kind}]" for kind in counts)
                parts += [text[end : run.start], kinds if run.complete else replaced]
                end = run.end
                removed.update(counts)
        return "".join((*parts, text[end:])) if parts else text

    @staticmethod
    def _without(text: str, rule: _Rule, removed: Counter[str]) -> str:
        searchable, parts, end = text.translate(rule.alike).encode(), [], 0
        at = counted = place = 0  # of `counted` bytes it is known that they are `place` characters
        while at <= len(searchable) and (match := rule.pattern.search(searchable, at)):
            place += len(searchable[counted : match.start()].decode())
            counted, word = match.start(), match.group().decode()
            hit = rule.holds(word) if word else _none()
            at = counted + max(1, len(text[place : place + hit.on].translate(rule.alike).encode()))
            if hit.taken:
                parts += [text[end:place], f"[{rule.name}]"]
                end = place + hit.taken
                removed[rule.name] += 1
        return "".join((*parts, text[end:])) if parts else text


def _without_secrets(text: str, removed: Counter[str]) -> str:
    """The text without the lines of its secrets; of a key that goes on over lines nothing after its first is kept."""
    rules = {secret.line: secret.rule for secret in find_plain(text)}
    if not rules:
        return text
    lines, removed[SECRET] = text.split("\n"), len(rules)
    for line in rules:
        lines[line - 1] = f"[{SECRET}]"
    key = min((line for line, rule in rules.items() if "private-key" in rule or "pkcs8" in rule), default=len(lines))
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
