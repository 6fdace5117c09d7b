"""DPO of a tiny random Llama, against TRL's own trainer where that says what the numbers are to be."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from trainings import Case, Thread, Watched, same_weights, sealed, train
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer

from modelsmith.schema.scenario import Message
from modelsmith.schema.training import Dpo, Lora
from modelsmith.schema.training_row import PreferencePair
from modelsmith.substrates.adapter import load_adapter
from modelsmith.training import dpo
from modelsmith.training.job import Heartbeat
from modelsmith.training.packing import Tokens
from modelsmith.training.rows import write_rows
from modelsmith.training.supervisor import TrainOutcome

LORA = Lora(rank=4, alpha=8)
STEPS = 24

ids = st.integers(3, 60)
words = st.lists(ids, min_size=1, max_size=4)
pairs_with_a_common_beginning = st.tuples(
    st.lists(ids, max_size=5),
    st.lists(st.tuples(st.lists(ids, max_size=5), words, words), min_size=1, max_size=3),
).map(lambda drawn: [Tokens([1, *drawn[0], *own], answer) for own, *both in drawn[1] for answer in both])


@pytest.fixture(scope="module")
def network() -> LlamaForCausalLM:
    torch.manual_seed(1)
    shape = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=1, **shape)).eval()


@settings(deadline=None, max_examples=40)
@given(answers=pairs_with_a_common_beginning)
def test_an_answer_is_as_likely_among_others_to_its_prompt_as_alone(
    network: LlamaForCausalLM, answers: list[Tokens]
) -> None:
    with torch.inference_mode():
        packed = dpo.answer_log_probs(network, dpo.together(answers))
        alone = [
            network(input_ids=torch.tensor([answer.prompt + answer.answer]))
            .logits[0, len(answer.prompt) - 1 : -1]
            .log_softmax(-1)
            .gather(1, torch.tensor(answer.answer)[:, None])
            .sum()
            for answer in answers
        ]
    torch.testing.assert_close(packed, torch.stack(alone), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "rows.jsonl"
    rows = [
        PreferencePair(
            messages=(Message(role="user", content=f"Note {i}: {'late' if i % 2 else 'bots'}"),),
            chosen="timeout" if i % 2 else "bots",
            rejected=("late again", "maybe", "")[i % 3],
            source="generator",
            points=("cause",),
            rubric="sha256:" + "0" * 64,
        )
        for i in range(8)
    ]
    write_rows(path, rows)
    return path


@pytest.fixture(scope="module")
def job(tiny_model: Path, pairs: Path) -> Case:
    stage = Dpo(method="dpo", steps=STEPS, batch_size=3, learning_rate=0.02, checkpoint_every=5, lora=LORA)
    return Case(tiny_model, pairs, stage)


@pytest.fixture(scope="module")
def uninterrupted(job: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Heartbeat], TrainOutcome]:
    beats: list[Heartbeat] = []
    return beats, train(tmp_path_factory.mktemp("dpo") / "job", job, Thread(), beats.append)


def test_pairs_teach_which_answer_is_preferred(uninterrupted: tuple[list[Heartbeat], TrainOutcome]) -> None:
    beats, outcome = uninterrupted
    assert [beat.step for beat in beats] == list(range(1, STEPS + 1))
    assert beats[0].loss == pytest.approx(math.log(2), abs=1e-4), "it begins at its reference"
    assert outcome.final_loss < 0.6
    assert beats[-1].accuracy == 1.0
    assert sorted(path.name for path in outcome.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_killed_worker_goes_on_and_ends_in_the_same_adapter(
    uninterrupted: tuple[list[Heartbeat], TrainOutcome], job: Case, tmp_path: Path
) -> None:
    watched = Watched(stops_after=7)

    def progress(beat: Heartbeat) -> None:
        if beat.step >= 7 and len(watched.started) == 1:
            os.kill(watched.pids[0], signal.SIGKILL)

    outcome = train(tmp_path / "job", job.settings(gradient_checkpointing=True), watched, progress)
    assert len(watched.started) == 2, "nor does it matter that activations are not kept"
    assert same_weights(outcome.adapter, uninterrupted[1].adapter)


@pytest.mark.parametrize(("loss", "continued"), [("sigmoid", True), ("ipo", True), ("hinge", False)])
def test_it_is_trls_dpo_from_the_parents_adapter_as_reference(
    uninterrupted: tuple[list[Heartbeat], TrainOutcome], job: Case, tmp_path: Path, loss: Any, continued: bool
) -> None:
    parent = sealed(uninterrupted[1].adapter, tmp_path / "parent") if continued else None
    stage = job.training.model_copy(update={"loss": loss, "steps": 4, "beta": 0.3})
    beats: list[Heartbeat] = []
    train(tmp_path / "job", replace(job, training=stage, parent=parent), Thread(), beats.append)
    assert [beat.loss for beat in beats] == pytest.approx(_losses_of_trl(job, stage, parent, tmp_path), abs=2e-3)


def _losses_of_trl(job: Case, stage: Any, parent: Path | None, folder: Path) -> list[float]:
    """What TRL's own trainer says of the same steps: padded, with the reference beside the model."""
    from modelsmith.schema.source import Chat
    from modelsmith.substrates.chat import prompt_ids, text_ids
    from modelsmith.training.rows import read_rows
    from modelsmith.training.run import _arguments

    tokenizer = AutoTokenizer.from_pretrained(job.model)
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    if parent:
        model = load_adapter(model, parent, trainable=True)
    config = LoraConfig(
        r=LORA.rank, lora_alpha=LORA.alpha, task_type="CAUSAL_LM",
        target_modules=["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    )  # fmt: skip
    rows = [
        {
            "prompt_ids": prompt_ids(tokenizer, row.messages, job.system, Chat()),
            "chosen_ids": [*text_ids(tokenizer, row.chosen, Chat()), tokenizer.eos_token_id],
            "rejected_ids": [*text_ids(tokenizer, row.rejected, Chat()), tokenizer.eos_token_id],
        }
        for row in read_rows(job.rows, PreferencePair)
    ]
    recorded: list[float] = []

    class Plain(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            recorded.append(float(loss))
            return loss

    arguments = _arguments(stage, folder / "trl", False) | {"save_strategy": "no"}
    config_of = DPOConfig(**arguments, max_length=None, beta=stage.beta, loss_type=[stage.loss])
    Plain(
        model=model, args=config_of, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=None if parent else config,
    ).train()  # fmt: skip
    return recorded
