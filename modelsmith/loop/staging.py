"""From records of what went wrong in production to pending cases. Pure, but for reading the records."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from modelsmith.loop.neighbours import Neighbours
from modelsmith.repository.private import TAKEN_OUT, Scrubber
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.pending import Answered, Pending
from modelsmith.schema.scenario import Message
from modelsmith.substrates.embedder import Embedder

MOST: Final = 100_000
"""Records of one file."""
LONGEST: Final = 1 << 18
"""Bytes of one record."""
FIELDS: Final = ("prompt", "answer", "outcome")
"""What is read of a record, and nothing else."""
DECISION: Final = "decision_id"
"""In its place of an outcome: the id with which the front door answered."""
_DECISIONS_KEPT: Final = 16


class Record(NamedTuple):
    """One record as it was written."""

    prompt: str
    answer: str
    outcome: str
    answered: Answered | None = None
    """Where it names a decision of the front door."""
    failed: bool = True
    """False where nothing bad is known of that decision."""
    refused: Callable[[str], InvalidInput] | None = None
    """Where it names a decision: the error that says why it cannot be staged, with file and line."""


class Judged(NamedTuple):
    """The front door's record of a decision: its bad outcomes, and who answered."""

    bad: str
    """Its bad outcomes; empty without any."""
    answered: Answered


class Refused(NamedTuple):
    """Why the front door knows nothing of a decision."""

    why: str


Judge = Callable[[str], Judged | Refused]


def read_records(path: Path, judge: Judge) -> Iterator[Record]:
    """Records of a JSONL file, one a line; empty lines are skipped. ``judge`` looks decisions up.

    Raises:
        InvalidInput: ``unusable-record`` with line and field; ``missing-file``.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(
            "missing-file", f"{path.name} cannot be read: {error.strerror}", "Correct the path.", path=path.name
        ) from None
    with file:
        for number in range(1, MOST + 2):
            line = file.readline(LONGEST + 2)
            if not line:
                return
            if number > MOST:
                raise _bad(path, number, "", f"more than {MOST} records", "Split the file.")
            if len(line) > LONGEST + 1:
                raise _bad(path, number, "", f"longer than {LONGEST} bytes", "Leave the case out, or shorten it.")
            if line.strip():
                yield _record(path, number, line, judge)


def _record(path: Path, number: int, line: bytes, judge: Judge) -> Record:
    try:
        value: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        raise _bad(path, number, "", "no UTF-8", "Save the file as UTF-8.") from None
    except (ValueError, RecursionError):
        raise _bad(path, number, "", "no JSON", "Write one JSON object a line, each whole on its line.") from None
    if not isinstance(value, dict):
        raise _bad(path, number, "", "no JSON object", 'Write {"prompt": ..., "answer": ..., "outcome": ...}.')
    by_id = DECISION in value
    for name in (*FIELDS[:2], DECISION) if by_id else FIELDS:
        if not isinstance(value.get(name), str) or (name == "prompt" and not value[name].strip()):
            problem = "missing" if name not in value else "no text"
            raise _bad(path, number, name, problem, "Say it as a text; answer and outcome may be empty.")
    prompt, answer, last = (
        value[name].encode("utf-8", "replace").decode() for name in (*FIELDS[:2], DECISION if by_id else FIELDS[2])
    )
    if not by_id:
        return Record(prompt, answer, last)

    def refused(why: str) -> InvalidInput:
        return _bad(path, number, DECISION, why, "Leave the record out, or say its outcome instead.")

    decision = judge(last)
    if isinstance(decision, Refused):
        raise refused(decision.why)
    return Record(prompt, answer, decision.bad, decision.answered, failed=decision.bad != "", refused=refused)


def _bad(path: Path, line: int, field: str, problem: str, mend: str) -> InvalidInput:
    where = f"{path.name}, line {line}{f', {field}' if field else ''}"
    return InvalidInput("unusable-record", f"{where}: {problem}", mend, file=path.name, line=line, field=field)


class Staged(NamedTuple):
    """Pending cases made of production's records, and how many records gave none."""

    cases: tuple[Pending, ...]
    """Cases, in the order in which they were first seen."""
    records: int
    known: int
    """Records of cases that are pending already."""
    empty: int
    """Records of which nothing was left to ask."""
    sound: int
    """Records of decisions of which no bad outcome was reported."""
    removed: Counter[str]
    """What was taken out of all records, by kind."""


def stage(
    records: Iterable[Record],
    scrubber: Scrubber,
    governed: GovernedSet,
    known: Iterable[Pending],
    progress: Callable[[int], None] = lambda done: None,
    embedder: Embedder | None = None,
) -> Staged:
    """Take out what is private, put what asks the same together, and find each case's nearest scenarios.

    ``known`` are the cases that are pending already. With an ``embedder``, scenarios are near by meaning.

    Raises:
        InvalidInput: ``unusable-record`` for a decision that answered another question already: it answered one.
    """
    pending = list(known)
    old, staged, removed = {case.id for case in pending}, dict[str, Pending](), Counter[str]()
    case_of = {answered.decision: case.id for case in pending for answered in case.answered}
    count = already = empty = sound = 0
    neighbours = Neighbours(governed)
    prompts: dict[str, str] = {}
    for count, record in enumerate(records, start=1):
        if not record.failed:
            sound += 1
            continue
        texts = [scrubber.scrub(text) for text in record[:3]]
        removals = sum((text.removed for text in texts), Counter[str]())
        removed += removals
        prompt, answer, outcome = (text.text for text in texts)
        name = f"case-{hashlib.sha256(' '.join(prompt.split()).encode()).hexdigest()[:12]}"
        if record.answered and record.refused and case_of.setdefault(record.answered.decision, name) != name:
            raise record.refused(f"its decision answered another question, {case_of[record.answered.decision]}")
        if not TAKEN_OUT.sub("", prompt).strip():
            empty += 1
        elif name in old:
            already += 1
        elif name in staged:
            staged[name] = _seen_again(staged[name], record.answered)
        else:
            near = neighbours.by_words(prompt) if embedder is None else ()
            prompts[name] = prompt
            staged[name] = Pending(
                id=name,
                set=governed.folder.removeprefix("evals/"),
                source="production",
                messages=(Message(role="user", content=prompt),),
                answer=answer,
                outcome=outcome,
                capability=neighbours.capability_of(near),
                nearest=near,
                removed=dict(sorted(removals.items())),
                answered=(record.answered,) if record.answered else (),
            )
        progress(count)
    cases = [*staged.values()]
    if embedder is not None:
        cases = [
            case.model_copy(update={"nearest": near, "capability": neighbours.capability_of(near)})
            for case, near in zip(cases, neighbours.by_meaning([*prompts.values()], embedder), strict=True)
        ]
    return Staged(tuple(cases), count, already, empty, sound, removed)


def _seen_again(case: Pending, answered: Answered | None) -> Pending:
    decisions = case.answered
    if answered and answered not in decisions and len(decisions) < _DECISIONS_KEPT:
        decisions = (*decisions, answered)
    return case.model_copy(update={"seen": case.seen + 1, "answered": decisions})
