"""A judge that is asked once: what it said on the same point of the same answer stands in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsmith.evaluation.cache import Cache, KeptVerdict, verdict_key
from modelsmith.evaluation.judges.port import Judge, JudgeQuestion, JudgeVerdict
from modelsmith.schema.base import Digest


class RememberingJudge:
    """Another judge with the cache in front; one whose weights nobody can pin is asked anew in every run."""

    def __init__(self, judge: Judge, cache: Cache, *, one_run: bool = False) -> None:
        """``one_run``: nothing else uses the cache, so that it may keep what any judge says."""
        self.identity: Digest = judge.identity
        self.lasting = judge.lasting
        self._one_run = one_run
        self._judge = judge
        self._cache = cache
        self.asked = 0
        """Questions that the cache could not answer and the judge did."""

    def decide(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeVerdict]:
        """See `Judge`. What the judge said is kept also when it is stopped midway.

        In one run's own cache each verdict is kept before the next is waited for: whoever is killed in the midst of a
        batch, or counts as stalled by a slow judge, has it all when the run goes on.
        """
        if not (self.lasting or self._one_run):
            yield from self._ask(questions)
            return
        keys = {question.key: verdict_key(question, self.identity) for question in questions}
        verdicts = self._cache.find(KeptVerdict, set(keys.values()))
        unasked = []
        for question in questions:
            kept_verdict = verdicts.get(keys[question.key])
            if kept_verdict is None:
                unasked.append(question)
            else:
                yield JudgeVerdict(question.key, kept_verdict.passed, kept_verdict.reason)
        fresh: dict[str, KeptVerdict] = {}
        try:
            for verdict in self._ask(unasked):
                if verdict.error is None:
                    fresh[keys[verdict.key]] = KeptVerdict(passed=verdict.passed, reason=verdict.reason)
                if self._one_run:
                    self._cache.keep(fresh)
                    fresh = {}
                yield verdict
        finally:
            self._cache.keep(fresh)

    def known(self, question: JudgeQuestion) -> bool | None:
        """Whether the judge passed this before; None when it was never asked."""
        key = verdict_key(question, self.identity)
        verdict = self._cache.find(KeptVerdict, {key}).get(key) if self.lasting or self._one_run else None
        return verdict.passed if verdict else None

    def close(self) -> None:
        """See `Judge`."""
        self._judge.close()

    def _ask(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeVerdict]:
        for verdict in self._judge.decide(questions) if questions else ():
            self.asked += 1
            yield verdict
