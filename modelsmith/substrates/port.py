"""The port through which tokens come: whichever engine answers, evaluation sees only this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.scenario import Message


@dataclass(frozen=True)
class Prompt:
    """One conversation to be continued, without the system prompt."""

    key: str
    """Chosen by the caller, unique in a batch; the completion carries it back."""
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Completion:
    """The completion of one prompt: its text or an error, with counts and time."""

    key: str
    text: str
    """Generated text without special tokens; empty when `error` is set."""
    finish: Literal["stop", "length", "error"]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Time of the request; in a batch, the batch's time."""
    error: ModelsmithError | None = None
    """Why there is no text; an error is never an empty answer."""
    first_token_seconds: float | None = None
    """Time from the request to the first token, where the engine streams."""
    served: str | None = None
    """What a server calls the model that answered, where it says so."""


class Substrate(Protocol):
    """An engine with a model loaded."""

    facts: EngineFacts
    """Engine and the settings that can change a completion."""

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """Continue each prompt once, after the system prompt; yield completions as they finish, in any order.

        A prompt that cannot be answered yields a completion with `error` set. Whatever stops the whole batch is raised
        as a `ModelsmithError`. ``sampling.repeats`` is the caller's affair: one prompt, one completion.
        """
        ...

    def close(self) -> None:
        """Give back memory, processes and connections; calling it again does nothing."""
        ...
