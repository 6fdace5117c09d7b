from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.schema.catalog import KINDS, json_schemas, kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("evals/ads/diagnosis/evalset.yaml", "evalset"),
        ("evals/ads/diagnosis/scenarios/floors/a.yaml", "scenario"),
        ("evals/ads/diagnosis/micro/floors/a.jsonl", "scenario"),
        ("evals/ads/pending/a.yaml", "scenario"),
        ("evals/ads/pending/deep/er/a.yaml", "scenario"),
        ("promotions/c/iter-001-00000000/01-candidate/record.json", "record"),
        ("promotions/c/iter-001-00000000/04-customer-deployed/receipts/approval-maya.json", "approval"),
        (".github/CODEOWNERS", "codeowners"),
        ("evals/ads/diagnosis/scenarios/a.yaml", None),
        ("evals/ads/diagnosis/evalset.yml", None),
        ("x/evals/ads/diagnosis/evalset.yaml", None),
        ("clusters/a/b/cluster.yaml", None),
    ],
)
def test_a_path_says_what_kind_of_file_it_holds(path: str, kind: str | None) -> None:
    kind_found = kind_of(path)
    assert (kind_found.name if kind_found else None) == kind


def test_every_kind_that_editors_can_check_has_a_documented_schema(repo: Path) -> None:
    schemas = json_schemas()
    assert set(schemas) == {kind.name for kind in KINDS if kind.model}
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        json.dumps(schema)
    scenario = schemas["scenario"]
    assert scenario["properties"]["operator_lens"]["description"].startswith("Whose question")
    assert "pass" in scenario["$defs"]["Criterion"]["properties"]
    assert "from" in schemas["policy"]["$defs"]["Transition"]["properties"]


def test_the_schemas_accept_what_the_toolkit_accepts(repo: Path) -> None:
    schemas = json_schemas()
    for file in repo.rglob("*.yaml"):
        path = file.relative_to(repo).as_posix()
        kind = kind_of(path)
        assert kind
        jsonschema.validate(read_yaml(path, file.read_bytes()).data, schemas[kind.name])
