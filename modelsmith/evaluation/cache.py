"""What was generated and judged before, addressed by what it answers: ``cache/answers.db``.

It lies in the folder that the toolkit keeps under the git directory: a commit cannot bring answers along.

A completion is kept under the digest of weights, base model, engine, system prompt, sampling, conversation and repeat;
a judge's verdict under that of point, scenario, answer and judge. Processes share the file, and the cache is never the
truth: see `substrates.kept_bytes`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from modelsmith.evaluation.judges.port import JudgeQuestion
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import content_digest, sha256
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.governed_set import scenario_digest
from modelsmith.schema.run import EngineFacts
from modelsmith.substrates.kept_bytes import KeptBytes
from modelsmith.substrates.port import Completion, Prompt

DRAWN = "by-content"
"""How a sampled answer is drawn, in its key: those that earlier versions drew by the prompt's name stay out."""

T = TypeVar("T", bound=Frozen)


class KeptCompletion(Frozen):
    """A completion as it came, with what it took."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    wall_seconds: float
    first_token_seconds: float | None


class KeptVerdict(Frozen):
    """A judge's word on one point of one answer."""

    passed: bool
    reason: str


class CompletionKeys:
    """Keys of completions by one model, an adapter together with its base, under one way of asking."""

    def __init__(self, weights: str, base: str | None, engine: EngineFacts, system: str, sampling: Sampling) -> None:
        settings = sampling.model_dump(mode="json", exclude={"repeats"})
        if sampling.temperature:
            settings["drawn"] = DRAWN
        self._common = _json(["completion", weights, base, engine.model_dump(mode="json"), system, settings])

    def key(self, prompt: Prompt, repeat: int) -> str:
        """Key of one completion; the prompt's own name does not enter."""
        turns = [[message.role, message.content] for message in prompt.messages]
        return sha256(self._common + b"\0" + _json([turns, repeat]))


def verdict_key(question: JudgeQuestion, judge: str) -> str:
    """Key of a judge's verdict; `judge` is the judge's identity."""
    wording = [
        criterion.model_dump(mode="json")
        for criterion in question.scenario.criteria
        if criterion.point == question.point.id
    ]
    facts = [content_digest(question.point), scenario_digest(question.scenario), wording]
    return sha256(_json(["verdict", judge, *facts, sha256(question.completion.encode("utf-8", "replace"))]))


def kept_completion(completion: Completion, wall: float) -> KeptCompletion | None:
    """The part of a completion that is kept; None for a failed one."""
    if completion.error is not None or completion.finish == "error":
        return None
    return KeptCompletion(
        text=completion.text.encode("utf-8", "replace").decode(),
        finish=completion.finish,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        wall_seconds=wall,
        first_token_seconds=completion.first_token_seconds,
    )


class Cache:
    """The cache of one workspace. No call of it fails: at worst nothing is found, or nothing is kept."""

    def __init__(self, folder: Path) -> None:
        """Address the cache, in the clone's private folder; it is made at the first write."""
        self.path = folder / "answers.db"
        self._kept = KeptBytes(self.path, "answer")

    def find(self, kind: type[T], keys: Collection[str]) -> dict[str, T]:
        """What is kept under these keys; entries that are not whole, or of another kind, are passed over."""
        values: dict[str, T] = {}
        for key, value in self._kept.find([_raw(key) for key in keys]).items():
            with suppress(ValidationError):
                values["sha256:" + key.hex()] = kind.model_validate_json(value)
        return values

    def keep(self, entries: Mapping[str, Frozen]) -> None:
        """Keep entries, all in one transaction."""
        rows = {}
        for key, entry in entries.items():
            with suppress(ValueError):  # half a surrogate pair: no text that can be kept
                rows[_raw(key)] = entry.model_dump_json().encode()
        self._kept.keep(rows)


def _raw(key: str) -> bytes:
    return bytes.fromhex(key.removeprefix("sha256:"))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
