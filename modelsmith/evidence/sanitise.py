"""A search of finished bytes for what nobody may commit, since a leak comes by a way that no type foresaw.

Who may see which field is `governance.audiences`.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import platform
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

from modelsmith.repository.bounded import Recent
from modelsmith.repository.secrets import first_secret
from modelsmith.schema.errors import IntegrityFailure

ALLOWED_HOSTS: Final = frozenset(
    {"modelsmith.dev", "model_signing", "in-toto.io", "www.w3.org", "json-schema.org", "slsa.dev"}
)
"""Hosts of type names and XML namespaces: names that look like addresses."""

TEXT_FIELDS: Final = frozenset(
    {
        "answer",
        "answers",
        "completion",
        "completions",
        "content",
        "messages",
        "prompt",
        "prompts",
        "reasons",
        "response",
    }
)
"""JSON members that hold what was asked or answered."""

SECRET_FIELDS: Final = re.compile(r"(?i)^(?:.*[_-])?(?:password|passwd|secret|api[_-]?key|access[_-]?token|token)$")

_ROOTS = (
    "bin|boot|data|dev|etc|home|lib|media|mnt|nix|opt|private|proc|root|run|sbin|srv|sys|tmp|usr|var|work|Users|Volumes"
)
_OURS = r"promotions|clusters|evals|runbooks|modelsmith|docs|tests|\.github"
"""Folders of the repository: ``/evals/`` is a CODEOWNERS pattern, not a path of a machine."""
_SUFFIX = "arpa|ai|app|au|cloud|com|corp|de|dev|edu|eu|fr|gov|intranet|internal|io|lan|local|localdomain|net|org|uk|us"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_BEFORE_PATH = r"(?<![A-Za-z0-9_./<*~+\\-])"

LEAKS: Final[Mapping[str, re.Pattern[str]]] = {
    "private key": re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"),
    "token": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}"
        r"|sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|pypi-[\w-]{20,}"
        r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})"
        r"|(?i:\bbearer\s+[\w.~+/=-]{12,}|\b(?:password|passwd|secret|api[_-]?key|token)\s*[=:]\s*[^\s,;]{6,})"
    ),
    "e-mail address": re.compile(r"(?i)(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[a-z]{2,}\b|\b[a-z_][\w-]*@[a-z][\w.-]*:"),
    "absolute path": re.compile(
        rf"{_BEFORE_PATH}/(?:(?:{_ROOTS})(?![\w.-])|(?!(?:{_OURS})/)[\w.@+-]+/[\w.@+*-])|file:/|(?<!\w)~[\w-]*/\w|(?<!\w)[A-Za-z]:\\+\w"
        r"|(?<![\w\\])\\\\+[\w.-]+\\+\w"
    ),
    "host name": re.compile(
        rf"(?i)(?<![\w.@/-])(?:{_LABEL}\.)+(?:{_SUFFIX})(?![\w-]|\.\w)"
        r"|(?<![\w.-])[12]?\d\d(?:\.[12]?\d?\d){3}(?![\w.-])|\blocalhost\b|(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}(?![\w:])"
        r"|\bip(?:-\d{1,3}){4}\b"
    ),
    "address": re.compile(r"(?i)\b(?:https?|wss?|ssh|ftp|s3|gs)://([^\s/\"'<>?#)]+)"),
    "completion": re.compile(r"<\|(?:im_start|im_end|assistant|user|system|endoftext|eot_id)\|>|\[/?INST\]"),
}
"""What is searched for in every text, most telling first."""

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "private key": ("-----BEGIN ",),
    "e-mail address": ("@",),
    "absolute path": ("/", "\\"),
    "address": ("://",),
    "completion": ("<|", "INST]"),
}
"""Every match of these holds one of the strings, so a text without them need not be searched."""
_SHORT = 512
"""Characters up to which it is remembered what was found in a text; most texts are short, and come again."""

_clean = Recent[bytes](10_000)
"""Digests of bytes in which nothing was found, each with the private strings that were looked for: one command judges
the same files several times. Where main's own names had to be asked for, nothing is remembered."""

_WORD: Final = re.compile(r"(?<![\w.@-])[\w-](?:[\w.-]*[\w-])?(?![\w-])")
"""A whole word as ids are: not the host of an address, nor a part of a longer name."""


def assert_clean(data: bytes, private: Sequence[str] = (), ids: Callable[[], Collection[str]] = frozenset) -> None:
    """Refuse bytes that must not be committed: paths, hosts, e-mail addresses, keys, tokens, prompts or completions.

    JSON is searched value by value, each once, with escapes resolved; anything else as text. ``private`` are strings
    that this run knows must not appear, such as `machine_names` and completions; those shorter than four characters are
    not looked for. ``ids`` gives the names that main's governed files gave to things, asked only when something is
    found: a capability may be called ``asp.net``, and what is main's own name for it is not a leak.

    Raises:
        IntegrityFailure: ``leak``, naming the kind and the place, never the thing found.
    """
    searched = hashlib.sha256(repr((hashlib.sha256(data).digest(), *private)).encode()).digest()
    if searched in _clean:
        return
    try:
        _search(data, private, ())
        _clean.add(searched)
    except IntegrityFailure:
        words = ids()
        if not words:
            raise
        _search(data, private, words)


def _search(data: bytes, private: Sequence[str], ids: Collection[str]) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("bytes that are no text", "file")
    try:
        value = json.loads(text)
        if not ids and _is_plainly_clean(value, private):
            return
        texts = list(_strings(value, "$", ids))
    except (ValueError, RecursionError):
        texts = [(f"line {number}", line) for number, line in enumerate(text.splitlines(), start=1)]
        texts.append(("file", text))
    places: dict[str, str] = {}
    for place, value in texts:
        places.setdefault(_WORD.sub(lambda word: "id" if word[0] in ids else word[0], value) if ids else value, place)
    words = [word for word in private if len(word) >= 4]
    for value, place in places.items():
        kind = _kind_of_short(value) if len(value) <= _SHORT else _kind(value)
        if kind:
            _refuse(kind, place)
        if any(word in value and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", value) for word in words):
            _refuse("private string", place)
    secret = first_secret("\n".join(places))
    if secret:
        _refuse(f"secret (rule {secret.rule})", "file")


def _is_plainly_clean(value: Any, private: Sequence[str]) -> bool:
    """Whether a look without places finds nothing: of most files that is so, and to name places takes the longest.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    names: dict[str, None] = {}
    texts: dict[str, None] = {}
    _gather(value, names, texts)
    if any(name in TEXT_FIELDS or SECRET_FIELDS.match(name) for name in names):
        return False
    words = [word for word in private if len(word) >= 4]
    if any((_kind_of_short if len(text) <= _SHORT else _kind)(text) for text in texts):
        return False
    return not any(word in text for word in words for text in texts) and not first_secret("\n".join(texts))


def _gather(value: Any, names: dict[str, None], texts: dict[str, None]) -> None:
    """Names of members, and every text, those names included, in the order in which `_strings` comes to them."""
    if isinstance(value, dict):
        for name, item in value.items():
            names[name] = texts[name] = None
            _gather(item, names, texts)
    elif isinstance(value, list):
        for item in value:
            _gather(item, names, texts)
    elif isinstance(value, str):
        texts[value] = None


def machine_names() -> tuple[str, ...]:
    """This machine's name and its user's home folder and name, where they are telling enough to search for.

    A name made of letters only may be an ordinary word, and is left out.
    """
    names = {platform.node(), platform.node().split(".")[0]}
    with contextlib.suppress(KeyError, OSError, RuntimeError):
        names |= {getpass.getuser(), str(Path.home())}
    return tuple(sorted(name for name in names if len(name) >= 6 and not name.isalpha()))


def _strings(value: Any, place: str, ids: Collection[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            inside = f"{place}.{key}" if re.fullmatch(r"[\w.-]{1,64}", key) else f"{place}.?"
            yield f"{place}.?", key
            named = key in ids and not isinstance(item, (list, dict)) and not re.search(r"\s", str(item))
            if not named and key in TEXT_FIELDS and item not in (None, "", [], {}):
                _refuse("completion", inside)
            if not named and isinstance(item, str) and item and SECRET_FIELDS.match(key):
                _refuse("token", inside)
            yield from _strings(item, inside, ids)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{place}[{index}]", ids)
    elif isinstance(value, str):
        yield place, value


def _kind(text: str) -> str | None:
    """The most telling kind of leak in a text; None when there is none."""
    for kind, pattern in LEAKS.items():
        needed = _NEEDED.get(kind)
        if needed and not any(word in text for word in needed):
            continue
        if any(not _allowed(kind, match) for match in pattern.finditer(text)):
            return kind
    return None


_kind_of_short = lru_cache(maxsize=4096)(_kind)


def _allowed(kind: str, match: re.Match[str]) -> bool:
    if kind == "host name":
        return match.group().lower() in ALLOWED_HOSTS
    if kind == "address":
        return match.group(1).lower() in ALLOWED_HOSTS
    return False


def _refuse(kind: str, place: str) -> NoReturn:
    raise IntegrityFailure(
        "leak",
        f"Something that looks like a {kind} would be committed.",
        "Find where it comes from and leave it out; nothing was written.",
        kind=kind,
        place=place,
    )
