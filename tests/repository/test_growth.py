"""Time in proportion to the input: a file that nobody approved must not keep everybody else's commands busy.

Each case is measured at one size and at eight times that size, in processor time, which a busy machine does not
lengthen; the least of some runs counts. What is linear takes eight times as long, what is quadratic sixty-four times.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from modelsmith.governance.codeowners import parse
from modelsmith.governance.people import people_problems
from modelsmith.promotion.authors import authorship
from modelsmith.repository.document import MAX_PROBLEMS, Document, Place, Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.load import find_cluster_problems
from modelsmith.repository.sets import read_set
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import find_problems
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.governance import People
from modelsmith.schema.labels import Labels
from modelsmith.texts.similarity import similarity

TIMES = 8
MOST = 26
"""Linear is 8, quadratic 64; what lies between leaves room for caches and sorting."""
ENOUGH = 0.02
"""Seconds that the small size must take, so that the clock's step does not count."""


def yaml_problems(text: str, model: type = Cluster) -> int:
    return len(find_problems("clusters/x/cluster.yaml", text.encode(), model)[1])


def doubled_keys(n: int) -> None:
    assert yaml_problems("".join(f"k{i}: 1\nk{i}: 2\n" for i in range(n))) <= 2 * MAX_PROBLEMS + 2


def unknown_keys(n: int) -> None:
    assert yaml_problems("".join(f"k{i}: 1\n" for i in range(n))) <= MAX_PROBLEMS + 1


def bad_items(n: int) -> None:
    assert yaml_problems("- 1\n" * n, Labels) <= MAX_PROBLEMS + 1


def long_unknown_key(n: int) -> None:
    yaml_problems(f"? {'own.er[' * n}\n: 1\nb: 2\n")


def a_key_twice_in_json(n: int) -> None:
    text = ",".join(f'"k{i}":1' for i in range(n))
    with pytest.raises(Unreadable, match="twice"):
        read_json("x", f'{{{text},"k{n - 1}":1}}'.encode())


def deep_json(n: int) -> None:
    with pytest.raises(Unreadable):
        read_json("x", b'{"a":[' * n)


def hidden_characters(n: int) -> None:
    with pytest.raises(Unreadable):
        read_yaml("x", "".join(f"k{i}: \u2028\u200b\n" for i in range(n)).encode())


def odd_blanks(n: int) -> None:
    with pytest.raises(Unreadable):
        read_yaml("x", ("a: x#" + " " * n + "\tb\n" + "\t" * n).encode())


def foreign_keys(n: int) -> None:
    read_yaml("x", "".join(f"ключ{i}: {{ä: 1}}\n" for i in range(n)).encode())


def long_digits(n: int) -> None:
    with pytest.raises(Unreadable):
        read_yaml("x", f"a: 0{'9' * n}\nb: {'1' * n}\nc: 0.{'0' * n}1\nd: -0{'1' * n}e5\n".encode())


def quoted_lines(n: int) -> None:
    read_yaml("x", ("a: 'x\n" + "  y\n\n" * n + "  z'\n# c\n").encode())


def layers(n: int) -> None:
    def document(name: str, inner: object) -> Document:
        data = {f"k{i}": inner for i in range(n)}
        values = {location: Place(name, 1) for i in range(n) for location in ((f"k{i}",), (f"k{i}", "a"))}
        return Document(name, data, values)

    merged = document("upper", 1).over(document("lower", {"a": 1}))
    assert len(merged.values) >= n


def cluster_layers(n: int) -> None:
    gates = "gates:\n" + "".join(f"  g{i}: 1\n" for i in range(n))
    find_cluster_problems("clusters/x/cluster.yaml", gates.encode(), gates.encode())


def lookalike_people(n: int) -> None:
    people = [
        {"id": f"p{i}", "name": "Rome O", "roles": [], "keys": [], "logins": {f"forge{j}": f"{j}x" for j in range(3)}}
        for i in range(n)
    ]
    roles = {"r" + "".join("l1"[i >> bit & 1] for bit in range(14)): "x" for i in range(n)}
    people_problems(People.model_validate({"roles": roles, "people": people, "harness": []}, strict=False))


def one_person_s_logins(n: int) -> None:
    person = {"id": "p", "name": "P", "roles": [], "keys": [], "logins": {f"forge{i}": "same" for i in range(n)}}
    people_problems(People.model_validate({"roles": {}, "people": [person], "harness": []}, strict=False))


def dotted_owner(n: int) -> None:
    assert parse("* a@" + "." * n + "@\n").errors


def any_folders_in_codeowners(n: int) -> None:
    owners = parse(f"/{'**/' * n}x @a\n/**/{'*a' * n}/x @a\n")
    assert [owners.owners(path) for path in ("a/b/c/x", "a/b/c/y")] == [("@a",), ()]


def brackets_in_a_commit_s_header(n: int) -> None:
    nobody = People.model_validate({"roles": {}, "people": [], "harness": []}, strict=False)
    raw = b"tree 0\nauthor a <a@x> 1 +0000\ncommitter a <a@x> 1 +0000\n"
    odd = b"author " + b" <" * n + b"\ncommitter " + b" <>" * n + b"\ngpgsig " + b"x\n " * n + b"\nauthor \n" * n
    assert "a@x" in authorship([raw + odd + b"\n\nx\n"], nobody).claims


def long_texts(n: int) -> None:
    draw = random.Random(n)
    first, other = (" ".join("".join(draw.choices("abcdefghij", k=7)) for _ in range(n)) for _ in range(2))
    assert similarity(first, other) < 0.5


def bad_json_lines(n: int) -> None:
    path = "evals/a/b/scenarios/c/x.jsonl"
    assert len(read_set("evals/a/b", {path: b"1\n" * n}, {}).problems) < MAX_PROBLEMS + 20


def many_wordings(n: int) -> None:
    """Every variant repeats the conversation before it."""
    long, short = "x " * (8 * n), "y"
    text = (
        "id: x\ncapability: c\nrisk: low\noperator_lens: a\noutcome_type: a\nreference: {a: 1}\n"
        "criteria: [{point: a, pass: b, fail: c}]\nmessages:\n"
        f"  - {{role: user, content: {long}}}\n  - {{role: user, content: z}}\nvariants:\n" + f"  - {short}\n" * n
    )
    paths = ("evals/a/b/scenarios/c/x.yaml", "evals/a/b/held_out/c/x.yaml")
    read_set("evals/a/b", {path: text.encode() for path in paths} | {"evals/a/b/evalset.yaml": EVALSET}, {})


EVALSET = (
    b"id: b\ndomain: a\nversion: 1.0.0\nowner: x\ndescription: d\nrubric: rubrics/r.yaml\n"
    b"prompt: {system: s}\nsampling: {max_new_tokens: 8}\n"
)

CASES: tuple[tuple[Callable[[int], None], int], ...] = (
    (doubled_keys, 1_500), (unknown_keys, 1_000), (bad_items, 1_000), (long_unknown_key, 5_000),
    (a_key_twice_in_json, 4_000), (deep_json, 10_000), (hidden_characters, 500), (odd_blanks, 50_000),
    (foreign_keys, 500), (long_digits, 30_000), (quoted_lines, 8_000), (layers, 1_000), (cluster_layers, 500),
    (lookalike_people, 300), (one_person_s_logins, 500), (dotted_owner, 30_000),
    (any_folders_in_codeowners, 8_000), (brackets_in_a_commit_s_header, 8_000), (long_texts, 2_000),
    (bad_json_lines, 20_000), (many_wordings, 700),
)  # fmt: skip


def seconds(case: Callable[[int], None], n: int) -> float:
    def once() -> float:
        started = time.process_time()
        case(n)
        return time.process_time() - started

    return min(once() for _ in range(2))


@pytest.mark.parametrize(("case", "n"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_eight_times_the_input_takes_about_eight_times_as_long(case, n):
    small = seconds(case, n)
    assert seconds(case, TIMES * n) < MOST * max(small, ENOUGH)
