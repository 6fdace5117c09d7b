from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.evaluation.scoring import point_weights, reward, row_passed, row_score, score_completion
from modelsmith.points.answers import MAX_BYTES, MAX_DEPTH, read_answer
from modelsmith.points.check import PointVerdict, grade_point
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.rubric import Rubric, RubricPoint
from modelsmith.schema.run import PointWeight
from modelsmith.schema.scenario import Scenario

REFERENCE = {"cause": "timeout", "bid": 2.5, "nested": {"list": ["a", "b"]}, "flag": True}


def point(**check) -> RubricPoint:
    return RubricPoint.model_validate({"id": "p", "text": "A point.", "weight": 1, "check": check})


def verdict(completion: str, **declared) -> PointVerdict:
    return grade_point(point(**declared), completion, REFERENCE)


def nested(key: str, levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {key: value}
    return value


SCHEMA = {
    "type": "object",
    "required": ["cause", "action"],
    "additionalProperties": False,
    "properties": {"cause": {"type": "string", "pattern": "^[a-z_]+$"}, "action": {"type": "string"}},
}
POINTS = (
    point(type="json_schema", schema=SCHEMA),
    point(type="json_schema", schema={"items": {"$ref": "#"}, "uniqueItems": True}),
    point(type="json_schema", schema={"type": "array", "items": {"type": "number", "multipleOf": 0.01}}),
    point(type="json_field", path="cause", expected={"reference": "cause"}),
    point(type="json_field", path="0.1", expected={"value": None}),
    point(type="number", path="bid", expected={"reference": "bid"}, absolute=0.1, relative=0.01),
    point(type="number", expected={"reference": "bid"}),
    point(type="text", expected={"reference": "cause"}),
    point(type="text", match="contains", expected={"value": "late"}),
    point(type="regex", pattern=r"(?i)\btime\s?out\b|(a+)+$"),
)


class TestReadingTheAnswer:
    def test_who_changes_what_was_read_changes_no_verdict(self):
        answer = '{"cause": "timeout", "action": "cut"}'
        value, _ = read_answer(answer)
        value.clear()
        assert read_answer(answer)[0] == {"cause": "timeout", "action": "cut"}
        assert verdict(answer, type="json_schema", schema=SCHEMA).passed

    def test_exactly_one_json_value_with_white_space_around_it_is_an_answer(self):
        assert verdict(' \n{"cause": "timeout", "action": "cut"}\t', type="json_schema", schema=SCHEMA).passed

    @pytest.mark.parametrize(
        ("completion", "reason"),
        [
            ('```json\n{"cause": "x", "action": "y"}\n```', "code fence"),
            ('Sure: {"cause": "x", "action": "y"}', "not JSON"),
            ('{"cause": "x", "action": "y"} as asked', "goes on after its JSON value"),
            ('{"cause": "x", "action": "y"}{}', "goes on after"),
            ('{"cause": "x", "cause": "timeout", "action": "y"}', '"cause" appears more than once'),
            ('{"a": {"k": 1, "k": 1}}', '"k" appears more than once'),
            ('{"cause": NaN}', "NaN"),
            ('{"cause": -Infinity}', "-Infinity"),
            ('{"cause": 1e999}', "out of range"),
            ('{"cause": ' + "9" * 5000 + "}", "out of range"),
            ("{'cause': 'x'}", "not JSON"),
            ("", "empty"),
            ('"' + "x" * MAX_BYTES + '"', "longer than"),
            ('"' + "\u20ac" * (MAX_BYTES // 3) + '"', "longer than"),
            ("[" * 200_000, "nested"),
            ("[" * 200_000 + "]" * 200_000, "nested"),
            ('{"a":' * 5_000 + "1" + "}" * 5_000, "nested"),
            ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested"),
        ],
    )
    def test_anything_else_fails_with_its_reason(self, completion, reason):
        result = verdict(completion, type="json_schema", schema={})
        assert not result.passed
        assert reason in result.reason

    def test_nesting_up_to_the_limit_is_read(self):
        assert verdict("[" * MAX_DEPTH + "]" * MAX_DEPTH, type="json_schema", schema={"items": {"$ref": "#"}}).passed

    def test_a_recursive_schema_follows_the_deepest_answer(self):
        schema = {"$defs": {"t": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/t"}}, {"type": "null"}]}}}
        answer = "[" * (MAX_DEPTH - 1) + "null" + "]" * (MAX_DEPTH - 1)
        assert verdict(answer, type="json_schema", schema=schema | {"allOf": [{"$ref": "#/$defs/t"}]}).passed

    @given(st.one_of(st.text(), st.text(st.characters()), st.text(alphabet='[]{}",:01eE-+.\\u`nultrfas \ud800\x00')))
    def test_no_text_whatever_raises_and_every_failure_has_a_reason(self, completion):
        for rubric_point in POINTS:
            passed, reason = grade_point(rubric_point, completion, REFERENCE)
            assert passed == (reason == "")
            reason.encode()

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["cause", "action", "bid", "x"]), inner),
        )
    )
    def test_no_json_whatever_raises(self, value):
        for rubric_point in POINTS:
            grade_point(rubric_point, json.dumps(value), REFERENCE)


class TestJsonSchema:
    def test_the_first_problem_is_named_with_its_place(self):
        assert "$.cause" in verdict('{"cause": 3, "action": "x"}', type="json_schema", schema=SCHEMA).reason

    def test_patterns_run_in_linear_time(self):
        schema = {"type": "string", "pattern": "^(a+)+$"}
        assert not verdict(json.dumps("a" * 50_000 + "!"), type="json_schema", schema=schema).passed

    def test_unique_items_takes_linear_time_and_tells_true_from_one(self):
        schema = {"uniqueItems": True}
        assert verdict(json.dumps([{"n": n} for n in range(40_000)]), type="json_schema", schema=schema).passed
        assert verdict('[1, true, "1", [1], {"a": 1}, null, "None"]', type="json_schema", schema=schema).passed
        assert not verdict("[1, 2, 1.0]", type="json_schema", schema=schema).passed
        assert not verdict('[{"a": [1]}, {"a": [1.0]}]', type="json_schema", schema=schema).passed

    @pytest.mark.parametrize(
        "schema",
        [
            {"$ref": "https://example.com/schema.json"},
            {"properties": {"const": {"$ref": "file:///etc/passwd"}}},
            {"$ref": "#/$defs/missing"},
            {"$ref": "#"},
            {"$id": "https://example.com/a"},
            {"type": "strng"},
            {"pattern": "(?=look)"},
            {"patternProperties": {"a": {}}},
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}}},
            {"requierd": ["a"]},
            {"format": "daet"},
            {"contentMediaType": "application/json"},
            {"unevaluatedProperties": False},
            {"$dynamicRef": "#a", "$dynamicAnchor": "a"},
            {"$ref": "#/default", "default": {"pattern": "(a+)+$"}},
            {"$ref": "#/const", "const": {"patternProperties": {"(a+)+$": {}}}},
            {"$ref": "#/enum/0", "enum": [{"$ref": "https://example.com/schema.json"}]},
            {"$ref": "#/examples/0", "examples": [{"type": 5}]},
            {"$ref": "#/allOf/9", "allOf": [{}]},
            {"$ref": "#/title", "title": "abc"},
            {"$ref": "#/%zz"},
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}},
            {"$defs": {"a": {"$anchor": "q"}, "b": {"$anchor": "q"}}},
            {"properties": {"caf\u00e9": {}, "cafe\u0301": {}}},
            {"allOf": [{"title": "x"}] * 2001},
            {
                "$defs": {f"a{n}": {"not": {"$ref": f"#/$defs/a{n + 1}"}} for n in range(90)} | {"a90": {}},
                "$ref": "#/$defs/a0",
            },
            nested("not", 40),
        ],
    )
    def test_a_schema_that_cannot_be_used_is_an_error_and_never_a_zero(self, schema):
        with pytest.raises(InvalidInput) as caught:
            verdict("1", type="json_schema", schema=schema)
        assert caught.value.code in ("bad-schema", "bad-pattern")

    @pytest.mark.parametrize("step", [{"allOf": 2}, {"anyOf": 2}, {"oneOf": 2}, {"properties": 2}, {"items": 2}])
    def test_a_referred_schema_is_evaluated_once_for_each_value(self, step):
        """A few hundred bytes whose references double at every level would take 2^30 steps."""
        keyword = next(iter(step))
        schema = {"$ref": "#/$defs/a0", "$defs": {"a30": {"type": ["object", "array"]}}}
        for n in range(30):
            led = {"$ref": f"#/$defs/a{n + 1}"}
            twice = {
                "properties": {"allOf": [{"properties": {"x": led}}, {"properties": {"x": led}}]},
                "items": {"allOf": [{"items": led}, {"items": led}]},
            }.get(keyword, {keyword: [led, led]})
            schema["$defs"][f"a{n}"] = twice
        answer = nested("x", 29) if keyword == "properties" else json.loads("[" * 30 + "]" * 30)
        passed = grade_point(point(type="json_schema", schema=schema), json.dumps(answer), REFERENCE).passed
        assert passed is (keyword != "oneOf")

    def test_a_reference_to_the_top_keeps_the_rubric_s_own_checks(self):
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "additionalProperties": {"$ref": "#"},
            "pattern": "^(a+)+$",
            "multipleOf": 0.01,
        }
        assert not verdict(json.dumps({"x": "a" * 40 + "!"}), type="json_schema", schema=schema).passed
        assert verdict('{"x": 0.57}', type="json_schema", schema=schema).passed

    @pytest.mark.parametrize(
        ("text", "passed"),
        [(price, True) for price in ("0.29", "0.57", "1.11", "4.02", "19.99", "-0.07", "3", "1e3", "1e308")]
        + [(price, False) for price in ("0.295", "1e-3", "0.010000000000000002")],
    )
    def test_multiples_are_taken_in_decimals_as_they_are_written(self, text, passed):
        assert verdict(text, type="json_schema", schema={"multipleOf": 0.01}).passed is passed

    @pytest.mark.parametrize("step", [5e-324, 1e-308, 1e308])
    def test_the_smallest_and_largest_steps_divide(self, step):
        for text in ("1e308", "5e-324", "0", "1"):
            verdict(text, type="json_schema", schema={"multipleOf": step})

    @pytest.mark.parametrize(
        ("name", "right", "wrong"),
        [
            ("date", ["2024-02-29"], ["2023-02-29", "next Tuesday", "20240229", "2024-W09-4", "2024-2-9", ""]),
            ("time", ["23:59:59Z", "23:59:59.5+05:30", "23:59:59.123456789Z", "23:59:60Z", "15:59:60.5-08:00",
                      "01:29:60+01:30", "23:29:60+23:30"],
             ["23:59:59", "24:00:00Z", "1:00:00Z", "22:59:60Z", "23:59:60+00:30", "23:60:60Z", "23:59:61Z",
              "10:00:00+24:00", "10:00:00+05:60"]),
            ("date-time", ["2024-02-29T23:59:59Z", "2024-02-29t00:00:00-08:00", "1998-12-31T23:59:60Z",
                           "9999-12-31T15:59:60-08:00"],
             ["2024-02-29", "2024-02-29 10:00:00Z", "2024-02-29T25:00:00Z", "2024-02-29T10:00:00",
              "1998-12-31T23:58:60Z", "2023-02-29T10:00:00Z"]),
            ("email", ["a.b+c@example.org"], ["a@", "@b", "a b@c", "a@b_c", "a@b\n"]),
            ("hostname", ["a.example", "x-1.y"], ["-a.b", "a..b", "a_b", "a." * 130 + "b"]),
            ("ipv4", ["10.0.0.1"], ["10.0.0.256", "010.0.0.1", "1.2.3", "1.2.3.4.5"]),
            ("ipv6", ["::1", "2001:db8::ff"], ["::1%eth0", "1::2::3", "12345::"]),
            ("uri", ["https://example.org/a?b=c#d", "urn:isbn:1", "http://[::1]:80/"],
             ["example.org", "http://[", "http://]", "http://a#b#c", "http://a/[b]", "http://a:x",
                    "http://a b", "https://a%zz", "/a"]),
            ("uuid", ["123E4567-e89b-12d3-a456-426614174000"],
             ["123e4567e89b12d3a456426614174000", "{123e4567-e89b-12d3-a456-426614174000}"]),
        ],
    )  # fmt: skip
    def test_formats_are_checked(self, name, right, wrong):
        schema = {"format": name}
        assert [text for text in right if not verdict(json.dumps(text), type="json_schema", schema=schema).passed] == []
        assert [text for text in wrong if verdict(json.dumps(text), type="json_schema", schema=schema).passed] == []
        assert verdict("3", type="json_schema", schema=schema).passed

    def test_literals_may_contain_anything(self):
        assert verdict('{"$ref": "x"}', type="json_schema", schema={"const": {"$ref": "x"}}).passed


class TestJsonField:
    @pytest.mark.parametrize(
        ("answer", "path", "expected", "passed"),
        [
            ('{"cause": "timeout"}', "cause", {"reference": "cause"}, True),
            ('{"cause": "Timeout"}', "cause", {"reference": "cause"}, False),
            ('{"a": {"b": ["x", "b"]}}', "a.b.1", {"reference": "nested.list.1"}, True),
            ('{"a": 1.0}', "a", {"value": 1}, True),
            ('{"a": true}', "a", {"value": 1}, False),
            ('{"a": 1}', "a", {"reference": "flag"}, False),
            ('{"a": null}', "a", {"value": None}, True),
            ('{"a": 0}', "a", {"value": None}, False),
            ('{"a": [1, {"b": 2}]}', "a", {"value": [1, {"b": 2.0}]}, True),
            ('{"b": 1}', "a", {"value": None}, False),
            ("[1]", "1", {"value": 1}, False),
            ("[1]", "-1", {"value": 1}, False),
        ],
    )
    def test_equality_is_that_of_json(self, answer, path, expected, passed):
        assert verdict(answer, type="json_field", path=path, expected=expected).passed is passed

    @pytest.mark.parametrize("completion", ['{"cause": "timeout"}', "rubbish", ""])
    def test_a_wrong_reference_path_is_an_error_whatever_the_answer(self, completion):
        with pytest.raises(InvalidInput) as caught:
            verdict(completion, type="json_field", path="cause", expected={"reference": "course"})
        assert caught.value.code == "bad-reference-path"


class TestNumber:
    @pytest.mark.parametrize(
        ("answer", "declared", "passed"),
        [
            ('{"bid": 1.1}', {"path": "bid", "expected": {"value": 1.0}, "absolute": 0.1}, True),
            ('{"bid": 1.1000001}', {"path": "bid", "expected": {"value": 1.0}, "absolute": 0.1}, False),
            ('{"bid": -90}', {"path": "bid", "expected": {"value": -100}, "relative": 0.1}, True),
            ('{"bid": 111}', {"path": "bid", "expected": {"value": 100}, "absolute": 1, "relative": 0.1}, True),
            ('{"bid": "2.5"}', {"path": "bid", "expected": {"reference": "bid"}}, False),
            ('{"bid": true}', {"path": "bid", "expected": {"value": 1}}, False),
            ("The bid is 2.5 euros.", {"expected": {"reference": "bid"}}, True),
            ("p95 latency is 1,250.5 ms", {"expected": {"value": 1250.5}}, True),
            ("about -.5", {"expected": {"value": -0.5}}, True),
            ("3e2", {"expected": {"value": 300}}, True),
            ("no number", {"expected": {"value": 0}}, False),
            ("1e9999", {"expected": {"value": 0}}, False),
        ],
    )
    def test_tolerance_is_absolute_plus_relative_and_exact_in_decimals(self, answer, declared, passed):
        assert verdict(answer, type="number", **declared).passed is passed

    @pytest.mark.parametrize("expected", [{"reference": "cause"}, {"reference": "flag"}, {"value": None}])
    def test_an_expected_value_that_is_no_number_is_an_error(self, expected):
        with pytest.raises(InvalidInput, match="needs a number"):
            verdict("1", type="number", expected=expected)


TEXTS = yaml.safe_load((Path(__file__).parent / "texts.yaml").read_text("utf-8"))


class TestTextAndRegex:
    def test_a_text_is_found_as_people_read_it(self):
        """The table of hard cases (texts.yaml): each answer holds the expected text, or does not."""
        wrong = [
            (case["why"], answer, result)
            for case in TEXTS
            for match, text, passing, failing in (
                ("contains", case.get("wanted"), case.get("contains", []), case.get("without", [])),
                ("must_not_contain", case.get("forbidden"), case.get("free", []), case.get("holds", [])),
            )
            for answer in [*passing, *failing]
            if (result := verdict(answer, type="text", match=match, expected={"value": text or "-"})).passed
            is not (answer in passing)
        ]
        assert wrong == []

    def test_an_answer_of_json_equals_the_text_as_written_or_as_read(self):
        for answer in (r'{"a": "caf\u00e9"}', '{"a": "caf\u00e9"}'):
            for expected, passed in ((answer, True), ('{"a": "caf\u00e9"}', True), ("caf\u00e9", False)):
                assert verdict(answer, type="text", expected={"value": expected}).passed is passed

    def test_a_pattern_looks_at_json_as_it_is_written(self):
        assert verdict(r'"caf\u00e9"', type="regex", pattern=r"^.caf\\u00e9.$").passed
        assert not verdict(r'"caf\u00e9"', type="regex", pattern="caf\u00e9").passed

    def test_text_ignores_case_and_outer_white_space_unless_told(self):
        assert verdict(" TimeOut\n", type="text", expected={"reference": "cause"}).passed
        assert not verdict("TimeOut", type="text", expected={"reference": "cause"}, ignore_case=False).passed
        assert verdict("a Timeout!", type="text", match="contains", expected={"reference": "cause"}).passed

    @pytest.mark.parametrize(
        ("wanted", "answer"),
        [
            ("caf\u00e9", "the cafe\u0301 feed"),
            ("cafe\u0301", "THE CAF\u00c9 FEED"),
            ("\uac00", "\u1100\u1161"),
            ("20 ms", "about 20\u202fms"),
            ("20 ms", "about 20\u00a0ms"),
            ("don't bid", "please don\u2019t bid"),
            ("well-known", "a well\u2011known path"),
            ('say "no"', "say \u201cno\u201d"),
            ("stra\u00dfe", "STRASSE"),
        ],
    )
    def test_one_text_has_one_spelling(self, wanted, answer):
        """Composed and decomposed letters, kinds of space, hyphen and quotation mark: people see no difference."""
        assert verdict(answer, type="text", match="contains", expected={"value": wanted}).passed
        assert verdict(wanted, type="text", expected={"value": wanted}).passed

    @pytest.mark.parametrize(
        ("wanted", "inside", "as_words"),
        [
            ("5 ms", "15 ms", "it took 5 ms."),
            ("5 ms", "1.5 ms", "(5 ms)"),
            ("5 ms", "1,5 ms", "1, 5 ms"),
            ("5 ms", "-5 ms", "= 5 ms"),
            ("5 ms", "5 msec", "5 ms, as asked"),
            ("5", "5.5", "5."),
            ("5", "5,000", "5, then"),
            ("cat", "concatenate", "the cat\u2019s bowl"),
            ("timeout", "timeouts", "connect-timeout"),
            ("timeout", "no_timeout", "**timeout**"),
            ("caf\u00e9", "caf\u00e9s", "CAFE\u0301!"),
            ("cafe", "cafe\u0301", "cafe\u200b"),
            ("$5", "$50", "US$5"),
            ("$5", "-$5", "is $5"),
        ],
    )
    def test_words_are_found_as_words_and_what_is_forbidden_anywhere(self, wanted, inside, as_words):
        """A gate must not pass ``15 ms`` for ``5 ms``; and must not miss a forbidden word for its ending."""
        for answer, passed in ((inside, False), (as_words, True)):
            assert verdict(answer, type="text", match="contains", expected={"value": wanted}).passed is passed, answer
        for answer in (as_words, inside.replace("cafe\u0301", "cafes")):
            assert not verdict(answer, type="text", match="must_not_contain", expected={"value": wanted}).passed, answer

    @pytest.mark.parametrize(
        ("wanted", "answer"),
        [
            ("\u8d85\u6642", "\u539f\u56e0\u306f\u8d85\u6642\u3067\u3059"),
            ("\ud0c0\uc784", "\ud0c0\uc784\uc544\uc6c3\uc774"),
            ("API", "\u4f7f\u7528API\u8c03\u7528"),
        ],
    )
    def test_scripts_without_spaces_are_searched_anywhere(self, wanted, answer):
        assert verdict(answer, type="text", match="contains", expected={"value": wanted}).passed

    def test_the_last_word_of_an_answer_that_was_cut_off_may_be_half_of_one(self):
        for expected, answer, passed in (
            ("time", "the time", False),
            ("time", "the time ", True),
            ("time", "the time is", True),
            ("\u8d85\u6642", "\u539f\u56e0\u306f\u8d85\u6642", True),
        ):
            rubric_point = point(type="text", match="contains", expected={"value": expected})
            assert grade_point(rubric_point, answer, {}, cut_off=True).passed is passed, answer
        number = point(type="json_schema", schema={"maximum": 100})
        assert [grade_point(number, "12", {}, cut_off=cut).passed for cut in (False, True)] == [True, False]

    @pytest.mark.parametrize(
        "blank", ["\u00a0", "\u2009", "\n", "\r\n", "  ", "\t", "\u200b ", "\u3000", " \u00ad", "\u2028"]
    )
    def test_every_blank_is_one_space_and_what_shows_nothing_is_left_out(self, blank):
        for match in ("equals", "contains"):
            assert verdict(f"20{blank}ms", type="text", match=match, expected={"value": "20 ms"}).passed
        assert not verdict(f"do{blank}bid", type="text", match="must_not_contain", expected={"value": "do bid"}).passed
        hidden = "as\u200bpi\u00adr\x00in"
        assert not verdict(hidden, type="text", match="must_not_contain", expected={"value": "aspirin"}).passed

    def test_what_must_not_stand_in_an_answer_is_found_however_it_is_written(self):
        never = {"type": "text", "match": "must_not_contain", "expected": {"value": "don't bid"}}
        assert verdict("bid lower", **never).passed
        refused = verdict("Please DON\u2019T  bid.".replace("  ", "\u00a0"), **never)
        assert (refused.passed, "contains" in refused.reason) == (False, True)

    def test_letters_are_compared_composed_in_every_check(self):
        composed, apart = "caf\u00e9", "cafe\u0301"
        for first, other in ((composed, apart), (apart, composed)):
            for answer in (json.dumps({first: first}), json.dumps({first: first}, ensure_ascii=False)):
                assert verdict(answer, type="json_field", path=other, expected={"value": other}).passed
                schema = {"required": [other], "properties": {other: {"enum": [other], "pattern": f"^{other}$"}}}
                assert verdict(answer, type="json_schema", schema=schema).passed
            assert verdict(first, type="regex", pattern=f"^{other}$").passed
        twice = verdict(json.dumps({composed: 1, apart: 2}), type="json_schema", schema={})
        assert "appears more than once" in twice.reason

    @pytest.mark.parametrize("expected", [{"value": ""}, {"value": 3}, {"reference": "nested"}])
    def test_an_expected_value_that_is_no_text_is_an_error(self, expected):
        with pytest.raises(InvalidInput, match="needs a text"):
            verdict("x", type="text", match="contains", expected=expected)

    def test_a_pattern_may_match_anywhere_and_anchors_bind(self):
        assert verdict("so: timeout", type="regex", pattern="timeout").passed
        assert not verdict("so: timeout", type="regex", pattern="^timeout$").passed
        assert verdict("  timeout  ", type="regex", pattern="^timeout$").passed

    @pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=x)", "((((x{100}){100}){100}){100})"])
    def test_a_pattern_that_re2_refuses_is_an_error(self, pattern):
        with pytest.raises(InvalidInput) as caught:
            verdict("x", type="regex", pattern=pattern)
        assert caught.value.code == "bad-pattern"

    def test_a_judged_point_without_a_judge_is_an_error_and_never_a_zero(self):
        with pytest.raises(InfrastructureFailure) as caught:
            verdict("x", type="judge", instruction="Is it polite?")
        assert caught.value.code == "judge-unavailable"


RUBRIC = Rubric.model_validate(
    {
        "id": "r",
        "owner": "o",
        "description": "d",
        "points": [
            {"id": "format", "text": "t", "weight": 1, "check": {"type": "json_schema", "schema": SCHEMA}},
            {
                "id": "cause",
                "text": "t",
                "weight": 3,
                "check": {"type": "json_field", "path": "cause", "expected": {"reference": "cause"}},
            },
            {
                "id": "style",
                "text": "t",
                "weight": 1,
                "required": False,
                "check": {"type": "regex", "pattern": "please"},
            },
        ],
    },
    strict=False,
)
SCENARIO = Scenario.model_validate(
    {
        "id": "s",
        "capability": "c",
        "risk": "low",
        "operator_lens": "l",
        "outcome_type": "o",
        "messages": [{"role": "user", "content": "?"}],
        "reference": {"cause": "timeout"},
        "criteria": [{"point": "cause", "pass": "p", "fail": "f"}],
    },
    strict=False,
)


class TestScoring:
    def test_a_score_is_the_weighted_share_and_passing_needs_required_points(self):
        points, reasons = score_completion(RUBRIC, SCENARIO, '{"cause": "timeout", "action": "cut"}')
        assert points == {"format": True, "cause": True, "style": False}
        assert set(reasons) == {"style"}
        assert row_score(points, point_weights(RUBRIC)) == 0.8
        assert row_passed(points, point_weights(RUBRIC))

    def test_a_missed_required_point_fails_the_row(self):
        points, _ = score_completion(RUBRIC, SCENARIO, '{"cause": "floor", "action": "please"}')
        assert row_score(points, point_weights(RUBRIC)) == 0.4
        assert not row_passed(points, point_weights(RUBRIC))

    @given(st.sampled_from(['{"cause": "timeout", "action": "x"}', "please", "[]", '{"cause": "timeout"}']) | st.text())
    def test_the_training_reward_is_the_eval_score(self, completion):
        points, _ = score_completion(RUBRIC, SCENARIO, completion)
        assert reward(RUBRIC, SCENARIO.reference, completion) == row_score(points, point_weights(RUBRIC))

    @given(
        st.lists(st.tuples(st.floats(0.01, 100), st.booleans(), st.booleans()), min_size=1, max_size=6), st.randoms()
    )
    def test_scores_lie_between_zero_and_one_and_no_order_matters(self, drawn, random):
        weights = [
            PointWeight(id=f"p{i}", weight=weight, required=needed) for i, (weight, needed, _) in enumerate(drawn)
        ]
        points = {f"p{i}": passed for i, (_, _, passed) in enumerate(drawn)}
        shuffled = random.sample(weights, len(weights))
        assert 0 <= row_score(points, weights) <= 1
        assert row_score(points, shuffled) == row_score(points, weights)
        assert row_passed(points, shuffled) == row_passed(points, weights)
        assert row_score(dict.fromkeys(points, True), weights) == 1

    def test_without_required_points_every_point_is_needed(self):
        weights = [PointWeight(id="a", weight=1, required=False), PointWeight(id="b", weight=1, required=False)]
        assert not row_passed({"a": True, "b": False}, weights)
        assert row_passed({"a": True, "b": True}, weights)

    @pytest.mark.parametrize("points", [{}, {"a": True, "b": True}, {"b": True}])
    def test_verdicts_about_other_points_are_refused(self, points):
        with pytest.raises(IntegrityFailure) as caught:
            row_score(points, [PointWeight(id="a", weight=1, required=True)])
        assert caught.value.code == "points-differ"
