"""What is proposed to be run next can be run: an operation with fields of its request, and one line made of both."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import modelsmith
from modelsmith.cli.commands import command_for
from modelsmith.cli.examples import EXAMPLES
from modelsmith.cli.main import cli
from modelsmith.operations.contract import Cli
from modelsmith.operations.table import find
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.steps import shell_line, step

SOURCES = sorted(Path(modelsmith.__file__).parent.rglob("*.py"))
STEPS = [
    step("approve", {"number": 4}, key="KEY"),
    step("pr show", {"number": 12}),
    step("pr list", {}),
    step("rollback", {"cluster": "rtb-pricing"}, clear_hold=True),
    step("rollback", {"cluster": "rtb-pricing"}, clear_hold=True, reason="the feed's clock 'stood still'; $HOME"),
    step("verify", {}, revision="main"),
    step("init", {"directory": "DIR"}, kit="adtech"),
]


def calls():
    """Every `step(...)` in the product: operation, positional names, option names."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("step", "next_step"):
                operation, positional = node.args
                names = [key.value for key in positional.keys]
                yield operation.value, names, [keyword.arg for keyword in node.keywords]


def mends():
    """Mend of every error that leads to a step, as far as it is written there."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "then" and isinstance(node.value, ast.Call):
                mend = node.value.args[2]
                if not isinstance(mend, ast.Name):
                    parts = [part.value for part in ast.walk(mend) if isinstance(part, ast.Constant)]
                    yield f"{path.name}:{node.lineno}", "".join(map(str, parts))


def commands_of(group, before=""):
    """Name and command of everything that can be called, groups in groups too."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from commands_of(command, f"{before}{name} ")
            else:
                yield f"{before}{name}", command


def test_every_step_names_an_operation_and_its_fields():
    steps = list(calls())
    assert {"iterate", "pr show", "pr merge", "approve", "rollback", "verify", "doctor"} <= {row[0] for row in steps}
    for operation, positional, options in steps:
        fields = find(operation).load().request.model_fields
        argument = {
            name for name, field in fields.items() if any(isinstance(m, Cli) and m.argument for m in field.metadata)
        }
        assert set(positional) <= argument, operation
        assert set(options) <= fields.keys() - argument, operation


def test_an_error_that_leads_to_a_step_says_so_in_its_mend():
    texts = list(mends())
    assert len(texts) > 10
    assert [where for where, mend in texts if "`{next}`" not in mend] == []


def test_the_mend_of_an_error_holds_the_line_of_its_step():
    error = InvalidInput("on-hold", "On hold.", "`{next}` asks Oli.").then(STEPS[3])
    assert (error.mend, error.next) == ("`modelsmith rollback rtb-pricing --clear-hold` asks Oli.", STEPS[3])


def test_for_machines_a_step_is_operation_and_arguments_only():
    assert STEPS[0].model_dump() == {"operation": "approve", "arguments": {"number": 4, "key": "KEY"}}


@pytest.mark.parametrize("shown", STEPS, ids=shell_line)
def test_its_line_read_by_a_shell_and_the_command_is_the_step(shown):
    assert read_back(shell_line(shown), shown.operation) == shown.arguments


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_whatever_an_argument_says_the_line_says_the_same(reason):
    a_step = step("rollback", {"cluster": "rtb-pricing"}, reason=reason)
    assert shlex.split(shell_line(a_step)) == ["modelsmith", "rollback", "rtb-pricing", "--reason", reason]


COMMANDS = dict(commands_of(cli))


def test_every_command_has_an_example():
    assert set(EXAMPLES) == COMMANDS.keys() - {"hook pre-receive"}  # that one is git's to call


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_help_is_a_line_that_its_command_takes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in EXAMPLES[name]:
        words = own_words(line.replace("\\\n", " "))
        assert words[: len(name.split())] == name.split()
        for word in words:
            if word.endswith(".pem"):
                Path(word).touch()
            if word.endswith(".git"):
                Path(word).mkdir()
        with COMMANDS[name].make_context(name, words[len(name.split()) :]):
            pass  # click refuses what the command does not take
        page = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=200).output
        assert line.splitlines()[0].split(" #")[0].rstrip() in page


@pytest.mark.parametrize("group", sorted({name.partition(" ")[0] for name in COMMANDS if " " in name}))
def test_no_line_of_a_groups_help_is_cut_at_80_columns(group):
    shown = CliRunner().invoke(cli, [group, "--help"], terminal_width=80).output
    assert shown.startswith("Usage")
    assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]


def own_words(line):
    """The words after ``modelsmith`` in a line for a shell, up to a comment, a pipe or a redirection."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    tokens = list(lexer)
    begin = tokens.index("modelsmith") + 1
    ends = [place for place, word in enumerate(tokens) if place > begin and word in ("|", ">", "&&")]
    return tokens[begin : ends[0] if ends else len(tokens)]


def read_back(line: str, operation: str) -> dict[str, object]:
    """What the command makes of the line, without what was left out."""
    words = shlex.split(line)[1 + len(operation.split()) :]
    command = command_for(find(operation))
    with command.make_context(operation, words) as context:
        typed = {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}
        return {
            name: value if isinstance(value, int) else str(value)
            for name, value in context.params.items()
            if name in typed
        }
