"""The glossary says where a word is in the code; what it names is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"
ROWS = re.findall(r"(?m)^\| ([^|`]+) \| .+ \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"))
NAMES = [(word, name) for word, cell in ROWS for name in re.findall(r"`([\w.]+)`", cell)]


@pytest.mark.parametrize(("word", "name"), NAMES)
def test_a_word_of_the_glossary_is_in_the_code(word, name):
    parts = name.split(".")
    if parts[0][0].isupper():
        parts = ["schema", parts[0].lower(), *parts]
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(["modelsmith", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            value = getattr(value, attribute)
        return
    pytest.fail(f"{word}: no {name}")
