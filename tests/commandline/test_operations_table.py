"""The table of operations is the truth about each of them: what it takes and gives, what it changes, who may ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest
from jsonschema import Draft202012Validator

from modelsmith.cli.main import cli
from modelsmith.operations.catalogue import _MEANINGS, catalogue, operations_page
from modelsmith.operations.schema_export import SchemaExportRequest, run
from modelsmith.operations.table import EVERYONE, OPERATIONS, Effect, require_role
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InvalidInput

DOCS = Path(__file__).parents[2] / "docs"
each = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


@each
def test_the_types_in_the_table_are_those_of_the_function(operation):
    verb = operation.load()
    types = get_type_hints(verb.run)
    assert (verb.request, verb.result) == (types["request"], types["return"])


@each
def test_a_key_is_asked_for_where_the_table_says_so(operation):
    field = operation.load().request.model_fields.get("key")
    assert (field is not None) == (operation.key != "none")
    if operation.key == "person":
        assert field.is_required()


@each
def test_who_may_call_it_follows_from_what_it_changes(operation):
    assert (operation.key == "person") == (operation.effect == "decides") == (operation.roles == ())
    assert ("operator" in operation.roles) == (operation.effect != "decides")
    assert ("reviewer" in operation.roles) == (operation.effect == "reads")


def test_a_promoter_moves_specialists_on_and_sees_what_that_needs():
    may = {operation.name for operation in OPERATIONS if "promoter" in operation.roles}
    assert may == {
        "promote",
        "rollback",
        "status",
        "fleet",
        "approvers",
        "pr ask",
        "pr list",
        "pr show",
        "check",
        "pr open",
        "pr merge",
        "pr receipts",
        "pr close",
        "runbook list",
        "runbook show",
        "runbook run",
    }


@each
@pytest.mark.parametrize("role", [None, *EVERYONE])
def test_a_role_is_refused_what_the_table_does_not_give_it(operation, role):
    if role is None or role in operation.roles:
        require_role(operation, role)
        return
    with pytest.raises(InvalidInput) as caught:
        require_role(operation, role)
    assert caught.value.code == "outside-role"
    assert caught.value.details == {"operation": operation.name, "role": role, "roles": list(operation.roles)}
    assert all(needed in caught.value.message for needed in operation.roles)


@pytest.mark.parametrize(
    ("role", "words", "code", "roles"),
    [
        ("reviewer", ("promote", "c"), "outside-role", ["operator", "promoter"]),
        ("promoter", ("eval", "--cluster", "c"), "outside-role", ["operator"]),
        ("operator", ("approve", "4", "--key", "k"), "outside-role", []),
        ("operator", ("doctor", "--apply", "--yes"), "outside-role", []),
        ("admin", ("status",), "no-such-role", list(EVERYONE)),
        ("", ("status",), "no-such-role", list(EVERYONE)),
        ("reviewer", ("status",), "not-a-repository", None),
        (None, ("promote", "c"), "not-a-repository", None),
    ],
)
def test_the_command_line_keeps_a_session_to_its_role(tmp_path, role, words, code, roles):
    environment = {name: value for name, value in os.environ.items() if name != "MODELSMITH_ROLE"}
    if role is not None:
        environment["MODELSMITH_ROLE"] = role
    command = [sys.executable, "-m", "modelsmith", *words, "--json"]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(process.stdout)
    assert (process.returncode, answer["code"], answer["details"].get("roles")) == (2, code, roles)


def test_the_catalogue_says_of_each_operation_what_a_tool_needs(tmp_path):
    result = run(Workspace(tmp_path), SchemaExportRequest(operations=True))
    listed = json.loads((tmp_path / ".iterate/schemas/operations.json").read_text())
    assert listed == catalogue()
    assert (
        list(result.operations) == [entry["name"] for entry in listed] == [operation.name for operation in OPERATIONS]
    )
    for entry in listed:
        for schema in ("inputSchema", "outputSchema"):
            Draft202012Validator.check_schema(entry[schema])
            assert entry[schema]["type"] == "object"
        hints, effect = entry["annotations"], entry["effect"]
        assert hints["readOnlyHint"] <= (effect == "reads")
        assert not (hints["readOnlyHint"] and hints["destructiveHint"])
        writes_a_file = {"svg", "file", "directory"} & entry["inputSchema"]["properties"].keys()
        assert not (hints["readOnlyHint"] and writes_a_file), entry["name"]
    takes = Draft202012Validator(next(entry for entry in listed if entry["name"] == "rollback")["inputSchema"])
    assert takes.is_valid({"cluster": "rtb-pricing", "clear_hold": True})
    assert not takes.is_valid({"clear_hold": True})


def test_the_page_of_operations_is_that_of_the_table():
    command = "python -m modelsmith.operations.catalogue > docs/operations.md"
    assert (DOCS / "operations.md").read_text() == operations_page(), command
    assert _MEANINGS.keys() == set(get_args(Effect))


def test_every_command_speaks_json_but_servers_and_the_hook():
    """The issuing of keys did not: programs that rotate them read words."""
    without = {"mcp", "serve", "hook install", "hook pre-receive"}

    def commands(command, words):
        if not isinstance(command, click.Group):
            return {" ".join(words)} if not any("--json" in option.opts for option in command.params) else set()
        names = command.list_commands(click.Context(command))
        return set().union(*(commands(command.get_command(click.Context(command), n), [*words, n]) for n in names))

    assert commands(cli, []) == without
