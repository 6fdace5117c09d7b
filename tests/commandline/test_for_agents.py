"""What an agent relies on: objects that fit their schemas, progress as JSON lines, a page that leaves nothing out."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

from modelsmith.cli.output import reporter
from modelsmith.operations.contract import ProgressLine
from modelsmith.operations.table import OPERATIONS
from modelsmith.schema.docs import json_schema
from modelsmith.schema.progress import Progress

PAGE = Path(__file__).parents[2] / "docs/agents.md"


def test_what_commands_print_fits_the_exported_schemas(fresh):
    exported = fresh.modelsmith("schema", "export", "schemas", "--results", "--json")
    assert exported.code == 0, exported.out
    schemas = {
        path.name.removesuffix(".schema.json"): Draft202012Validator(json.loads(path.read_text()))
        for path in (fresh.clone / "schemas/results").glob("*.schema.json")
    }
    assert set(exported.json["results"]) == set(schemas)
    assert schemas.keys() == {operation.name.replace(" ", "-") for operation in OPERATIONS} | {"error", "progress"}
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema.schema)
    codes = json.loads((fresh.clone / "schemas/results/error-codes.json").read_text())
    assert codes["approval-missing"]["exit"] == 4
    schemas["schema-export"].validate(exported.json)
    fresh.commit("docs", {"notes.md": "A page.\n"})
    fine = [("validate",), ("status",), ("verify",), ("doctor",), ("balance", "rtb-pricing"), ("pr", "list"),
            ("pr", "open", "docs", "--title", "A page", "--key", fresh.key("petra")), ("pr", "show", "1"),
            ("pr", "close", "1", "--reason", "No.", "--key", fresh.key("petra"))]  # fmt: skip
    for words in fine:
        result = fresh.modelsmith(*words, "--json")
        assert result.code == (6 if words == ("doctor",) else 0), (
            f"no model is at hand, which doctor says: {result.out}"
        )
        schemas["-".join(words[:2] if words[0] == "pr" else words[:1])].validate(result.json)
    wrong = [
        ("pr", "show", "9"),
        ("results", "--tag", "none"),
        ("new", "scenario", "x"),
        ("lineage", "iter-009"),
        ("no",),
    ]
    for words in wrong:
        result = fresh.modelsmith(*words, "--json")
        assert result.code == 2, result.out
        schemas["error"].validate(result.json)
    assert fresh.modelsmith("pr", "show", "9", "--json").json["next"] == {"operation": "pr list", "arguments": {}}


def test_progress_is_one_json_object_a_line(monkeypatch):
    fits = Draft202012Validator(json_schema(ProgressLine, "serialization"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with reporter(as_json=True) as notify:
        notify(Progress("promote", "opened\nby \u202e somebody"))
        for count in range(1, 4):
            notify(Progress("eval", "base", count, 3))
        notify(Progress("train", "sft", 0, 48, 90.04))
    lines = [json.loads(line) for line in sys.stderr.getvalue().splitlines()]  # type: ignore[attr-defined]
    for line in lines:
        fits.validate(line)
    told_lines = [(line["phase"], line["done"], line["seconds_left"]) for line in lines]
    assert told_lines == [("promote", 0, None), ("eval", 1, None), ("eval", 3, 0.0), ("train", 0, 90.0)]


def test_the_page_for_agents_names_every_command():
    page = PAGE.read_text()
    named = {
        operation.name for operation in OPERATIONS if f"`{operation.name}`" in page or f"`{operation.name} " in page
    }
    assert {operation.name for operation in OPERATIONS} - named == set()
