"""Completions from transformers in this process. Heavy: import it only inside an operation.

Beyond a plain ``generate`` loop it computes the prompts' common beginning (system prompt and template) once, keeps keys
and values in buffers that are never reallocated, drops finished sequences from the batch, and lays out weights for
small batches.
"""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from modelsmith.substrates.quiet import quiet

quiet()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from transformers.cache_utils import Cache, CacheLayerMixin  # noqa: E402

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError  # noqa: E402
from modelsmith.schema.evalset import Sampling  # noqa: E402
from modelsmith.schema.run import EngineFacts  # noqa: E402
from modelsmith.schema.source import Chat  # noqa: E402
from modelsmith.schema.steps import step as next_step  # noqa: E402
from modelsmith.substrates.adapter import load_adapter, require_whole  # noqa: E402
from modelsmith.substrates.chat import Answer, Finish, answer_after, begins_thinking, common_prefix, prompt_ids  # noqa: E402
from modelsmith.substrates.local_facts import local_facts  # noqa: E402
from modelsmith.substrates.port import Completion, Prompt  # noqa: E402

BATCH = {"cpu": 32, "cuda": 256}
"""Sequences decoded together; measured best on two cores."""


ALL_THREADS = torch.get_num_threads()
"""As many as PyTorch would take by itself."""
PROMPT_TAIL = 32
"""Tokens at a prompt's end in which its template may have opened the thoughts."""
_PLAIN = Chat()
COMPACT_BELOW = 0.75
"""Share of unfinished sequences at which the finished ones leave the batch; moving the buffers costs about a step."""


class _Request(NamedTuple):
    prompt: Prompt
    ids: list[int]


class TransformersSubstrate:
    """One model, with its adapter merged in, in float32 on a CPU and bfloat16 on a GPU.

    The same prompts give the same completions: batches are formed by length and key, and sampling draws from a
    generator seeded by ``sampling.seed`` and the conversation: neither a prompt's neighbours nor its name matter.

    ``whole``: the folder must hold every weight of the model and no other. Without it, transformers fills what is
    missing with random numbers, and warns.

    Raises:
        InfrastructureFailure: ``model-load`` or ``out-of-memory``.
        IntegrityFailure: ``weights-misfit`` when the folder is not whole.
    """

    facts: EngineFacts

    def __init__(
        self,
        model_folder: Path,
        adapter: Path | None,
        threads: int | None = None,
        chat: Chat = _PLAIN,
        *,
        whole: bool = False,
    ) -> None:
        self._threads = threads or ALL_THREADS
        self.facts = local_facts(chat)
        self._chat = chat
        device = self.facts.device
        dtype = getattr(torch, self.facts.dtype)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(model_folder), local_files_only=True)
            model, told = AutoModelForCausalLM.from_pretrained(
                str(model_folder), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            if whole:
                require_whole(told)
            if adapter is not None:
                model = load_adapter(model, adapter).merge_and_unload()
            self._model: Any = model.eval().to(device)
            if device == "cpu":
                _lay_out_for_small_batches(model)
        except ModelsmithError:
            raise
        except Exception as error:
            raise _failure("model-load", "The model could not be loaded.", error) from error
        self._device = torch.device(device)
        self._end = torch.tensor(_end_tokens(self._model, self._tokenizer), device=self._device)

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """Complete each prompt once, longest first; yields batch by batch."""
        requests = []
        limit = getattr(self._model.config, "max_position_embeddings", None)
        for prompt in prompts:
            ids = self._prompt_ids(prompt, system)
            if limit is not None and len(ids) + sampling.max_new_tokens > limit:
                yield _too_long(prompt, len(ids), limit)
            else:
                requests.append(_Request(prompt, ids))
        if not requests:
            return
        requests.sort(key=lambda r: (-len(r.ids), r.prompt.key))
        size = BATCH[self._device.type]
        try:
            with torch.inference_mode(), computing_on(self._threads):
                shared = self._shared(requests)
            for start in range(0, len(requests), size):
                with torch.inference_mode(), computing_on(self._threads):
                    completions = self._batch(requests[start : start + size], shared, sampling)
                yield from completions
        except (MemoryError, RuntimeError) as error:
            raise _failure("generation-failed", "The model stopped while answering.", error) from error

    def _prompt_ids(self, prompt: Prompt, system: str) -> list[int]:
        try:
            return prompt_ids(self._tokenizer, prompt.messages, system, self._chat)
        except ModelsmithError as error:
            error.details.setdefault("prompt", prompt.key)
            raise

    def close(self) -> None:
        """Release the weights."""
        self._model = None

    def _shared(self, requests: Sequence[_Request]) -> Cache:
        """Keys and values of the tokens that all prompts begin with."""
        length = common_prefix([r.ids for r in requests])
        cache = self._cache(1, length)
        if length:
            ids = torch.tensor([requests[0].ids[:length]], device=self._device)
            self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def _cache(self, batch: int, capacity: int) -> Cache:
        return Cache(layers=[_Buffer(batch, capacity) for _ in range(self._model.config.num_hidden_layers)])

    def _batch(self, requests: Sequence[_Request], shared: Cache, sampling: Sampling) -> list[Completion]:
        begin = time.perf_counter()
        known = shared.get_seq_length()
        tails = [r.ids[known:] for r in requests]
        width = max(map(len, tails))
        cache = self._cache(len(requests), known + width + sampling.max_new_tokens)
        for ours, theirs in zip(cache.layers, shared.layers, strict=True):
            ours.begin_with(theirs)
        pad = self._tokenizer.pad_token_id or 0
        step = torch.tensor([[pad] * (width - len(t)) + t for t in tails], device=self._device)
        starts = torch.tensor([[width - len(t)] for t in tails], device=self._device)
        columns = torch.arange(width + sampling.max_new_tokens, device=self._device)
        visible = torch.cat([columns.new_ones(len(tails), known), (columns >= starts).long()], dim=1)
        positions = (known + columns - starts).clamp(min=0)
        generators = [_generator(sampling.seed, r.prompt) for r in requests] if sampling.temperature else []
        written: list[list[int]] = [[] for _ in requests]
        rows = list(range(len(requests)))
        done: dict[int, Completion] = {}
        at = slice(0, width)
        while True:
            logits = self._model(
                input_ids=step,
                attention_mask=visible[:, : known + at.stop],
                position_ids=positions[:, at],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen = _choose(logits.float(), sampling, [generators[index] for index in rows] if generators else [])
            ended = torch.isin(chosen, self._end).tolist()
            for index, token, end in zip(rows, chosen.tolist(), ended, strict=True):
                if index not in done:
                    written[index].append(token)
                    if end or len(written[index]) == sampling.max_new_tokens:
                        seconds = time.perf_counter() - begin
                        done[index] = self._completion(requests[index], written[index], end, seconds)
            if len(done) == len(requests):
                return list(done.values())
            kept = [row for row, index in enumerate(rows) if index not in done]
            if len(kept) <= len(rows) * COMPACT_BELOW:
                cache.batch_select_indices(torch.tensor(kept, device=self._device))
                chosen, visible, positions = chosen[kept], visible[kept], positions[kept]
                rows = [rows[row] for row in kept]
            step, at = chosen[:, None], slice(at.stop, at.stop + 1)

    def _completion(self, request: _Request, written: list[int], ended: bool, seconds: float) -> Completion:
        said = self._answer(request, written[:-1] if ended else written, "stop" if ended else "length")
        return Completion(request.prompt.key, said.text, said.finish, len(request.ids), len(written), seconds)

    def _answer(self, request: _Request, written: list[int], finish: Finish) -> Answer:
        """The answer in these tokens. The marks around thoughts may be special tokens, which the answer has none of."""
        chat, decode = self._chat, self._tokenizer.decode
        if chat.thinking != "strip":
            return Answer(decode(written, skip_special_tokens=True), finish)
        opened = begins_thinking(decode(request.ids[-PROMPT_TAIL:]), chat)
        ends = decode(written).count(chat.end)
        after = bisect_left(range(len(written)), ends, key=lambda count: decode(written[:count]).count(chat.end))
        if not ends or after == len(written):
            return answer_after(decode(written), finish, chat, opened)
        joint = decode(written[:after]).rpartition(chat.end)[2]
        return Answer((joint + decode(written[after:], skip_special_tokens=True)).lstrip(), finish)


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Compute on this many CPU threads inside the block, and leave what was set before.

    PyTorch counts them for each thread of Python apart, so two jobs of one process do not change each other's number.
    A thread of Python that computes for the first time takes the number that was set last, by whomever: so a job always
    names its own.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Buffer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer in a buffer of fixed capacity, so that a step writes its own tokens only."""

    is_sliding = False

    def __init__(self, batch: int, capacity: int) -> None:
        super().__init__()
        self._shape = (batch, capacity)
        self._length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        batch, capacity = self._shape
        self.keys = key_states.new_empty(batch, key_states.shape[1], capacity, key_states.shape[3])
        self.values = value_states.new_empty(batch, value_states.shape[1], capacity, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[2]
        self.keys[:, :, self._length : end] = key_states
        self.values[:, :, self._length : end] = value_states
        self._length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def begin_with(self, other: _Buffer) -> None:
        """Start every sequence with the tokens of a cache of one sequence."""
        if other.get_seq_length():
            self.update(other.keys.expand(self._shape[0], -1, -1, -1), other.values.expand(self._shape[0], -1, -1, -1))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these sequences."""
        self.keys, self.values = self.keys[indices], self.values[indices]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        return self._length

    def get_max_length(self) -> int:
        return self._shape[1]


def _lay_out_for_small_batches(model: Any) -> None:
    """Store linear weights input-major: with few rows, as in decoding, MKL multiplies by such a matrix twice as fast.

    The output head gets a copy of its own where it shares its weights with the embedding.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.data.t().contiguous().t()
            module.weight = torch.nn.Parameter(weight, requires_grad=False)


def _choose(logits: torch.Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Next token of each sequence: the likeliest, or a draw from the smallest set that holds ``top_p`` of the mass."""
    if not generators:
        return logits.argmax(dim=-1)
    chances, tokens = torch.softmax(logits / sampling.temperature, dim=-1).sort(dim=-1, descending=True)
    chances[chances.cumsum(dim=-1) - chances >= sampling.top_p] = 0.0
    drawn = [torch.multinomial(row.cpu(), 1, generator=g) for row, g in zip(chances, generators, strict=True)]
    return tokens.gather(1, torch.stack(drawn).to(tokens.device))[:, 0]


def _generator(seed: int, prompt: Prompt) -> torch.Generator:
    turns = [[message.role, message.content] for message in prompt.messages]
    material = hashlib.sha256(f"{seed}\x00{json.dumps(turns)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(material[:8], "big") >> 1)


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None})


def _too_long(prompt: Prompt, length: int, limit: int) -> Completion:
    error = InvalidInput(
        "prompt-too-long",
        f"The prompt has {length} tokens; with its answer it exceeds the model's {limit}.",
        "Shorten the scenario, or lower sampling.max_new_tokens.",
        tokens=length,
        limit=limit,
    )
    return Completion(prompt.key, "", "error", length, 0, 0.0, error)


def _failure(code: str, message: str, error: Exception) -> ModelsmithError:
    text = str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return InfrastructureFailure(
            "out-of-memory", "The model does not fit into memory.", "Close other programs, or use a larger machine."
        )
    return InfrastructureFailure(
        code,
        message,
        "Check the model folder with `{next}`.",
        reason=f"{type(error).__name__}: {text[:300]}",
    ).then(next_step("doctor", {}))
