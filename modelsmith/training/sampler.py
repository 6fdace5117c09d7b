"""Answers of the very weights under training, at the speed of the in-process engine. Heavy: imports torch and PEFT.

Decoding goes through a twin of the base model that shares its tensors. For the time of one call the twin's linear
layers get weights of their own: base and adapter as one, laid out for small batches. The trained model is never
merged: to add a matrix and take it away again would change its last bits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from modelsmith.schema.canonical import digest
from modelsmith.substrates.decoding import Choose, DecodedSequence, decode, end_tokens, for_small_batches, share
from modelsmith.substrates.local import BATCH
from modelsmith.training.loading import computes_in, is_4bit

ADAPTER = "default"
"""Name under which PEFT and TRL keep the adapter that is trained."""
PROBES = 2
"""Answers of one call whose every token the trained model itself is asked about."""
TIE = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""Logits that are as near as this are equal: merging rounds otherwise than adding up does."""


class Sampler:
    """Draws answers with a model and its adapter."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """``model``: with or without an adapter, and before a trainer has put its hands on it."""
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        self._twin = None if is_4bit(base) else _twin(base)
        self._pad = tokenizer.pad_token_id or 0
        self._ends = torch.tensor(end_tokens(base, tokenizer))

    def draw(
        self,
        trained: Any,
        prompts: Sequence[list[int]],
        answers: int,
        limit: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[DecodedSequence]:
        """``answers`` to each prompt, in order. The same weights, prompt and seed of it give the same.

        That holds but for rounding whatever else is drawn beside it: each answer draws by numbers of its own, a race of
        exponentially distributed times as in PyTorch's ``multinomial``.
        """
        own = [
            torch.Generator(trained.device).manual_seed(seed_of(seed, number))
            for seed in seeds
            for number in range(answers)
        ]

        def choose(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
            times = torch.empty_like(logits)
            for row, number in enumerate(rows):
                times[row].exponential_(generator=own[number])
            return (torch.softmax(logits / temperature, dim=-1) / times).argmax(dim=-1)

        return self._decode(trained, prompts, choose, answers, limit)

    def greedy(self, trained: Any, prompts: Sequence[list[int]], limit: int) -> list[DecodedSequence]:
        """The likeliest answer to each prompt, in order."""
        return self._decode(trained, prompts, lambda logits, _rows: logits.argmax(dim=-1), 1, limit)

    def _decode(
        self, trained: Any, prompts: Sequence[list[int]], choose: Choose, answers: int, limit: int
    ) -> list[DecodedSequence]:
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        size = max(1, BATCH[trained.device.type] // answers)
        outputs: dict[int, DecodedSequence] = {}
        ends = self._ends.to(trained.device)
        with torch.inference_mode(), self._decoding(trained) as model:
            shared = share(model, prompts)
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                numbers = [index * answers + answer for index in batch for answer in range(answers)]
                for output in decode(
                    model, [prompts[index] for index in batch], shared, _numbered(choose, numbers),
                    limit=limit, ends=ends, pad=self._pad, answers=answers,
                ):  # fmt: skip
                    outputs[numbers[output.number]] = output._replace(number=numbers[output.number])
        return [outputs[number] for number in sorted(outputs)]

    @contextmanager
    def _decoding(self, trained: Any) -> Iterator[Any]:
        """The model to decode with, whose weights are those of the trained one."""
        if self._twin is None:
            training = trained.training
            trained.eval()
            try:
                yield trained.get_base_model()
            finally:
                trained.train(training)
        else:
            self._twin.to(trained.device)  # what a trainer moved are the weights, which are shared; buffers are not
            with _merged(self._twin, trained):
                yield self._twin


def _numbered(choose: Choose, numbers: Sequence[int]) -> Choose:
    """The same of a batch whose sequences have these numbers in the whole."""
    return lambda logits, rows: choose(logits, [numbers[row] for row in rows])


def seed_of(seed: int, number: int) -> int:
    """A seed of its own for each of many: with one for all, all would draw by the same numbers."""
    return int(digest([str(seed), number]).removeprefix("sha256:")[:15], 16)


@contextmanager
def _merged(twin: Any, trained: Any) -> Iterator[None]:
    layers = dict(trained.get_base_model().named_modules())
    linear = {name: module for name, module in twin.named_modules() if isinstance(module, torch.nn.Linear)}
    before = {name: module.weight for name, module in linear.items()}
    small = twin.device.type == "cpu"
    try:
        for name, module in linear.items():
            weight, layer = module.weight, layers[name]
            if isinstance(layer, LoraLayer):
                weight = weight + layer.get_delta_weight(ADAPTER).to(weight.dtype)
            module.weight = torch.nn.Parameter(for_small_batches(weight) if small else weight, requires_grad=False)
        yield
    finally:
        for name, module in linear.items():
            module.weight = before[name]


def answer_logits(trained: Any, prompt: Sequence[int], answer: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model under training says at each token of an answer, in one pass without a cache, nothing dropped out.

    Returns:
        Logits in float32, (tokens of the answer, vocabulary), and the answer's ids, both where the model is.
    """
    ids = torch.tensor([[*prompt, *answer]], device=trained.device)
    training = trained.training
    trained.eval()
    try:
        with torch.no_grad():
            return trained(input_ids=ids).logits[0, len(prompt) - 1 : -1].float(), ids[0, len(prompt) :]
    finally:
        trained.train(training)


def disagreement(trained: Any, prompt: Sequence[int], greedy: DecodedSequence) -> str | None:
    """Why this greedy answer is none of the trained model's; None when each of its tokens is the likeliest there.

    It is computed by the model as the trainer has it, in one pass without a cache.
    """
    logits, ids = answer_logits(trained, prompt, greedy.tokens)
    logit_of_taken = logits.gather(1, ids[:, None])[:, 0]
    short = (logits.max(dim=-1).values - logit_of_taken).max().item()
    if short <= TIE.get(computes_in(trained), TIE[torch.float32]):
        return None
    return f"a token of a greedy answer falls {short:.3g} short of the likeliest"


def _twin(base: Any) -> Any:
    """A model of its own that shares every tensor with this one, without its adapter layers."""
    shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    twin = copy.deepcopy(base, shared)
    for name, module in list(twin.named_modules()):
        if isinstance(module, LoraLayer):
            twin.set_submodule(name, module.base_layer)
    return twin.eval()
