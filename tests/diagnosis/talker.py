"""A model that says what it is told to, for rows from a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from modelsmith.loop.engines import Target
from modelsmith.schema.evalset import Sampling
from modelsmith.substrates.port import Completion, Prompt


class Talker:
    """A model that says what a function makes of the last message, with the weights of nobody."""

    def __init__(self, say: Callable[[str, str], str]) -> None:
        self.say = say
        self.heard: list[str] = []

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        for prompt in prompts:
            self.heard.append(prompt.messages[-1].content)
            yield Completion(prompt.key, self.say(system, self.heard[-1]), "stop", 1, 1, 0.1)

    def close(self) -> None:
        pass


MODEL = Target("base", "sha256:" + "0" * 64)
