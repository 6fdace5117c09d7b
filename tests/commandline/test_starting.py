"""What a command imports before it does anything: held by names, so that no test asks how long something took."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import BaseModel

from modelsmith.operations.table import OPERATIONS
from modelsmith.schema.base import Frozen

HEAVY = {
    "aiohttp",
    "anyio",
    "cloudevents",
    "cryptography.x509",
    "datasets",
    "git",
    "github",
    "google.protobuf",
    "httpcore",
    "httpx",
    "inspect_ai",
    "jsonschema",
    "mcp",
    "mlflow",
    "model_signing",
    "modelsmith.door",
    "modelsmith.mcp",
    "modelsmith.points.numbers",
    "modelsmith.substrates.local",
    "modelsmith.training.run",
    "numpy",
    "peft",
    "rapidfuzz",
    "re2",
    "rich",
    "ruamel",
    "scipy",
    "sigstore",
    "sklearn",
    "starlette",
    "torch",
    "transformers",
    "trl",
}
"""What is slow to import, and no command needs that only says what it is, or judges a word added to a pull request."""
BEFORE_A_COMMAND = {
    "modelsmith",
    "modelsmith.cli",
    "modelsmith.cli.groups",
    "modelsmith.cli.main",
    "modelsmith.cli.streams",
    "modelsmith.operations",
    "modelsmith.operations.table",
    "modelsmith.packs",
    "modelsmith.schema",
    "modelsmith.schema.errors",
    "modelsmith.schema.importing",
    "modelsmith.schema.system",
}
RUN = """
import json, sys
from modelsmith.cli.main import main
sys.argv = json.loads(sys.argv[1])
try:
    main()
finally:
    print("\\n" + json.dumps(sorted(sys.modules)))
"""


def imported(*words: str) -> set[str]:
    """Every module that is there when the command ends."""
    command = [sys.executable, "-c", RUN, json.dumps(["modelsmith", *words])]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return set(json.loads(process.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("mcp", "--help")])
def test_what_knows_no_operation_imports_a_dozen_modules_of_ours(words):
    modules = imported(*words)
    examples = {"modelsmith.cli.examples"} if words[0] == "mcp" else set()
    assert {name for name in modules if name.split(".")[0] == "modelsmith"} == BEFORE_A_COMMAND | examples
    assert not modules & {"pydantic", "yaml", "subprocess", "logging", "socket", "cryptography"}


@pytest.mark.parametrize(
    "words",
    [
        ("hook", "pre-receive"),
        ("check", "--help"),
        ("pr", "list", "--help"),
        ("status", "--help"),
        ("jobs", "list", "--help"),
        ("promote", "--help"),
    ],
)
def test_light_commands_import_nothing_heavy(words):
    assert not sorted(imported(*words) & HEAVY)


def test_a_push_that_adds_to_a_pull_request_does_not_import_the_gate():
    assert not {"modelsmith.promotion", "modelsmith.evaluation", "modelsmith.points"} & imported("hook", "pre-receive")


def test_every_default_that_nothing_validated_is_valid():
    for operation in OPERATIONS:
        operation.load()
    kinds = list(Frozen.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    defaults = [(kind, name, field.default) for kind in kinds for name, field in kind.model_fields.items()]
    with_models = [(kind, name, default) for kind, name, default in defaults if isinstance(default, BaseModel)]
    assert len(with_models) > 15
    for kind, name, default in with_models:
        assert type(default).model_validate_json(default.model_dump_json()) == default, f"{kind.__name__}.{name}"
        assert type(default).model_validate({}) == default, f"{kind.__name__}.{name}"


def test_imports_leave_the_garbage_collector_on_even_when_one_fails():
    program = """
import gc
from modelsmith.schema.importing import importing
try:
    with importing():
        off = not gc.isenabled()
        import modelsmith.no_such_module
except ImportError:
    print(off, gc.isenabled(), gc.get_freeze_count() > 0)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["True", "True", "True"]
