from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.repository.document import MAX_INTEGER, MAX_VALUES, Problem, Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import find_json_problems, find_problems, parse_yaml
from modelsmith.schema.cluster import ClusterDefaults
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy
from modelsmith.schema.plaintext import first_hidden
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Scenario

GOOD = b"""\
id: floor-1
capability: floors
risk: low
operator_lens: trader
outcome_type: overpay
messages:
  - role: user
    content: Why do we lose?
reference: {cause: floor}
criteria:
  - point: cause
    pass: Names it.
    fail: Does not.
"""


def problems(data: bytes, model: type = Scenario) -> list[Problem]:
    value, problems_found = find_problems("f.yaml", data, model)
    assert (value is None) == bool(problems_found)
    return problems_found


def refusal(data: bytes) -> str:
    with pytest.raises(Unreadable) as refused:
        read_yaml("f.yaml", data)
    assert all(problem.mend for problem in refused.value.problems)
    return "; ".join(problem.message for problem in refused.value.problems)


def test_a_good_file_becomes_its_type() -> None:
    scenario = parse_yaml("f.yaml", GOOD, Scenario)
    assert scenario.criteria[0].pass_ == "Names it."
    assert scenario.messages[0].role == "user"


def test_every_mistake_is_named_at_once_with_line_field_and_mend() -> None:
    data = GOOD.replace(b"operator_lens", b"operator_lenz").replace(b"low", b"huge").replace(b"pass:", b"pas:")
    data = data.replace(b"id: floor-1", b"id: 1.5").replace(b"role: user", b"role: system") + b"critical: yes\n"
    by_place = {(p.line, p.field): p for p in problems(data)}
    assert set(by_place) == {
        (1, "id"),
        (3, "risk"),
        (4, "operator_lenz"),
        (7, "messages[0].role"),
        (12, "criteria[0].pas"),
        (14, "critical"),
    }
    assert "quotes" in by_place[1, "id"].mend
    assert "'low', 'medium' or 'high'" in by_place[3, "risk"].mend
    assert by_place[4, "operator_lenz"].mend == "Did you mean 'operator_lens'?"
    assert by_place[12, "criteria[0].pas"].mend == "Did you mean 'pass'?"
    assert by_place[14, "critical"].mend == "Write true, without quotes."
    assert all(p.file == "f.yaml" and p.message and p.mend for p in by_place.values())


def test_the_error_carries_all_problems_for_machines() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_yaml("a/b.yaml", GOOD.replace(b"low", b"huge").replace(b"id:", b"idd:"), Scenario)
    error = refused.value
    assert (error.code, len(error.details["problems"])) == ("invalid-file", 2)
    assert error.message.startswith("a/b.yaml:1: ")
    assert "and 1 more problem" in error.message
    assert json.dumps(error.envelope())


def test_aliased_fields_are_named_as_people_write_them() -> None:
    policy = (
        b"repository: example-repo\nharness_paths: []\ntransitions:\n  - {event: candidate, from: x, to: y, gate: No}\n"
    )
    assert {p.field for p in problems(policy, Policy)} == {
        "transitions[0].from",
        "transitions[0].to",
        "transitions[0].gate",
    }
    rubric = (
        b"id: r\nowner: o\ndescription: d\npoints:\n  - id: p\n    text: t\n    weight: 1\n    check:\n      type: %s\n"
    )
    assert [(p.line, p.field) for p in problems(rubric % b"json_schema\n      schema: 1", Rubric)] == [
        (10, "points[0].check.schema")
    ]
    unknown = problems(rubric % b"json_feild", Rubric)
    assert [(p.line, p.field) for p in unknown] == [(9, "points[0].check.type")]
    assert "json_field" in unknown[0].mend


def test_a_wrong_key_of_a_mapping_is_found_on_its_own_line() -> None:
    errors = problems(b"roles:\n  good: x\n  Bad Key: y\n", People)
    assert [(p.line, p.field) for p in errors] == [(3, "roles.Bad Key")]


def test_times_are_read_as_written_and_need_a_zone() -> None:
    people = b"roles: {}\npeople:\n  - {id: m, name: M, roles: [], keys: [{key: ssh-ed25519 AAAA, valid_after: %s}]}\n"
    assert parse_yaml("p", people % b"2026-01-31T09:00:00Z", People).people[0].keys[0].valid_after
    assert "2026-01-31T09:00:00Z" in problems(people % b"2026-01-31", People)[0].mend
    assert problems(people % b"2026-01-31T09:00:00", People)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"no", "no"), (b"Yes", "Yes"), (b"on", "on"), (b"off", "off"), (b"NO", "NO"), (b"y", "y"),
        (b"true", True), (b"False", False), (b"~", None), (b"", None), (b"null", None), (b"nULL", "nULL"),
        (b"12:30:00", "12:30:00"), (b"1_000", "1_000"), (b"0x1f", 31), (b"0o17", 15), (b"0b1", "0b1"), (b"12", 12),
        (b"-3", -3), (b"1.50", 1.5), (b".5", 0.5), (b"1e3", 1000.0), (b"2026-01-31", "2026-01-31"), (b"'012'", "012"),
        (b"1.2.3", "1.2.3"), (b"<<", "<<"), (b"=", "="), (b"0", 0), (b"-0.0", -0.0),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(text: bytes, value: object) -> None:
    data = read_yaml("f", b"a: " + text).data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_norway_keeps_its_name_as_a_key_and_as_a_value() -> None:
    assert read_yaml("f", b"no: [no, se]\n'1': one\n").data == {"no": ["no", "se"], "1": "one"}


@pytest.mark.parametrize("key", [b"1", b"true", b"~", b"0x1f", b"1e3", b".inf"])
def test_a_key_that_is_no_text_for_other_readers_is_refused(key: bytes) -> None:
    assert "disagree on the key" in refusal(key + b": x\n")
    assert read_yaml("f", b"'" + key + b"': x\n").data == {key.decode(): "x"}


def test_a_number_with_a_leading_zero_is_refused_since_readers_differ() -> None:
    errors = problems(GOOD.replace(b"id: floor-1", b"id: 012"))
    assert [(p.line, p.field) for p in errors] == [(1, "id")]
    assert "'012' in quotes" in errors[0].mend
    assert parse_yaml("f", GOOD.replace(b"id: floor-1", b"id: '012'"), Scenario).id == "012"


@pytest.mark.parametrize(
    "attack",
    [
        b"a: !!python/object/apply:os.system [echo hi]\n",
        b"!!python/object/new:type\nargs: [x, !!python/tuple [], {}]\n",
        b"a: !!python/name:os.system\n",
        b"a: !<tag:yaml.org,2002:python/module:os> x\n",
        b"%TAG ! tag:yaml.org,2002:python/\n---\na: !module:os x\n",
        b"a: !!binary aGk=\n",
        b"a: !!str 012\n",
        b"!!map {a: 1}\n",
        b"? !!str a\n: 1\n",
    ],
)
def test_tags_build_nothing(attack: bytes) -> None:
    assert "tag" in refusal(attack) or "key" in refusal(attack)


def test_an_anchor_bomb_does_not_go_off() -> None:
    bomb = b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    for name, last in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n".encode()
    words = refusal(bomb)
    assert "anchors (&a) are not allowed" in words
    assert "aliases (*h) are not allowed" in words
    assert "aliases" in refusal(b"a: *nothing\n")
    assert "key" in refusal(b"? &x a\n: 1\n")
    assert "anchors" in refusal(b"a: &self [*self]\n")


def test_duplicate_keys_are_named_with_both_lines() -> None:
    assert "'a' stands here twice (first on line 1)" in refusal(b"a: 1\nb: 2\na: 3\n")
    assert "twice" in refusal(b"x: {a: 1, 'a': 2}\n")
    assert "twice" in refusal(b"x: {1: 1, '1': 2}\n")


@pytest.mark.parametrize("data", [b"[" * 51 + b"]" * 51, b"[" * 100_000, b"{a: " * 60, b"- " * 5000, b"? " * 3000])
def test_deep_nesting_is_refused(data: bytes) -> None:
    assert refusal(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: \x00", "control characters"),
        (b'a: "\\0"', "control character"),
        (b'"a\\x07": 1', "control character"),
        (b"a: caf\xe9", "UTF-8"),
        (b"\xff\xfea\x00", "UTF-8"),
        (b"a: .nan", "finite"),
        (b"a: [-.INF]", "finite"),
        (b"a: 1e999", "finite"),
        (b"a: 9007199254740992", "2^53"),
        (b"a: " + b"9" * 5000, "2^53"),
        (b"", "empty"),
        (b"# only a comment\n", "empty"),
        (b"a: 1\n---\nb: 2\n", "second document"),
        (b"? [a, b]\n: 1\n", "key"),
        (b"a: b: c", "a colon stands in the text after 'b'"),
        (b"a:\n\t- b", "a tab"),
        (b"a: " + b"x" * (1024 * 1024), "1 MiB"),
    ],
)
def test_what_cannot_be_read_the_same_everywhere_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_a_byte_order_mark_is_refused_since_some_readers_take_it_as_text() -> None:
    assert "U+FEFF BYTE ORDER MARK" in refusal(b"\xef\xbb\xbfa: 1")


def test_a_bad_value_does_not_hide_the_other_mistakes_of_the_file() -> None:
    errors = problems(b"training:\n  learning_rate: .inf\n  steps: '3'\n  lora: {rank: 0}\n", ClusterDefaults)
    assert [(p.line, p.field) for p in errors] == [
        (2, "training.learning_rate"),
        (3, "training.steps"),
        (4, "training.lora.rank"),
    ]


SCALARS = (
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Cs", "Zl", "Zp")), max_size=12)
)  # fmt: skip
KEYS = st.text("abcdefghi -_:#'\"", min_size=1, max_size=8)
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(DATA)
def test_whatever_is_written_as_json_reads_back_the_same(value: object) -> None:
    """JSON is YAML: values survive in flow style, quotes and all. What shows nothing is written as an escape."""
    text = json.dumps({"top": value}, ensure_ascii=False)
    hidden = {c for c in text if first_hidden(c)}
    for_yaml = text.translate({ord(c): f"\\U{ord(c):08x}" for c in hidden})
    for_json = text.translate({ord(c): json.dumps(c)[1:-1] for c in hidden})
    assert read_yaml("f", for_yaml.encode()).data == {"top": value}
    assert read_json("f", for_json.encode()).data == {"top": value}


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_crash(data: bytes) -> None:
    with contextlib.suppress(Unreadable):
        read_yaml("f", data)


@given(st.text("ab:-?[]{}&*!|>'\"%@`#,\n\t 01.~", max_size=60))
def test_no_punctuation_makes_the_reader_crash_or_differ_from_a_safe_one(text: str) -> None:
    try:
        mine = read_yaml("f", text.encode()).data
    except Unreadable:
        return
    theirs = yaml.load(text, Loader=yaml.CBaseLoader)
    assert type(mine) is type(theirs) or not isinstance(theirs, dict | list)


def test_json_is_strict() -> None:
    for data, words in [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9007199254740993}', "2^53"),
        (b"[" * 100_000, "nested"),
        (b'{"a": }', "not JSON"),
        (b"\xff", "UTF-8"),
    ]:
        value, errors = find_json_problems("f.json", data, Scenario, line=7)
        assert value is None
        assert words in errors[0].message
    assert find_json_problems("f.jsonl", b'{"id": 1}', Scenario, line=7)[1][0].line == 7
    assert find_json_problems("f.jsonl", json.dumps(read_yaml("f", GOOD).data).encode(), Scenario)[0]


def test_a_file_of_more_values_than_anybody_reads_is_refused_where_it_is() -> None:
    """A MiB of empty lists took seconds, at each of the places where one proposal put it."""
    with pytest.raises(Unreadable) as refused:
        read_yaml("f.yaml", b"a:\n" + b"  - []\n" * (MAX_VALUES + 5))
    (problem,) = refused.value.problems
    assert (problem.line, problem.message) == (MAX_VALUES, f"the file holds more than {MAX_VALUES} values")
