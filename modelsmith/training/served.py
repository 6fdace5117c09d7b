"""Answers of the weights under training by a vLLM server beside the trainer. Heavy: imports torch and PEFT.

Before each sampling the adapter under training is written out and loaded into the server under a name of its digest:
vLLM keeps computed prefixes by name, and a name that comes again can answer from those of older weights
(https://github.com/vllm-project/vllm/issues/42125). The adapter before is then forgotten.

That a load was answered with success proves nothing. So some answers of every sampling are held against the model under
training, token by token: the server says how likely each token was to it, and the trainer's own model has to say the
same. An adapter that was not loaded, an older one and another base model are found by that in the step they come in, as
far as they differ by more than rounding does.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import torch

from modelsmith.schema.canonical import digest
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.source import Chat
from modelsmith.schema.training import Grpo
from modelsmith.schema.training import Sampler as Choice
from modelsmith.substrates.decoding import DecodedSequence, end_tokens
from modelsmith.substrates.vllm.environment import find_python, vllm_facts
from modelsmith.substrates.vllm.server import VllmServer
from modelsmith.substrates.vllm.tokens import TokenAnswer, TokenRequest, ask_tokens
from modelsmith.training.failures import (
    SamplerFailedError,
    SamplerMissingError,
    SamplerRefusedError,
    WeightsDifferError,
)
from modelsmith.training.run import Bench, save_adapter
from modelsmith.training.sampler import PROBES, answer_logits

SERVER_LOG: Final = "vllm.log"
"""File in a job's folder with the server's output."""
SERVED_FOLDER: Final = "served"
"""Of a job's folder: the adapter that the server answers with."""
SAME: Final = {torch.float32: 2e-4, torch.bfloat16: 0.1}
"""Nats a token by which two programs with the same weights may differ on average, by the precision of the weights.

Kernels add up in another order. In float32 that came to 7e-6 with a model of 135 million weights, and an adapter that
was one step of AdamW at 1e-4 older to 3e-3: the limit lies between the two. In bfloat16 a logit of 16 is rounded to
0.125, of which a mean of some hundredths is left. What differs by less than this is off the policy by little more than
rounding is.
"""
_AT_ONCE: Final = 64
"""Prompts that the server is asked about at once; it makes batches of them."""
_LOOK: Final = 0.5
"""Seconds between two looks at whether the answers are there."""


def by_vllm(choice: Choice) -> bool:
    """Whether a vLLM server is to write the answers on this host."""
    if choice != "auto":
        return choice == "vllm"
    if not torch.cuda.is_available():
        return False
    try:
        return vllm_facts(find_python(), Chat()).device == "cuda"
    except InfrastructureFailure:
        return False


def serve(bench: Bench, settings: Grpo, longest: int) -> ServedSampler:
    """Start the server, which ends with the bench, and before that with this process, however it ends.

    ``longest``: most tokens of a prompt with its answer.

    Raises:
        SamplerMissingError: this host has no vLLM.
        SamplerFailedError: the server does not start.
        StoppedError: asked to stop meanwhile.
    """
    most = getattr(bench.model.config, "max_position_embeddings", longest)
    try:
        server = VllmServer(
            bench.base,
            bench.folder / SERVER_LOG,
            rank=settings.lora.rank,
            dtype="float32" if bench.model.dtype == torch.float32 else "bfloat16",
            longest=min(longest, most),
            gpu_share=settings.gpu_memory_share,
        )
    except InfrastructureFailure as error:
        raise SamplerMissingError(error.message) from None
    bench.used["vllm"] = server.facts.version
    bench.cleanup.callback(server.stop)
    try:
        server.start(lambda seconds: bench.signs.waits_for_vllm("it starts", seconds))
    except InfrastructureFailure as error:
        raise _failed(error) from None
    return ServedSampler(server, bench)


class ServedSampler:
    """Draws answers as `sampler.Sampler` does, by a server. The same seed gives the same but for rounding."""

    def __init__(self, server: VllmServer, bench: Bench) -> None:
        self._server, self._signs, self._folder = server, bench.signs, bench.folder / SERVED_FOLDER
        base = bench.model.get_base_model() if hasattr(bench.model, "peft_config") else bench.model
        self._ends = frozenset(end_tokens(base, bench.tokenizer))
        self._vocabulary = int(base.config.vocab_size)
        self._loaded: tuple[str, Path] | None = None
        shutil.rmtree(self._folder, ignore_errors=True)  # what a worker that was killed left
        bench.cleanup.callback(shutil.rmtree, self._folder, ignore_errors=True)

    def draw(
        self,
        trained: Any,
        prompts: Sequence[list[int]],
        answers: int,
        limit: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[DecodedSequence]:
        """See `sampler.Sampler.draw`.

        Raises:
            WeightsDifferError: the answers are none of the weights under training.
            SamplerRefusedError: the server does not take the adapter.
            SamplerFailedError: it ended, or did not answer as asked.
            StoppedError: asked to stop meanwhile.
        """
        requests = [
            TokenRequest(prompt, answers, limit, temperature, seed) for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return self._written(trained, requests)

    def greedy(self, trained: Any, prompts: Sequence[list[int]], limit: int) -> list[DecodedSequence]:
        """See `sampler.Sampler.greedy`, and for errors `draw`."""
        return self._written(trained, [TokenRequest(prompt, 1, limit, 0.0, 0) for prompt in prompts])

    def _written(self, trained: Any, requests: Sequence[TokenRequest]) -> list[DecodedSequence]:
        begin = time.monotonic()
        try:
            replies = self._ask(self._name(trained), requests, begin)
        except InfrastructureFailure as error:
            raise _failed(error) from None
        except InvalidInput as error:
            raise SamplerRefusedError(str(error.details.get("reason", error.message))) from None
        _require_same(
            trained, [(request.prompt, answers[0]) for request, answers in zip(requests, replies, strict=True)][:PROBES]
        )
        seconds = time.monotonic() - begin
        return [
            DecodedSequence(number, reply.tokens, reply.ended, seconds)
            for number, reply in enumerate(chain.from_iterable(replies))
        ]

    def _name(self, trained: Any) -> str:
        """The adapter as it is now, loaded; the name to ask for."""
        scratch = self._folder / "next"
        scratch.parent.mkdir(exist_ok=True)
        weights = digest(save_adapter(trained, scratch))
        if self._loaded and self._loaded[0] == weights:
            return self._server.load_adapter(self._loaded[1], weights)
        folder = self._folder / weights.removeprefix("sha256:")
        scratch.rename(folder)
        before, self._loaded = self._loaded, (weights, folder)
        name = self._server.load_adapter(folder, weights)
        if before:
            self._server.forget_adapter(before[0])
            shutil.rmtree(before[1], ignore_errors=True)
        return name

    def _ask(self, name: str, requests: Sequence[TokenRequest], begin: float) -> list[list[TokenAnswer]]:
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            futures = [
                pool.submit(ask_tokens, self._server, name, request, self._ends, self._vocabulary)
                for request in requests
            ]
            while (state := wait(futures, _LOOK, FIRST_EXCEPTION)).not_done:
                for future in state.done:
                    future.result()
                self._signs.waits_for_vllm("it writes answers", time.monotonic() - begin)
            return [future.result() for future in futures]
        except BaseException:
            self._server.stop()  # so that no thread waits for a reply any more
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _require_same(trained: Any, replies: Sequence[tuple[Sequence[int], TokenAnswer]]) -> None:
    """Hold the server's log-probabilities against those of the model as the trainer has it, without dropout.

    Raises:
        WeightsDifferError: they are those of other weights.
    """
    most = SAME.get(next(trained.parameters()).dtype, SAME[torch.float32])
    differ = fmean(chain.from_iterable(_apart(trained, prompt, reply) for prompt, reply in replies))
    if not differ <= most:
        raise WeightsDifferError(
            f"the server's tokens are {differ:.3g} nats more or less likely by the model under training, on average, "
            f"and rounding explains {most:g}"
        )


def _apart(trained: Any, prompt: Sequence[int], reply: TokenAnswer) -> list[float]:
    logits, ids = answer_logits(trained, prompt, reply.tokens)
    own = logits.log_softmax(dim=-1).gather(1, ids[:, None])[:, 0].cpu()
    apart: list[float] = (own - torch.tensor(reply.log_probs)).abs().tolist()
    return apart


def _failed(error: InfrastructureFailure) -> SamplerFailedError:
    return SamplerFailedError(f"{error.message.rstrip('.')} ({error.code}).")
