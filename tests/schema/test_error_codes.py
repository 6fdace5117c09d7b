"""Agents branch on codes: each has one exit code and one meaning, and is documented."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import get_args

import modelsmith
from modelsmith.schema import errors
from modelsmith.schema.error_codes import error_codes, errors_page
from modelsmith.training.job import FailureClass

ROOT = Path(modelsmith.__file__).parent
KINDS = {
    name: kind.exit
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.ModelsmithError)
}
HELPERS = {"_refused": errors.Exit.GATE_NOT_CLEARED, "_broken": errors.Exit.INTEGRITY}
"""Functions that make an error of the code they are given, and its exit code."""
PUT_TOGETHER = {f"training-{end}" for end in get_args(FailureClass)}
"""Codes that stand nowhere as one word."""
REGISTRY = {entry.code: entry for topic in error_codes().values() for entry in topic}


@cache
def source():
    """Where each call of a plain name and each text of the product stands; reading it all takes a second."""
    calls, words = [], set()
    for path in sorted(ROOT.rglob("*.py")):
        if path.name != "error_codes.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.add(node.value)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                    calls.append((path.relative_to(ROOT), node.lineno, node.func.id, node.args[0]))
    return calls, words


def raised():
    """(code, exit code, where) of each call that makes an error with a code written there."""
    for path, line, function, code_given in source()[0]:
        kind = KINDS.get(function, HELPERS.get(function))
        if kind is None:
            continue
        for code in [code_given.body, code_given.orelse] if isinstance(code_given, ast.IfExp) else [code_given]:
            if isinstance(code, ast.Constant) and " " not in str(code.value):
                yield str(code.value), kind, f"{path}:{line}"


def test_every_code_that_is_raised_is_registered_with_its_one_exit_code():
    wrong = [
        f"{where}: {code} ends with {int(kind)}"
        for code, kind, where in raised()
        if code not in REGISTRY or REGISTRY[code].exit != kind
    ]
    assert wrong == []


def test_no_code_is_registered_that_nothing_raises():
    words = source()[1]
    composed = {f"unknown-{word}" for word in words} | PUT_TOGETHER
    assert [code for code in REGISTRY if code not in words | composed] == []


def test_a_code_is_registered_once():
    topics = defaultdict(list)
    for topic, codes in error_codes().items():
        for entry in codes:
            topics[entry.code].append(topic)
    assert {code: topics_of_code for code, topics_of_code in topics.items() if len(topics_of_code) > 1} == {}


def test_the_page_of_errors_is_that_of_the_registry():
    page = ROOT.parent / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == errors_page(), "python -m modelsmith.schema.error_codes > docs/errors.md"
