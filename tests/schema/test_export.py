"""What editors and agents complete and check with: JSON Schemas, written by `modelsmith schema export`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from modelsmith.operations.schema_export import SchemaExportRequest, run
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.catalog import kind_of

ROOT = Path(__file__).parents[2]
HEADER = re.compile(r"# yaml-language-server: \$schema=(\S+)")
SCENARIO = "evals/adtech/rtb-root-cause/scenarios/auction-timeout/timeout-core-01.yaml"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's folder after the export."""
    folder = tmp_path_factory.mktemp("clone")
    run(Workspace(folder), SchemaExportRequest())
    return folder


def test_the_line_that_the_page_shows_leads_an_editor_to_the_schema(exported):
    """As a YAML language server does: the path is relative to the file that begins with the line."""
    [address] = HEADER.findall((ROOT / "docs/files.md").read_text())
    file = exported / SCENARIO
    file.parent.mkdir(parents=True)
    file.write_text(f"# yaml-language-server: $schema={address}\n{(ROOT / SCENARIO).read_text()}")
    schema = json.loads((file.parent / HEADER.findall(file.read_text())[0]).resolve().read_text())
    assert schema["properties"]["risk"]["enum"] == ["low", "medium", "high"]
    assert "description" in schema["properties"]["operator_lens"]
    editor = Draft202012Validator(schema)
    case = yaml.safe_load(file.read_text())
    assert list(editor.iter_errors(case)) == []
    assert [error.message for error in editor.iter_errors(case | {"risc": "low"})]


def test_every_path_of_the_shown_settings_is_exported_and_fits_its_files(exported):
    settings = json.loads(
        re.findall(r'```json\n(\{"yaml.schemas".*?)```', (ROOT / "docs/files.md").read_text(), re.S)[0]
    )
    for schema, files in settings["yaml.schemas"].items():
        editor = Draft202012Validator(json.loads((exported / schema).read_text()))
        pattern = files.replace("{scenarios,held_out,micro}", "scenarios")
        paths = sorted(ROOT.glob(pattern))
        assert paths, files
        kind = kind_of(paths[0].relative_to(ROOT).as_posix())
        assert kind is not None
        assert schema.endswith(f"/{kind.name}.schema.json")
        for path in paths[:3]:
            assert list(editor.iter_errors(yaml.safe_load(path.read_text()))) == [], path
