"""Every field of what a promotion commits: recomputed, or an observation with a closed form. By reflection.

``docs/evidence-fields.md`` says of each field who determines it. What main or the verdicts determine cannot be changed
and signed again; what only a machine can say is changed here too, to see that the page tells the truth about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from judging import judged
from pydantic import BaseModel, TypeAdapter

from modelsmith.evidence.bundle import evidence_bytes
from modelsmith.promotion.records import next_record
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.evidence import EVIDENCE_FILE, EVIDENCE_SIGNATURE, EVIDENCE_TYPE, Evidence
from modelsmith.schema.promotion import (
    ExportFacts,
    HoldClearance,
    Override,
    PromotionRecord,
    RollbackOrder,
    TrainingFacts,
)
from modelsmith.signing.dsse import seal, statement

PAGE = Path(__file__).parents[2] / "docs" / "evidence-fields.md"
ROW = re.compile(r"^\| `(\w+)\.(\w+)` \| (\w+) \|", re.MULTILINE)
COMMITTED = (Evidence, TrainingFacts, ExportFacts, PromotionRecord, RollbackOrder, HoldClearance, Override)
RECOMPUTED = ("main", "verdicts")
OTHER = "sha256:" + "1" * 64


def listed() -> dict[str, dict[str, str]]:
    """Type, field, who determines it: as the page has it."""
    audiences: dict[str, dict[str, str]] = {}
    for kind, field, answerer in ROW.findall(PAGE.read_text(encoding="utf-8")):
        assert field not in audiences.setdefault(kind, {}), f"{kind}.{field} is there twice"
        audiences[kind][field] = answerer
    return audiences


WHO = listed()


def parts_of(annotation: Any) -> type[BaseModel] | None:
    """The record type within an optional, a union or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, tuple, Union, UnionType):
        return next(filter(None, map(parts_of, get_args(annotation))), None)
    return None


def described(kind: type[BaseModel], kinds_seen: dict[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Every type that the page must speak of: the committed ones and those of fields with parts."""
    kinds_seen[kind.__name__] = kind
    for name, field in kind.model_fields.items():
        inner = parts_of(field.annotation)
        if WHO.get(kind.__name__, {}).get(name) == "parts" and inner and inner.__name__ not in kinds_seen:
            described(inner, kinds_seen)
    return kinds_seen


TYPES: dict[str, type[BaseModel]] = {}
for committed in COMMITTED:
    described(committed, TYPES)


def test_the_page_speaks_of_every_field_and_of_no_other():
    """A new field that nobody has decided about fails here."""
    assert {kind: set(fields) for kind, fields in WHO.items()} == {
        name: set(kind.model_fields) for name, kind in TYPES.items()
    }
    assert {field for fields in WHO.values() for field in fields.values()} <= {
        *RECOMPUTED, "machine", "person", "parts"
    }  # fmt: skip


def open_strings(schema: Any, place: str = "$") -> Iterator[str]:
    """Places of a JSON Schema where any text fits."""
    if isinstance(schema, Mapping):
        closed = schema.keys() & {"pattern", "enum", "const", "format"}
        if schema.get("type") == "string" and not closed:
            yield place
        if schema.get("type") == "object" and "properties" not in schema:
            keys = schema.get("propertyNames", {})
            if not keys.keys() & {"pattern", "enum", "$ref"} and not schema.get("patternProperties"):
                yield f"{place} (keys)"
        if not schema or (
            schema.get("type") is None and not schema.keys() & {"$ref", "anyOf", "enum", "const", "oneOf"}
        ):
            yield f"{place} (anything)"
        for name, inner in schema.get("properties", {}).items():
            yield from open_strings(inner, f"{place}.{name}")
        for name in ("items", "additionalProperties"):
            if isinstance(schema.get(name), Mapping):
                yield from open_strings(schema[name], f"{place}.{name}")
        for name in ("anyOf", "prefixItems"):
            for inner in schema.get(name, ()):
                yield from open_strings(inner, place)


@pytest.mark.parametrize("name", TYPES)
def test_no_field_has_room_for_a_completion_or_a_secret(name):
    """Words of a person are the one exception; they are short, plain, and searched. Sentences are recomputed."""
    for field, info in TYPES[name].model_fields.items():
        if WHO[name][field] != "machine":
            continue
        annotated = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        schema = TypeAdapter(annotated).json_schema()
        strings = list(open_strings({key: value for key, value in schema.items() if key != "$defs"}))
        strings += [place for inner in schema.get("$defs", {}).values() for place in open_strings(inner)]
        assert not strings, f"{name}.{field}: {strings}"


def leaves(value: Any, kind: type[BaseModel], path: tuple[Any, ...] = ()) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Name, who determines it and path of one value of each field, down to numbers and words."""
    for name, field in kind.model_fields.items():
        if not isinstance(value, Mapping) or name not in value:
            continue
        answerer, inner = WHO[kind.__name__][name], parts_of(field.annotation)
        if answerer == "parts" and inner:
            below = value[name][0] if isinstance(value[name], list) and value[name] else value[name]
            at = (*path, name, 0) if isinstance(value[name], list) else (*path, name)
            yield from leaves(below, inner, at)
        else:
            for where in inside(value[name], (*path, name)):
                field_path = ".".join(str(part) for part in where if not isinstance(part, int))
                yield f"{field_path} ({kind.__name__}.{name})", answerer, where


def inside(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Paths of what can be changed in a value: every member, and the first of a list."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from inside(inner, (*path, key))
    elif isinstance(value, list):
        if value:
            yield from inside(value[0], (*path, 0))
    else:
        yield path


SWAPPED = {
    "transformers": "vllm",
    "cpu": "cuda",
    "float32": "bfloat16",
    "pinned": "unknown",
    "sft": "dpo",
    "core": "micro",
    "harness": "human",
    "PASS": "FAIL",
    "USD": "EUR",
    "capability": "risk",
    "modelsmith-harness": "maya",
    "eval-accepted": "artifact-exported",
    "candidate": "eval-accepted",
    "base": "iter-001-00000000",
}
"""Words of a closed list and another of the same."""


def other(value: Any) -> Any:
    """Another value of much the same form."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.125
    if value is None:
        return OTHER
    if value in SWAPPED:
        return SWAPPED[value]
    if value.startswith("sha256:"):
        return OTHER
    if re.fullmatch(r"[0-9a-f]{40}", value):
        return "0" * 40
    return (
        re.sub(r"[0-9](?=[^0-9]*$)", lambda digit: str((int(digit[0]) + 1) % 10), value)
        if re.search(r"[0-9]", value)
        else f"{value}x"
    )


def changed(document: Any, path: tuple[Any, ...]) -> Any:
    """The document with another value there."""
    copy = json.loads(json.dumps(document))
    at = copy
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = other(at[path[-1]])
    return copy


def changeable(name: str, gate: dict[str, str], replay: dict[str, str]) -> list[str]:
    """Where a lie about the field goes through."""
    return [f"{name} passes {side}" for side, passed in (("the gate", gate), ("verify", replay)) if not passed]


def test_honest_evidence_is_refused_nowhere(candidate):
    """The control of those below."""
    assert judged(candidate, candidate.accepted_with(lambda evidence: None)) == ({}, {})


def test_honest_training_facts_are_refused_nowhere(fresh):
    """The same for a candidate."""
    assert judged(fresh, fresh.next_files("candidate")) == ({}, {})


def signed(world, document: Any, beside: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of ``eval-accepted`` with this evidence, all signed; the record says of the run what it says."""
    data, run = canonical_json(document), document["candidate"]
    bundle = seal(statement(EVIDENCE_FILE, data, EVIDENCE_TYPE, {}), world.harness_keys / "harness.pem")
    files = {**beside, EVIDENCE_FILE: data, EVIDENCE_SIGNATURE: bundle}
    stated = {"eval_run": run["run_id"], "composite": run["headline"]["composite"]["value"]}
    draft = replace(world.draft_for("eval-accepted"), **stated)
    return world.record_files(next_record(world.governed(), "eval-accepted", draft, files), files)


PASSES = {
    "attempts (Evidence.attempts)",
    "held_out_consulted (Evidence.held_out_consulted)",
    "environment.torch (Evidence.environment)",
    "engine.dtype (EngineFacts.dtype)",
    "engine.device (EngineFacts.device)",
    "engine.version (EngineFacts.version)",
    "nearest.training_to_scored (Nearest.training_to_scored)",
    "candidate.run_id (RunEvidence.run_id)",
    "candidate.cost.p95_seconds (Cost.p95_seconds)",
}
"""Observations on which nothing else rests: nobody notices a lie about them, and the page says so."""


def test_no_recomputable_field_of_evidence_can_be_changed_and_resigned(candidate):
    """By the harness's key: gate and verify refuse it, or the page calls it an observation of one machine."""
    honest = json.loads(evidence_bytes(candidate.evidence()))
    beside = candidate.files_for("eval-accepted")
    wrong: list[str] = []
    passed: set[str] = set()
    tried: set[str] = set()
    for name, answerer, path in leaves(honest, Evidence):
        if name in tried:
            continue
        tried.add(name)
        gate, replay = judged(candidate, signed(candidate, changed(honest, path), beside))
        if not gate and not replay:
            passed.add(name)
        if answerer in RECOMPUTED or "VerdictRow.points" in name:
            wrong += changeable(name, gate, replay)
    assert not wrong, "\n".join(wrong)
    assert passed >= PASSES
    assert len(tried) > 80


@pytest.mark.parametrize("cut", ["coverage", "rows", "headline.sections", "headline.per_rubric", "rule.points"])
def test_no_part_of_a_list_in_evidence_can_be_left_out(candidate, cut):
    """Nor can what is there be made fewer."""

    def shorten(evidence):
        at = evidence if cut.split(".")[0] in evidence else evidence["candidate"]
        for part in cut.split("."):
            at = at[part]
        at.pop()

    gate, replay = judged(candidate, candidate.accepted_with(shorten))
    assert gate
    assert replay


def test_no_recomputable_field_of_a_record_can_be_changed_and_resigned(candidate):
    """The same for the record itself."""
    evidence = candidate.files_for("eval-accepted")
    honest = next_record(candidate.governed(), "eval-accepted", candidate.draft_for("eval-accepted"), evidence)
    document = json.loads(canonical_json(honest))
    wrong = []
    for name, answerer, path in leaves(document, PromotionRecord):
        altered = changed(document, path)
        try:
            record = PromotionRecord.model_validate_json(json.dumps(altered))
        except ValueError:
            continue
        files = candidate.record_files(record, evidence)
        if answerer in RECOMPUTED:
            wrong += changeable(name, *judged(candidate, files))
    assert not wrong, "\n".join(wrong)


def test_no_recomputable_field_of_training_facts_can_be_resigned(fresh):
    """The same for a candidate's ``training.json``."""
    honest = json.loads(canonical_json(fresh.training()))
    wrong = []
    for name, answerer, path in leaves(honest, TrainingFacts):
        document = changed(honest, path)
        files = {"training.json": canonical_json(document)}
        record = next_record(fresh.governed(), "candidate", fresh.draft(), files)
        if answerer in RECOMPUTED or name.startswith(("generators", "parent")):
            wrong += changeable(name, *judged(fresh, fresh.record_files(record, files)))
    assert not wrong, "\n".join(wrong)
