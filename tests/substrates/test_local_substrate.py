from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat
from modelsmith.substrates import local
from modelsmith.substrates.chat import prompt_ids
from modelsmith.substrates.local import TransformersSubstrate
from modelsmith.substrates.port import Completion, Prompt

SYSTEM = "Name the cause."
TEXTS = [
    "Bids are late.",
    "Spend is down since Tuesday; why?",
    "Clicks",
    "The same note in other words, a little longer.",
]


def prompts(texts: list[str] = TEXTS) -> list[Prompt]:
    return [Prompt(f"p{i}", (Message(role="user", content=text),)) for i, text in enumerate(texts)]


def answers(
    model: Path, sampling: Sampling, texts: list[str] = TEXTS, adapter: Path | None = None
) -> dict[str, Completion]:
    return {c.key: c for c in TransformersSubstrate(model, adapter).complete(prompts(texts), SYSTEM, sampling)}


def reference(model: Path, text: str, new_tokens: int) -> tuple[str, int]:
    """What a plain ``generate`` call answers to one prompt alone."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    ids = torch.tensor([prompt_ids(tokenizer, (Message(role="user", content=text),), SYSTEM, Chat())])
    with torch.inference_mode():
        out = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False)
    new = out[0, ids.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True), len(new)


def test_batched_answers_equal_those_of_plain_generation_one_by_one(tiny_model: Path) -> None:
    completions = answers(tiny_model, Sampling(max_new_tokens=12))
    for prompt, text in zip(prompts(), TEXTS, strict=True):
        expected, count = reference(tiny_model, text, 12)
        assert (completions[prompt.key].text, completions[prompt.key].completion_tokens) == (expected, count)


def test_an_answer_does_not_depend_on_how_prompts_fall_into_batches(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = answers(tiny_model, Sampling(max_new_tokens=8))
    monkeypatch.setitem(local.BATCH, "cpu", 3)
    apart = answers(tiny_model, Sampling(max_new_tokens=8))
    assert {k: c.text for k, c in together.items()} == {k: c.text for k, c in apart.items()}


def ends_sometimes(model: Path, folder: Path) -> Path:
    """A copy of the model whose end tokens are ones that it does emit, after different numbers of steps."""
    shutil.copytree(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    free = answers(folder, Sampling(max_new_tokens=12, temperature=1.0, seed=3))
    emitted = tokenizer(free["p0"].text, add_special_tokens=False).input_ids
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    network.generation_config.eos_token_id = sorted({2, *emitted[2:6]})
    network.save_pretrained(folder)
    return folder


def test_a_sequence_that_ends_early_leaves_the_others_as_they_were(tiny_model: Path, tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=40, temperature=1.0, seed=3)
    model = ends_sometimes(tiny_model, tmp_path / "model")
    texts = [f"Note number {i}, " + "longer " * (i % 5) for i in range(12)]
    together = answers(model, sampling, texts)
    assert len({c.completion_tokens for c in together.values()}) > 3
    assert {c.finish for c in together.values()} >= {"stop"}
    for i, text in enumerate(texts):
        (alone,) = TransformersSubstrate(model, None).complete(
            [Prompt(f"p{i}", (Message(role="user", content=text),))], SYSTEM, sampling
        )
        assert (alone.text, alone.finish) == (together[f"p{i}"].text, together[f"p{i}"].finish)


def test_sampling_repeats_with_the_same_seed_and_differs_with_another(tiny_model: Path) -> None:
    first = answers(tiny_model, Sampling(max_new_tokens=16, temperature=1.0, top_p=0.95, seed=1))
    again = answers(tiny_model, Sampling(max_new_tokens=16, temperature=1.0, top_p=0.95, seed=1))
    other = answers(tiny_model, Sampling(max_new_tokens=16, temperature=1.0, top_p=0.95, seed=2))
    texts = [{k: c.text for k, c in run.items()} for run in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]


def test_a_tiny_top_p_is_greedy(tiny_model: Path) -> None:
    nucleus = answers(tiny_model, Sampling(max_new_tokens=8, temperature=1.0, top_p=1e-6))
    greedy = answers(tiny_model, Sampling(max_new_tokens=8))
    assert {k: c.text for k, c in nucleus.items()} == {k: c.text for k, c in greedy.items()}


def test_a_prompt_beyond_the_context_is_an_error_and_others_are_answered(tiny_model: Path) -> None:
    completions = answers(tiny_model, Sampling(max_new_tokens=4), ["short", "long " * 400])
    assert completions["p0"].finish == "length"
    assert isinstance(completions["p1"].error, InvalidInput)
    assert (completions["p1"].finish, completions["p1"].error.code) == ("error", "prompt-too-long")


def test_no_prompts_give_no_completions(tiny_model: Path) -> None:
    assert answers(tiny_model, Sampling(max_new_tokens=4), []) == {}


def test_completions_count_tokens_and_name_the_engine(tiny_model: Path) -> None:
    substrate = TransformersSubstrate(tiny_model, None, threads=1)
    (only,) = substrate.complete(prompts(["Bids"]), SYSTEM, Sampling(max_new_tokens=3))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert only.prompt_tokens == len(prompt_ids(tokenizer, (Message(role="user", content="Bids"),), SYSTEM, Chat()))
    assert (only.completion_tokens, only.finish, only.error) == (3, "length", None)
    assert only.seconds > 0
    assert (substrate.facts.substrate, substrate.facts.dtype) == ("transformers", "float32")


def test_a_folder_without_weights_is_an_infrastructure_failure(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureFailure) as caught:
        TransformersSubstrate(tmp_path, None)
    assert caught.value.code == "model-load"


def test_pickled_weights_are_not_loaded(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.save(network.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InfrastructureFailure):
        TransformersSubstrate(tmp_path / "model", None)


def test_a_model_without_a_chat_template_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = None
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(InvalidInput) as caught:
        answers(tmp_path / "model", Sampling(max_new_tokens=2))
    assert caught.value.code == "no-chat-template"


def test_a_drawn_answer_hangs_on_what_is_asked_not_on_the_prompt_s_name(tiny_model: Path) -> None:
    """The cache knows an answer by what it answers: under another name it must be the same, in every repeat."""
    network = TransformersSubstrate(tiny_model, None)

    def drawn(names: list[str], text: str, seed: int) -> set[str]:
        question_prompts = [Prompt(name, (Message(role="user", content=text),)) for name in names]
        return {
            completion.text
            for completion in network.complete(
                question_prompts, SYSTEM, Sampling(max_new_tokens=12, temperature=1.0, seed=seed)
            )
        }

    assert len(drawn(["core/a/0/0", "core/b/0/0"], TEXTS[0], 3)) == 1
    assert drawn(["core/a/0/0"], TEXTS[0], 3) == drawn(["core/b/0/0"], TEXTS[0], 3)
    assert drawn(["core/a/0/0"], TEXTS[0], 3) != drawn(["core/a/0/0"], TEXTS[0], 4), "another repeat is another draw"


def test_two_jobs_of_one_process_keep_to_their_own_numbers_of_threads(tiny_model: Path) -> None:
    """Both compute at the same time; neither changes the other's number, nor that of who started them."""
    before, both, counts = torch.get_num_threads(), threading.Barrier(2, timeout=60), {1: set(), 3: set()}

    def job(threads: int) -> None:
        substrate = TransformersSubstrate(tiny_model, None, threads=threads)
        meet = [both]

        def look(*_: object) -> None:
            if meet:
                meet.pop().wait()
            counts[threads].add(torch.get_num_threads())

        substrate._model.register_forward_pre_hook(look)
        list(substrate.complete(prompts(), SYSTEM, Sampling(max_new_tokens=4)))

    jobs = [threading.Thread(target=job, args=(threads,)) for threads in counts]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    assert (counts, torch.get_num_threads()) == ({1: {1}, 3: {3}}, before)


@pytest.mark.parametrize(
    ("process", "shown"),
    [
        ("import modelsmith.substrates.local; warnings.warn('said by a server')", True),
        (
            "import modelsmith.cli.main as command\n"
            "command.cli.main = lambda **_: warnings.warn('said by a library')\n"
            "command.main()",
            False,
        ),
    ],
)
def test_warnings_are_kept_from_a_command_s_terminal_and_from_nobody_else(process: str, shown: bool) -> None:
    python = subprocess.run(
        [sys.executable, "-c", f"import warnings\n{process}"], capture_output=True, text=True, check=True
    )
    assert ("said by a" in python.stderr) == shown
