"""Secrets in text: keys, tokens and passwords, by the rules of gitleaks (https://gitleaks.io) and a few of our own.

A rule is a pattern for RE2, words of which one must be there before the pattern is tried, the least entropy of what it
finds, and what is let pass all the same. So a search costs time in proportion to the text, whoever wrote it. The rules
are ``gitleaks/rules.toml``: gitleaks' default configuration, byte for byte (MIT licence, ``gitleaks/LICENSE``).

Left out is ``generic-api-key``: it takes any long word beside "key" or "token" for a secret, and a digest beside "key"
is what our files are made of. Ours instead ask for the word, a sign or "is", and a value.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from modelsmith.repository.document import Problem, first_of
from modelsmith.repository.readings import readings, spelled
from modelsmith.repository.tree import Tree, read_each
from modelsmith.schema.errors import InvalidInput

RULES: Final = Path(__file__).parent / "gitleaks" / "rules.toml"
LEFT_OUT: Final = frozenset({"generic-api-key"})

_WORDS: Final = [{"regexes": [r"^[^0-9]+$"]}]
"""What has no digit is taken for a word: "the password is incorrect"."""

_WORD_OF_LATIN: Final = (
    r"password|passwd|passwort|passcode|passphrase|pwd|contrase(?:\x{f1}|n)a|mot de passe|senha|parola"
    r"|has(?:\x{142}|l)o|wachtwoord|kennwort|l(?:\x{f6}|o)senord|heslo"
)
_WORD_ELSEWHERE: Final = (
    r"(?:\x{15f}|s)ifre|\x{43f}\x{430}\x{440}\x{43e}\x{43b}\x{44c}|\x{5bc6}(?:\x{7801}|\x{78bc})"
    r"|\x{30d1}\x{30b9}\x{30ef}\x{30fc}\x{30c9}"
)
"""What people call a password. In Turkish, Russian, Chinese and Japanese it may stand anywhere: RE2's boundaries of
words are those of ASCII."""

_OURS: Final = (
    {
        "id": "private-key-block",
        "regex": r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY",
        "keywords": ["private key"],
    },
    {
        "id": "password",
        "regex": rf"(?i)(?:(?:\b|_)(?:{_WORD_OF_LATIN})|{_WORD_ELSEWHERE})"
        r"(?:['\x{2019}]s\b|\s*(?:=|:|\b(?:is|was|ist|war|est|es)\b|\x{e9}\s|\x{e8}\s|\x{662f}|\x{306f}))\s*[\"'`]?"
        r"([^\s\"'`,;<>{}()\[\]]{6,150})",
        "keywords": [
            "pass",
            "pwd",
            "contrase",
            "senha",
            "parola",
            "has\u0142o",
            "haslo",
            "wachtwoord",
            "kennwort",
            "senord",
            "heslo",
            "ifre",
            "\u043f\u0430\u0440\u043e\u043b\u044c",
            "\u041f\u0430\u0440\u043e\u043b\u044c",
            "\u041f\u0410\u0420\u041e\u041b\u042c",
            "\u5bc6\u7801",
            "\u5bc6\u78bc",
            "\u30d1\u30b9\u30ef\u30fc\u30c9",
        ],
        "entropy": 2.0,
        "allowlists": _WORDS,
    },
    {
        "id": "assigned-token",
        "regex": r"(?i)(?:\b|_)(?:secret|token|(?:api|access|secret)[ _-]?key)\s*[=:]\s*[\"'`]?([\w.~+/=-]{12,150})",
        "keywords": ["secret", "token", "key"],
        "entropy": 3.0,
        "allowlists": _WORDS,
    },
    {
        "id": "bearer",
        "regex": r"(?i)\bbearer\s+([\w.~+/=-]{16,400})",
        "keywords": ["bearer"],
        "entropy": 3.0,
        "allowlists": _WORDS,
    },
    {
        "id": "basic",
        "regex": r"(?i)\bbasic\s+([A-Za-z0-9+/]{12,400}={0,2})",
        "keywords": ["basic"],
        "entropy": 3.0,
        "allowlists": _WORDS,
    },
    {"id": "npm-token", "regex": r"\bnpm_[A-Za-z0-9]{30,}", "keywords": ["npm_"]},
    {"id": "aws-key-id", "regex": r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b", "keywords": ["akia", "asia"]},
    {"id": "stripe-key", "regex": r"\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,}", "keywords": ["k_live_", "k_test_"]},
    {"id": "grafana-token", "regex": r"\bgls[ac]_[A-Za-z0-9_]{20,}", "keywords": ["glsa_", "glsc_"]},
    {"id": "digitalocean-token", "regex": r"\bdo[opr]_v1_[a-f0-9]{32,}", "keywords": ["_v1_"]},
    {"id": "pkcs8-body", "regex": r"\bMII[EJ][A-Za-z0-9+/]{2}IBADAN", "keywords": ["ibadan"]},
)
"""Rules of our own, in the same form."""


class Secret(NamedTuple):
    """Something that looks like a secret. What it says is told to nobody."""

    rule: str
    line: int
    """Counted from 1."""


@dataclass(frozen=True)
class _Rule:
    id: str
    pattern: str
    keywords: tuple[str, ...]
    entropy: float
    group: int
    path: str | None
    allowed: tuple[Mapping[str, Any], ...]


ALLOW: Final = b"gitleaks:allow"
"""Beside an invented secret that a governed file means to hold, on the same line: gitleaks' own mark."""
_MOST_FOUND: Final = 1000
"""Secrets of one file after which no more are looked for."""
_MOST_LOOKED_AT: Final = 10_000
"""Matches of one rule that are looked at more closely; where there are more, they do not pass unseen."""
_LINE: Final = 4096
"""Bytes around a find that are taken for its line at most: the others of a longer line say nothing about it."""
GUESSED: Final = frozenset({"password", "assigned-token", "bearer", "basic"})
"""Rules that go by a word beside it, not by the secret's own form: too much for texts that speak of such things."""


def find_secrets(text: str, path: str = "", guess: bool = True, marked: bool = False) -> Iterator[Secret]:
    """Everything in the text that looks like a secret, by rule, in each of its `readings` and in what is `spelled`.

    Of what is spelled otherwise, the line is the one in which it begins.

    Args:
        text: What is searched.
        path: The file's, for rules that ask for one.
        guess: Whether `GUESSED` rules have a say.
        marked: Whether a line with `ALLOW` on it passes.
    """
    reported: set[Secret] = set()
    for secret in (*find_plain(text, path, guess, marked), *_find_spelled(text, path, guess, marked)):
        if secret not in reported:
            reported.add(secret)
            yield secret


def find_plain(text: str, path: str = "", guess: bool = True, marked: bool = False) -> Iterator[Secret]:
    """`find_secrets` without what is spelled in base64 and the like, and each as often as it is read."""
    for data in readings(text.encode("utf-8", "replace")):
        yield from _find(data, path, guess, marked)


def _find_spelled(text: str, path: str, guess: bool, marked: bool) -> Iterator[Secret]:
    """Spellings are looked for in the plainest reading, whose lines are the text's."""
    *_, data = readings(text.encode("utf-8", "replace"))
    plain = data.decode("utf-8", "replace")
    allowed = _allowed_lines(plain) if marked else frozenset[int]()
    for reading in spelled(plain):
        for secret in find_plain(reading.says, path, guess):
            line = reading.lines[secret.line - 1]
            if line not in allowed:
                yield Secret(secret.rule, line)


def _allowed_lines(text: str) -> Set[int]:
    mark = ALLOW.decode()
    return {number for number, line in enumerate(text.split("\n"), 1) if mark in line} if mark in text else frozenset()


def _find(data: bytes, path: str, guess: bool, marked: bool) -> Iterator[Secret]:
    for rule in _tried(data.lower()):
        if rule.path is not None and not _compiled(rule.path).search(path.encode("utf-8", "replace")):
            continue
        if not guess and rule.id in GUESSED:
            continue
        line, counted, last_line = 1, 0, 0
        for number, match in enumerate(_compiled(rule.pattern).finditer(data)):
            line, counted = line + data.count(b"\n", counted, match.start()), match.start()
            if number == _MOST_LOOKED_AT:
                yield Secret(rule.id, line)
                break
            if line == last_line:
                continue
            secret = _secret(match, rule.group)
            if marked and ALLOW in _lines(match, data):
                continue
            if rule.entropy and entropy(secret) <= rule.entropy:
                continue
            if not any(_allows(allowlist, match, secret, data) for allowlist in (*rule.allowed, *_everywhere())):
                last_line = line
                yield Secret(rule.id, line)


def first_secret(text: str) -> Secret | None:
    """The first that is found; None when the text holds none."""
    return next(find_secrets(text), None)


def refuse_secret(source: str, text: str) -> None:
    """Refuse words that would be committed with a secret in them.

    Raises:
        InvalidInput: ``secret``, naming the rule and never the thing found.
    """
    secret = first_secret(text)
    if secret:
        raise InvalidInput(
            "secret",
            f"{source} holds what looks like a secret (rule {secret.rule}, line {secret.line}).",
            "Say it without that: what is written here is committed for good. If it is a real one, replace it.",
            rule=secret.rule,
            line=secret.line,
        )


def secret_problems(tree: Tree, paths: Iterable[str]) -> list[Problem]:
    """What looks like a secret in these files, one a line, by its own form alone: texts may speak of passwords."""
    contents, _ = read_each(tree, paths)
    problems = []
    for path, data in sorted(contents.items()):
        found_here = islice(find_secrets(data.decode("utf-8", "replace"), path, guess=False, marked=True), _MOST_FOUND)
        by_line = {secret.line: secret for secret in reversed([*found_here])}
        problems += first_of(path, (_problem(path, line, secret) for line, secret in sorted(by_line.items())))
    return problems


def name_problems(names: Iterable[str]) -> list[Problem]:
    """Names of files and folders that hold what looks like a secret; the folder above is named instead."""
    problems = []
    by_part: dict[PurePosixPath, Secret | None] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        for part in reversed((path, *path.parents)):
            if part not in by_part:
                by_part[part] = next(find_secrets(str(part), guess=False), None)
            if secret := by_part[part]:
                words = f"the name of something in it holds what looks like a secret (rule {secret.rule})"
                problems.append(Problem(str(part.parent), None, "", words, "Give it another name."))
                break
    return problems


def _problem(path: str, line: int, secret: Secret) -> Problem:
    words = f"what looks like a secret (rule {secret.rule}) would be committed for good"
    return Problem(path, line, "", words, _MEND)


_MEND: Final = (
    "Take it out and, if it is a real one, replace it where it is used; "
    f"mark an invented one with `# {ALLOW.decode()}` on its line."
)


def entropy(text: str) -> float:
    """Shannon entropy of the text's characters, in bits for each."""
    counts = Counter(text)
    return -math.fsum(n / len(text) * math.log2(n / len(text)) for n in counts.values()) if text else 0.0


def _secret(match: Any, group: int) -> str:
    """What the rule means by the secret: its group, else the first that holds something, else all that matched."""
    value = (
        match.group(group)
        if group
        else next((group_text for group_text in match.groups() if group_text), match.group())
    )
    return str(value.decode("utf-8", "replace"))


def _allows(allowed: Mapping[str, Any], match: Any, secret: str, data: bytes) -> bool:
    target = allowed.get("regexTarget", "secret")
    if target == "secret":
        searched = secret.encode("utf-8", "replace")
    elif target == "match":
        searched = match.group()
    else:
        searched = _lines(match, data)
    results = [any(_compiled(regex).search(searched) for regex in allowed["regexes"])] if "regexes" in allowed else []
    if "stopwords" in allowed:
        results.append(any(word in secret.lower() for word in allowed["stopwords"]))
    together = all if allowed.get("condition") == "AND" else any
    return bool(results) and together(results)


def _lines(match: Any, data: bytes) -> bytes:
    """The lines on which it stands."""
    least, most = max(0, match.start() - _LINE), min(len(data), match.end() + _LINE)
    start, end = data.rfind(b"\n", least, match.start()), data.find(b"\n", match.end(), most)
    return data[start + 1 if start >= 0 else least : end if end >= 0 else most]


@cache
def _document() -> Mapping[str, Any]:
    return tomllib.loads(RULES.read_text(encoding="utf-8"))


@cache
def _everywhere() -> tuple[Mapping[str, Any], ...]:
    return ({key: value for key, value in _document()["allowlist"].items() if key != "paths"},)


@cache
def _rules() -> Sequence[_Rule]:
    """Ours first: they are the plainest. A rule of gitleaks without a pattern looks at names of files only."""
    theirs = [rule for rule in _document()["rules"] if rule["id"] not in LEFT_OUT and "regex" in rule]
    return [
        _Rule(
            id=rule["id"],
            pattern=rule["regex"],
            keywords=tuple(
                word.encode().lower().decode() for word in rule.get("keywords", [""])
            ),  # as the searched bytes are
            entropy=float(rule.get("entropy", 0.0)),
            group=int(rule.get("secretGroup", 0)),
            path=rule.get("path"),
            allowed=tuple(rule.get("allowlists", ())),
        )
        for rule in (*_OURS, *theirs)
    ]


def _tried(lower: bytes) -> list[_Rule]:
    """The rules with a keyword in the text, in their order, found in one pass."""
    keywords, users = _keywords()
    match = keywords.Match(lower)
    return [_rules()[i] for i in sorted({i for place in match or () for i in users[place]})]


@cache
def _keywords() -> tuple[Any, Sequence[Sequence[int]]]:
    """All keywords as one automaton, and the rules that each belongs to."""
    import re2

    users: dict[str, list[int]] = {}
    for i, rule in enumerate(_rules()):
        for word in rule.keywords:
            users.setdefault(word, []).append(i)
    options = re2.Options()
    options.max_mem = 128 << 20
    automaton = re2.Set.SearchSet(options)
    for word in users:
        automaton.Add(re2.escape(word))
    automaton.Compile()
    return automaton, list(users.values())


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode("utf-8"), options)
