"""Governed files as `modelsmith new` writes them: from what a person said to YAML. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import yaml
from pydantic import JsonValue

from modelsmith.repository.document import Unreadable
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.generator import SLOT
from modelsmith.schema.latin import latin
from modelsmith.schema.plaintext import first_odd_space
from modelsmith.schema.rubric import JsonSchemaCheck, JudgeCheck, NumberCheck, Rubric, RubricPoint, TextCheck

_WIDTH = 110
_TOKEN_STEP = 16
_FORM = "answer-format"
"""The rubric point that says what form an answer has."""


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, and text of several lines as a block."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        """Indent the items of lists, too."""
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """As people write it where that reads back the same, else in quotes, with escapes for joiners and odd blanks.

    Anything else that nobody sees stays, and is refused when the draft is read: it comes from a slip.
    """
    style = "|" if "\n" in text else None
    if _PLAIN.fullmatch(text) or _reads_back(text, style):
        return dumper.represent_scalar(_STRING, text, style)
    marked = "".join(f"{_OPEN}{ord(character):08x}{_SHUT}" if _is_odd(character) else character for character in text)
    return dumper.represent_scalar(_STRING, marked, '"')


_STRING = "tag:yaml.org,2002:str"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ]*")
"""Beside what PyYAML itself puts in quotes, text without a doubt."""
_OPEN, _SHUT = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}([0-9a-f]{{8}}){_SHUT}")


_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""Shown as nothing, and needed: Persian is not spelled without the first, and emoji not without the others."""


def _is_odd(letter: str) -> bool:
    return not letter.isascii() and (letter in _JOINERS or letter in (_OPEN, _SHUT) or bool(first_odd_space(letter)))


@lru_cache(maxsize=4096)
def _reads_back(text: str, style: str | None) -> bool:
    """Whether our reader, by YAML 1.2, finds the text that PyYAML would write, by YAML 1.1."""
    dumped = yaml.dump([text], Dumper=yaml.SafeDumper, allow_unicode=True, width=_WIDTH, default_style=style)
    try:
        return bool(read_yaml("draft", dumped.encode()).data == [text])
    except Unreadable:
        return False


_Dumper.add_representer(str, _text)


def yaml_bytes(value: Any) -> bytes:
    """The value as a file that reads back the same."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return _MARK.sub(lambda mark: f"\\U{mark[1]}", text).encode()


def free_name(stem: str, names_taken: Collection[str], first: str = "", above: int = 0) -> str:
    """``first`` where it is free, else the first free of ``stem-01``, ``stem-02`` and so on, with a number above."""
    names = (f"{stem}-{number:02d}" for number in range(above + 1, above + len(names_taken) + 2))
    return first if first and first not in names_taken else next(name for name in names if name not in names_taken)


def compared_fields(rubric: Rubric) -> tuple[str, ...]:
    """The reference fields that the rubric compares an answer with, in its order; then others that it requires."""
    expected = (getattr(point.check, "expected", None) for point in rubric.points)
    compared = [check.reference for check in expected if check is not None and check.reference]
    tops = {path.partition(".")[0] for path in compared}
    required = [name for schema in _schemas(rubric) for name in schema.get("required", ()) if name not in tops]
    return tuple(dict.fromkeys((*compared, *required)))


def offered_answers(rubric: Rubric) -> tuple[str, ...]:
    """Values that each reference field may hold: ``urgency=red|amber|green``, ``steps=call|write,...``."""
    allowed = _properties(rubric)
    return tuple(f"{path}={_offered(allowed.get(path, {}))}" for path in compared_fields(rubric))


def declared_words(rubric: Rubric) -> dict[str, tuple[str, ...]]:
    """The words of each reference field that holds one of them and nothing else; no other fields."""
    allowed = _properties(rubric)
    words_by_path: dict[str, tuple[str, ...]] = {}
    for path in compared_fields(rubric):
        field = allowed.get(path, {})
        if texts := tuple(word for word in _words(field) if isinstance(word, str) and field.get("type") != "array"):
            words_by_path[path] = texts
    return words_by_path


def _offered(field: Mapping[str, Any]) -> str:
    words = "|".join(map(str, _words(field) or ["..."]))
    return f"{words},..." if field.get("type") == "array" else words


def reference(texts: Sequence[str], rubric: Rubric, complete: bool = True) -> dict[str, JsonValue]:
    """The right answer from each ``FIELD=VALUE``; a dotted field lies inside another.

    Not ``complete``: more of it is to come.

    Raises:
        InvalidInput: ``bad-answer``.
    """
    values: dict[str, JsonValue] = {}
    for text in texts:
        path, equals, value_text = text.partition("=")
        if not equals or not path:
            raise _bad_answer(text, "expected FIELD=VALUE", rubric)
        inner: Any = values
        *folders, name = path.split(".")
        for folder in folders:
            inner = inner.setdefault(folder, {})
            if not isinstance(inner, dict):
                raise _bad_answer(text, f"'{folder}' has a value already", rubric)
        inner[name] = _value(text, path, value_text, rubric)
    given_paths = {text.partition("=")[0] for text in texts}
    missing = [path for path in compared_fields(rubric) if path not in given_paths]
    if missing and complete:
        raise InvalidInput(
            "bad-answer",
            f"The rubric compares an answer with {', '.join(missing)} too",
            f"Add {' '.join(f'--answer {path}=...' for path in missing)}.",
            missing=missing,
        )
    return values


def _value(text: str, path: str, value_text: str, rubric: Rubric) -> JsonValue:
    """The value in the type that the rubric compares it as; text where it does not say."""
    numbers = {p.check.expected.reference for p in rubric.points if isinstance(p.check, NumberCheck)}
    schema = _properties(rubric).get(path, {})
    kind = "number" if path in numbers else schema.get("type", "string")
    value: JsonValue = value_text
    if kind == "array" and not value_text.lstrip().startswith("["):
        value = [word.strip() for word in value_text.split(",")]
    elif kind != "string":
        try:
            value = json.loads(value_text)
        except ValueError:
            raise _bad_answer(text, f"{path} is a {kind}", rubric) from None
    words = _words(schema)
    for item in value if isinstance(value, list) and kind == "array" else [value]:
        if words and item not in words and not SLOT.search(str(item)):
            near = get_close_matches(str(item), [str(word) for word in words], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            a_list = "a list: each " if kind == "array" else ""
            raise _bad_answer(text, f"{path} is {a_list}one of {', '.join(map(str, words))}{hint}", rubric)
    return value


def _words(schema: Mapping[str, Any]) -> list[JsonValue]:
    """The words that a field may hold, or each item of it; none where the rubric does not list them."""
    items = schema.get("items")
    words = (
        (items.get("enum") if isinstance(items, dict) else None)
        if schema.get("type") == "array"
        else schema.get("enum")
    )
    return words if isinstance(words, list) else []


def _properties(rubric: Rubric) -> Mapping[str, Mapping[str, Any]]:
    """What the rubric's schemas say about the top fields of an answer; of two that say the same, the first counts."""
    by_name: dict[str, Mapping[str, Any]] = {}
    for schema in _schemas(rubric):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            by_name |= {
                name: {**keywords, **by_name.get(name, {})}
                for name, keywords in properties.items()
                if isinstance(keywords, dict)
            }
    return by_name


def _schemas(rubric: Rubric) -> list[Mapping[str, Any]]:
    return [point.check.schema_ for point in rubric.points if isinstance(point.check, JsonSchemaCheck)]


def _bad_answer(text: str, message: str, rubric: Rubric) -> InvalidInput:
    return InvalidInput(
        "bad-answer",
        f"--answer {text}: {message}",
        f"The rubric compares: {', '.join(offered_answers(rubric))}.",
        text=text,
        problem=message,
    )


def main_point(rubric: Rubric) -> RubricPoint:
    """The point that a case's pass and fail are most likely about: the first that looks at the right answer."""
    looks = (p for p in rubric.points if getattr(getattr(p.check, "expected", None), "reference", None))
    return next(looks, rubric.points[0])


def declared_points(rubric: Rubric) -> tuple[str, ...]:
    """Points that are decided without a judge, or all when there is none such."""
    return tuple(p.id for p in rubric.points if not isinstance(p.check, JudgeCheck)) or tuple(
        p.id for p in rubric.points
    )


def slots(texts: Sequence[str]) -> dict[str, list[str]]:
    """A generator's slots from each ``NAME=VALUE|VALUE``.

    Raises:
        InvalidInput: ``bad-slot``.
    """
    slots_by_name: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value_text = text.partition("=")
        values = _alternatives(value_text)
        if not equals or len(values) < 2:
            raise InvalidInput(
                "bad-slot", f"--slot {text}: expected NAME=VALUE|VALUE", "Give it two values or more.", text=text
            )
        slots_by_name[name] = values
    return slots_by_name


def answer_fields(texts: Sequence[str]) -> dict[str, list[str]]:
    """Fields of an answer and the words that each may hold: ``NAME=WORD|WORD``, or ``NAME`` for any text.

    Raises:
        InvalidInput: ``bad-field``.
    """
    values_by_field: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value_text = text.partition("=")
        values = _alternatives(value_text)
        if not name or (equals and not values) or name in values_by_field:
            raise InvalidInput(
                "bad-field", f"--field {text}: expected NAME=WORD|WORD, or NAME", "Name each field once.", text=text
            )
        values_by_field[name] = values
    return values_by_field


def _alternatives(text: str) -> list[str]:
    return list(dict.fromkeys(value for part in text.split("|") if (value := part.strip())))


def rubric_draft(name: str, owner: str, description: str, fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A rubric of JSON answers: the format, then one point for each field."""
    properties = {name: {"enum": list(words)} if words else {"type": "string"} for name, words in fields.items()}
    schema = {
        "type": "object", "required": list(fields), "additionalProperties": False, "properties": properties,
    }  # fmt: skip
    form = {
        "id": _FORM,
        "text": f"The answer is one JSON object with {_listed(fields)}, and nothing around it.",
        "weight": 1,
        "check": {"type": "json_schema", "schema": schema},
    }
    points = [
        {
            "id": point,
            "text": f"The field {field} is the one that the case calls for.",
            "weight": 2,
            "check": {"type": "json_field", "path": field, "expected": {"reference": field}},
        }
        for field, point in _point_names(fields).items()
    ]
    return {"id": name, "owner": owner, "description": description, "points": [form, *points]}


def plain_rubric_draft(name: str, owner: str, description: str, field: str, words: Sequence[str]) -> dict[str, Any]:
    """A rubric of answers that are one text and no JSON: its words, where there are some, and then the right one."""
    form = {
        "id": _FORM,
        "text": f"The answer is one of: {', '.join(words)}, and nothing around it.",
        "weight": 1,
        "check": {"type": "regex", "pattern": f"(?i)^({'|'.join(map(re.escape, words))})$"},
    }
    right = {
        "id": _point_names([field])[field],
        "text": "The answer is the one that the case calls for.",
        "weight": 2,
        "check": {"type": "text", "expected": {"reference": field}},
    }
    return {"id": name, "owner": owner, "description": description, "points": [*([form] if words else []), right]}


def plain_turn(rubric: Rubric, reference: Mapping[str, JsonValue]) -> str | None:
    """The right answer as the model says it, where the rubric compares the whole of it with one text."""
    checks = (point.check for point in rubric.points)
    fields = (check.expected.reference for check in checks if isinstance(check, TextCheck) and check.match == "equals")
    return next((str(reference[field]) for field in fields if field and field in reference), None)


def evalset_draft(
    name: str, domain: str, owner: str, description: str, fields: Mapping[str, Sequence[str]], instruction: str
) -> dict[str, Any]:
    """An eval set whose rule is cautious and whose thresholds are to be lowered or raised by its owner."""
    longest = json.dumps({field: max(words, key=len, default="." * 120) for field, words in fields.items()})
    tokens = _TOKEN_STEP * (len(longest) // 2 // _TOKEN_STEP + 2)
    return {
        "id": name,
        "domain": domain,
        "version": "0.1.0",
        "owner": owner,
        "description": description,
        "rubric": f"rubrics/{name}.yaml",
        "prompt": {"system": instruction},
        "sampling": {"max_new_tokens": min(tokens, 8192), "temperature": 0.0},
        "composite": {"core": 1.0, "robustness": 0.0, "micro": 0.0},
        "thresholds": {"composite": 0.7, "held_out": 0.6},
        "decision": {"confidence": 0.95, "margin": 0.2, "max_regressions": 0.1, "min_scenarios": 20},
    }


def plain_instruction(words: Sequence[str]) -> str:
    """Instruction for the model where answers are one text."""
    return f"Answer with one of these and nothing else: {', '.join(words)}." if words else "Give the answer alone."


def json_instruction(fields: Mapping[str, Sequence[str]]) -> str:
    """Instruction for the model where answers are one JSON object."""
    shape = json.dumps(dict.fromkeys(fields, "..."), ensure_ascii=False).replace('"..."', "...")
    words = " ".join(f"{field}: {', '.join(map(_as_text, values))}." for field, values in fields.items() if values)
    return f"Answer with JSON {shape} and nothing else. {words}".strip()


def _as_text(word: str) -> str:
    """A word as it stands in JSON where it could be taken for something else than text: ``"2"``, ``"true"``."""
    try:
        json.loads(word)
    except ValueError:
        return word
    return json.dumps(word)


def _point_names(fields: Iterable[str]) -> dict[str, str]:
    """The name of each field's rubric point: the field's own in lower-case a to z, of which no two are the same."""
    names: dict[str, str] = {}
    for field in fields:
        plain = re.sub(r"[^a-z0-9._-]+", "-", latin(field).lower())[:60].strip("-._") or "field"
        names[field] = free_name(plain, {_FORM, *names.values()}, plain)
    return names


def _listed(names: Iterable[str]) -> str:
    *some, last = names
    return f"the fields {', '.join(some)} and {last}" if some else f"the field {last}"
