"""Completions from transformers in this process. Heavy: import it only inside an operation.

How it is faster than a plain ``generate`` loop stands in `decoding`; it also lays out weights for small batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelsmith.substrates.quiet import quiet

quiet()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from transformers.cache_utils import Cache  # noqa: E402

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError  # noqa: E402
from modelsmith.schema.evalset import Sampling  # noqa: E402
from modelsmith.schema.run import EngineFacts  # noqa: E402
from modelsmith.schema.source import Chat  # noqa: E402
from modelsmith.schema.steps import step as next_step  # noqa: E402
from modelsmith.substrates.adapter import load_adapter, require_whole  # noqa: E402
from modelsmith.substrates.attention import require_attention  # noqa: E402
from modelsmith.substrates.chat import answer_in, prompt_ids  # noqa: E402
from modelsmith.substrates.decoding import decode, end_tokens, for_small_batches, share  # noqa: E402
from modelsmith.substrates.local_facts import local_facts  # noqa: E402
from modelsmith.substrates.port import Completion, Prompt  # noqa: E402

BATCH = {"cpu": 32, "cuda": 256}
"""Sequences decoded together; measured best on two cores."""


ALL_THREADS = torch.get_num_threads()
"""The number of threads that PyTorch takes by itself."""
_PLAIN = Chat()


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
            self._tokenizer = AutoTokenizer.from_pretrained(
                str(model_folder), local_files_only=True, trust_remote_code=False
            )
            model, loading_info = AutoModelForCausalLM.from_pretrained(
                str(model_folder),
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
            if whole:
                require_whole(loading_info)
            if adapter is not None:
                model = load_adapter(model, adapter).merge_and_unload()
            require_attention(model)
            self._model: Any = model.eval().to(device)
            if device == "cpu":
                _lay_out_for_small_batches(model)
        except ModelsmithError:
            raise
        except Exception as error:
            raise _failure("model-load", "The model could not be loaded.", error) from error
        self._device = torch.device(device)
        self._end = torch.tensor(end_tokens(self._model, self._tokenizer), device=self._device)

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
                shared = share(self._model, [request.ids for request in requests])
            for start in range(0, len(requests), size):
                with torch.inference_mode(), computing_on(self._threads):
                    completions = self._batch(requests[start : start + size], shared, sampling)
                yield from completions
        except (MemoryError, RuntimeError) as error:
            raise _failure("generation-failed", "The model stopped while answering.", error) from error

    def speak(
        self, prompt: Prompt, system: str, sampling: Sampling, hear: Callable[[str], None], most: int | None = None
    ) -> Completion:
        """Complete one prompt, and let its text be heard as it is written; what ``hear`` raises ends it at once.

        What was heard is the completion's text. Where thoughts are taken away, it is heard when it is whole.
        A prompt of more than ``most`` tokens is not begun: nothing could end it before it has been read.
        """
        ids = self._prompt_ids(prompt, system)
        if most is not None and len(ids) > most:
            return _too_long(prompt, len(ids), most, "here a prompt has at most")
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None and len(ids) + sampling.max_new_tokens > limit:
            return _too_long(prompt, len(ids), limit)
        generators = [_generator(sampling.seed, prompt)] if sampling.temperature else []
        ends = set(self._end.tolist())
        stream = Hearing(self._tokenizer, hear if self._chat.thinking != "strip" else lambda text: None)

        def choose(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
            chosen_tokens = _choose(logits, sampling, generators)
            token = int(chosen_tokens[0])
            if token not in ends:
                stream.token(token)
            return chosen_tokens

        with torch.inference_mode(), computing_on(self._threads):
            output = decode(
                self._model,
                [ids],
                share(self._model, [ids]),
                choose,
                limit=sampling.max_new_tokens,
                ends=self._end,
                pad=self._tokenizer.pad_token_id or 0,
            )[0]
        completion = self._completion(_Request(prompt, ids), output.tokens, output.ended, output.seconds)
        if rest := completion.text.removeprefix(stream.text):
            hear(rest)
        return completion

    def _prompt_ids(self, prompt: Prompt, system: str) -> list[int]:
        try:
            return prompt_ids(self._tokenizer, prompt.messages, system, self._chat)
        except ModelsmithError as error:
            error.details.setdefault("prompt", prompt.key)
            raise

    def close(self) -> None:
        """Release the weights."""
        self._model = None

    def _batch(self, requests: Sequence[_Request], shared: Cache, sampling: Sampling) -> list[Completion]:
        generators = [_generator(sampling.seed, r.prompt) for r in requests] if sampling.temperature else []
        outputs = decode(
            self._model,
            [r.ids for r in requests],
            shared,
            lambda logits, rows: _choose(logits, sampling, [generators[row] for row in rows] if generators else []),
            limit=sampling.max_new_tokens,
            ends=self._end,
            pad=self._tokenizer.pad_token_id or 0,
        )
        return [
            self._completion(requests[output.number], output.tokens, output.ended, output.seconds) for output in outputs
        ]

    def _completion(self, request: _Request, tokens: list[int], ended: bool, seconds: float) -> Completion:
        answer = answer_in(
            self._tokenizer, request.ids, tokens[:-1] if ended else tokens, "stop" if ended else "length", self._chat
        )
        return Completion(request.prompt.key, answer.text, answer.finish, len(request.ids), len(tokens), seconds)


class Hearing:
    """Tokens to text as they come: a character that is not whole yet is waited for."""

    def __init__(self, tokenizer: Any, hear: Callable[[str], None]) -> None:
        self._decode = partial(tokenizer.decode, skip_special_tokens=True)
        self._hear = hear
        self._tokens: list[int] = []
        self._sent = 0
        """Tokens whose text was heard; a few before them are read again with what is new, since a token's text may
        depend on the one before it."""
        self._from = 0
        self.text = ""

    def token(self, token: int) -> None:
        """Take the next one."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._from : self._sent])
        now = self._decode(self._tokens[self._from :])
        if len(now) > len(before) and not now.endswith("\ufffd"):
            self._from, self._sent = self._sent, len(self._tokens)
            self.text += now[len(before) :]
            self._hear(now[len(before) :])


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


def _lay_out_for_small_batches(model: Any) -> None:
    """Store linear weights as decoding likes them.

    The output head gets a copy of its own where it shares its weights with the embedding.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight = torch.nn.Parameter(for_small_batches(module.weight.data), requires_grad=False)


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


def _too_long(
    prompt: Prompt, length: int, limit: int, why: str = "with its answer it exceeds the model's"
) -> Completion:
    error = InvalidInput(
        "prompt-too-long",
        f"The prompt has {length} tokens; {why} {limit}.",
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
