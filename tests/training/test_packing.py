from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from modelsmith.training.packing import IGNORED, Tokens, pack

ids = st.integers(3, 60)
rows_with_a_common_beginning = st.tuples(
    st.lists(ids, max_size=6),
    st.lists(
        st.tuples(st.lists(ids, min_size=1, max_size=7), st.lists(ids, min_size=1, max_size=4)), min_size=1, max_size=5
    ),
).map(lambda drawn: [Tokens(drawn[0] + prompt, answer) for prompt, answer in drawn[1]])


@pytest.fixture(scope="module")
def network() -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    ).eval()


@settings(deadline=None, max_examples=40)
@given(rows=rows_with_a_common_beginning)
def test_a_packed_row_has_the_logits_that_it_has_alone(network: LlamaForCausalLM, rows: list[Tokens]) -> None:
    batch = pack(rows)
    labels = batch.pop("labels")[0, 1:]
    with torch.inference_mode():
        packed = network(**batch).logits[0, :-1][labels != IGNORED]
        alone = []
        for row in rows:
            logits = network(input_ids=torch.tensor([row.prompt + row.answer])).logits[0]
            alone.append(logits[len(row.prompt) - 1 : -1])
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(rows=rows_with_a_common_beginning)
def test_only_answers_are_learned_and_the_common_beginning_appears_once(rows: list[Tokens]) -> None:
    batch = pack(rows)
    labels = batch["labels"][0]
    assert labels[labels != IGNORED].tolist() == [token for row in rows for token in row.answer]
    padded = len(rows) * max(len(row.prompt) + len(row.answer) for row in rows)
    assert batch["input_ids"].shape[1] <= padded
