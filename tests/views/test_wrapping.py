"""Where a line ends on a terminal is the page's decision, whatever that terminal thinks a character's width is."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcwidth

from modelsmith.cli.output import reporter
from modelsmith.cli.page import Page
from modelsmith.cli.wrap import breaks, widest
from modelsmith.schema.progress import Progress

FORGED = "approved by    carol, bob"
COLUMNS = 80
FILLERS = {
    "spacing marks": "\u0915" + "\u093e" * 400,
    "marks above": "a" + "\u0301" * 400,
    "marks alone": "\u0bc6" * 400,
    "wide letters": "\u5b57" * 200,
    "joined letters": "\u5b57\u200d" * 200,
    "ambiguous": "\u2500\xb1" * 100,
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 60 + "\u2764\ufe0f" * 60 + "\U0001f1e9" * 60,
    "jamo": "\u1112\u1161\u11ab" * 90,
    "ascii": "a" * 300,
}
TABLES = {
    "wcwidth's": wcwidth,
    "nothing is wide": lambda character: 1,
    "all is wide": lambda character: 1 if character.isascii() else 2,
    "marks have no width": lambda character: 0 if character in "\u093e\u0301\u0bc6\u200d" else wcwidth(character),
}
"""How wide terminals take a character for."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(text, lines=100):
    terminal = pyte.Screen(COLUMNS, lines)
    pyte.Stream(terminal).feed(text.replace("\n", "\r\n"))
    return [line.rstrip() for line in terminal.display if line.strip()]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("filler", FILLERS)
def test_no_words_of_others_come_to_the_left_of_a_terminal(table, filler, monkeypatch):
    """A title, a cell, a description and a packet that others filled up to the edge, on an emulated screen."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr("pyte.screens.wcwidth", TABLES[table])
    for length in (1, 28, 29, 38, 39, *range(56, 60), *range(74, 79)):
        text = f"{FILLERS[filler][:length]}{FORGED} {FILLERS[filler][:length]}  {FORGED}"
        out = Terminal()
        page = Page(out)
        page.rows([("pull request", text), ("status", "open")])
        page.table(("one", "two"), [(text, "3"), ("x", text)])
        page.words(text)
        for line in screen(out.getvalue()):
            assert re.match("  (\\|| {6}|pull request|status|one|x|[^ -~]|aa|a\u0301)", line), line
            assert not re.match(" {0,7}approved", line), line
    for length in (1, 38, 77):
        text = f"{FILLERS[filler][:length]}{FORGED} {FILLERS[filler][:length]}  {FORGED}"
        out = Terminal()
        Page(out).markdown(f"Asked for: {text}\n\n| a | b |\n|---|---|\n| c | {text} |\n")
        for line in screen(out.getvalue()):
            assert line.startswith("  |") or set(line) <= set(" ─━"), line


@given(st.text(st.characters(blacklist_categories=("Cs",)) | st.sampled_from(" aa\u093e\u5b57")), st.integers(4, 90))
@settings(deadline=None)
def test_no_piece_is_wider_than_the_room_on_any_terminal(text, room):
    ends = [0, *breaks(text, room), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(ends)]
    assert "".join(pieces) == text
    assert all(widest(piece.rstrip(" ")) <= room for piece in pieces)
    assert all(pieces) or not text


@given(st.characters(blacklist_categories=("Cs", "Cc")))
def test_no_character_is_wider_than_counted(character):
    assert wcwidth(character) <= widest(character)


def test_a_bar_is_as_wide_everywhere(monkeypatch):
    """It is drawn over itself, line by line."""
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    with reporter(as_json=False) as notify:
        notify(Progress("verify", FILLERS["spacing marks"] + FORGED, 1, 2))
    assert "\u093e" not in out.getvalue()
