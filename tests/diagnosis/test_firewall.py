"""Planted copies of scored texts, in every disguise we know, and the honest rows that must still pass."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from modelsmith.diagnosis.dry_run import dry_run
from modelsmith.diagnosis.failures import failure_clusters
from modelsmith.diagnosis.firewall import HELD_OUT, ScoredText, losses, scored_texts, separate
from modelsmith.diagnosis.generate import generate_rows, possible_rows
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.labels import Label
from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Sft
from modelsmith.training.rows import TrainingRow

SYNONYMS = {
    "spend": "outlay", "spent": "used", "budget": "funds", "requests": "calls", "bids": "offers", "bid": "offer",
    "win": "winning", "lost": "missed", "lose": "miss", "price": "cost", "prices": "costs", "answers": "replies",
    "answer": "reply", "fell": "dropped", "rose": "climbed", "traffic": "visits", "clicks": "taps", "users": "people",
    "auction": "sale", "auctions": "sales", "publisher": "seller", "minimum": "lowest", "campaign": "flight",
    "week": "seven days", "morning": "dawn", "normal": "usual", "late": "tardy", "same": "identical",
}  # fmt: skip
NAMES = ("Magnite", "OpenX", "Xandr", "Teads", "Brazil", "Poland", "Japan")
HOMOGLYPHS = str.maketrans("aeopcxyi", "аеорсхуі")  # noqa: RUF001
FILLER = (
    "Good morning team, please read the following note from the desk before our weekly call and say what you think.",
    "Thanks a lot, and let us talk about it tomorrow after lunch when everybody is back from the customer workshop.",
)


def reordered(text: str) -> str:
    sentences = re.split(r"(?<=[.!?;:,]) ", text)
    return " ".join([*sentences[1:], sentences[0]])


def renumbered(text: str) -> str:
    chance = random.Random(text)
    numbers = re.sub(r"\d+", lambda m: str(chance.randrange(2, 999)), text)
    return re.sub(r"(?<=[a-z,] )[A-Z][a-zA-Z]+", lambda m: chance.choice(NAMES), numbers)


def reworded(text: str) -> str:
    """A few synonyms: one word in eight at most."""
    words = text.split()
    changes_left = len(words) // 8
    for i, word in enumerate(words):
        bare = word.strip(".,;:").lower()
        if changes_left and bare in SYNONYMS:
            words[i] = SYNONYMS[bare]
            changes_left -= 1
    return " ".join(words)


def invented(text: str) -> str:
    """Every eighth word replaced by one that occurs nowhere."""
    return " ".join("zorvak" if i % 8 == 5 else word for i, word in enumerate(text.split()))


def wrapped(text: str) -> str:
    return f"{FILLER[0]} {text} {FILLER[1]}"


def everything(text: str) -> str:
    return wrapped(invisible(reworded(renumbered(reordered(text)))).upper())


def invisible(text: str) -> str:
    return "\u200b".join(text[i : i + 3] for i in range(0, len(text), 3))


DISGUISES: dict[str, Callable[[str], str]] = {
    "the same text": lambda text: text,
    "sentences in another order": reordered,
    "other numbers and names": renumbered,
    "synonyms for a few words": reworded,
    "one word in eight replaced": invented,
    "case and punctuation": lambda text: re.sub(r"[.,;:%]", " !", text.upper()),
    "letters of another alphabet": lambda text: text.translate(HOMOGLYPHS),
    "full-width letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "invisible characters": invisible,
    "accents": lambda text: re.sub(r"([aeou])", "\\1\u0301", text),
    "underscores for spaces": lambda text: text.replace(" ", "_"),
    "wrapped in other words": wrapped,
    "all of it together": everything,
}


def row(*texts: str, answer: str = '{"cause": "pacing", "action": "reset_pacing_curve"}') -> TrainingRow:
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(texts))
    return TrainingRow(messages=messages, answer=answer, generator="g", template="t", points=("cause",))


@pytest.fixture(scope="module")
def limit(governed):
    return governed.evalset.separation.training_to_scored


@pytest.fixture(scope="module")
def scored(governed):
    return scored_texts(governed)


@pytest.fixture(scope="module")
def wordings(governed):
    """Every fourth scored conversation: core, its variants, micro and held-out."""
    scenarios = [*governed.core, *governed.micro, *governed.held_out]
    return [wording[-1].content for scenario in scenarios for wording in scenario.wordings()][::4]


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda name: name.replace(" ", "-"))
def test_a_scored_text_is_caught_in_every_disguise(scored, wordings, limit, disguise):
    planted = [row(DISGUISES[disguise](text)) for text in wordings]
    passed = separate(planted, scored, limit)
    assert [r.messages[0].content for r in passed.rows] == []
    assert len(passed.dropped) == len(planted)


def test_a_scored_text_split_over_messages_is_caught(scored, wordings, limit):
    planted = []
    for text in wordings:
        words = text.split()
        third = len(words) // 3
        parts = (words[:third], words[third : 2 * third], words[2 * third :])
        planted.append(row(*(" ".join(part) for part in parts)))
    assert separate(planted, scored, limit).rows == ()


def test_a_scored_text_hidden_in_the_answer_is_caught(scored, wordings, limit):
    planted = [row("What was the note that we talked about yesterday?", answer=text) for text in wordings]
    assert separate(planted, scored, limit).rows == ()


def test_most_of_a_scored_text_is_caught_too(scored, wordings, limit):
    planted = [row(" ".join(text.split()[: int(len(text.split()) * 0.8)])) for text in wordings if len(text) > 150]
    assert separate(planted, scored, limit).rows == ()


def test_honest_rows_pass_quickly(governed, observe, scored, limit):
    clusters = failure_clusters(governed, observe(lambda *_: "no idea"))
    rows = generate_rows(governed, clusters, 480, 17)
    start = time.process_time()
    passed = separate(rows, scored, limit)
    assert time.process_time() - start < 10
    assert len(passed.rows) >= 0.9 * len(rows)
    assert 0 < passed.nearest < limit


def test_each_generator_keeps_nine_rows_in_ten(governed, observe, scored, limit):
    clusters = failure_clusters(governed, observe(lambda *_: "no idea"))
    rows = generate_rows(governed, clusters, 480, 99)
    kept_rows = separate(rows, scored, limit).rows
    for generator in governed.generators:
        total = sum(r.generator == generator.id for r in rows)
        assert sum(r.generator == generator.id for r in kept_rows) >= 0.9 * total


def test_a_dropped_row_names_its_scenario_but_never_a_held_out_one(governed, scored, limit):
    core, held_out = governed.core[3], governed.held_out[5]
    honest = row("Nothing here is about advertising: the recipe needs flour, butter, sugar and a pinch of salt.")
    planted = [row(held_out.messages[-1].content), honest, row(core.variants[0])]
    passed = separate(planted, scored, limit)
    assert passed.rows == (honest,)
    assert [(d.row, d.scenario) for d in passed.dropped] == [(0, HELD_OUT), (2, core.id)]
    everything_said = repr(passed)
    assert all(s.id not in everything_said for s in governed.held_out)
    assert not any(text.scenario in {s.id for s in governed.held_out} for text in scored)


def test_every_wording_of_every_part_is_guarded(governed, scored):
    texts = {text.text for text in scored}
    for scenario in (*governed.core, *governed.micro, *governed.held_out):
        assert scenario.messages[-1].content in texts
        assert set(scenario.variants) <= texts
        assert {passage.text for passage in scenario.context} <= texts


def test_without_rows_or_texts_nothing_is_dropped(scored, limit):
    assert separate([], scored, limit).nearest == 0
    assert len(separate([row("a text")], [], limit).rows) == 1
    assert separate([row("a text")], [ScoredText("x", "another matter entirely")], limit).dropped == ()


class TestLabelledAnswers:
    """What people wrote about a scenario is an answer to it: a row that repeats it would teach the exam."""

    ANSWER = (
        "Good afternoon. Half of the responses miss the deadline because they cross the ocean first; "
        "serve European auctions from Frankfurt again and the loss ends the same day."
    )

    def _texts(self, governed, scenario, answer):
        label = Label(scenario=scenario, point="tone", answer=answer, verdict="pass")
        with_label, without = scored_texts(replace(governed, labels=(label,))), scored_texts(governed)
        return with_label[len(without) :]

    def test_a_row_that_repeats_a_labelled_answer_is_dropped(self, governed):
        texts = self._texts(governed, governed.core[0].id, self.ANSWER)
        honest = row("Win rate fell on Tuesday after the margin rule changed; which rule was it?")
        copied = honest.model_copy(update={"answer": wrapped(renumbered(self.ANSWER))})
        outcome = separate([honest, copied], texts, 0.8)
        assert outcome.rows == (honest,)
        assert [dropped.scenario for dropped in outcome.dropped] == [governed.core[0].id]

    def test_the_scenario_of_a_held_out_label_stays_unnamed(self, governed):
        assert self._texts(governed, governed.held_out[0].id, self.ANSWER) == (
            ScoredText(HELD_OUT, self.ANSWER, "answer", "labels"),
        )

    def test_an_answer_that_a_generator_teaches_costs_no_row(self, governed):
        taught = json.dumps(governed.generators[0].reference, indent=1)
        assert self._texts(governed, governed.core[0].id, taught) == ()

    @pytest.mark.parametrize("answer", ["Timeout.", "pacing", '{"cause": "pacing", "action": "review_floor"}'])
    def test_a_short_label_and_the_names_that_right_answers_share_cost_no_row(self, governed, answer):
        assert self._texts(governed, governed.core[0].id, answer) == ()

    def test_of_a_labelled_json_answer_only_sentences_count_against_answers(self, governed):
        answer = json.dumps({"cause": "pacing", "action": "review_floor", "because": self.ANSWER})
        texts = self._texts(governed, governed.core[0].id, answer)
        assert [text.text for text in texts] == [self.ANSWER]
        other = json.dumps({"cause": "pacing", "action": "review_floor", "because": "The budget ran dry by noon."})
        honest = row("What ends the same day?", answer=other)
        assert separate([honest, row(self.ANSWER), row("Why?", answer=answer)], texts, 0.8).rows == (
            honest,
            row(self.ANSWER),
        )


class TestWhatIsLost:
    """An author is told which generator loses what, and to which text; of held-out only that it is held-out."""

    def test_the_nearest_text_is_named_with_generator_and_template(self, governed, scored, limit):
        core = governed.core[3]
        rows = [row(core.variants[0]), row("The recipe needs flour, butter, sugar and a pinch of salt.")]
        (loss,) = losses(rows, separate(rows, scored, limit))
        assert (loss.generator, loss.rows, loss.dropped, loss.template) == ("g", 2, 1, "t")
        assert f"1.00 like what is asked in {core.id} ('{core.variants[0][:40]}" in loss.sentence

    def test_no_word_of_a_held_out_text_is_said(self, governed, scored, limit):
        rows = [row(scenario.messages[-1].content) for scenario in governed.held_out[:5]]
        text = repr(losses(rows, separate(rows, scored, limit)))
        assert "a held-out scenario" in losses(rows, separate(rows, scored, limit))[0].sentence
        assert not any(s.id in text or s.messages[-1].content[:30] in text for s in governed.held_out)


class TestDryRun:
    """What `validate` tries before a model is asked anything."""

    def test_the_starter_set_keeps_its_rows(self, governed):
        tried = dry_run(governed, Sft())
        assert (tried.dropped, tried.losses) == (0, ())
        assert tried.rows == 24 * len(governed.generators)

    def test_a_generator_that_copies_the_exam_is_found(self, governed):
        first, *others = governed.generators
        copied = first.templates[0].model_copy(update={"user": governed.core[0].variants[0] + " {word}"})
        copying = first.model_copy(
            update={"templates": (copied,), "slots": {"word": tuple(f"w{n}" for n in range(999))}}
        )
        tried = dry_run(replace(governed, generators=(copying, *others)), Sft())
        assert [(loss.generator, loss.dropped, loss.rows) for loss in tried.losses] == [(first.id, 24, 24)]

    def test_a_generator_that_runs_dry_for_its_capability_alone_is_found(self, governed):
        first, *others = governed.generators
        poor = first.model_copy(update={"templates": first.templates[:1], "slots": {"a": ("x", "y")}})
        poor = poor.model_copy(update={"templates": (poor.templates[0].model_copy(update={"user": "One {a}."}),)})
        with pytest.raises(InvalidInput) as refused:
            dry_run(replace(governed, generators=(poor, *others)), Sft())
        assert (refused.value.code, refused.value.details["possible"]) == ("generator-exhausted", 2)

    def test_one_after_another_finds_what_it_finds_alone(self, governed):
        """Of a text that is new, gone, or too near to a row, whether or not another dry run came before."""
        before = dry_run(governed, Sft()).clear
        assert before
        rows = possible_rows(governed, Sft().rows, Sft().seed)
        text_of_row = rows[0].messages[0].content
        new, copy = (
            governed.core[3].model_copy(update={"variants": (text, *governed.core[3].variants[1:])})
            for text in ("Nobody asked for the purple umbrella that stood beside the lighthouse.", text_of_row)
        )
        for core, dropped in (
            ((*governed.core[:3], new, *governed.core[4:]), False),
            ((*governed.core[:3], copy, *governed.core[4:]), True),
            (governed.core[:5], False),
            (governed.core[::-1], False),
        ):
            edited = replace(governed, core=core)
            after, alone = dry_run(edited, Sft(), before), dry_run(edited, Sft())
            assert after == alone
            assert (after.dropped > 0) == dropped
            before = after.clear or before
