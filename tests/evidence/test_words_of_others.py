"""Words of others in packets and pictures: text, whatever they hold."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hostile_words import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from modelsmith.evidence.markdown import safe, table
from modelsmith.evidence.svg import picture, text
from modelsmith.schema.plaintext import first_hidden

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
PIECES = st.lists(
    st.sampled_from([*"[]()!<>&;:=-+1.\\*_`~|#\n\r \u202ea", "](", "]:", "://", "www.", "&#x202e;", "<b>"])
)


def odd_parts(markdown: str) -> list[str]:
    """Kinds of things that a reader makes of a list of one line or of a table, besides these and text."""
    tokens = READER.parse(markdown)
    kinds = [child.type for token in tokens for child in token.children or []] + [token.type for token in tokens]
    lists = sum(token.type == "bullet_list_open" for token in tokens)
    odd = [
        kind
        for kind in kinds
        if not re.match(r"text|inline|paragraph|bullet_list|list_item|table|t[rhd]_|thead|tbody", kind)
    ]
    return odd + ["list"] * (lists - 1)


@pytest.mark.parametrize("words", HOSTILE)
def test_known_tricks_are_text_in_lists_and_tables(words):
    assert first_hidden(safe(words)) is None
    for markdown in (f"- Why: {safe(words)}", f"- {safe(words)}", table([["what"], [safe(words)]], "l")):
        assert odd_parts(markdown) == []


@given(words=PIECES.map("".join))
def test_whatever_is_put_together_stays_text(words):
    assert odd_parts(f"- Why: {safe(words)}") == []
    assert odd_parts(f"- {safe(words)}") == []


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("see #12, GH-12 and !12", "see # 12, GH- 12 and ! 12"),
        ("org/name#12", "org/name# 12"),
        ("#12 first", "\\# 12 first"),
        (":white_check_mark: :+1::100:", ": white_check_mark: : +1:: 100:"),
        ("12:30:45 on 2026-01-01", "12:30:45 on 2026-01-01"),
        ("$x$ and $$y$$", "&#36;x&#36; and &#36;&#36;y&#36;&#36;"),
        ("@maya", "at maya"),
    ],
)
def test_what_forges_add_to_markdown_is_text_too(words, shown):
    assert safe(words).strip() == shown


@pytest.mark.parametrize("words", HOSTILE)
def test_a_picture_holds_them_as_text(words):
    drawn = picture(40, words, words, [text(0, 0, words)])
    root = ElementTree.fromstring(drawn)
    assert [child.tag.rpartition("}")[2] for child in root] == ["title", "desc", "rect", "text"]
    assert first_hidden("".join(root.itertext())) is None
