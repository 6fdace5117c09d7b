"""A judge small enough for a test: a real Llama on disk that reads an answer letter by letter and says pass or fail.

Its layers are random, so what it says of an answer is chance; but it says the same each time. Each of its two replies
is one token, and its tokenizer skips all that stands round the answer, so that a verdict takes no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiny import TEMPLATE

from modelsmith.substrates.base_models import listing_digest

REPLIES = ('{"reason": "It is so.", "verdict": "pass"}', '{"reason": "It is not so.", "verdict": "fail"}')
ENDS, STEADY = 0, 1
"""Places of a token's vector that no layer writes to: whether the token is a reply, and whether it is none."""


def write_tiny_judge(folder: Path, questions: Sequence[str], replies: tuple[str, str] = REPLIES) -> str:
    """Write config, weights and tokenizer of a judge that passes half of these questions; the digest."""
    import torch
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*special, *letters])}, merges=[]))
    around = (r"^system\n[\s\S]*", r"^[\s\S]*\[\[answer [0-9a-f]{32}\]\]\n", r"\n\[\[end of answer [\s\S]*")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(pattern), "") for pattern in around])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": special})
    fast.add_tokens([AddedToken(reply, special=False, normalized=False) for reply in replies])
    fast.chat_template = TEMPLATE
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=2,
            tie_word_embeddings=False, initializer_range=0.3,
        )
    )  # fmt: skip
    rows = [fast.convert_tokens_to_ids(reply) for reply in replies]
    with torch.no_grad():
        for layer in model.model.layers:
            for writes in (layer.self_attn.o_proj, layer.mlp.down_proj):
                writes.weight[[ENDS, STEADY]] = 0
        embedding = model.model.embed_tokens.weight
        embedding[:, [ENDS, STEADY]] = torch.tensor([0.0, 1.0])
        embedding[rows] = 0
        embedding[rows, ENDS] = 1000.0
        input_ids = [
            fast.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)["input_ids"]
            for question in questions
        ]
        states = torch.stack([model.model(torch.tensor([ids])).last_hidden_state[0, -1] for ids in input_ids])
        apart = torch.linalg.svd(states - states.mean(0)).Vh[0]
        apart[[ENDS, STEADY]] = 0
        apart[STEADY] = -(states @ apart / states[:, STEADY]).median()
        head = model.lm_head.weight
        head.zero_()
        head[2, ENDS] = 10
        for token, sign in zip(rows, (1, -1), strict=True):
            head[token] = sign * apart
            head[token, STEADY] += 10
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return listing_digest(folder)
