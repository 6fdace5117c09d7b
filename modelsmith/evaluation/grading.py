"""From completions to scored observations: declarative points at once, judged points by the judge.

Declarative points are decided anew each time, which costs less than looking them up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from modelsmith.evaluation.cache import KeptCompletion
from modelsmith.evaluation.judges.port import Judge, JudgeQuestion, JudgeVerdict
from modelsmith.evaluation.prompts import Sample
from modelsmith.evaluation.results import observation_key
from modelsmith.evaluation.scoring import judged_points, score_completion
from modelsmith.points.check import require_comparable, require_usable
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Cause, Observation
from modelsmith.substrates.port import Completion

UNJUDGED = "unjudged"
"""Code of the error that stands in an observation whose completion waits for the judge."""


def unscored(sample: Sample, completion: KeptCompletion, because: Cause | None) -> Observation:
    """A completion that waits to be graded."""
    return Observation(
        row=None,
        section=sample.section,
        id=sample.scenario.id,
        wording=sample.wording,
        repeat=sample.repeat,
        completion=completion.text,
        finish=completion.finish,
        reasons={},
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        wall_seconds=completion.wall_seconds,
        first_token_seconds=completion.first_token_seconds,
        because=because,
    )


def unanswered(sample: Sample, completion: Completion, wall: float, because: Cause | None) -> Observation:
    """A prompt that got no completion."""
    observation = Observation(
        row=None,
        section=sample.section,
        id=sample.scenario.id,
        wording=sample.wording,
        repeat=sample.repeat,
        completion="",
        finish="error",
        reasons={},
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        wall_seconds=wall,
        because=because,
    )
    silent = InfrastructureFailure("no-completion", "The substrate gave no answer.", "Run again.")
    return failed(observation, completion.error or silent)


def failed(observation: Observation, error: ModelsmithError) -> Observation:
    """The observation without a verdict, and why; an error is never a zero."""
    envelope = json.loads(json.dumps(error.envelope() | {"exit": int(error.exit)}, default=str))
    return observation.model_copy(update={"row": None, "reasons": {}, "error": envelope})


def unjudged(observation: Observation) -> Observation:
    """A completion that is kept until the judge has spoken; without a completion, the observation as it is."""
    if observation.finish == "error":
        return observation
    waiting = InfrastructureFailure(
        UNJUDGED, "The answer waits for the judge.", "Run the same command again: only the judge is asked."
    )
    return failed(observation, waiting)


class Grader:
    """Scores the observations of one run."""

    def __init__(
        self,
        governed: GovernedSet,
        samples: Mapping[str, Sample],
        judge: Judge | None,
        on_served: Callable[[str], None] = lambda _name: None,
    ) -> None:
        """``on_served`` gets the name under which a judge without pinned weights answers, before its verdict counts."""
        self._rubric = governed.rubric
        self._digests = governed.digests
        self._samples = samples
        self._judge = judge
        self._heard = on_served
        self._judged = judged_points(governed.rubric)

    @property
    def judges(self) -> bool:
        """Whether a judge is asked at all."""
        return bool(self._judged)

    def require_gradable(self) -> None:
        """Find what is wrong with rubric, references or judge before a token is paid for.

        Raises:
            InvalidInput: rubric and reference do not fit.
            InfrastructureFailure: ``judge-unavailable`` when points are judged and there is no judge.
        """
        for point in self._rubric.points:
            if self._judge is None or point not in self._judged:
                require_usable(point)
        for scenario in {sample.scenario.id: sample.scenario for sample in self._samples.values()}.values():
            try:
                for point in self._rubric.points:
                    require_comparable(point, scenario.reference)
            except ModelsmithError as error:
                error.details.setdefault("scenario", scenario.id)
                raise

    def grade(self, observations: Sequence[Observation]) -> list[Observation]:
        """Each observation with its verdicts, or with the error that kept it from them; failed completions stay so.

        Raises:
            ModelsmithError: what stops the judge altogether.
        """
        answered = [observation for observation in observations if observation.finish != "error"]
        verdicts = self._judge_all(answered) if self._judged else {}
        return [
            self._graded(observation, verdicts.get(observation_key(observation), {})) for observation in observations
        ]

    def _graded(self, observation: Observation, judged: Mapping[str, JudgeVerdict]) -> Observation:
        if observation.finish == "error":
            return observation
        sample, cut_off = self._samples[observation_key(observation)], observation.finish == "length"
        try:
            points, reasons = score_completion(
                self._rubric, sample.scenario, observation.completion, judged, cut_off=cut_off
            )
        except ModelsmithError as error:
            return failed(observation, error)
        row = sample.row(self._digests[sample.scenario.id], points, cut_off)
        return observation.model_copy(update={"row": row, "reasons": reasons, "error": None})

    def _judge_all(self, observations: Sequence[Observation]) -> dict[str, dict[str, JudgeVerdict]]:
        """Verdicts by observation and point."""
        if self._judge is None:
            return {}
        places: dict[str, tuple[str, str]] = {}
        questions = []
        for observation in observations:
            where = observation_key(observation)
            for point in self._judged:
                question = JudgeQuestion(
                    f"{where}#{point.id}", point, self._samples[where].scenario, observation.completion
                )
                places[question.key] = (where, point.id)
                questions.append(question)
        verdicts: dict[str, dict[str, JudgeVerdict]] = {}
        for verdict in self._judge.decide(questions) if questions else ():
            if verdict.served is not None and not self._judge.lasting:
                self._heard(verdict.served)
            where, judged = places[verdict.key]
            verdicts.setdefault(where, {})[judged] = verdict
        return verdicts
