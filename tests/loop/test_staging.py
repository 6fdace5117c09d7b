"""Failures of production and the scenarios that they are like, by their words or by what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelsmith.loop.staging import Record, Refused, read_records, stage
from modelsmith.repository.load import load_eval_set
from modelsmith.repository.private import Scrubber
from modelsmith.repository.tree import WorkTree
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import Private
from modelsmith.texts.overlap import plain_words
from tests.bag import Bag


@pytest.fixture(scope="module")
def governed():
    return load_eval_set(WorkTree(Path(__file__).parents[2]), "adtech/rtb-root-cause")


def staged(governed, *prompts, embedder=None):
    records = [Record(prompt, "", "") for prompt in prompts]
    return stage(records, Scrubber(Private()), governed, (), embedder=embedder).cases


def test_a_failure_told_in_other_words_has_neighbours_by_meaning_only(governed):
    core = governed.core[4]
    words = list(dict.fromkeys(plain_words(core.user_texts()[0])))
    other = " ".join(f"x{number}x" for number in range(len(words)))
    bag = Bag({f"x{number}x": word for number, word in enumerate(words)})
    held_out = governed.held_out[3].user_texts()[0]
    (by_words, _) = staged(governed, other, held_out)
    assert (by_words.nearest, by_words.capability) == ((), None)
    known_words, of_held_out, novel = staged(governed, other, held_out, "Zebras graze quietly.", embedder=bag)
    assert (known_words.nearest[0].scenario, known_words.capability) == (core.id, core.capability)
    assert known_words.nearest[0].similarity > 0.8
    assert 1 <= len(known_words.nearest) <= 3
    assert {near.scenario for near in of_held_out.nearest} <= {case.id for case in (*governed.core, *governed.micro)}
    assert (novel.nearest, novel.capability) == ((), None), "a novel case is near none"


def test_a_file_may_begin_as_windows_writes_it_and_says_what_it_is_not(tmp_path):
    path = tmp_path / "records.jsonl"
    line = b'{"prompt": "Why?", "answer": "", "outcome": ""}\n'

    def records(data):
        path.write_bytes(data)
        return [record.prompt for record in read_records(path, lambda _: Refused("no door"))]

    assert records(b"\xef\xbb\xbf" + line + line) == ["Why?", "Why?"]
    for data, expected in (
        (line.decode().encode("utf-16"), "no UTF-8"),
        (b"{\n", "no JSON"),
        (line + b"\xef\xbb\xbf", "no JSON"),
    ):
        with pytest.raises(InvalidInput, match=expected):
            records(data)


def test_nothing_is_embedded_where_nothing_is_staged(governed):
    class Never(Bag):
        def vectors(self, texts):
            raise AssertionError("a text was embedded")

    assert staged(governed, embedder=Never()) == ()
