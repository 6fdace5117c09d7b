"""Values that no option may have: empty ones, and numbers without end."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Union, get_args, get_origin

import click
import pytest
from annotated_types import Ge, Le

from modelsmith.cli.asking import NotEmpty
from modelsmith.cli.commands import command_for
from modelsmith.operations.table import OPERATIONS


def numbers(annotation):
    """Whether a value of it may be, or hold, a number."""
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return any(numbers(part) for part in get_args(annotation))
    return annotation in (int, float)


def test_every_number_has_a_least_and_a_greatest_value():
    bounds = {
        f"{operation.name}: {name}": {type(limit) for limit in field.metadata if isinstance(limit, (Ge, Le))}
        for operation in OPERATIONS
        for name, field in operation.load().request.model_fields.items()
        if numbers(field.annotation)
    }
    assert len(bounds) >= 6
    assert {name: limits for name, limits in bounds.items() if limits != {Ge, Le}} == {}


def word_for(kind):
    """A word that such an option takes."""
    if isinstance(kind, click.Choice):
        return kind.choices[0]
    return "1" if kind is click.INT else "x"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_option_or_argument_takes_nothing_for_something(operation):
    """An empty word is refused before anything is done, unless it is what is meant when it is left out."""
    command = command_for(operation)
    parameters = [param for param in command.params if isinstance(param.type, NotEmpty)]
    words = {param.name: word_for(param.type) for param in command.params if param.required}
    for param in parameters:
        values = {**words, param.name: ""}
        line = [
            f"{parameter.opts[0]}={values[parameter.name]}"
            for parameter in command.params
            if parameter.name in values and parameter.opts[0][0] == "-"
        ]
        line += [
            "--",
            *(
                values[parameter.name]
                for parameter in command.params
                if parameter.name in values and parameter.opts[0][0] != "-"
            ),
        ]
        if param.default == "":
            command.make_context(operation.name, line)
            continue
        with pytest.raises(click.BadParameter, match="empty"):
            command.make_context(operation.name, line)
    names = {param.name for param in command.params if param.type.name in ("text", "path")}
    assert names == {param.name for param in parameters}, "every word and path goes through the one rule"


def test_a_value_that_git_would_take_for_an_option_is_named_and_refused(fresh):
    for option, code in (("against", "bad-source"), ("revision", "bad-revision"), ("tip", "bad-tip")):
        result = fresh.modelsmith("verify", f"--{option}=-1", "--json")
        assert (result.code, result.json["code"]) == (2, code)
        assert "-1" in result.json["message"]


def test_a_name_too_long_for_a_cluster_is_refused_before_it_is_used(fresh):
    before = sorted(fresh.clone.rglob(".git/modelsmith/**"))
    result = fresh.modelsmith("iterate", "a" * 300, "--json")
    assert (result.code, result.json["code"]) == (2, "unknown-cluster")
    assert sorted(fresh.clone.rglob(".git/modelsmith/**")) == before


def test_a_source_that_cannot_be_reached_is_named_and_not_the_forge(fresh):
    result = fresh.modelsmith("verify", "--against", "/nope", "--json")
    assert result.code == 6
    assert "modelsmith.forge" not in result.out
    assert "/nope" in result.json["mend"]
    for words in (("eval", "--cluster", "x", "--tag", ""), ("approve", "1", "--key", ""), ("verify", "--tip", "")):
        assert fresh.modelsmith(*words).code == 2
    assert fresh.modelsmith("eval", "--cluster", "rtb-pricing", "--workers", "9" * 20).code == 2


@pytest.mark.parametrize(("words", "code"), [("schema export --json", 6), ("schema export", 6), ("status --json", 2)])
def test_whoever_loses_the_output_is_told_on_standard_error(words, code, tmp_path):
    """An object cannot be printed where nothing can, neither a result nor an error."""
    command = [sys.executable, "-P", "-m", "modelsmith", *words.split()]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == code
    assert "error (" in ended.stderr
    assert "mend: " in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rollbak",), "Did you mean 'rollback'?"),
        (("pr", "shw"), "Did you mean 'show'?"),
        (("approve", "4"), "See `"),
        (("pr",), "\n  merge "),
        ((), "\n  rollback "),
    ],
)
def test_a_slip_of_the_command_line_is_told_what_was_meant(tmp_path, words, said):
    process = subprocess.run([sys.executable, "-m", "modelsmith", *words], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 2
    assert said in process.stderr
    assert "\\n" not in process.stderr, "a page of help is shown as a page"
