"""What a person sees in a diff is what a parser reads: every governed text means one thing to all its readers."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.readers import assert_same_json, assert_same_yaml
from modelsmith.repository.document import Problem, Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.plaintext import first_hidden

POLICY = "repository: example\n# who approves a deployment{hidden}gate: harness\ngate: head-of-trading\n"
HIDDEN = {
    "\u2028": "U+2028 LINE SEPARATOR",
    "\u2029": "U+2029 PARAGRAPH SEPARATOR",
    "\x85": "U+0085 NEXT LINE",
    "\r": "U+000D CARRIAGE RETURN",
    "\x0b": "U+000B LINE TABULATION",
    "\x0c": "U+000C FORM FEED",
    "\x00": "U+0000 NULL",
    "\x1b": "U+001B ESCAPE",
    "\x9b": "U+009B CONTROL SEQUENCE INTRODUCER",
    "\u202e": "U+202E RIGHT-TO-LEFT OVERRIDE",
    "\u2066": "U+2066 LEFT-TO-RIGHT ISOLATE",
    "\u200b": "U+200B ZERO WIDTH SPACE",
    "\u200d": "U+200D ZERO WIDTH JOINER",
    "\xad": "U+00AD SOFT HYPHEN",
    "\u3164": "U+3164 HANGUL FILLER",
    "\ufe0f": "U+FE0F VARIATION SELECTOR-16",
    "\ufeff": "U+FEFF BYTE ORDER MARK",
    "\U000e0041": "U+E0041 TAG LATIN CAPITAL LETTER A",
    "\U000e0100": "U+E0100 VARIATION SELECTOR-17",
    "\ue000": "U+E000 without a name",
    "\ufffe": "U+FFFE without a name",
}


def refused(text: str) -> list[Problem]:
    with pytest.raises(Unreadable) as error:
        read_yaml("policy.yaml", text.encode())
    return error.value.problems


@pytest.mark.parametrize("hidden", HIDDEN, ids=HIDDEN.values())
def test_no_character_ends_a_comment_or_hides_for_some_readers_only(hidden):
    [problem] = refused(POLICY.format(hidden=hidden))
    assert (problem.file, problem.line, problem.field) == ("policy.yaml", 2, "")
    assert problem.message.startswith(HIDDEN[hidden])
    assert problem.mend
    [problem] = refused(f"a: 1\nb:\n  c: x{hidden}y\n")
    assert (problem.line, problem.field) == (3, "b.c")
    with pytest.raises(Unreadable, match=HIDDEN[hidden].split()[0].replace("+", r"\+")):
        read_json("file.jsonl", f'{{"a": "x{hidden}y"}}'.encode(), 3)


@pytest.mark.parametrize(
    "words",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\u0915\u094d\u200d\u0937",  # Hindi, with a joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",  # a family and a heart
        "a\u00adb",
        "\u200f\u05e9\u05dc\u05d5\u05dd",  # Hebrew, with its mark
        "a\u2028b",
    ],
)
def test_texts_in_every_language_are_welcome_where_the_diff_shows_them(words):
    hidden = {c for c in words if first_hidden(c)}
    escaped = words.translate({ord(c): f"\\u{ord(c):04x}" for c in hidden})
    data = f'content: "{escaped}"\n'.encode()
    assert read_yaml("scenario.yaml", data).data == {"content": words}
    assert read_json("scenario.jsonl", json.dumps({"content": words}).encode()).data == {"content": words}
    [problem] = refused(f"content: '{words}'\n")
    assert any(f"\\u{ord(c):04x}" in problem.mend for c in hidden)


@pytest.mark.parametrize(
    "text", ["größer als 5", "Пр\u0438\u0432\u0435т", "你好。世界", "مرحبا", "„so“", "x²≥½", "👍🏽", "一"]
)
def test_visible_text_needs_no_escape(text):
    assert read_yaml("scenario.yaml", f"content: {text}\n".encode()).data == {"content": text}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 'x'#y\n", 1, "without a blank before the '#'"),
        ("a: [1,#y\n  2]\n", 1, "without a blank before the '#'"),
        ("a: >-#y\n  x\n", 1, "something else follows"),
        ("a: |\n  \n    x\n", 2, "spaces stand on an empty line"),
        ("a: |-\n\n   \n", 3, "spaces stand on an empty line"),
        ("a:\tx\n", 1, "a tab"),
        ("a: x\ty\n", 1, "a tab"),
        ("a: x\u00a0# y\n", 1, "U+00A0"),
        ("a: x\n\u00a0b: y\n", 2, "U+00A0"),
        ('a: "x\ngate: harness\n  y"\nb: 1\n', 2, "indented like a new field"),
        ("a: {b: 1,\ngate: harness}\nc: 1\n", 2, "indented like a new field"),
        ("a: x\n" + "b: y" + " " * 300 + "# z\n", 2, "out of sight"),
        ("a: 'y" + " \u3000" * 150 + "z'\n", 1, "out of sight"),
        ("%YAML 1.1\n---\na: 1\n", 1, "directives"),
        ("a: 1\n...\n", 2, "end of the document"),
        ("<<: {a: 1}\n", 1, "merge keys"),
        ("? |\n  a\n: 1\n", 1, "several lines"),
        ("true: 1\n", 1, "disagree on the key"),
        ("a: -.5e3\n", 1, "disagree on the number"),
        ("a: 1e-400\n", 1, "too small"),
        ('owner: "\\x70latform"\n', 1, "a way of writing 'p'"),
        ('"\\u006fwner": x\n', 1, "a way of writing 'o'"),
        ("g\u0430te: x\n", 1, "U+0430 CYRILLIC SMALL LETTER A"),
        ("x:\n  \u0430\u0441\u0435: 1\n  ace: 2\n", 3, "look alike"),
        ('x:\n  "\u0430\u0441\u0435": 1\n  ace: 2\n', 3, "look alike"),
        ('"ga\\u200bte": x\n', 1, "U+200B"),
        ('a: "x\\U0001e4ecy"\n', 1, "not every reader knows"),
        ("? " + "k" * 2000 + "\n: 1\n", 1, "more than 1024 characters"),
    ],
)  # fmt: skip
def test_what_one_parser_lets_pass_and_another_does_not_is_refused(text, line, words):
    problems = [problem for problem in refused(text) if words in problem.message]
    assert [problem.line for problem in problems[:1]] == [line]
    assert problems[0].mend


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"\\u0061": 2}', "a way of writing 'a'"),
        ('{"a": "\\ud800"}', "U+D800"),
        ('{"a": ["\\u0007"]}', "U+0007 BELL"),
        ('{"\\u200b": 1}', "U+200B"),
        ('{"a": "x\\ud839\\udcec"}', "not every reader knows"),
        ('{"\u0430ce": 1}', "CYRILLIC"),
        ('{"a": 1e-400}', "too small"),
        ('{"a": 1} {', "not JSON"),
        ("\ufeff{}", "BYTE ORDER MARK"),
        ("[" * 51 + "]" * 51, "nested"),
    ],
)
def test_json_means_one_thing_too(text, words):
    with pytest.raises(Unreadable, match=words.replace("+", r"\+")):
        read_json("file.json", text.encode())


PIECES = st.sampled_from(
    [
        *"\n\n \t#'\"[]{},:@`\\=~ab1é", "key", "- ", "? ", ": ", "\n  ", "\n    ", " # c\n", "'x y'", '"\\n"', ", ",
        "|\n", ">\n", "|-\n  ", ">+\n  ", "|2\n   ", "---\n", "...\n", "%YAML 1.2\n", "&a ", "*a", "!!str ", "no",
        "1e3", ".5", "0x1", "0o7", "-0", "1_0", "12:30", "true", "<<: ", "\r\n", "\u2028", "\x85", "\u00a0", "\u3000",
        "\ufeff", "a: b\n", "a: 'x\n", "  b: 1\n", "- a\n", "''",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=16).map("".join) | st.text(max_size=60))
def test_whatever_our_reader_accepts_another_one_reads_the_same(text):
    assert_same_yaml(text.encode("utf-8", "replace"))
    assert_same_yaml(f"top:\n  {text}".encode("utf-8", "replace"))


JSON_PIECES = st.sampled_from(
    [
        *'[]{},:" \n\t', '"a"', '"b"', '"a":', "1", "-0", "1.5", "1e400", "1e-400", "9007199254740993", "NaN", "true",
        "null", '"\\u0061"', '"\\ud800"', '"\\ud83d\\ude00"', '"\u2028"', "\ufeff", "\x0c",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(JSON_PIECES, max_size=14).map("".join))
def test_whatever_our_json_reader_accepts_another_one_reads_the_same(text):
    assert_same_json(text.encode())


ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\u200b\n"])
LINES = st.sampled_from(["{key}: {value}", "# {key}: {value}", "{key}: {value} # {key}: x", "  # {key}: {value}", ""])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.randoms(use_true_random=False))
def test_a_file_says_what_its_lines_say_to_somebody_who_reads_the_diff(lines, chance):
    """A reader of the diff ends lines where git does, and takes what follows a '#' for a comment."""
    text = "".join(
        line.format(key=f"k{number}", value=chance.randrange(9)) + end for number, (line, end) in enumerate(lines)
    )
    try:
        data = read_yaml("f.yaml", text.encode()).data
    except Unreadable:
        return
    values = {}
    for line in text.split("\n"):
        stripped = line.removesuffix("\r").split(" #")[0].strip()
        if stripped and not stripped.startswith("#"):
            key, _, value = stripped.partition(": ")
            values[key] = value
    assert {key: str(value) for key, value in data.items()} == values


def test_honest_line_ends_of_either_kind_are_read():
    lines = ["a: |", "  x", "  y", "# c", "b: [1,", "  2]", ""]
    for end in ("\n", "\r\n"):
        assert read_yaml("f.yaml", end.join(lines).encode()).data == {"a": "x\ny\n", "b": [1, 2]}


def test_random_mutations_of_one_text_never_split_the_readers():
    draw = random.Random(5)
    seed = "a: 'x y' # c\nb:\n  - c: |\n      t\n  - {d: \"e\\n\"}\nf: >-\n  g\n  h\n"
    for _ in range(300):
        at, end = sorted(draw.randrange(len(seed)) for _ in range(2))
        assert_same_yaml((seed[:at] + draw.choice([*"\t\r\n #'\"|>-:{}[],é\u3000", ""]) + seed[end:]).encode())
