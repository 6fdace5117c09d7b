"""The firewall's certificate: what of a batch stands in scored texts, part by part, in figures alone."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsmith.diagnosis.certificate import certificate, nearest_of, refuse_overlap
from modelsmith.diagnosis.firewall import most_alike, scored_texts, separate
from modelsmith.diagnosis.generate import prompts_for_all
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import FirewallRule
from modelsmith.schema.scenario import Message
from modelsmith.texts.overlap import NGRAM, SHORTEST, most_overlap, plain_words
from modelsmith.texts.similarity import similarity

ROWS = "sha256:" + "3" * 64
words = st.lists(st.sampled_from(["rate", "floor", "bid", "1", "won"]), max_size=40).map(" ".join)


def test_an_honest_batch_is_clean_and_its_figures_are_the_firewall_s(governed):
    rows = prompts_for_all(governed, 60, 17)
    result = certificate(governed, rows, ROWS)
    assert [part.part for part in result.parts] == ["core", "variants", "micro", "held_out", "labels"]
    assert sum(part.texts for part in result.parts) == len(scored_texts(governed))
    assert nearest_of(result) == round(separate(rows, scored_texts(governed), 1.01).nearest, 4)
    assert max(part.overlap for part in result.parts) < 0.2
    assert certificate(governed, rows, ROWS) == result


def test_a_planted_text_is_found_in_its_part_and_not_quoted(governed):
    rows = prompts_for_all(governed, 12, 17)
    for part, scenario in (("held_out", governed.held_out[3]), ("core", governed.core[5])):
        text = scenario.user_texts()[0]
        planted = rows[0].model_copy(update={"messages": (Message(role="user", content=f"Dear team, {text} Thanks."),)})
        result = certificate(governed, [*rows[1:], planted], ROWS)
        (part_found,) = [part_found for part_found in result.parts if part_found.part == part]
        assert (part_found.overlap, part_found.similarity > 0.9) == (1.0, True)
        assert not set(plain_words(text)) & set(plain_words(json.dumps(json.loads(canonical_json(result))))) - {"core"}
    variant = next(scenario for scenario in governed.core if scenario.variants).variants[0]
    planted = rows[0].model_copy(update={"answer": variant if isinstance(variant, str) else str(variant)})
    (part_found,) = [part for part in certificate(governed, [planted], ROWS).parts if part.part == "variants"]
    assert part_found.overlap == 1.0


@given(text=words, other=words, before=words)
def test_overlap_is_a_share_that_more_rows_never_lower(text, other, before):
    share = most_overlap([text], [other])
    assert 0 <= share <= 1
    assert most_overlap([text], [other, before]) >= share
    assert most_overlap([text], [f"{before} {text}"]) == (1.0 if len(text.split()) >= SHORTEST else 0.0)


def test_a_run_of_words_shorter_than_an_n_gram_is_no_overlap():
    text = " ".join(f"w{n}" for n in range(20))
    twelve = " ".join(f"w{n}" for n in range(NGRAM - 1))
    assert most_overlap([text], [f"{twelve} and other words"]) == 0
    assert most_overlap([text], [f"{twelve} w12 and other words"]) == NGRAM / 20


NOTES = {
    "Chinese": "今天下午三点以后。移动端的出价请求突然减少了一半。而底价规则在两点五十分被改成了一点六元。",
    "Japanese": "午後三時からモバイルの入札が半分に減り、その十分前に最低価格が一六〇円へ変更されていた。",
    "Thai": "ราคาขั้นต่ำถูกเปลี่ยนเมื่อเวลาสิบสี่นาฬิกาและจำนวนการเสนอราคาลดลงครึ่งหนึ่งทันทีหลังจากนั้น",
    "Khmer": "តម្លៃទាបបំផុតត្រូវបានផ្លាស់ប្តូរនៅម៉ោងពីររសៀលហើយចំនួនការដេញថ្លៃបានធ្លាក់ចុះពាក់កណ្តាល",
    "English": "after three bid requests of mobile halved and ten minutes before the floor was changed to one sixty",
}


@pytest.mark.parametrize("language", NOTES)
def test_a_scored_text_inside_a_row_is_found_in_any_writing(language):
    """Where no space stands between words a whole sentence was one word, which no other text has."""
    note = NOTES[language]
    row = f"{note[:9]} 42. {note} Say why {note[::-1]}"
    assert most_overlap([note], [row]) == 1.0
    assert similarity(note, row) > 0.95
    assert most_overlap([note], [note[::-1]]) < 0.2
    others = [other for name, other in NOTES.items() if name != language]
    assert max(similarity(note, other) for other in others) < 0.6


@pytest.mark.parametrize("disguise", [lambda text: "\u200b".join(text), lambda text: text.replace("e", "\u0435")])
def test_what_is_not_seen_hides_no_run_of_words(disguise):
    note = NOTES["English"]
    assert most_overlap([note], [f"A note. {disguise(note)} Why?"]) == 1.0


def ruled(**limits: float) -> Any:
    return SimpleNamespace(firewall=FirewallRule.model_validate(limits))


def test_policy_s_limits_hold_before_a_training_not_after_it(governed):
    """They were once asked at the gate alone, so a batch was trained on which it then refused, again and again."""
    rows = prompts_for_all(governed, 12, 17)
    own = governed.evalset.separation.training_to_scored
    assert most_alike(governed, None) == most_alike(governed, ruled(most_similarity=1)) == own
    assert most_alike(governed, ruled(most_similarity=0.5)) == 0.5
    refuse_overlap(rows, governed, None)
    refuse_overlap(rows, governed, ruled(most_overlap=0.2))
    text = governed.held_out[3].user_texts()[0]
    planted = rows[0].model_copy(update={"messages": (Message(role="user", content=f"Dear team, {text} Thanks."),)})
    refuse_overlap([*rows[1:], planted], governed, ruled(most_overlap=1))
    with pytest.raises(InvalidInput) as refused:
        refuse_overlap([*rows[1:], planted], governed, ruled(most_overlap=0.2))
    assert (refused.value.code, refused.value.details["generator"]) == ("rows-overlap", planted.generator)
    sentence = refused.value.message + refused.value.mend
    assert governed.held_out[3].id not in sentence
    assert most_overlap([text], [sentence]) == 0
