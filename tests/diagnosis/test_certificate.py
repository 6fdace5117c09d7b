"""The firewall's certificate: what of a batch stands in scored texts, part by part, in figures alone."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from modelsmith.diagnosis.certificate import certificate, nearest_of
from modelsmith.diagnosis.firewall import scored_texts, separate
from modelsmith.diagnosis.generate import prompts_for_all
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.scenario import Message
from modelsmith.texts.overlap import NGRAM, SHORTEST, most_overlap, plain_words

ROWS = "sha256:" + "3" * 64
words = st.lists(st.sampled_from(["rate", "floor", "bid", "1", "won"]), max_size=40).map(" ".join)


def test_an_honest_batch_is_clean_and_its_figures_are_the_firewall_s(governed):
    rows = prompts_for_all(governed, 60, 17)
    found = certificate(governed, rows, ROWS)
    assert [part.part for part in found.parts] == ["core", "variants", "micro", "held_out", "labels"]
    assert sum(part.texts for part in found.parts) == len(scored_texts(governed))
    assert nearest_of(found) == round(separate(rows, scored_texts(governed), 1.01).nearest, 4)
    assert max(part.overlap for part in found.parts) < 0.2
    assert certificate(governed, rows, ROWS) == found


def test_a_planted_text_is_found_in_its_part_and_not_quoted(governed):
    rows = prompts_for_all(governed, 12, 17)
    for part, scenario in (("held_out", governed.held_out[3]), ("core", governed.core[5])):
        text = scenario.user_texts()[0]
        planted = rows[0].model_copy(update={"messages": (Message(role="user", content=f"Dear team, {text} Thanks."),)})
        found = certificate(governed, [*rows[1:], planted], ROWS)
        (one,) = [one for one in found.parts if one.part == part]
        assert (one.overlap, one.similarity > 0.9) == (1.0, True)
        assert not set(plain_words(text)) & set(plain_words(json.dumps(json.loads(canonical_json(found))))) - {"core"}
    variant = next(one for one in governed.core if one.variants).variants[0]
    planted = rows[0].model_copy(update={"answer": variant if isinstance(variant, str) else str(variant)})
    (one,) = [one for one in certificate(governed, [planted], ROWS).parts if one.part == "variants"]
    assert one.overlap == 1.0


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
