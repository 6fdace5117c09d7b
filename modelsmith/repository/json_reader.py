"""JSON as plain data: strict RFC 8259, and nothing that two readers take for two things."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from modelsmith.repository.document import (
    MAX_DEPTH,
    MAX_INTEGER,
    Document,
    Location,
    Place,
    Problem,
    Unreadable,
    alike,
    alike_problem,
    decoded,
    dotted,
    escape_problem,
    hidden_problem,
    key_problem,
    number_problem,
    sight_problems,
)
from modelsmith.schema.plaintext import Odd, first_hidden, first_unsayable


def read_json(
    path: str, data: bytes, line: int | None = None, hidden: Callable[[str], Odd | None] = first_hidden
) -> Document:
    """Read strict JSON: no duplicate keys, NaN or infinity. ``line`` is where it stands in a JSONL file.

    ``hidden`` finds what may not stand in it as it is: people write escapes, machines that write canonical JSON cannot.

    Raises:
        Unreadable: with the first mistake.
    """
    text = decoded(path, data, line)
    if odd := hidden(text):
        raise Unreadable(hidden_problem(path, line or text.count("\n", 0, odd.at) + 1, "", odd))
    for problem in sight_problems(path, text):
        raise Unreadable(Problem(path, line or problem.line, "", problem.message, problem.mend))
    if "\\u00" in text and (spelled := escape_problem(text)):
        raise Unreadable(Problem(path, line, "", *spelled))
    try:
        value = _parsed(path, text, line)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg} (column {error.colno})"
        raise Unreadable(Problem(path, line or error.lineno, "", message, "Correct the syntax.")) from None
    except RecursionError:
        raise Unreadable(Problem(path, line, "", "nested too deeply", "Flatten it.")) from None
    except ValueError as error:
        raise Unreadable(Problem(path, line, "", str(error), "Write a finite number, or text in quotes.")) from None
    for problem in _odd_values(path, line, value):
        raise Unreadable(problem)
    return Document(path, value, {(): Place(path, line)})


def _parsed(path: str, text: str, line: int | None) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for name, value in items:
            if name in mapping:
                message = f"the key '{name}' stands here twice"
                raise Unreadable(Problem(path, line, name, message, "Keep one of them and remove the other."))
            mapping[name] = value
        return mapping

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    def integer(digits: str) -> int:
        if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
            raise ValueError("an integer is beyond 2^53 - 1, where JSON readers disagree")
        decimal(digits)
        return int(digits)

    def decimal(digits: str) -> float:
        value = float(digits)
        if problem := number_problem(digits, value):
            raise ValueError(problem[0])
        return value

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=integer, parse_float=decimal)


def _odd_values(path: str, line: int | None, value: Any) -> Iterator[Problem]:
    """Keys that are not what they look like, texts that no reader can show, and values too deep for some readers."""
    to_read: list[tuple[Location, Any]] = [((), value)]
    while to_read:
        at, value = to_read.pop()
        if isinstance(value, str):
            if odd := first_unsayable(value):
                message = f"the text contains a control character, or one that not every reader knows: {odd.name}"
                yield Problem(path, line, dotted(at), message, "Remove it.")
        elif isinstance(value, dict | list):
            if len(at) >= MAX_DEPTH:
                yield Problem(path, line, "", f"nested more than {MAX_DEPTH} levels deep", "Flatten it.")
            if isinstance(value, dict):
                for key in value:
                    if problem := key_problem(key):
                        yield Problem(path, line, dotted(at), *problem)
                for first, other in alike(value):
                    yield alike_problem(path, line, at, first, other)
            items = value.items() if isinstance(value, dict) else enumerate(value)
            to_read += [((*at, name), inner) for name, inner in items]
