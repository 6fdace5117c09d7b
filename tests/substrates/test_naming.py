"""Names in texts: a real token classifier, trained here on a few words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelsmith.repository.private import Scrubber
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import Private
from modelsmith.schema.naming import NameModel
from modelsmith.substrates.naming import NameFinder
from tests.tiny import NAMES, write_tiny_name_finder


def named(folder: Path, digest: str, **fields: object) -> NameModel:
    values = {"name": "tiny-names", "uri": f"file://{folder}", "digest": digest, "license": "Apache-2.0"}
    return NameModel.model_validate(values | fields)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    return folder, write_tiny_name_finder(folder)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Why did Marta Okonkwo write of bids?", "Why did [name] write of bids?"),
        ("Marta's bids, and J. Okonkwo too; late bids", "[name] bids, and J. [name] too; late bids"),
        ("bids of Jean-Marta", "bids of [name]"),
        ("to marta@example.com of Marta", "to [email] of [name]"),
        ("\u2460 bids \u00e9 \U0001f600 Marta", "1 bids \u00e9 \U0001f600 [name]"),
        (
            f"{'late bids of the day ' * 60}Okonkwo{' late bids' * 60}",
            f"{'late bids of the day ' * 60}[name]{' late bids' * 60}",
        ),
        ("id TWFydGEgT2tvbmt3bw== of bids", "id [name] of bids"),
        ("bids are late", "bids are late"),
        ("", ""),
    ],
)
def test_names_are_taken_out_wherever_they_stand(trained, text, left):
    model = named(*trained)
    scrubber = Scrubber(Private(names=model), NameFinder(model, trained[0]))
    assert scrubber.scrub(text).text == left


def test_no_model_is_taken_for_one_that_finds_names(trained, tmp_path):
    folder, digest = trained
    with pytest.raises(InvalidInput, match="its labels are O, PER, none of ORG"):
        NameFinder(named(folder, digest, labels=("ORG",)), folder)
    from transformers import AutoTokenizer, BertConfig, BertModel

    BertModel(BertConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path
    )
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "O", "1": "B-PER"}}))
    with pytest.raises(InvalidInput, match="was not trained to label words"):
        NameFinder(named(tmp_path, digest), tmp_path)


def test_a_policy_that_names_a_model_is_never_followed_without_it(trained):
    with pytest.raises(ValueError, match="by nothing else"):
        Scrubber(Private(names=named(*trained)))
    with pytest.raises(ValueError, match="by nothing else"):
        Scrubber(Private(), lambda _: [])
    assert {"Marta", "Okonkwo"} <= set(NAMES)
