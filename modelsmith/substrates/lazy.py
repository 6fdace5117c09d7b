"""A substrate that is opened when the first prompt comes: a run whose answers are all known loads no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.run import EngineFacts
from modelsmith.substrates.port import Completion, Prompt, Substrate


class LazySubstrate:
    """Stands for the substrate that `open_` opens, whose facts are known beforehand."""

    def __init__(self, facts: EngineFacts, open_: Callable[[], Substrate]) -> None:
        self.facts = facts
        self._open = open_
        self._opened: Substrate | None = None

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """Completions of the opened substrate; opening happens in this call, before the first one is waited for.

        Raises:
            InfrastructureFailure: ``engine-differs`` when it is not what its facts said.
        """
        if self._opened is None:
            self._opened = self._open()
            if self._opened.facts != self.facts:
                raise InfrastructureFailure(
                    "engine-differs",
                    "The engine that was loaded is not the one that was expected.",
                    "Report the versions that `modelsmith doctor` prints.",
                    expected=self.facts.model_dump(mode="json"),
                    found=self._opened.facts.model_dump(mode="json"),
                )
        return self._opened.complete(prompts, system, sampling)

    def close(self) -> None:
        """Close what was opened."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
