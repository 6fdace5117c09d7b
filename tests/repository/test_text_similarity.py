from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from modelsmith.repository.load import load_eval_set
from modelsmith.repository.tree import WorkTree
from modelsmith.texts.similarity import Index, nearest, similarity

NOTE = (
    "Publishers in Spain raised their minimum price on Monday and 41 percent of our answers came back as too cheap, "
    "while win rate on the other sites stays at 12.5 percent."
)
WORDS = st.lists(st.sampled_from(NOTE.replace(",", "").split()), min_size=1, max_size=20)


def test_other_numbers_another_order_case_and_punctuation_hide_nothing() -> None:
    first, second = NOTE.split(", ")
    assert similarity(NOTE, f"{second} {first}!".upper().replace("41", "7").replace("12.5", "1,300")) == 1.0


def test_a_copy_inside_a_longer_text_is_found() -> None:
    assert similarity(NOTE, f"Good morning everybody, here is what the desk in Paris wrote me: {NOTE} Thanks.") > 0.85


def test_two_notes_of_one_domain_are_told_apart_in_the_set_that_ships() -> None:
    governed = load_eval_set(WorkTree(Path(__file__).parents[2]), "adtech/rtb-root-cause")
    held_out = [text for scenario in governed.held_out for text in scenario.user_texts()]
    scored = [text for scenario in governed.core + governed.micro for text in scenario.user_texts()]
    score, i, j = nearest(held_out, scored)
    assert similarity(held_out[i], scored[j]) == score < governed.evalset.separation.held_out_to_core
    scores = sorted(Index(scored).nearest(text)[0] for text in held_out)
    assert scores[len(scores) // 2] < 0.7


@given(WORDS, st.randoms(use_true_random=False))
def test_order_never_matters(words: list[str], chance: random.Random) -> None:
    shuffled = chance.sample(words, len(words))
    assert similarity(" ".join(words), " ".join(shuffled)) == 1.0


@given(WORDS, WORDS)
def test_similarity_is_symmetric_and_within_bounds(one: list[str], other: list[str]) -> None:
    a, b = " ".join(one), " ".join(other)
    assert 0.0 <= similarity(a, b) == similarity(b, a) <= 1.0


def test_an_empty_group_has_no_nearest_pair() -> None:
    assert nearest([], ["a"]) == nearest(["a"], []) == (0.0, -1, -1)


TEXTS = st.lists(
    WORDS.map(" ".join) | st.text(max_size=30) | st.sampled_from(["", NOTE, "tres señales " * 160]),
    max_size=9,
)


@given(TEXTS, TEXTS, st.sampled_from([0.0, 0.3, 0.6, 0.75, 0.9, 1.0]), st.sets(st.integers(0, 8), max_size=3))
def test_many_texts_at_once_find_what_each_alone_finds(
    asked: list[str], others: list[str], least: float, besides: set[int]
) -> None:
    index, passed_over = Index(others), [place for place in besides if place < len(others)]
    together = [search.nearest(least, passed_over) for search in index.searches(asked, many=0)]
    assert together == [index.nearest(text, least, passed_over) for text in asked]
