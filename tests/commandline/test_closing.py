"""`modelsmith pr close` as people type it: whose it is, what may be said, and what is too late."""

from __future__ import annotations

import pytest


@pytest.fixture
def close(fresh):
    """Close Maya's proposal, as somebody: the exit code, and what was printed."""
    fresh.commit("notes", {"notes.md": "A page.\n"})
    opened = fresh.modelsmith("pr", "open", "notes", "--title", "A page", "--key", fresh.key("maya"), "--json")
    number = str(opened.json["pull"]["number"])

    def closing(person, reason="not needed"):
        result = fresh.modelsmith("pr", "close", number, "--reason", reason, "--key", fresh.key(person), "--json")
        return result.code, result.json

    return closing


def test_a_second_proposal_of_the_same_says_which_words_stay(fresh):
    fresh.commit("notes", {"notes.md": "A page.\n"})

    def opening(title, *more):
        return fresh.modelsmith(
            "pr", "open", "notes", "--title", title, *more, "--key", fresh.key("maya"), "--json"
        ).json

    lines = [
        opening("A page"),
        opening("A page"),
        opening("A page", "--body", "Why."),
        opening("A leaf", "--body", "Why."),
    ]
    assert [(document["pull"]["number"], document["kept"]) for document in lines] == [
        (1, []), (1, []), (1, ["body"]), (1, ["title", "body"])
    ]  # fmt: skip


def test_its_opener_closes_it_and_may_say_so_twice(fresh, close):
    closed = (0, {"number": 1, "title": "A page", "status": "closed"})
    assert [close("maya"), close("maya")] == [closed, closed]
    assert fresh.pulls() == {1: "A page"}
    pull = fresh.modelsmith("pr", "show", "1", "--json").json["pull"]
    assert (pull["status"], fresh.modelsmith("pr", "list", "--json").json["pulls"]) == ("closed", [])


def test_who_neither_opened_nor_decides_it_is_told_whom_to_ask(fresh, close):
    code, error = close("oli")
    assert (code, error["code"]) == (3, "not-yours-to-close")
    assert "maya" in error["mend"]
    assert [pull["number"] for pull in fresh.modelsmith("pr", "list", "--json").json["pulls"]] == [1]
    assert close("petra")[0] == 0, "who decides about the page closes it"


def test_what_is_merged_is_not_closed(fresh, close):
    for words in (("approve", "1", "--key", fresh.key("petra")), ("pr", "merge", "1", "--key", fresh.key("maya"))):
        assert fresh.modelsmith(*words, "--json").code == 0
    code, error = close("maya")
    assert (code, error["code"]) == (2, "not-open")


@pytest.mark.parametrize("reason", ["", "two\nlines", "\x1b[2J", "see ghp_0123456789abcdefABCDEF0123456789abcd"])
def test_a_reason_is_one_plain_line_without_a_secret(fresh, close, reason):
    code, error = close("maya", reason)
    assert (code, reason in error["message"] and bool(reason)) == (2, False)
    assert len(fresh.modelsmith("pr", "list", "--json").json["pulls"]) == 1
