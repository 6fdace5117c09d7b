"""A judge that is a model behind a substrate: one call for each point and answer, greedily decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsmith.evaluation.judges.port import JudgeQuestion, JudgeVerdict
from modelsmith.evaluation.judges.prompt import SYSTEM, prompt_digest, question_text, read_verdict, too_long, unclear
from modelsmith.schema.base import Digest
from modelsmith.schema.canonical import digest, sha256
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import JudgeModel
from modelsmith.substrates.port import Completion, Prompt, Substrate


def judge_identity(engine: EngineFacts, model: JudgeModel, weights: Digest) -> Digest:
    """Digest of all that shapes a verdict of the judge with these weights in this engine; see `Judge`."""
    return digest(
        {
            "weights": weights,
            "engine": engine.model_dump(mode="json"),
            "prompt": prompt_digest(),
            "sampling": _sampling(model).model_dump(mode="json"),
        }
    )


class ModelJudge:
    """A `Judge` that asks a model. It owns the substrate and closes it."""

    def __init__(self, substrate: Substrate, model: JudgeModel, weights: Digest) -> None:
        """``weights`` is the digest of the judge's weights, or of what is known about a server's model."""
        self._substrate = substrate
        self._sampling = _sampling(model)
        self.identity: Digest = judge_identity(substrate.facts, model, weights)
        self.lasting = substrate.facts.weights == "pinned"

    def decide(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeVerdict]:
        """See `Judge`. Questions that read alike are asked once; an answer over the bound fails without being asked."""
        waiting: dict[str, list[JudgeQuestion]] = {}
        prompts: list[Prompt] = []
        for question in questions:
            if problem := too_long(question.completion):
                yield JudgeVerdict(question.key, False, problem)
                continue
            text = question_text(question)
            key = sha256(text.encode())
            if key not in waiting:
                prompts.append(Prompt(key, (Message(role="user", content=text),)))
            waiting.setdefault(key, []).append(question)
        for completion in self._substrate.complete(prompts, SYSTEM, self._sampling) if prompts else ():
            own_questions = waiting.pop(completion.key, None)
            if own_questions is None:
                raise InfrastructureFailure(
                    "substrate-confused",
                    "The judge's substrate answered a prompt that is not waiting for an answer.",
                    "Report the substrate's version.",
                    key=completion.key,
                )
            yield from (_verdict(question, completion) for question in own_questions)
        for question in (pending for group in waiting.values() for pending in group):
            yield JudgeVerdict(question.key, False, "", _silent())

    def close(self) -> None:
        """See `Judge`."""
        self._substrate.close()


def _sampling(model: JudgeModel) -> Sampling:
    return Sampling(max_new_tokens=model.max_new_tokens)


def _verdict(question: JudgeQuestion, completion: Completion) -> JudgeVerdict:
    try:
        if completion.error is not None:
            raise _of_judge(completion.error)
        if completion.finish == "error":
            raise _silent()
        if completion.finish == "length":
            raise unclear("breaks off before its end")
        passed, reason = read_verdict(completion.text, question.completion)
    except ModelsmithError as error:
        return JudgeVerdict(question.key, False, "", error, completion.served)
    return JudgeVerdict(question.key, passed, reason, served=completion.served)


def _of_judge(error: ModelsmithError) -> ModelsmithError:
    """The error, said of the judge where it would read as one of the model that is evaluated."""
    if error.code != "prompt-too-long":
        return error
    return InvalidInput(
        "judge-prompt-too-long",
        f"What the judge has to read is too long for it. {error.message}",
        "Shorten the scenario, its criteria or sampling.max_new_tokens, or name a judge that reads more.",
        **error.details,
    )


def _silent() -> InfrastructureFailure:
    return InfrastructureFailure(
        "judge-failed", "The judge's engine gave no reply.", "Run the same command again; the rest is kept."
    )
