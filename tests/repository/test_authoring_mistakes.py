"""One slip of the pen is one sentence, which names the line, what stands there and the mend.

The table is `authoring_mistakes.yaml`; each row is one edit of a repository that validates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from modelsmith.repository.document import Problem
from modelsmith.repository.tree import OverlaidTree, WorkTree
from modelsmith.repository.type_errors import explain
from modelsmith.repository.validate import validate
from modelsmith.repository.yamlfile import find_problems
from modelsmith.schema.catalog import KINDS
from modelsmith.schema.dataset import Dataset

MISTAKES = yaml.safe_load(Path(__file__).with_name("authoring_mistakes.yaml").read_text())
SET = "evals/ads/diagnosis"
FILES = {
    "scenario": f"{SET}/scenarios/floors/floor-1.yaml",
    "evalset": f"{SET}/evalset.yaml",
    "rubric": f"{SET}/rubrics/quality.yaml",
    "generator": f"{SET}/generators/floors.yaml",
    "cluster": "clusters/pricing/cluster.yaml",
    "people": ".github/governance/people.yaml",
    "policy": ".github/governance/policy.yaml",
    "codeowners": ".github/CODEOWNERS",
}
CASES = {
    2: ("Sellers in Rome ask more than we pay since noon", "Rome wants more"),
    3: ("Our price lies under what a hundred sites of the north want", "The north wants more"),
    4: ("A new least price at the largest seller makes each reply void", "The largest seller wants more"),
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBqZ47MFCKnxVv0hJhfCdxe7RsMhYfPqayxW0jJilKH6"
ONE_LINE = "rollback: {metric: win_rate, max_drop: 0.1, window_minutes: 5, manual_hours: 1}\n"
LINES = """\
rollback:
  metric: win_rate
  max_drop: 0.1
  window_minutes: 5
  manual_hours: 1
deployment:
  traffic_share: 0.1
prices: {currency: EUR}
"""


def problems_of(files: Mapping[str, str]) -> tuple[Problem, ...]:
    """What `validate` finds in files that lie nowhere."""
    return validate(
        OverlaidTree(WorkTree(Path("/nowhere")), {path: text.encode() for path, text in files.items()})
    ).problems


@pytest.fixture(scope="module")
def sound(written: dict[str, str]) -> dict[str, str]:
    """The small repository, with more cases, a key, and a cluster's fields each on a line of its own."""
    first = written[FILES["scenario"]]
    files = dict(written)
    for number, (text, variant) in CASES.items():
        content, wording = (line for line in first.split("\n") if "Publishers" in line or "Forty-one" in line)
        case = first.replace(content, f"    content: {text}").replace(wording, f"  - {variant}")
        files[f"{SET}/scenarios/floors/floor-{number}.yaml"] = case.replace("id: floor-1", f"id: floor-{number}")
    files[FILES["cluster"]] = written[FILES["cluster"]].replace(ONE_LINE, LINES)
    noor = "  - id: noor\n    name: Noor\n    roles: [domain-lead]\n    keys:\n      - key: "
    files[FILES["people"]] += f"{noor}{KEY}\n"
    assert problems_of(files) == ()
    return files


@pytest.mark.parametrize("row", MISTAKES, ids=[row["mistake"] for row in MISTAKES])
def test_one_mistake_is_one_sentence(sound, row):
    path = FILES[row["in"]]
    assert row["instead of"] in sound[path]
    changed = sound | {path: sound[path].replace(row["instead of"], row["written"], 1)}
    rows = [(problem.file, problem.line, f"{problem.message} -> {problem.mend}") for problem in problems_of(changed)]
    assert rows == [(FILES[row.get("found in", row["in"])], row["line"], row["says"])]


def test_the_table_is_long_and_says_nothing_twice():
    assert len(MISTAKES) >= 90
    assert len({(row["in"], row["written"], row["instead of"]) for row in MISTAKES}) == len(MISTAKES)


def test_a_renamed_folder_is_one_mistake(sound):
    moved = {path.replace("scenarios/floors/", "scenarios/floor/"): text for path, text in sound.items()}
    [problem] = problems_of(moved)
    assert "all 4 scenarios of this folder have the capability 'floors'" in problem.message
    assert "Rename the folder to floors/" in problem.mend


def test_no_message_repeats_what_may_be_a_secret(sound):
    """Also when it stands on a line that cannot be read."""
    secret = "b3BlbnNzaC1rZXktdjEA"
    cluster, people = FILES["cluster"], FILES["people"]
    endpoint = "description: Prices.\nbaselines:\n  - name: big\n    endpoint:\n      model: m\n"
    edits = {
        cluster: [f"{endpoint}      url: https://me:{secret}@host x: y", f"{endpoint}      key_env:{secret}",
                  f"{endpoint}      url: u\n      key_env: {secret}: x", f"{endpoint}      key_env: #{secret}",
                  f"{endpoint}      key_env = {secret}", f"{endpoint}      url: [{secret}] x"],
        people: [f"-----BEGIN OPENSSH PRIVATE KEY----- {secret}", f'"{secret}', f"{{{secret}}} x", f"{secret}: x"],
    }  # fmt: skip
    for path, texts in edits.items():
        for text in texts:
            problems = problems_of(
                sound | {path: sound[path].replace(KEY if path == people else "description: Prices.", text)}
            )
            assert problems, text
            assert not any(secret in f"{problem.message}{problem.mend}" for problem in problems), (text, problems)


BY_MACHINES = {
    "approval", "candidate", "evidence", "export", "live", "observation", "pending", "receipt", "record", "rollback",
    "training",
}  # fmt: skip
"""Kinds of files that nobody writes by hand."""


def patterns(schema: object) -> Iterator[str]:
    """Every pattern that a schema asks for."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from (pattern for value in schema.values() for pattern in patterns(value))
    elif isinstance(schema, list):
        yield from (pattern for value in schema for pattern in patterns(value))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.model and kind.name not in BY_MACHINES], ids=str)
def test_no_mend_is_a_pattern_that_somebody_has_to_read(kind):
    """People who write governed files need not know what a regular expression is."""
    for pattern in patterns(kind.model.model_json_schema()):
        details = {"type": "string_pattern_mismatch", "loc": (), "msg": "", "input": "?", "ctx": {"pattern": pattern}}
        message, mend = explain(details, None, None, ())
        assert pattern not in message + mend, pattern


def test_a_data_set_s_manifest_is_mended_in_words():
    manifest = {
        "id": "tickets", "uri": "s3://bucket/rows", "digest": f"sha256:{'0' * 64}", "format": "jsonl", "license": "",
        "owner": "domain-lead", "columns": {"prompt": "note", "answer": "right"}, "retain_until": "next year",
    }  # fmt: skip
    path = f"{SET}/datasets/tickets.yaml"

    def sentences(**other: object) -> list[str]:
        data = yaml.safe_dump(manifest | other).encode()
        return [
            f"{problem.field}: {problem.message} -> {problem.mend}" for problem in find_problems(path, data, Dataset)[1]
        ]

    assert sentences(capability="floors") == [
        'license: "" needs 1 or more characters -> Write 1 or more characters.',
        'retain_until: a day is expected, not "next year" -> Write it as 2026-01-31.',
        'uri: "s3://bucket/rows" is not written as required -> Write file:<path> below a folder that the machine '
        "names, or file:///<path> in one; what lies elsewhere is copied there first.",
    ]
    sound = {"uri": "file:rows.jsonl", "license": "MIT", "retain_until": "2990-01-01"}
    assert sentences(**sound) == [": give either capability or columns.capability -> Correct it."]
