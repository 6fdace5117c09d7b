"""What a judge may be asked in all: an account on disk that is charged before each question, and survives a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from modelsmith.schema.base import Digest, Frozen
from modelsmith.schema.canonical import canonical_json, sha256
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.plain_file import read_plain
from modelsmith.signing.files import write_atomically
from modelsmith.substrates.port import Completion, Prompt, Substrate


class BudgetSpentError(Exception):
    """The judge may be asked no more."""


class AccountDamagedError(Exception):
    """The account of what was spent is damaged, and is not taken for an empty one."""


class _Spent(Frozen):
    calls: Annotated[int, Field(ge=0)] = 0
    served: Digest | None = None


class Account:
    """Questions put to a judge, of so many that may be."""

    def __init__(self, path: Path, most: int) -> None:
        """Go on with the account that the file holds.

        Raises:
            AccountDamagedError: the file cannot be read.
        """
        self.most = most
        self._path = path
        try:
            self._spent = _Spent.model_validate_json(read_plain(path))
        except FileNotFoundError:
            self._spent = _Spent()
        except ValidationError:
            raise AccountDamagedError(path.name) from None

    @property
    def calls(self) -> int:
        """Questions that were put."""
        return self._spent.calls

    def allows(self, calls: int) -> bool:
        """Whether so many more may be put."""
        return self.calls + calls <= self.most

    def require(self, calls: int) -> None:
        """Raise BudgetSpentError where so many questions are more than are left; none may be put."""
        if not self.allows(calls):
            raise BudgetSpentError(f"{calls} questions, and {self.most - self.calls} of {self.most} are left")

    def charge(self, calls: int) -> None:
        """Charge questions before they are put, so that a kill cannot get them for free. Raises as `require`."""
        self.require(calls)
        self._write(self._spent.model_copy(update={"calls": self.calls + calls}))

    def hold_served(self, name: str) -> None:
        """Note under which name a server answers, or find that it is the one noted before.

        Raises:
            InfrastructureFailure: ``endpoint-model-changed``.
        """
        now = sha256(name.encode("utf-8", "surrogatepass"))
        if self._spent.served not in (None, now):
            raise InfrastructureFailure(
                "endpoint-model-changed",
                "The judge's server answers under another name than before in this training.",
                "Ask for the model by a name that does not move, or delete the job's folder and train again.",
            )
        if self._spent.served is None:
            self._write(self._spent.model_copy(update={"served": now}))

    def _write(self, spent: _Spent) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, canonical_json(spent))
        self._spent = spent


class MeteredSubstrate:
    """Another substrate, whose every prompt is charged to the account first.

    Until it has answered once, and after it failed, one prompt is put alone before the others: a judge that is away
    costs one question each time that it is tried, and not a batch of them.
    """

    def __init__(self, substrate: Substrate, account: Account) -> None:
        self.facts = substrate.facts
        self._substrate, self._account = substrate, account
        self._answers = False
        """Whether it was there when it was last asked."""

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """See `Substrate`.

        Raises:
            BudgetSpentError: there are more prompts than are left.
        """
        self._account.require(len(prompts))
        rest = list(prompts)
        while rest and not self._answers:
            (first, *rest) = rest
            for completion in self._ask([first], system, sampling):
                yield completion
                if isinstance(completion.error, InfrastructureFailure):
                    yield from (replace(completion, key=prompt.key) for prompt in rest)
                    return
        if rest:
            yield from self._ask(rest, system, sampling)

    def _ask(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        self._account.charge(len(prompts))
        self._answers = False
        for completion in self._substrate.complete(prompts, system, sampling):
            if completion.served is not None and self.facts.weights == "unknown":
                self._account.hold_served(completion.served)
            self._answers = not isinstance(completion.error, InfrastructureFailure)
            yield completion

    def close(self) -> None:
        """See `Substrate`."""
        self._substrate.close()
