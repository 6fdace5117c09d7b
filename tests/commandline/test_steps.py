"""What is proposed to be run next can be run: its parts are fields of that operation, where the command has them."""

from __future__ import annotations

import ast
from pathlib import Path

import modelsmith
from modelsmith.operations.contract import Cli
from modelsmith.operations.steps import step
from modelsmith.operations.table import find


def calls():
    """Every `step(...)` in the product: operation, positional names, option names."""
    for path in sorted(Path(modelsmith.__file__).parent.glob("operations/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "step":
                operation, positional = node.args
                names = [key.value for key in positional.keys]
                yield operation.value, names, [keyword.arg for keyword in node.keywords]


def test_every_step_names_an_operation_and_its_fields():
    found = list(calls())
    assert {"iterate", "pr show", "pr merge", "approve", "rollback", "verify"} <= {one[0] for one in found}
    for operation, positional, options in found:
        fields = find(operation).load().request.model_fields
        argument = {
            name for name, field in fields.items() if any(isinstance(m, Cli) and m.argument for m in field.metadata)
        }
        assert set(positional) <= argument, operation
        assert set(options) <= fields.keys() - argument, operation


def test_a_step_is_its_command_whole_and_in_parts():
    shown = step("approve", {"number": 4}, key="KEY")
    assert (shown.command, shown.arguments) == ("modelsmith approve 4 --key KEY", {"number": 4, "key": "KEY"})
    assert step("rollback", {"cluster": "c"}, clear_hold=True).command == "modelsmith rollback c --clear-hold"
