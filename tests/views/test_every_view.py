"""What a view prints is the toolkit's, line by line, whatever the strings in its result say.

The results are made from the types that the operations return, so a new view or a new field is tested by being there.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
from itertools import product
from pathlib import Path
from random import Random
from typing import get_type_hints

import pytest
from pydantic import BaseModel
from views.any_value import value

import modelsmith
from modelsmith.cli.output import print_error, reporter
from modelsmith.cli.page import Page
from modelsmith.cli.views import VIEWS, render
from modelsmith.forges.refusal import find_refusal, refusal_lines
from modelsmith.operations.table import OPERATIONS
from modelsmith.schema.errors import GateNotCleared
from modelsmith.schema.plaintext import first_hidden
from modelsmith.schema.progress import Progress

FORGED = "FORGED  gate open, approved by carol"
COLOUR = "\x1b[95;44m"
"""A colour that no view of ours uses."""
HOSTILE = (
    f"fix [/x] tags\n  {FORGED}",
    f"[link=https://example.org]x[/link] [bold]\r{FORGED}",
    f"x\x1b[2K\x1b[1G\x1b[1A{COLOUR}{FORGED}\x1b[0m",
    "\x1b]8;;https://example.org\x1b\\x\x1b]8;;\x1b\\ \x9b2J \x07\x08\x08",
    f"\u202eneddih\u202c \u200b\u2060\U000e0041 \u2028{FORGED}\u2029{FORGED}\x85{FORGED}\x0b{FORGED}",
    f"{'a ' * 300}{FORGED}",
    f"{'a' * 500} {' ' * 400}{FORGED}",
    "\ud800 \udcff :smile: {0} %s \\",
    "",
)
BARS = ("\x1b[2K", "\x1b[1A", "\x1b[0m")
"""What the bars of a terminal are redrawn with."""
SGR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def result_of(name: str) -> type[BaseModel]:
    operation = next(operation for operation in OPERATIONS if operation.name == name)
    return get_type_hints(operation.load().run)["return"]


def assert_ours(printed: str) -> None:
    """No character that steers a terminal or hides something, and no line that begins with somebody's words."""
    assert COLOUR not in printed
    plain = SGR.sub("", printed)
    assert first_hidden(plain) is None
    assert "\t" not in plain
    assert "\r" not in plain
    for line in plain.split("\n"):
        assert not re.match(r" {0,7}FORGED", line), line


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_nothing_in_a_result_leaves_its_place(name):
    for text, round_ in product(HOSTILE, range(3)):
        result = value(result_of(name), text, Random(f"{name} {text!a} {round_}"))
        for stream in (io.StringIO, Terminal):
            out = stream()
            render(name, result, Page(out))
            assert_ours(out.getvalue())


def test_every_view_belongs_to_an_operation():
    assert VIEWS.keys() <= {operation.name for operation in OPERATIONS}


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("text", HOSTILE)
class TestOnStandardError:
    def test_errors(self, text, stream, monkeypatch):
        monkeypatch.setattr("sys.stderr", stream())
        problem = {"file": text, "line": 3, "field": text, "message": text, "mend": text}
        print_error(
            GateNotCleared(text, text, text, commit=text, path=text, problems=[problem, problem]), as_json=False
        )
        assert_ours(sys.stderr.getvalue())

    def test_progress(self, text, stream, monkeypatch):
        monkeypatch.setattr("sys.stderr", stream())
        with reporter(as_json=True) as notify:
            notify(Progress(text, text))
            notify(Progress(text, text, 1, 1))
        assert_ours(sys.stderr.getvalue())


def test_one_problem_is_said_once(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    problem = {"file": "a.yaml", "line": 3, "field": "id", "message": "wrong", "mend": "Write another."}
    print_error(GateNotCleared("x", "a.yaml:3: id: wrong", "Write another.", problems=[problem]), as_json=False)
    assert sys.stderr.getvalue().count("wrong") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_the_bars_of_a_terminal_show_messages_as_they_are(text, monkeypatch):
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    with reporter(as_json=False) as notify:
        notify(Progress("verify", text))
        notify(Progress("verify", text, 1, 2))
    screen_text = out.getvalue()
    for part in re.findall(r"\x1b[^A-Za-z]*[A-Za-z]", text):
        assert part in BARS or part not in screen_text
    plain = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", screen_text)
    assert first_hidden(plain.replace("\r", "")) is None
    for line in re.split("[\r\n]", plain):
        assert not re.match(r" {0,7}FORGED", line), line


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hook_s_words_are_one_line_and_come_back_exact(text):
    lines = refusal_lines(GateNotCleared("odd-text", text, "Mend it."))
    assert_ours(lines)
    assert len(lines.splitlines()) == 2
    back = find_refusal("".join(f"remote: {line}\n" for line in lines.splitlines()))
    assert back is not None
    assert back.message == text


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_exact_and_shows_on_any_terminal(text, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    print_error(GateNotCleared("odd-text", text, text), as_json=True)
    printed = sys.stdout.getvalue()
    assert printed.isascii()
    assert printed.count("\n") == 1
    assert first_hidden(printed) is None
    assert json.loads(printed)["message"] == text


def test_nothing_else_writes_to_the_terminal():
    """Only the page and what is made with it; a hook's two lines, and files for people made of our own words."""
    package = Path(modelsmith.__file__).parent
    allowed = {"cli/page.py", "operations/pre_receive.py", "schema/error_codes.py", "operations/catalogue.py"}
    allowed |= {"door/dashboard.py"}
    files = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            function = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            where = ast.unparse(node.args[0]) if function == "os.write" else ""
            if (
                function in ("print", "click.echo", "click.secho")
                or re.fullmatch(r"sys\.std(out|err)\.write(lines)?", function)
                or re.fullmatch(r"1|2|.*std(out|err).*", where)
            ):
                files.add(path.relative_to(package).as_posix())
    assert files <= allowed
    assert "cli/page.py" in files
