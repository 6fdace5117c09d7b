"""The table of README.md and the tests tell the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROW = re.compile(r"\| (?P<attack>[^|]+) \| (?P<who>[^|]+) \| (?P<stop>[^|]+) \| `(?P<test>[a-z_]+::[A-Za-z_0-9]+)` \|")
LISTED = re.compile(r"^- `(\w+)`: (`test_.*)$", re.M)
OUTCOMES = ("prevented", "detected", "neither", "waits")


def attacks():
    """Every test of the suite that performs an attack, with its docstring and whether it is expected to fail."""
    attacks_found = {}
    for path in sorted(HERE.glob("test_*.py")):
        if path.stem in ("test_table", "test_properties"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
                attacks_found[f"{path.stem.removeprefix('test_')}::{node.name}"] = (
                    ast.get_docstring(node),
                    "xfail" in marks,
                )
    return attacks_found


def rows():
    return {row["test"]: row for row in map(ROW.fullmatch, (HERE / "README.md").read_text().splitlines()) if row}


def test_every_attack_has_a_row_and_every_row_a_test():
    assert rows().keys() == attacks().keys()


def test_the_page_names_what_is_tried_at_github_once_more():
    page = (HERE / "README.md").read_text()
    listed = {(name, test) for name, tests in LISTED.findall(page) for test in re.findall(r"`(test_\w+)`", tests)}
    tree = ast.parse((HERE / "test_at_github.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and str(node.module).startswith("test_")]
    assert listed == {(str(node.module)[5:], name.name) for node in imports for name in node.names}


def test_every_test_says_what_stops_the_attack():
    assert [name for name, (docstring, _) in attacks().items() if not docstring] == []


def test_what_is_not_stopped_is_marked_in_both_places():
    table_rows = attacks()
    for name, row in rows().items():
        outcome = row["stop"].split()[0].strip("*").rstrip(":;,")
        assert outcome in (*OUTCOMES, "control"), row["stop"]
        assert (outcome in ("neither", "waits")) == table_rows[name][1], name
