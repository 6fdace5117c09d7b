"""What a model answers to training prompts, drawn several times: the raw material of preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from modelsmith.diagnosis.pairs import Drawn
from modelsmith.loop.beside import waiting_for_doors
from modelsmith.loop.engines import Target, open_substrate
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import canonical_json, digest
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import InfrastructureFailure, ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.plain_file import read_plain
from modelsmith.schema.progress import Progress
from modelsmith.schema.training_row import Prompt
from modelsmith.signing.files import write_atomically
from modelsmith.substrates.port import Prompt as EnginePrompt


class Round(Frozen):
    """One answer to each prompt, in their order; null where the model could not be asked (a prompt too long)."""

    answers: tuple[tuple[str, bool] | None, ...]
    """Text, and whether it was cut off."""


def draw(
    workspace: Workspace,
    cluster: Cluster,
    target: Target,
    prompts: Sequence[Prompt],
    system: str,
    sampling: Sampling,
    folder: Path,
) -> list[list[Drawn]]:
    """``sampling.repeats`` answers of the target to each prompt.

    Each round is kept in ``folder`` when it is whole: interrupted, the same call goes on with the next.

    Raises:
        InvalidInput, InfrastructureFailure: as `open_substrate` and the engine; and what the last prompt of a round
            failed with, where not one was answered for want of a server.
    """
    questions = [EnginePrompt(str(number), prompt.messages) for number, prompt in enumerate(prompts)]
    drawn: list[list[Drawn]] = [[] for _ in prompts]
    substrate, wait = open_substrate(workspace, cluster, target, None), waiting_for_doors(workspace, cluster, target)
    try:
        for number in range(sampling.repeats):
            settings = sampling.model_copy(update={"repeats": 1, "seed": (sampling.seed + number) % 2**32})
            identity = digest(
                [[p.model_dump(mode="json") for p in prompts], target.weights, system, settings.model_dump()]
            )
            path = folder / f"answers-{identity.removeprefix('sha256:')[:16]}.json"
            answer_round = _stored_round(path)
            if answer_round is None:
                by_key: dict[str, tuple[str, bool]] = {}
                failure: ModelsmithError | None = None
                wait()
                for count, completion in enumerate(substrate.complete(questions, system, settings), start=1):
                    if completion.error is None:
                        by_key[completion.key] = completion.text, completion.finish == "length"
                    failure = completion.error or failure
                    if count % 32 == 0 or count == len(questions):
                        at = number * len(questions) + count
                        text = f"{at} of {sampling.repeats * len(questions)} answers drawn from {target.name}"
                        workspace.notify(Progress("train", text, at, sampling.repeats * len(questions)))
                    wait()
                if not by_key and isinstance(failure, InfrastructureFailure):
                    raise failure  # a server that fails now may answer later: nothing of it is kept
                answer_round = Round(answers=tuple(by_key.get(prompt.key) for prompt in questions))
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, canonical_json(answer_round))
            for answers, answer in zip(drawn, answer_round.answers, strict=True):
                if answer is not None:
                    answers.append(Drawn(*answer))
    finally:
        substrate.close()
    return drawn


def _stored_round(path: Path) -> Round | None:
    try:
        return Round.model_validate_json(read_plain(path))
    except (OSError, ValidationError):
        return None
