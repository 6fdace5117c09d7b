"""The reward as a worker computes it: the rubric's score, by a judge where one decides points. Heavy.

The judge has an account and a cache of its own in the job's folder. The cache is of this training alone, so it keeps
what any judge says: a step that is taken again after a kill asks nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from modelsmith.evaluation.cache import Cache
from modelsmith.evaluation.judges.metered import Account, AccountDamagedError, BudgetSpentError, MeteredSubstrate
from modelsmith.evaluation.judges.model import ModelJudge
from modelsmith.evaluation.judges.port import Judge
from modelsmith.evaluation.judges.remembering import RememberingJudge
from modelsmith.evaluation.reward import Earned, Sampled, earned, earned_or_unclear
from modelsmith.evaluation.scoring import judged_points
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.rubric import Rubric
from modelsmith.schema.source import JudgeModel
from modelsmith.schema.training import Grpo
from modelsmith.substrates.endpoint.facts import unknown_weights
from modelsmith.substrates.lazy import LazySubstrate
from modelsmith.substrates.local_facts import local_facts
from modelsmith.substrates.port import Substrate
from modelsmith.training import ranks
from modelsmith.training.failures import JudgeFailedError, JudgeSpentError, JudgeUnclearError
from modelsmith.training.job import DamagedInputError, TrainJob

JUDGE_FOLDER: Final = "judge"
"""Of a job's folder: what the judge was asked, and what it said."""
_UNCLEAR: Final = frozenset({"judge-unclear", "judge-prompt-too-long"})
"""Errors by which the judge came to no verdict on one answer, though it can be asked."""
_AGAIN: Final = 2
"""How often more a judge whose weights nobody can pin is asked about such an answer. A pinned one decodes greedily, so
it would say the same."""


class Reward:
    """The reward: scores of sampled answers by the rubric, and its judge."""

    def __init__(self, rubric: Rubric, judge: Judge | None = None, account: Account | None = None) -> None:
        self._rubric, self._judge, self._account = rubric, judge, account
        self._points = len(judged_points(rubric))
        self.last_unclear = ""
        """Why the judge last came to no verdict on an answer; empty while it came to one on each."""

    @property
    def calls(self) -> int | None:
        """Questions put to the judge in this training; None without one."""
        return self._account.calls if self._account else None

    def require_left(self, answers: int) -> None:
        """Refuse to begin on answers whose judged points might not all be asked for.

        Raises:
            JudgeSpentError: so many answers may need more questions than are left.
        """
        needed = answers * self._points
        if self._account and not self._account.allows(needed):
            raise JudgeSpentError(
                f"{self._account.calls} of {self._account.most} calls are spent, and the next step may need {needed}."
            )

    def of(self, sampled: Sequence[Sampled]) -> list[Earned | None]:
        """What each is worth, in order: what an eval would score. None where the judge came to no verdict.

        Raises:
            JudgeSpentError: the judge may be asked no more.
            JudgeFailedError: it could not be asked, or did not reply.
            JudgeUnclearError: it came to no verdict on more than half of them.
        """
        if self._judge is None:
            return [*earned(self._rubric, sampled)]
        try:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                results = self._ask(sampled, self._judge)
        except BudgetSpentError as error:
            raise JudgeSpentError(f"{error}.") from None
        except ModelsmithError as error:
            raise JudgeFailedError(_in_words(error)) from None
        unclear = [failure for failure in results if isinstance(failure, ModelsmithError)]
        if 2 * len(unclear) > len(results):
            raise JudgeUnclearError(f"On {len(unclear)} of {len(results)} answers at once. {_in_words(unclear[0])}")
        self.last_unclear = _in_words(unclear[0]) if unclear else self.last_unclear
        return [None if isinstance(score, ModelsmithError) else score for score in results]

    def _ask(self, sampled: Sequence[Sampled], judge: Judge) -> list[Earned | ModelsmithError]:
        results = earned_or_unclear(self._rubric, sampled, judge, _UNCLEAR)
        for _ in range(0 if judge.lasting else _AGAIN):
            places = [place for place, score in enumerate(results) if isinstance(score, ModelsmithError)]
            if not places or not (self._account and self._account.allows(len(places) * self._points)):
                break
            again = earned_or_unclear(self._rubric, [sampled[place] for place in places], judge, _UNCLEAR)
            for place, score in zip(places, again, strict=True):
                results[place] = score
        return results

    def close(self) -> None:
        """Give back what the judge holds."""
        if self._judge is not None:
            self._judge.close()


def _in_words(error: ModelsmithError) -> str:
    return f"{error.message.rstrip('.')} ({error.code})."


def open_reward(folder: Path, job: TrainJob, weights: Path | None) -> Reward:
    """The reward of the job in this folder; ``weights`` is where this host has those of the judge.

    Of several processes that train together the first alone rewards, so there is one judge, one account and one cache.

    Raises:
        DamagedInputError: this host would ask another judge than the job names.
        JudgeFailedError: what the judge was asked before is not known any more.
        InvalidInput: ``key-missing``.
    """
    assert job.rubric
    if job.judge is None or not ranks.is_first():
        return Reward(job.rubric)
    assert isinstance(job.training, Grpo)
    assert job.training.judge_calls
    try:
        account = Account(folder / JUDGE_FOLDER / "account.json", job.training.judge_calls)
    except AccountDamagedError as error:
        raise JudgeFailedError(f"How often it was asked is lost ({error}): delete the job's folder.") from None
    substrate, digest = _substrate(job.judge.model, weights)
    judge = ModelJudge(MeteredSubstrate(substrate, account), job.judge.model, digest)
    if judge.identity != job.judge.identity:
        raise DamagedInputError("the judge is not as the job says")
    return Reward(job.rubric, RememberingJudge(judge, Cache(folder / JUDGE_FOLDER), one_run=True), account)


def _substrate(model: JudgeModel, weights: Path | None) -> tuple[Substrate, str]:
    if model.base_model is None:
        from modelsmith.substrates.endpoint.substrate import EndpointSubstrate

        assert model.endpoint
        return EndpointSubstrate(model.endpoint, name=f"the judge {model.name}"), unknown_weights(model.endpoint)
    assert weights
    chat = model.base_model.chat

    def load() -> Substrate:
        from modelsmith.substrates.local import TransformersSubstrate

        return TransformersSubstrate(weights, None, None, chat)

    return LazySubstrate(local_facts(chat), load), model.base_model.digest
