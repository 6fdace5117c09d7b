"""The format of live answers is checked by the rubric's own points, for the arm that gave them, and nothing is kept."""

from __future__ import annotations

import json

import aiohttp
import pytest
from doors import ASKED, client, event, until
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.door.format_checks import LONGEST, Format, Pair, Sample, texts
from modelsmith.door.settings import Limits
from modelsmith.points.format_points import format_points
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.source import Chat

RUBRIC = Rubric.model_validate_json(
    json.dumps({
        "id": "r", "owner": "o", "description": "d",
        "points": [
            {"id": "shape", "text": "t", "weight": 1, "check": {"type": "json_schema", "schema": {"type": "object"}}},
            {"id": "ends", "text": "t", "weight": 1, "check": {"type": "regex", "pattern": "}$"}},
            {"id": "hide", "text": "t", "weight": 1,
             "check": {"type": "text", "match": "must_not_contain", "expected": {"value": "As an AI"}}},
            {"id": "cause", "text": "t", "weight": 1,
             "check": {"type": "json_field", "path": "cause", "expected": {"reference": "cause"}}},
            {"id": "exact", "text": "t", "weight": 1, "check": {"type": "text", "expected": {"value": "yes"}}},
            {"id": "leak", "text": "t", "weight": 1,
             "check": {"type": "text", "match": "must_not_contain", "expected": {"reference": "secret"}}},
            {"id": "bonus", "text": "t", "weight": 1, "required": False, "check": {"type": "regex", "pattern": "x"}},
        ],
    })
)  # fmt: skip
POINTS = format_points(RUBRIC.points)


def test_the_format_is_what_the_answer_alone_decides():
    assert [point.id for point in POINTS] == ["shape", "ends", "hide"]


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize(
    ("message", "finish", "kept"),
    [
        (assistant('{"cause": "timeout"}'), "stop", True),
        (assistant(' <think>{"a"</think> {"cause": 1}'), "stop", True),
        (assistant("The cause is a timeout."), "stop", False),
        (assistant('{"cause": "As an AI"}'), "stop", False),
        (assistant('{"cause": "tim'), "length", False),
        (assistant(""), "stop", False),
        (assistant(None), "stop", False),
        (assistant(None, tool_calls=[{"id": "a"}]), "tool_calls", None),
    ],
)
def test_each_answer_is_held_against_the_rubrics_format(play, message, finish, kept):
    async def scene(door):
        door.points, door.specialist.says, door.specialist.finish = POINTS, message, finish
        door.serve(1.0)
        await door.ask()
        await until(lambda: door.recorder.ends)
        assert door.recorder.ends[0][1].format_ok is kept

    play(scene)


@pytest.mark.parametrize(("piece", "kept"), [('{"a": "é"}', True), ("words", False)])
def test_a_stream_is_checked_as_the_text_that_it_makes(play, piece, kept):
    async def scene(door):
        door.points, door.specialist.piece, door.specialist.events = POINTS, piece, 1
        door.serve(1.0)
        stream = await client(door.url).chat.completions.create(
            model="pricing", messages=[{"role": "user", "content": "Why?"}], stream=True
        )
        assert "".join([part.choices[0].delta.content async for part in stream]) == piece
        await until(lambda: door.recorder.ends)
        assert door.recorder.ends[0][1].format_ok is kept

    play(scene)


def test_the_incumbents_answer_says_nothing_of_a_specialist_that_failed(play):
    async def scene(door):
        door.points, door.specialist.status, door.incumbent.says = POINTS, 500, assistant("{}")
        door.serve(1.0)
        await door.ask()
        assert [end.format_ok for _, end in door.recorder.ends] == [None]
        assert door.recorder.ends[0][1].failed_over

    play(scene)


def test_a_stream_that_breaks_off_says_nothing_of_the_format(play):
    async def scene(door):
        door.points, door.specialist.piece, door.specialist.dies_after = POINTS, "{}", 2
        door.serve(1.0)
        body = ASKED | {"stream": True}
        async with door.session.post(f"{door.url}/chat/completions", json=body) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        await until(lambda: door.recorder.ends)
        assert door.recorder.ends[0][1].format_ok is None

    play(scene)


def test_an_answer_too_long_to_be_checked_is_not_checked_and_is_given(play):
    async def scene(door):
        door.points, door.specialist.says = POINTS, assistant(json.dumps({"a": "x" * LONGEST}))
        door.serve(1.0)
        status, _, answer = await door.ask()
        await until(lambda: door.recorder.ends)
        assert (status, door.recorder.ends[0][1].format_ok) == (200, None)
        assert len(answer["choices"][0]["message"]["content"]) > LONGEST

    play(scene)


def test_room_for_checks_is_bounded_and_always_comes_back(play):
    async def scene(door):
        door.points, door.specialist.says = POINTS, assistant("{}")
        door.serve(1.0)
        for number, status in enumerate((200, 500, 400, 200)):
            door.specialist.status = status
            await door.ask()
            await until(lambda number=number: len(door.recorder.ends) > number)
        assert [end.format_ok for _, end in door.recorder.ends].count(True) == 2

    play(scene, limits=Limits(checked_at_once=1))
    play(nothing_checked, limits=Limits(checked_at_once=0))


async def nothing_checked(door):
    door.points, door.specialist.says = POINTS, assistant("{}")
    door.serve(1.0)
    await door.ask()
    assert [end.format_ok for _, end in door.recorder.ends] == [None]


@given(st.lists(st.text(), min_size=1), st.sampled_from(["stop", "length"]))
def test_whatever_a_stream_says_its_pieces_come_together(pieces, finish):
    raw = b"".join(map(event, pieces)) + event("", finish) + b"data: [DONE]\n\n"
    assert texts(raw, streamed=True) == [("".join(pieces), finish == "length")]


@given(st.binary(), st.booleans())
def test_no_answer_of_a_backend_ends_the_reader(raw, streamed):
    texts(raw, streamed)


def test_an_answer_that_cannot_be_checked_takes_no_verdict_from_the_other(monkeypatch, caplog):
    """Else a specialist could choose what it is compared by; and no words of an answer are in the log."""

    def check(points, text, cut_off):
        if "secret" in text:
            raise ValueError(text)
        return False

    monkeypatch.setattr("modelsmith.door.format_checks.keeps_format", check)
    samples = []
    for text in ("broken", "a secret"):
        samples.append(Sample(Format(POINTS, Chat())))
        samples[-1].saw(json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode())
    assert Pair(*samples, streamed=False).verdicts() == (False, None, True)
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_number_beyond_all_numbers_is_no_answer():
    assert texts(b'{"choices": [{"message": {"content": "x"}, "index": 1e999}]}', streamed=False) is None
