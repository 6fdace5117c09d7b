"""The firewall by meaning: rows that say in other words what a model is scored on, and what the certificate says."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from modelsmith.diagnosis.certificate import certificate
from modelsmith.diagnosis.firewall import HELD_OUT, losses, scored_texts
from modelsmith.diagnosis.generate import prompts_for_all
from modelsmith.diagnosis.meaning import TOLERANCE, Meaning, agree, kept_apart, nearest_in_meaning
from modelsmith.diagnosis.topics import topics
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.scenario import Message
from modelsmith.substrates.base_models import resolve
from modelsmith.substrates.embedding import LocalEmbedder
from modelsmith.texts.overlap import most_overlap, plain_words
from tests.bag import MODEL, Bag
from tests.tiny import SMOLLM2

ROWS = "sha256:" + "3" * 64
LIMIT = 0.8


def reworded(text: str) -> tuple[str, dict[str, str]]:
    """The text with every word put into another, and what means what."""
    synonyms = {f"other{number}": word for number, word in enumerate(dict.fromkeys(plain_words(text)))}
    back = {word: other for other, word in synonyms.items()}
    return " ".join(back[word] for word in plain_words(text)), synonyms


@pytest.fixture(scope="module")
def rows(governed):
    return prompts_for_all(governed, 24, 17)


@pytest.fixture(scope="module")
def planted(governed, rows):
    """A batch in which one row asks a held-out scenario in other words, and an embedder that knows these words."""
    text, synonyms = reworded(governed.held_out[3].user_texts()[0])
    row = rows[0].model_copy(update={"messages": (Message(role="user", content=text),)})
    return [*rows[1:], row], Bag(synonyms), text


def test_a_paraphrase_that_no_word_betrays_is_dropped(governed, planted):
    batch, bag, text = planted
    texts = scored_texts(governed)
    assert most_overlap((scored.text for scored in texts), [text]) == 0
    assert not kept_apart(batch, texts, LIMIT, None).dropped
    separation = kept_apart(batch, texts, LIMIT, Meaning(bag, {"held_out": 0.95}))
    (dropped,) = separation.dropped
    assert (dropped.row, dropped.scenario, dropped.text, dropped.by) == (len(batch) - 1, HELD_OUT, "", "meaning")
    assert list(separation.rows) == batch[:-1]
    (loss,) = losses(batch, separation)
    assert loss.sentence.endswith("like what is asked in a held-out scenario, by meaning")


def test_a_person_sees_the_rows_nearest_in_meaning_of_any_part(governed, planted):
    batch, bag, _ = planted
    nearest = nearest_in_meaning(batch, scored_texts(governed), bag, 3)
    (place, near), *rest = nearest
    assert (place, near.text.scenario, len(nearest)) == (len(batch) - 1, HELD_OUT, 3)
    assert near.cosine >= 0.95 > rest[0][1].cosine >= rest[1][1].cosine > 0
    assert nearest_in_meaning([], scored_texts(governed), bag, 3) == nearest_in_meaning(batch, [], bag, 3) == ()


def test_only_named_parts_and_only_from_the_limit_on(governed, planted):
    batch, bag, _ = planted
    texts = scored_texts(governed)
    assert not kept_apart(batch, texts, LIMIT, Meaning(bag, {"core": 0.95})).dropped
    assert not kept_apart(batch, texts, LIMIT, Meaning(bag, {})).dropped
    far = certificate(governed, batch[:-1], ROWS, Meaning(bag, {"held_out": 1.0})).meaning.parts[0].cosine
    assert not kept_apart(batch[:-1], texts, LIMIT, Meaning(bag, {"held_out": far + 0.0001})).dropped
    assert kept_apart(batch[:-1], texts, LIMIT, Meaning(bag, {"held_out": far})).dropped


@pytest.mark.parametrize("where", ["inside a long row", "in another message", "in the answer"])
def test_a_paraphrase_hides_nowhere_in_a_row(governed, planted, where):
    batch, bag, text = planted
    chatter = " ".join(f"chatter{number}" for number in range(300))
    row = batch[0]
    row = row.model_copy(
        update={
            "inside a long row": {"messages": (Message(role="user", content=f"{chatter} {text} {chatter}"),)},
            "in another message": {
                "messages": (Message(role="user", content=text), Message(role="user", content=chatter))
            },
            "in the answer": {"answer": text},
        }[where]
    )
    assert kept_apart([row], scored_texts(governed), LIMIT, Meaning(bag, {"held_out": 0.75})).dropped


def test_labelled_answers_are_held_against_answers(governed, planted):
    from modelsmith.schema.labels import Label

    batch, bag, text = planted
    answer = governed.held_out[3].user_texts()[0]
    label = Label(scenario=governed.core[0].id, point=governed.rubric.points[0].id, answer=answer, verdict="pass")
    labelled = replace(governed, labels=(label,))
    meaning = Meaning(bag, {"labels": 0.95})
    row = batch[0].model_copy(update={"answer": text})
    assert kept_apart([row], scored_texts(labelled), LIMIT, meaning).dropped
    assert not kept_apart(batch, scored_texts(labelled), LIMIT, meaning).dropped


def test_the_certificate_says_which_model_found_what_and_no_text(governed, planted):
    batch, bag, text = planted
    meaning = Meaning(bag, {"held_out": 0.95, "core": 0.9})
    nearness = certificate(governed, batch, ROWS, meaning).meaning
    assert (nearness.model, nearness.settings) == (MODEL.digest, MODEL.identity)
    assert [(part.part, part.most_cosine) for part in nearness.parts] == [("core", 0.9), ("held_out", 0.95)]
    assert nearness.parts[1].cosine > 0.99 > nearness.parts[0].cosine
    assert not set(plain_words(text)) & set(plain_words(canonical_json(nearness).decode()))
    clean = kept_apart(batch, scored_texts(governed), LIMIT, meaning).rows
    assert all(part.cosine < part.most_cosine for part in certificate(governed, clean, ROWS, meaning).meaning.parts)
    assert certificate(governed, batch, ROWS).meaning is None
    assert b"meaning" not in canonical_json(certificate(governed, batch, ROWS))


def test_two_machines_agree_to_the_tolerance_and_no_further(governed, planted):
    batch, bag, _ = planted
    nearness = certificate(governed, batch, ROWS, Meaning(bag, {"core": 0.9, "held_out": 0.95})).meaning
    first = nearness.parts[0]

    def other(**change):
        return nearness.model_copy(update={"parts": (first.model_copy(update=change), *nearness.parts[1:])})

    assert agree(nearness, nearness)
    assert agree(nearness, other(cosine=first.cosine + TOLERANCE))
    assert not agree(nearness, other(cosine=first.cosine + 2 * TOLERANCE))
    assert not agree(nearness, other(most_cosine=0.91))
    assert not agree(nearness, other(part="micro"))
    assert not agree(nearness, nearness.model_copy(update={"parts": nearness.parts[1:]}))
    assert not agree(nearness, nearness.model_copy(update={"model": ROWS}))
    assert not agree(nearness, nearness.model_copy(update={"settings": ROWS}))


def test_topics_by_meaning_keep_their_names_on_every_machine(governed):
    scenarios = [*governed.core, *governed.micro]
    topic_by_id = topics(scenarios, Bag())
    assert set(topic_by_id) == {scenario.id for scenario in scenarios}
    assert set(topic_by_id.values()) <= set(topic_by_id)
    assert len(set(topic_by_id.values())) > 1
    for noise in (0.0, 1e-7, 1e-6):
        assert topics(scenarios[::-1], Bag(noise=noise)) == topic_by_id


@pytest.mark.parametrize("embedder", [None, Bag()])
def test_a_topic_has_the_same_members_whatever_its_scenarios_are_called(governed, embedder):
    scenarios = [*governed.core, *governed.micro]
    new_ids = {scenario.id: f"n-{hashlib.sha256(scenario.id.encode()).hexdigest()[:8]}" for scenario in scenarios}
    other = [scenario.model_copy(update={"id": new_ids[scenario.id]}) for scenario in scenarios]
    assert topics(other, embedder) == {
        new_ids[scenario_id]: new_ids[name] for scenario_id, name in topics(scenarios, embedder).items()
    }


PARAPHRASED = {
    "timeout-held-01": (
        "An exchange in Milan shortened the time it waits for replies from 0.2 to 0.12 seconds early in October. "
        "We need 0.14 seconds, so most of our offers miss the cut-off and daily counted ones dropped below a third."
    ),
}


@pytest.mark.model
def test_a_real_model_sees_a_paraphrase_that_words_do_not_show(governed, smollm2_cache, rows, tmp_path):
    """The demo's own model, though it was made to answer and not to embed."""
    folder = resolve(SMOLLM2, tmp_path, smollm2_cache).folder
    model = MODEL.model_copy(update={"digest": SMOLLM2.digest})
    embedder = LocalEmbedder(model, folder)
    scenario = next(case for case in governed.held_out if case.id in PARAPHRASED)
    text = PARAPHRASED[scenario.id]
    few = replace(governed, core=(), micro=(), held_out=(scenario,), labels=())
    row = rows[0].model_copy(update={"messages": (Message(role="user", content=text),)})
    others = [other_row for other_row in rows if other_row.generator != row.generator][:5]
    texts = scored_texts(few)
    assert most_overlap((scored.text for scored in texts), [text]) == 0
    assert not kept_apart([row], texts, LIMIT, None).dropped
    near = certificate(few, [row], ROWS, Meaning(embedder, {"held_out": 1.0})).meaning.parts[0].cosine
    far = certificate(few, others, ROWS, Meaning(embedder, {"held_out": 1.0})).meaning.parts[0].cosine
    assert far < near
    separation = kept_apart([*others, row], texts, LIMIT, Meaning(embedder, {"held_out": (far + near) / 2}))
    assert [drop.row for drop in separation.dropped] == [len(others)]


class Broken(Bag):
    """A model, or vectors that were kept, of which one row in two is no direction."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def vectors(self, texts):
        plain = super().vectors(texts)
        with np.errstate(invalid="ignore"):
            plain[::2] *= self._factor
        return plain


@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf"), 0.5, 100.0, -0.9])
def test_vectors_that_are_none_let_no_row_pass(governed, rows, factor):
    """By zeros, or by what is no number, every row would count as far from everything that is scored."""
    assert kept_apart(rows, scored_texts(governed), LIMIT, Meaning(Broken(1.0), {"core": 0.99})).rows, "the control"
    with pytest.raises(InfrastructureFailure) as caught:
        kept_apart(rows, scored_texts(governed), LIMIT, Meaning(Broken(factor), {"core": 0.99}))
    assert caught.value.code == "embedding-failed"
