"""CODEOWNERS in GitHub's dialect: the last matching line wins, lines with a mistake are skipped and reported.

Format: https://docs.github.com/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners
Paths that it decides about are ASCII here, so a line with another character would only look as if it covered them: it
is a mistake. Matching walks path segments through the set of reachable pattern positions, so no pattern can make it
backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from modelsmith.schema.assigned import is_shown
from modelsmith.schema.plaintext import described

MAX_BYTES = 3 * 1024 * 1024
"""GitHub does not load a larger file."""

MOST_RULES = 2000
"""Lines that are no comment; a limit of ours, as each path of a change is asked of each. A file with more is not loaded
either: leaving some of its lines out would give their paths to the owners of others."""

NOT_LOADED = 0
"""Line number of an error that concerns the whole file."""

_NAME = re.compile(r"@[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_.-]+)?")
_MAIL = re.compile(r"[^\s@]+@([^\s@]+)")
_TOKEN = re.compile(r"(?:\\.|[^ \t\\])+")
_UNIT = re.compile(r"\*+|\\.|[^\\]", re.DOTALL)

_DECIDED = 1 << 12
"""Paths of which a file remembers the line that decides."""

_STAR, _ANY = "*", "?"
_Unit = tuple[str, bool]
"""One character of a segment and whether it is a wildcard (``*`` or ``?``)."""
_Segment = tuple[_Unit, ...] | None
"""A pattern segment; None is ``**``, any number of segments."""


@dataclass(frozen=True)
class Pattern:
    """One path pattern, ready to match."""

    text: str
    segments: tuple[_Segment, ...] = field(repr=False)
    """No two ``**`` stand side by side: they would match what one does, and be walked through each time."""

    @property
    def top(self) -> str | None:
        """First part of every path that it covers; None when it may be any."""
        first = self.segments[0]
        return None if first is None or any(wild for _, wild in first) else "".join(letter for letter, _ in first)

    def matches(self, path: str) -> bool:
        """Whether the pattern covers the file at this '/'-separated path relative to the repository's root."""
        reach = _past_any(self.segments, {0})
        for part in path.split("/"):
            step: set[int] = set()
            for position in reach:
                if position < len(self.segments):
                    segment = self.segments[position]
                    if segment is None:
                        step.add(position)
                    elif _segment_matches(segment, part):
                        step.add(position + 1)
            if not step:
                return False
            reach = _past_any(self.segments, step)
        return len(self.segments) in reach


@dataclass(frozen=True)
class Rule:
    """One line. Without owners it takes the path away from every earlier line: nobody owns it."""

    line: int
    pattern: str
    owners: tuple[str, ...]
    compiled: Pattern = field(repr=False, compare=False)


@dataclass(frozen=True)
class Codeowners:
    """A CODEOWNERS file: its rules in order, and what is wrong with its lines."""

    rules: tuple[Rule, ...]
    """Rules, in the file's order."""
    errors: tuple[tuple[int, str], ...]
    """Line number and what is wrong with it; line 0 when it is the file as a whole."""
    loaded: bool = True
    """False when the file is too large for GitHub, or has too many rules for us, so that no line of it counts."""

    def rule(self, path: str) -> Rule | None:
        """The line that decides about this path; None when none matches, which differs from a line without owners."""
        decided = self._decided
        if path in decided:
            return decided[path]
        if len(decided) >= _DECIDED:
            decided = self.__dict__["_decided"] = {}
        rule = decided[path] = self._decide(path)
        return rule

    @cached_property
    def _decided(self) -> dict[str, Rule | None]:
        """The lines that decide about the paths asked for last: a change asks for each of its paths several times."""
        return {}

    def _decide(self, path: str) -> Rule | None:
        rule_groups = self._by_top.get(path.partition("/")[0], ()), self._by_top.get(None, ())
        last = [next((rule for rule in reversed(rules) if rule.compiled.matches(path)), None) for rules in rule_groups]
        return max(filter(None, last), key=lambda rule: rule.line, default=None)

    @cached_property
    def _by_top(self) -> dict[str | None, list[Rule]]:
        """Rules by the top folder or file that their paths stand in; None for those of any."""
        by_top: dict[str | None, list[Rule]] = {}
        for rule in self.rules:
            by_top.setdefault(rule.compiled.top, []).append(rule)
        return by_top

    def owners(self, path: str) -> tuple[str, ...]:
        """Owners of the path as written; empty when nobody owns it."""
        rule = self.rule(path)
        return rule.owners if rule else ()


def parse(text: str) -> Codeowners:
    """Read a CODEOWNERS file. Never raises: mistakes are in ``errors``, and their lines own nothing."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Codeowners((), ((NOT_LOADED, "the file is larger than 3 MB and is not loaded"),), loaded=False)
    rules: list[Rule] = []
    errors: list[tuple[int, str]] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        tokens, unreadable = _tokens(line)
        if not tokens and not unreadable:
            continue
        pattern, *owners = tokens or [""]
        problem = unreadable or pattern_problem(pattern) or _owner_problem(owners)
        if len(rules) + len(errors) == MOST_RULES:
            words = f"the file has more than {MOST_RULES} rules and is not loaded; this line is one too many"
            return Codeowners((), (*errors, (number, words)), loaded=False)
        if problem:
            errors.append((number, problem))
        else:
            rules.append(Rule(number, pattern, tuple(owners), compile_pattern(pattern)))
    return Codeowners(tuple(rules), tuple(errors))


def pattern_problem(pattern: str) -> str | None:
    """Why GitHub's dialect does not support the pattern; None when it does.

    >>> pattern_problem("/evals/[ab]/")
    "'/evals/[ab]/': character ranges with '[' are not supported"
    """
    if not pattern.isascii():
        return f"'{pattern}': paths here are ASCII, so this matches none"
    if pattern.startswith("!"):
        return f"'{pattern}': negation with '!' is not supported"
    if pattern.startswith("\\") and not pattern.startswith("\\ "):
        return f"'{pattern}': a pattern cannot start with an escape (other than of a space)"
    if re.search(r"\[", re.sub(r"\\.", "", pattern)):
        return f"'{pattern}': character ranges with '[' are not supported"
    if not pattern.strip("/"):
        return f"'{pattern}' matches nothing"
    if "\\/" in pattern:
        return f"'{pattern}': a '/' cannot be escaped"
    return None


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> Pattern:
    """Make a pattern of the dialect matchable; ask `pattern_problem` first."""
    segments: list[_Segment] = [None if s == "**" else _segment(s) for s in pattern.strip("/").split("/")]
    if "/" not in pattern.rstrip("/"):
        segments.insert(0, None)
    if pattern.endswith(("/", "/**")):
        segments += [_segment("*")] if segments[-1] is None else [None, _segment("*")]
    elif not pattern.endswith("/*"):
        segments.append(None)
    segments_left = [
        segment for at, segment in enumerate(segments) if at == 0 or segment is not None or segments[at - 1] is not None
    ]
    return Pattern(pattern, tuple(segments_left))


def any_matches(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the patterns covers the path; patterns that the dialect does not support cover nothing.

    >>> any_matches(["/evals/", "*.md"], "evals/adtech/evalset.yaml")
    True
    >>> any_matches(["/docs/*"], "docs/pictures/loop.svg")
    False
    """
    return any(compile_pattern(p).matches(path) for p in patterns if p and pattern_problem(p) is None)


def _tokens(line: str) -> tuple[list[str], str | None]:
    """Tokens before the comment, and what makes the line as a whole unreadable."""
    tokens: list[str] = []
    end = len(line)
    for match in _TOKEN.finditer(line):
        if match.group().startswith("#"):
            end = match.start()
            break
        tokens.append(match.group())
    pattern_text = line[:end]
    odd = next((char for char in pattern_text if not is_shown(char) and char != "\t"), None)
    if odd is not None:
        return tokens, f"control or invisible characters are not allowed, and {described(odd)} is one"
    if re.search(r"\\$", re.sub(r"\\.", "", pattern_text)):
        return tokens, "a line cannot end in a lone backslash"
    return tokens, None


def _owner_problem(owners: list[str]) -> str | None:
    bad = next(
        (owner for owner in owners if not (owner.isascii() and (_NAME.fullmatch(owner) or _is_mail(owner)))), None
    )
    return (
        None if bad is None else f"'{bad}' is not an owner (@name, @organisation/team or an e-mail address, in ASCII)"
    )


def _is_mail(owner: str) -> bool:
    """Whether it is an e-mail address, told without a pattern that tries every dot."""
    match = _MAIL.fullmatch(owner)
    return match is not None and "." in match[1][1:-1]


def _segment(text: str) -> tuple[_Unit, ...]:
    """Units of one segment; a run of stars is one star."""
    units = []
    for unit in _UNIT.findall(text):
        if unit[0] == _STAR:
            units.append((_STAR, True))
        elif unit == _ANY:
            units.append((_ANY, True))
        else:
            units.append((unit[-1], False))
    return tuple(units)


@lru_cache(maxsize=4096)
def _segment_matches(segment: tuple[_Unit, ...], part: str) -> bool:
    """Glob without backtracking further than the last star: at most len(segment) * len(part) steps."""
    at = position = 0
    star, retry = -1, 0
    while position < len(part):
        unit = segment[at] if at < len(segment) else None
        if unit == (_STAR, True):
            star, retry = at, position
            at += 1
        elif unit is not None and (unit == (_ANY, True) or unit == (part[position], False)):
            at += 1
            position += 1
        elif star >= 0:
            retry += 1
            at, position = star + 1, retry
        else:
            return False
    return all(unit == (_STAR, True) for unit in segment[at:])


def _past_any(segments: tuple[_Segment, ...], reach: set[int]) -> set[int]:
    """Positions reachable without consuming a path segment: ``**`` may match none."""
    if None not in segments:
        return reach
    out = set(reach)
    for position in sorted(reach):
        while position < len(segments) and segments[position] is None:
            position += 1
            out.add(position)
    return out
