"""Names that people confuse: the same but for case or form, or spelled with letters or digits that look alike.

Names in any one writing are welcome (Łukasz, Zoë, 山田). What is refused: invisible characters, a word that mixes
alphabets whose letters look alike, and two holders or roles whose names read the same. The idea is the skeleton of
Unicode's TS 39 (two names are confusable when their skeletons are equal), with the few shapes that matter here.
Specialists need none of it: their ids are a number and hexadecimal digits.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from modelsmith.normal_form import normalized
from modelsmith.schema.assigned import is_shown
from modelsmith.schema.governance import Harness, People, Person
from modelsmith.schema.plaintext import described

_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "COPTIC", "ARMENIAN", "CHEROKEE"})
"""Alphabets that share shapes of letters; no honest word mixes two of them."""
_JOINERS = "\u200c\u200d"
"""Invisible, and part of how some languages are written."""
_SHAPES = {
    ord(letter): shape
    for letters, shapes in (
        ("авеһԁіјӏкмнорԛсѕтухԝ", "abehdijlkmhopqcstyxw"),
        ("αβεζηικμνορτυχ", "abezhikmnoptyx"),
        ("ıɑɡ", "iag"),  # noqa: RUF001
    )
    for letter, shape in zip(letters, shapes, strict=True)
}
"""Letters by the Latin letter that their small or capital form looks like."""
_CASED_SHAPES = _SHAPES | {
    ord(capital): shape.upper()
    for letter, shape in _SHAPES.items()
    if len(capital := chr(letter).upper()) == 1 and not capital.isascii()
}
_PLAIN_SHAPES = str.maketrans({"I": "l", "1": "l", "|": "l", "0": "o", "O": "o"})
_PLAIN_PAIRS = (("rn", "m"), ("vv", "w"))
_FORGETTABLE = dict.fromkeys(map(ord, _JOINERS))


def holders(people: People) -> tuple[Person | Harness, ...]:
    """Everyone who may have keys and logins."""
    return (*people.people, *people.harness)


def fold_name(name: str) -> str:
    """The name without differences of case and of Unicode form (NFKC): what file systems and people take for one.

    >>> fold_name("Maya")
    'maya'
    """
    return name.lower() if name.isascii() else normalized("NFKC", name).casefold()


def skeleton(word: str) -> str:
    """Equal for words that differ by Unicode form, joiners and look-alike letters of other alphabets only."""
    return word if word.isascii() else normalized("NFKC", word.translate(_FORGETTABLE)).translate(_CASED_SHAPES)


def mixed_alphabets(text: str) -> set[str]:
    """Letters of another alphabet than the rest of their word, where the two share shapes of letters."""
    odd: set[str] = set()
    for word in () if text.isascii() else re.split(r"[\W\d_]+", text):
        alphabets = Counter(alphabet for c in word if (alphabet := _alphabet(c)) in _ALIKE)
        if len(alphabets) > 1:
            usual = "LATIN" if "LATIN" in alphabets else max(sorted(alphabets), key=alphabets.__getitem__)
            odd |= {c for c in word if _alphabet(c) in _ALIKE - {usual}}
    return odd


def find_twin(names: Callable[[str], Iterable[str]], added: Iterable[str]) -> tuple[str, str] | None:
    """An added path, or a folder of it, and another path that differs from it only by case or Unicode form.

    ``names`` gives the names in a folder (the root when empty), the added ones and those of folders included. Only
    folders that something was added to are looked into.
    """
    new: dict[str, set[str]] = {}
    for path in added:
        parts = path.split("/")
        for depth, name in enumerate(parts):
            new.setdefault("/".join(parts[:depth]), set()).add(name)
    for folder, ours in new.items():
        inside = sorted(names(folder))
        if _all_apart(inside):
            continue
        spelled: dict[str, str] = {}
        for name in inside:
            first = spelled.setdefault(fold_name(name), name)
            if first != name and ours & {first, name}:
                above = f"{folder}/" if folder else ""
                return f"{above}{first}", f"{above}{name}"
    return None


def _all_apart(names: Sequence[str]) -> bool:
    """Whether plain names all differ, seen at once; False also where only a look at each can tell.

    A folder of promotions holds thousands, and each new specialist asks.
    """
    joined = "/".join(names)
    return joined.isascii() and len(set(joined.lower().split("/"))) == len(names)


def twins(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Paths (or their folders) that differ from an earlier one only by case or Unicode form.

    >>> list(twins(["docs/A.md", "docs/a.md"]))
    [('docs/A.md', 'docs/a.md')]
    """
    spelled: dict[str, str] = {}
    known_prefixes: set[str] = set()
    for path in paths:
        parts = path.split("/")
        for length in range(len(parts), 0, -1):
            prefix = "/".join(parts[:length])
            if prefix in known_prefixes:
                break
            known_prefixes.add(prefix)
            first = spelled.setdefault(fold_name(prefix), prefix)
            if first != prefix:
                yield first, prefix


def name_problems(people: People) -> Iterator[str]:
    """A sentence for each id, login, display name or role that could pass for another."""
    named: dict[str, _Alike] = {}
    reported: set[tuple[int, int]] = set()
    for name in _names(people):
        yield from _spelling_problems(name)
        for reading in (f"read {_look(name.text)}", f"seen {_shape(name.text)}"):
            same = named.setdefault(reading, _Alike())
            first = same.first_that_passes_for(name)
            if first and (first.number, name.number) not in reported:
                reported.add((first.number, name.number))
                yield f"T{first.words[1:]} and {name.words} {_how(first.text, name.text)}."
            same.add(name)


class _Name(NamedTuple):
    number: int
    """Whose: position among people, harnesses and roles, since two may have one id."""
    kind: str
    text: str
    actor: str

    @property
    def words(self) -> str:
        return f"the {self.kind} '{self.text}'" + (f" of {self.actor}" if self.kind != "role" else "")


def _names(people: People) -> Iterator[_Name]:
    for number, holder in enumerate(holders(people)):
        yield _Name(number, "id", holder.id, holder.id)
        for forge, login in holder.logins.items():
            yield _Name(number, f"login at {forge}", login, holder.id)
        if isinstance(holder, Person):
            yield _Name(number, "display name", holder.name, holder.id)
    for number, role in enumerate(people.roles, start=len(holders(people))):
        yield _Name(number, "role", role, role)


def _may_pass(name: _Name, other: _Name) -> bool:
    """Whether the one could be taken for the other; who may be called like a role is not decided here."""
    if name.number == other.number:
        return False
    kinds = {name.kind, other.kind}
    return "role" not in kinds or ("display name" not in kinds and fold_name(name.text) != fold_name(other.text))


class _Alike:
    """Names that read the same. Of each kind a few stand for all: who passes for another passes for one of them."""

    def __init__(self) -> None:
        self._names: dict[str, list[_Name]] = {}

    def first_that_passes_for(self, name: _Name) -> _Name | None:
        """The first of them that could be taken for the name."""
        return next((other for same in self._names.values() for other in same if _may_pass(name, other)), None)

    def add(self, name: _Name) -> None:
        """Keep the name unless two others of its kind stand for its holder, and two for its spelling."""
        same = self._names.setdefault(name.kind if name.kind in ("role", "display name") else "handle", [])
        holders, spellings = {name.number for name in same}, {fold_name(name.text) for name in same}
        new_holder = name.number not in holders and len(holders) < 2
        if new_holder or (fold_name(name.text) not in spellings and len(spellings) < 2):
            same.append(name)


def _how(name: str, other: str) -> str:
    odd = {c for c in name + other if any(ord(low) in _SHAPES for low in c.casefold())}
    if odd:
        return f"look alike: {_described(odd)}"
    same = _look(name) == _look(other)
    return "are the same" if same else "look alike: I, l and 1, O and 0, m and rn, w and vv are told apart by nobody"


def _look(name: str) -> str:
    """The look of a name: equal for names that look alike."""
    return re.sub(r"\s+", " ", fold_name(name.translate(_FORGETTABLE))).strip().translate(_SHAPES)


def _shape(name: str) -> str:
    """What a reader sees of letters and digits of one alphabet; capitals are not small letters here."""
    shape = re.sub(r"\s+", " ", normalized("NFKC", name.translate(_FORGETTABLE))).strip()
    for pair, letter in _PLAIN_PAIRS:
        shape = shape.replace(pair, letter)
    return shape.translate(_PLAIN_SHAPES)


def _spelling_problems(name: _Name) -> Iterator[str]:
    hidden = {c for c in name.text if not (is_shown(c) or c in _JOINERS)}
    if hidden:
        yield f"The {name.kind} {name.text!a} of {name.actor} has invisible characters: {_described(hidden)}."
    odd = mixed_alphabets(name.text)
    if odd:
        yield f"T{name.words[1:]} mixes alphabets in one word: {_described(odd)}."


def _alphabet(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _described(characters: set[str]) -> str:
    return ", ".join(described(character) for character in sorted(characters))
