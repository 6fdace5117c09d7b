"""What was generated and judged before, addressed by what it answers: ``cache/answers.db``.

It lies in the folder that the toolkit keeps under the git directory: a commit cannot bring answers along.

A completion is kept under the digest of weights, base model, engine, system prompt, sampling, conversation and repeat;
a judge's verdict under that of point, scenario, answer and judge. Processes share the file. The cache is never the
truth: an entry that does not carry the digest of itself under its own key is not there, a damaged file is begun anew,
and what cannot be written is generated again next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from modelsmith.evaluation.judges.port import JudgeQuestion
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import content_digest, sha256
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.governed_set import scenario_digest
from modelsmith.schema.run import EngineFacts
from modelsmith.substrates.port import Completion, Prompt

DRAWN = "by-content"
"""How a sampled answer is drawn, in its key: those that earlier versions drew by the prompt's name stay out."""
BUSY_SECONDS = 30.0
"""How long one process waits for another's write."""
_LOOKED_UP_AT_ONCE = 500
_SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, seal BLOB NOT NULL)"

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
    wording = [one.model_dump(mode="json") for one in question.scenario.criteria if one.point == question.point.id]
    asked = [content_digest(question.point), scenario_digest(question.scenario), wording]
    return sha256(_json(["verdict", judge, *asked, sha256(question.completion.encode("utf-8", "replace"))]))


def kept(completion: Completion, wall: float) -> KeptCompletion | None:
    """What is kept of a completion; of a failed one nothing."""
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

    def find(self, kind: type[T], keys: Collection[str]) -> dict[str, T]:
        """What is kept under these keys; entries that are not whole, or of another kind, are passed over."""
        found: dict[str, T] = {}
        wanted = [_raw(key) for key in keys]

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(wanted), _LOOKED_UP_AT_ONCE):
                some = wanted[start : start + _LOOKED_UP_AT_ONCE]
                marks = ",".join("?" * len(some))
                for key, value, seal in database.execute(
                    f"SELECT key, value, seal FROM answers WHERE key IN ({marks})",  # noqa: S608
                    some,
                ):
                    entry = _whole(kind, key, value, seal)
                    if entry is not None:
                        found["sha256:" + key.hex()] = entry

        if self.path.exists():
            self._use(read)
        return found

    def keep(self, entries: Mapping[str, Frozen]) -> None:
        """Keep entries, all in one transaction."""
        rows = []
        for key, entry in entries.items():
            try:
                value = entry.model_dump_json().encode()
            except ValueError:  # half a surrogate pair: no text that can be kept
                continue
            rows.append((_raw(key), value, _seal(_raw(key), value)))

        def write(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")

        if rows:
            self._use(write)

    def _use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=NORMAL")
                database.execute(_SCHEMA)
                work(database)
        except (OSError, sqlite3.OperationalError):
            return
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _whole(kind: type[T], key: object, value: object, seal: object) -> T | None:
    if not (isinstance(key, bytes) and isinstance(value, bytes) and seal == _seal(key, value)):
        return None
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        return None


def _seal(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(b"modelsmith answer\0" + key + value).digest()


def _raw(key: str) -> bytes:
    return bytes.fromhex(key.removeprefix("sha256:"))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
