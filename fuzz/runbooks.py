"""Targets: runbooks with what they are given and what their steps come to, and the records of their runs."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

from fuzz.examples import example
from fuzz.target import BETWEEN, ROOT, Files, Target, parts, scratch
from modelsmith.operations.runbook_records import Runs
from modelsmith.operations.runbook_view import planned
from modelsmith.operations.runbooks import arguments_of, bind, holds, read_runbook, request_of, require_runnable
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.catalog import CODEOWNERS
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.runbook_run import RunOf, StepRecord

GIVEN = {
    "onboarding-validation": b"cluster=rtb-pricing",
    "nightly-iterate": b"cluster=rtb-pricing\nmax_iterations=2",
    "regression-response": b"cluster=rtb-pricing\nreason=Win rate fell.",
    "failed-training-triage": b"cluster=rtb-pricing\ntag=rtb-pricing-iter-001-base",
    "key-rotation": b"pr=4",
    "deprecate-specialist": b"cluster=rtb-pricing\nspecialist=iter-001-5a5a5a5a",
}
CAME_TO = {
    "result": {"pull": {"number": 4, "status": "merged", "waiting_for": ["@platform"]}, "clusters": []},
    "exit": 0,
}


def read_one(data: bytes) -> object:
    """The file, a parameter a line, and what every step comes to: it plans, and calls nothing that it may not."""
    text, parameters, came_to = parts(data, 3)
    governed: Any = read_runbook(_tree(text), "fuzzed")
    values = bind(governed.runbook, parameters.decode("utf-8", "replace").splitlines())
    require_runnable(governed.runbook, values, None)
    plan = planned(governed, values)
    assert not {step.call for step in plan} & {"approve", "reject", "init", "runbook run"}
    try:
        answer = json.loads(came_to or b"{}")
    except (ValueError, RecursionError):
        return plan
    outcomes = {step.id: answer for step in governed.runbook.steps} if isinstance(answer, dict) else {}
    for step in governed.runbook.steps:
        if all(holds(condition, values, outcomes) for condition in (*step.when, *step.expect)):
            with suppress(InvalidInput):
                request_of(step, arguments_of(step, values, outcomes))
    return plan


def _tree(text: bytes) -> Any:
    return Files({"runbooks/fuzzed.json": text, CODEOWNERS: (ROOT / CODEOWNERS).read_bytes()})


def runbook_seeds() -> list[bytes]:
    seeds = []
    for path in sorted((ROOT / "runbooks").glob("*.json")):
        text = path.read_bytes().replace(f'"{path.stem}"'.encode(), b'"fuzzed"', 1)
        seeds.append(BETWEEN.join((text, GIVEN[path.stem], canonical_json(CAME_TO))))
    return seeds


@cache
def _clone() -> Any:
    """What records of runs need of a clone: where they lie, and this machine's key."""
    return SimpleNamespace(private=scratch() / "private", home=scratch() / "home")


def read_record(data: bytes) -> object:
    """The run and its first record, as somebody may have put them there."""
    run, record = parts(data, 2)
    runs = Runs(_clone())
    folder = runs._of(_run())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(run)
    (folder / "01.json").write_bytes(record)
    return list(runs.audit()), runs.latest("x", _run().digest, {}), runs.records(_run())


def _run() -> RunOf:
    return RunOf(runbook="x", digest="sha256:" + "5a" * 32, parameters={}, number=1)


def record_seeds() -> list[bytes]:
    runs, run = Runs(_clone()), _run()
    runs.keep(run, 0, example(StepRecord, run=run.id, previous=run.id))
    return [canonical_json(run) + BETWEEN + (runs._of(run) / "01.json").read_bytes()]


TARGETS = (Target("runbook", read_one, runbook_seeds), Target("runbook-record", read_record, record_seeds))
"""What runbooks and their runs are read by."""
