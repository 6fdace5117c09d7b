"""The fast verdict that rewards ask for is the one that evals get from `jsonschema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsmith.points.check import grade_point, passes
from modelsmith.points.json_schemas import first_problem, prepare, satisfies
from modelsmith.points.schema_shape import KEYWORDS
from modelsmith.points.schema_verdict import _KEYWORDS, verdict_of
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.rubric import RubricPoint

NAMES = st.sampled_from(["a", "b", "cc"])
NUMBERS = st.sampled_from([0, 1, 2, -1, 1.0, 0.5, 2.5, 0.1, 0.3, 10**20, 1e20, True, False])
LEAVES = st.one_of(st.none(), NUMBERS, NAMES, st.sampled_from(["", "2024-02-29", "é", "1"]))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
BOUNDS = NUMBERS.filter(lambda number: not isinstance(number, bool))
COUNTS = st.integers(0, 3)
TYPES = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, inner, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=4) | st.lists(NAMES, min_size=1, max_size=2),
        "const": VALUES,
        "multipleOf": st.sampled_from([1, 2, 0.1, 0.01, 2.5]),
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], BOUNDS),
        **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], COUNTS),
        **dict.fromkeys(["minContains", "maxContains"], COUNTS),
        "pattern": st.sampled_from(["^a", "c$", "[0-9]", "é"]),
        "format": st.sampled_from(["date", "uuid", "hostname"]),
        "uniqueItems": st.booleans(),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        **dict.fromkeys(["dependentSchemas", "properties"], named),
        **dict.fromkeys(["anyOf", "allOf", "oneOf", "prefixItems"], several),
        **dict.fromkeys(["additionalProperties", "propertyNames", "items", "contains", "not"], inner),
        **dict.fromkeys(["if", "then", "else"], inner),
    }
    assert keywords.keys() >= _KEYWORDS.keys()
    a_keyword = st.sampled_from(sorted(keywords)).flatmap(
        lambda name: keywords[name].map(lambda argument: {name: argument})
    )
    return st.lists(a_keyword, max_size=4).map(
        lambda parts: {name: value for part in parts for name, value in part.items()}
    )


SCHEMAS = st.recursive(st.booleans() | schemas(st.booleans()), schemas, max_leaves=6)


def test_every_keyword_of_a_rubric_but_references_is_known() -> None:
    silent = {"$defs", "definitions", "title", "description", "default", "examples", "deprecated", "readOnly"}
    silent |= {"writeOnly", "$comment", "$anchor", "$schema", "then", "else", "minContains", "maxContains"}
    assert KEYWORDS - _KEYWORDS.keys() - silent == {"$ref"}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict)), st.lists(VALUES, min_size=1, max_size=6))
def test_the_verdict_is_that_of_the_library(schema: Any, values: list[Any]) -> None:
    assert verdict_of(prepare(schema).schema) is not None
    for value in values:
        assert satisfies(schema, value) == (first_problem(schema, value) == ""), (schema, value)


def test_a_schema_with_references_is_left_to_the_library() -> None:
    schema: Any = {"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "number"}}}
    assert verdict_of(prepare(schema).schema) is None
    assert (satisfies(schema, [1]), satisfies(schema, ["a"])) == (True, False)


def test_a_schema_that_cannot_be_used_is_refused_and_no_zero() -> None:
    bad = RubricPoint.model_validate(
        {"id": "p", "text": "P.", "weight": 1, "check": {"type": "json_schema", "schema": {"type": "objekt"}}}
    )
    with pytest.raises(InvalidInput):
        passes(bad, "no JSON", {})


@pytest.mark.parametrize("name", ["fintech/fraud-typology", "adtech/rtb-root-cause"])
def test_the_points_of_the_kits_pass_the_same_answers(name: str) -> None:
    governed = load_eval_set(WorkTree(Path(__file__).parents[2]), name)
    references = [dict(scenario.reference) for scenario in governed.core[:12]]
    for reference in references:
        for other in references:
            for answer in (other, reference | dict(list(other.items())[:1]), dict(list(other.items())[1:]), [other], 5):
                text = json.dumps(answer)
                for point in governed.rubric.points:
                    for cut_off in (False, True):
                        passed = grade_point(point, text, reference, cut_off=cut_off).passed
                        assert passes(point, text, reference, cut_off=cut_off) == passed
