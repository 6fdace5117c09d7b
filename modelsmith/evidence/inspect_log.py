"""A run as a log of inspect_ai, so that its viewer and its analysis tools read what Modelsmith measured.

One sample is one wording of one scenario in one section, one epoch one repeat. Each rubric point is a score of its own
(``C`` or ``I``); `TOTAL` is the weighted score, `PASSED` whether every required point passed. Those two begin with a
capital, as no rubric point may. Scenario, capability and the other dimensions are the sample's metadata; by `CLUSTER`
every standard error is clustered.

Held-out samples carry verdicts and tokens only: no message, answer, reference or reason. There is no way to ask for
more, since whoever reads a log is not kept from training on it.

``inspect_ai`` is the ``inspect`` extra, imported on first use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from modelsmith import __version__
from modelsmith.evaluation.prompts import conversation
from modelsmith.evaluation.scoring import row_passed, row_score
from modelsmith.evaluation.tally import SECTIONS
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.run import Observation, RunResult, VerdictRow
from modelsmith.schema.scenario import Scenario

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalMetric, EvalResults, EvalSample, EvalSpec
    from inspect_ai.scorer import SampleScore, Score

TOTAL: Final = "Score"
PASSED: Final = "Passed"
CLUSTER: Final = "scenario"
"""Key of the sample metadata by which standard errors are clustered."""
WITHHELD: Final = "held out: shown to nobody"
_STOPS: Final = {"stop": "stop", "length": "max_tokens", "error": "unknown"}


def inspect_log(run: RunResult, governed: GovernedSet, observations: Iterable[Observation]) -> EvalLog:
    """The run and its observations as a finished log; the same run gives the same log.

    ``governed`` is the eval set that the run answered.

    Raises:
        InvalidInput: ``other-question`` when it is not.
        InfrastructureFailure: ``extra-missing`` without inspect_ai.
    """
    try:
        from inspect_ai.log import EvalLog, EvalStats
    except ImportError:
        raise InfrastructureFailure(
            "extra-missing", "Writing inspect logs needs inspect_ai.", "Run: pip install 'modelsmith[inspect]'"
        ) from None
    if governed.question() != run.question:
        raise InvalidInput(
            "other-question",
            f"The eval set {run.eval_set} is no longer what run {run.tag} answered",
            f"Check out a commit in which evals/{run.eval_set} is the git tree {run.eval_tree}.",
            eval_set=run.eval_set,
            tag=run.tag,
        )
    scenarios = {scenario.id: scenario for scenario in (*governed.core, *governed.micro, *governed.held_out)}
    ordered = sorted(observations, key=lambda o: (SECTIONS.index(o.section), o.id, o.wording, o.repeat))
    samples = [_sample(run, governed, scenarios[observation.id], observation) for observation in ordered]
    started, ended = run.started_at, run.started_at + timedelta(seconds=run.duration_seconds)
    return EvalLog(
        status="success",
        eval=_spec(run, governed, samples),
        results=_results(run, samples),
        stats=EvalStats(
            started_at=started.isoformat(), completed_at=ended.isoformat(), model_usage=_usage(run, ordered)
        ),
        samples=samples,
    )


def _spec(run: RunResult, governed: GovernedSet, samples: Sequence[EvalSample]) -> EvalSpec:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec
    from inspect_ai.model import GenerateConfig

    sampling = governed.evalset.sampling
    names = list(dict.fromkeys(str(sample.id) for sample in samples))
    return EvalSpec(
        created=run.started_at.isoformat(),
        eval_id=run.run_id.removeprefix("sha256:")[:22],
        run_id=run.run_id,
        task_id=run.eval_set,
        task=run.eval_set,
        task_version=run.eval_set_version,
        model=_model(run),
        model_generate_config=GenerateConfig(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
        ),
        dataset=EvalDataset(name=run.eval_set, samples=len(names), sample_ids=names),
        config=EvalConfig(epochs=sampling.repeats),
        packages={"modelsmith": __version__},
        metadata={
            **run.model_dump(
                mode="json",
                include={"tag", "cluster", "weights", "question", "rubric", "eval_tree", "engine", "sections", "quick"},
            ),
            "verdict": run.headline.verdict,
        },
    )


def _model(run: RunResult) -> str:
    return f"modelsmith/{run.model}"


def _usage(run: RunResult, observations: Sequence[Observation]) -> dict[str, Any]:
    from inspect_ai.model import ModelUsage

    input_tokens, output_tokens = (
        sum(getattr(o, f"{kind}_tokens") for o in observations) for kind in ("prompt", "completion")
    )
    return {
        _model(run): ModelUsage(
            input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens
        )
    }


def _sample(run: RunResult, governed: GovernedSet, scenario: Scenario, observation: Observation) -> EvalSample:
    from inspect_ai.log import EvalError, EvalSample

    name = f"{observation.section}/{scenario.id}/{observation.wording}"
    visible = observation.section != "held_out"
    messages = _messages(governed, scenario, observation, name) if visible else []
    row, error = observation.row, observation.error
    return EvalSample(
        id=name,
        epoch=observation.repeat + 1,
        uuid=f"{run.run_id.removeprefix('sha256:')[:16]}/{name}/{observation.repeat}",
        input=messages[:-1] if visible else WITHHELD,
        target=json.dumps(scenario.reference, ensure_ascii=False, sort_keys=True) if visible else "",
        messages=messages,
        output=_output(run, observation, messages),
        scores=_scores(run, row, observation.reasons if visible else {}) if row else None,
        metadata={
            "section": observation.section,
            CLUSTER: scenario.id,
            "wording": observation.wording,
            "repeat": observation.repeat,
            "digest": governed.digests[scenario.id],
            **scenario.model_dump(include={"capability", "risk", "operator_lens", "outcome_type", "critical"}),
        },
        model_usage=_usage(run, [observation]),
        total_time=observation.seconds,
        error=EvalError(message=_error_text(error, visible), traceback="", traceback_ansi="") if error else None,
    )


def _error_text(error: dict[str, Any], visible: bool) -> str:
    """Code and message; of a held-out case the code alone, as a message may quote."""
    return f"{error.get('code')}: {error.get('message')}" if visible else str(error.get("code"))


def _messages(governed: GovernedSet, scenario: Scenario, observation: Observation, name: str) -> list[Any]:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    messages: list[Any] = [ChatMessageSystem(content=governed.evalset.prompt.system, id=f"{name}#0")]
    for number, message in enumerate(conversation(scenario, observation.wording), start=1):
        kind = ChatMessageUser if message.role == "user" else ChatMessageAssistant
        messages.append(kind(content=message.content, id=f"{name}#{number}"))
    answer = f"{name}#answer-{observation.repeat}"
    return [*messages, ChatMessageAssistant(content=observation.completion, id=answer, source="generate")]


def _output(run: RunResult, observation: Observation, messages: Sequence[Any]) -> Any:
    from inspect_ai.model import ChatCompletionChoice, ModelOutput

    stop = _STOPS[observation.finish]
    choices = [ChatCompletionChoice.model_validate({"message": messages[-1], "stop_reason": stop})] if messages else []
    return ModelOutput(
        model=_model(run),
        choices=choices,
        usage=_usage(run, [observation])[_model(run)],
        time=observation.seconds,
    )


def _scores(run: RunResult, row: VerdictRow, reasons: dict[str, str]) -> dict[str, Score]:
    from inspect_ai.scorer import CORRECT, INCORRECT, Score

    def decided(passed: bool, why: str | None = None) -> Score:
        return Score(value=CORRECT if passed else INCORRECT, explanation=why)

    return {
        TOTAL: Score(value=row_score(row.points, run.rule.points)),
        PASSED: decided(row_passed(row.points, run.rule.points)),
        **{point: decided(passed, reasons.get(point)) for point, passed in row.points.items()},
    }


def _results(run: RunResult, samples: Sequence[EvalSample]) -> EvalResults:
    """Headline numbers that are ours, and inspect's own metrics of every section and rubric point."""
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    scored = [sample for sample in samples if sample.scores]
    scores = []
    for name, estimate in (("Composite", run.headline.composite), ("Held-out passed", run.headline.held_out)):
        if estimate.n:
            values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            metrics = {metric: EvalMetric(name=metric, value=value) for metric, value in values.items()}
            scores.append(EvalScore(name=name, scorer="modelsmith", metrics=metrics))
    for section in run.sections:
        inside = [sample for sample in scored if sample.metadata["section"] == section]
        scores.append(EvalScore(name=f"{TOTAL} in {section}", scorer=TOTAL, metrics=_metrics(inside, TOTAL)))
    points = [point.id for point in run.rule.points]
    scores += [EvalScore(name=point, scorer=point, metrics=_metrics(scored, point)) for point in points]
    return EvalResults(total_samples=len(samples), completed_samples=len(scored), scores=scores)


def _metrics(samples: Sequence[EvalSample], score: str) -> dict[str, EvalMetric]:
    from inspect_ai.log import EvalMetric
    from inspect_ai.scorer import mean, stderr

    scores: list[SampleScore] = list(sample_scores(samples, score))
    metrics: dict[str, Any] = {"mean": mean(), "stderr": stderr(cluster=CLUSTER)}
    return {name: EvalMetric(name=name, value=float(metric(scores))) for name, metric in metrics.items()}


def sample_scores(samples: Sequence[EvalSample], score: str) -> Iterator[SampleScore]:
    """One score of every sample, as inspect's metrics take them."""
    from inspect_ai.scorer import SampleScore

    for sample in samples:
        if sample.scores:
            yield SampleScore(score=sample.scores[score], sample_id=sample.id, sample_metadata=sample.metadata)
