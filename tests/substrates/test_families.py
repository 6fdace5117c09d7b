"""Families of models as they are: what is trained, generated, evaluated and served is one sequence of tokens.

Each is a random model of its architecture, of some thousand weights, with control tokens and a chat template of the
real one's shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast
from trl.trainer.utils import add_fused_lm_head

from modelsmith.evaluation.reward import Sampled, rewards
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat
from modelsmith.schema.training import Sft
from modelsmith.substrates.attention import require_attention
from modelsmith.substrates.chat import answer_end, answer_in, prompt_ids, text_ids, trained_answer
from modelsmith.substrates.decoding import decode, end_tokens, share
from modelsmith.substrates.endpoint.api import request_body
from modelsmith.substrates.local import TransformersSubstrate
from modelsmith.substrates.port import Prompt
from modelsmith.training import dpo, sft
from modelsmith.training.packing import IGNORED, Tokens, as_seen, pack, pack_answers

SYSTEM, ASKED, SAID = "Name the cause.", "Why is it late?", '{"cause": "timeout"}'
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim "
    "+ '<|eot_id|>' %}{{ (bos_token if loop.first else '') + text }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
NEMOTRON = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ '<extra_id_0>System\n' + m.content + '\n' }}"
    "{% elif m.role == 'user' %}{{ '<extra_id_1>User\n' + m.content + '\n' }}"
    "{% else %}{{ '<extra_id_1>Assistant\n' + m.content + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<extra_id_1>Assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}{{ '<|User|>' + m.content }}"
    "{% else %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
RUBRIC = Rubric.model_validate(
    {
        "id": "r", "owner": "lead", "description": "D.",
        "points": (
            {"id": "p", "text": "T.", "weight": 1,
             "check": {"type": "json_field", "path": "cause", "expected": {"reference": "cause"}}},
        ),
    }
)  # fmt: skip
SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512,
}  # fmt: skip


class Family(NamedTuple):
    """What tells a family from others."""

    architecture: str
    template: str
    control: tuple[str, ...]
    """Special tokens; the first two are those for the beginning and the end of a text."""
    ends: tuple[str, ...]
    """What its generation settings stop at."""
    end: str
    """What ends a turn by its template."""
    chat: Chat = Chat()
    plain: tuple[str, ...] = ()
    """Tokens that its template writes, and that are not special."""
    sizes: dict[str, Any] = {}


THINK = ("<think>", "</think>")
IM = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
FAMILIES = {
    "smollm": Family("llama", CHATML, IM, ("<|im_end|>",), "<|im_end|>"),
    "qwen3, thinking": Family(
        "qwen3", QWEN3, IM, ("<|im_end|>", "<|endoftext|>"), "<|im_end|>", Chat(thinking="strip"), THINK
    ),
    "qwen3, not thinking": Family("qwen3", QWEN3, IM, ("<|im_end|>",), "<|im_end|>", Chat(thinking="off"), THINK),
    "gemma": Family(
        "gemma3_text", GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), ("<eos>", "<end_of_turn>"),
        "<end_of_turn>", Chat(system="first-user"),
        sizes={"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "llama": Family(
        "llama", LLAMA3, ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        ("<|eot_id|>",), "<|eot_id|>",
    ),
    "gemma 2, which caps its scores and logits": Family(
        "gemma2", GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), ("<eos>", "<end_of_turn>"),
        "<end_of_turn>", Chat(system="first-user"), sizes={"head_dim": 16, "sliding_window": 8},
    ),
    "mistral": Family(
        "mistral", MISTRAL, ("<s>", "</s>"), ("</s>",), "</s>", Chat(system="first-user"),
        ("[INST]", "[/INST]"), sizes={"sliding_window": 8},
    ),
    "gpt-oss, without sdpa": Family(
        "gpt_oss", CHATML, IM, ("<|im_end|>",), "<|im_end|>",
        sizes={"head_dim": 16, "sliding_window": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "granite, which scales logits": Family(
        "granite", CHATML, IM, ("<|im_end|>",), "<|im_end|>", sizes={"logits_scaling": 4.0, "pad_token_id": 0}
    ),
    "deepseek-r1, whose template opens the thoughts": Family(
        "qwen2", R1, ("<|begin|>", "<|endoftext|>", "<|User|>", "<|Assistant|>"), ("<|endoftext|>",), "<|endoftext|>",
        Chat(thinking="strip"), THINK,
    ),
    "nemotron": Family("nemotron", NEMOTRON, ("<s>", "</s>", "<extra_id_0>", "<extra_id_1>"), ("</s>",), "</s>"),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_folder = tmp_path_factory.mktemp("family")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*family.control, *family.plain, *letters]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(family.control))
    tokenizer.add_tokens(list(family.plain))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=family.control[0], eos_token=family.control[1],
        pad_token=family.control[1],
        additional_special_tokens=list(family.control[2:]), chat_template=family.template,
    )  # fmt: skip
    fast.save_pretrained(model_folder)
    torch.manual_seed(7)
    config = AutoConfig.for_model(family.architecture, vocab_size=len(fast), **(SIZES | family.sizes))
    model = AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():  # else hardly anything that a token sees would change what follows
        weight.data *= 1 if weight.dim() < 2 else 6
    model.generation_config = GenerationConfig(eos_token_id=fast.convert_tokens_to_ids(list(family.ends)))
    model.save_pretrained(model_folder)
    return model_folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def served(tokenizer: Any, chat: Chat) -> list[int]:
    """What a server makes of our request: it fills in the model's own template."""
    body = json.loads(
        request_body("m", user(ASKED), SYSTEM, Sampling(max_new_tokens=1), "max_tokens", stream=False, chat=chat)
    )
    ids: list[int] = tokenizer.apply_chat_template(
        body["messages"], add_generation_prompt=True, return_dict=False, **body.get("chat_template_kwargs", {})
    )
    return ids


def test_trained_evaluated_and_served_is_one_sequence_of_tokens(family: Family, folder: Path, tokenizer: Any) -> None:
    ids = prompt_ids(tokenizer, user(ASKED), SYSTEM, family.chat)
    assert ids == served(tokenizer, family.chat)
    engine = TransformersSubstrate(folder, None, chat=family.chat)
    assert engine._prompt_ids(Prompt("p", user(ASKED)), SYSTEM) == ids
    text = tokenizer.decode(ids)
    assert text.count(SYSTEM) == text.count(ASKED) == 1
    whole = tokenizer.apply_chat_template(
        [*_turns(family), {"role": "assistant", "content": SAID}], return_dict=False, **_switches(family)
    )
    row = [*ids, *text_ids(tokenizer, SAID, family.chat)]
    if family.chat.thinking != "off" and family.template != R1:
        assert whole[: len(row)] == row


def test_the_end_of_an_answer_is_learned_and_ends_it(family: Family, folder: Path, tokenizer: Any) -> None:
    """The token that the template itself writes after an answer, where the engines stop at it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    ends = end_tokens(model, tokenizer)
    end = answer_end(tokenizer, ends, family.chat)
    assert tokenizer.convert_ids_to_tokens(end) == family.end
    assert end in ends


def test_the_engine_writes_what_the_model_s_own_generate_writes(family: Family, folder: Path, tokenizer: Any) -> None:
    """Two prompts of different length share a beginning longer than a sliding window."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    engine = TransformersSubstrate(folder, None, chat=family.chat)
    prompts = [Prompt("a", user(ASKED)), Prompt("b", user("Why?"))]
    found_by_name = {
        completion.key: completion for completion in engine.complete(prompts, SYSTEM, Sampling(max_new_tokens=12))
    }
    for prompt in prompts:
        ids = torch.tensor([prompt_ids(tokenizer, prompt.messages, SYSTEM, family.chat)])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
        )[0, ids.shape[1] :].tolist()
        ended = out[-1] in end_tokens(model, tokenizer)
        due = answer_in(
            tokenizer, ids[0].tolist(), out[:-1] if ended else out, "stop" if ended else "length", family.chat
        )
        assert (found_by_name[prompt.key].text, found_by_name[prompt.key].finish) == due


def test_a_trained_answer_is_read_back_as_that_answer(family: Family, tokenizer: Any) -> None:
    """Where the template has opened the thoughts too: in them it would be none, and be trained to be none."""
    prompt = prompt_ids(tokenizer, user(ASKED), SYSTEM, family.chat)
    end = tokenizer.convert_tokens_to_ids(family.end)
    learned = trained_answer(tokenizer, prompt, SAID, end, family.chat)
    assert learned[-1] == end
    assert answer_in(tokenizer, prompt, learned[:-1], "stop", family.chat) == (SAID, "stop")
    assert tokenizer.decode([*prompt, *learned]).count("<think>") == tokenizer.decode([*prompt, *learned]).count(
        "</think>"
    )


@pytest.fixture(scope="module")
def rows(family: Family, tokenizer: Any) -> list[Tokens]:
    """Prompts of different length, and answers, which together are longer than a sliding window."""
    end = tokenizer.convert_tokens_to_ids(family.end)
    prompts = [prompt_ids(tokenizer, user(text), SYSTEM, family.chat) for text in (ASKED, "Why?", ASKED, "Is it?")]
    answers = [SAID, '{"cause": "bots, and more"}', "no", SAID]
    return [
        Tokens(ids, trained_answer(tokenizer, ids, answer, end, family.chat))
        for ids, answer in zip(prompts, answers, strict=True)
    ]


def alone(model: Any, row: Tokens) -> torch.Tensor:
    """What the model itself says of each token of an answer, by its own forward pass."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([row.prompt + row.answer])).logits
    return logits[0, len(row.prompt) - 1 : -1].float()


def test_what_is_learned_is_what_the_model_itself_says(folder: Path, rows: list[Tokens]) -> None:
    """By each method: rows in one sequence, windows, caps, scales and masks that are added change nothing."""
    from modelsmith.training.loading import load

    model, adapter = load(folder, Sft(), None)
    due = [-cross_entropy(alone(model, row), torch.tensor(row.answer), reduction="sum").item() for row in rows]
    add_fused_lm_head(model, outputs=("log_probs",))
    model = get_peft_model(model, adapter).eval()
    with torch.no_grad():
        supervised = -sft._loss(model, pack(rows), "sum").item()
        preferred = dpo.answer_log_probs(model, dpo.together(rows)).tolist()
        rewarded = [0.0] * len(rows)
        for packed in pack_answers(rows, 64):
            logits = model(
                **as_seen(model.get_base_model(), packed.inputs), shift_labels=packed.next_ids, fused_lm_head=True
            ).log_probs[0][packed.next_ids[0] != IGNORED]
            lengths = [len(rows[row].answer) for row in packed.rows]
            for row, part in zip(packed.rows, logits.split(lengths), strict=True):
                rewarded[row] = part.sum().item()
    assert supervised == pytest.approx(sum(due), rel=1e-5)
    assert preferred == pytest.approx(due, rel=1e-4)
    assert rewarded == pytest.approx(due, rel=1e-4)


def test_what_is_drawn_from_is_what_the_model_itself_says(folder: Path, tokenizer: Any, rows: list[Tokens]) -> None:
    """Prompts of one batch have a beginning in common, padding after it, and answers longer than a window."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts, log_probs = [row.prompt for row in rows], dict[int, list[torch.Tensor]]()

    def choose(logits: torch.Tensor, numbers: Sequence[int]) -> torch.Tensor:
        for number, logit in zip(numbers, logits, strict=True):
            log_probs.setdefault(number, []).append(logit.clone())
        return logits.argmax(dim=-1)

    ends = torch.tensor(end_tokens(model, tokenizer))
    with torch.no_grad():
        outputs = decode(model, prompts, share(model, prompts), choose, limit=24, ends=ends, pad=0)
    for output in outputs:
        due = alone(model, Tokens(prompts[output.number], output.tokens))
        torch.testing.assert_close(
            torch.stack(log_probs[output.number][: len(output.tokens)]), due, atol=1e-4, rtol=1e-4
        )


STATEFUL: dict[str, tuple[str, dict[str, Any]]] = {
    "a state": ("falcon_h1", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}),
    "a convolution": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "chunks": ("llama4_text", {"head_dim": 16, "num_local_experts": 2, "attention_chunk_size": 8}),
    "no places": ("bloom", {"n_layer": 2, "n_head": 2}),
}


@pytest.mark.parametrize("kind", STATEFUL)
def test_a_model_whose_layers_run_through_rows_is_refused(kind: str) -> None:
    """Packed rows would run into one another, and batches would be answered wrongly; Nemotron-H is of this kind."""
    architecture, sizes = STATEFUL[kind]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, vocab_size=64, **(SIZES | sizes)))
    with pytest.raises(InvalidInput) as refused:
        require_attention(model)
    assert refused.value.code == "base-model-kind"
    assert architecture in refused.value.message


def test_an_answer_with_thoughts_is_scored_on_its_answer(family: Family, tokenizer: Any) -> None:
    """One that thinks is told so in the cluster file; for any other the thoughts would be part of its answer."""
    prompt = prompt_ids(tokenizer, user(ASKED), SYSTEM, family.chat)
    begin = "" if family.template == R1 else "<think>\n"
    thought = tokenizer(f"{begin}Not bots.\n</think>\n\n{SAID}", add_special_tokens=False).input_ids
    answer = answer_in(tokenizer, prompt, thought, "stop", family.chat)
    earned = rewards(RUBRIC, [Sampled(answer.text, answer.finish == "length", {"cause": "timeout"})])
    assert earned == [1.0 if family.chat.thinking == "strip" else 0.0]


def _turns(family: Family) -> list[dict[str, str]]:
    if family.chat.system == "first-user":
        return [{"role": "user", "content": f"{SYSTEM}\n\n{ASKED}"}]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASKED}]


def _switches(family: Family) -> dict[str, bool]:
    return {"enable_thinking": False} if family.chat.thinking == "off" else {}
