"""Failures of production staged from several clones at once, and a staging that is killed on its way."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from attacker import refused

from modelsmith.operations import accept_scenario, capture
from modelsmith.operations.capture import CaptureRequest, pending_cases
from modelsmith.repository.workspace import Workspace

DEADLINE, BOTS, BUDGET = (
    {"prompt": prompt, "answer": "pacing", "outcome": "wrong"}
    for prompt in ("Bids reach the exchange after its deadline. Why?", "Half the clicks last 0 s?", "Spend stops at 9?")
)
SAID = {"answer": ("cause=timeout", "action=cut_latency"), "pass_": "a", "fail": "b", "risk": "low", "lens": "sre"}
STEPS = (
    ("modelsmith.repository.git:Git.commit_files", "after"),
    ("modelsmith.forges.local:LocalForge._push", "before"),
    ("modelsmith.forges.local:LocalForge._push", "after"),
    ("modelsmith.operations.capture:announce", "before"),
)


def records(folder, name, *rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CaptureRequest(file=path)


def prompts(world):
    return sorted(case.messages[-1].content for case in pending_cases(world.governed(), "adtech"))


def test_two_clones_stage_the_same_failure_at_once(fresh):
    """Stage one failure from two clones at once and accept it twice: prevented, it counts once."""
    shutil.copytree(fresh.clone, fresh.folder / "other", symlinks=True)
    both = (
        (fresh.workspace, records(fresh.folder, "one.jsonl", DEADLINE, BOTS)),
        (Workspace(fresh.folder / "other", fresh.home), records(fresh.folder, "two.jsonl", BUDGET, DEADLINE)),
    )
    with ThreadPoolExecutor(2) as pool:
        results = [*pool.map(lambda arguments: capture.run(*arguments), both)]
    assert sorted(result.pull.number for result in results) == [1, 2]
    for result in results:
        fresh.approve(result.pull.number, "dana")
        assert fresh.merge(result.pull.number).status == "merged"
    assert prompts(fresh) == sorted(record["prompt"] for record in (DEADLINE, BOTS, BUDGET)), "none lost, none doubled"
    (twice,) = (case.id for case in pending_cases(fresh.governed(), "adtech") if "deadline" in case.messages[0].content)
    request = accept_scenario.AcceptScenarioRequest(
        id=twice, capability="auction-timeout", outcome="lost-auctions", **SAID
    )
    number = accept_scenario.run(fresh.workspace, request).pull.number
    fresh.approve(number, "dana")
    assert fresh.merge(number).status == "merged"
    assert prompts(fresh) == sorted((BOTS["prompt"], BUDGET["prompt"]))
    with refused("unknown-pending"):
        accept_scenario.run(fresh.workspace, request)


def test_a_staging_that_is_killed_goes_on_where_it_was(fresh):
    """None: a staging is killed at each of its steps, and the next one opens, or finds, one pull request."""
    for number, (step, moment) in enumerate(STEPS, start=1):
        records_file = records(fresh.folder, f"{number}.jsonl", BOTS | {"prompt": f"{BOTS['prompt']} {number}"})
        killed(step, moment, lambda records_file=records_file: capture.run(fresh.workspace, records_file))
        result = capture.run(fresh.workspace, records_file)
        assert (result.pull.number, result.staged) == (number, 1), (step, moment)
        assert capture.run(fresh.workspace, records_file).pull.number == number, "and a third finds it, too"
        assert len(fresh.workspace.revision(fresh.head(number)).read(result.path).splitlines()) == 1
    assert [pull.number for pull in fresh.as_("dana").list("open")] == [1, 2, 3, 4]
    locks = [path for place in (fresh.clone, fresh.forge) for path in place.rglob("*.lock")]
    assert [path for path in locks if "modelsmith" not in path.parts] == [], "nor does a lock of git's stay"


def killed(step, moment, action):
    """The action in a child that kills itself before or after this step."""
    child = os.fork()
    if not child:
        try:
            with pytest.MonkeyPatch.context() as patch:
                module, _, path = step.partition(":")
                *holders, last = path.split(".")
                holder = functools.reduce(getattr, holders, importlib.import_module(module))
                real = getattr(holder, last)

                def stand_in(*args, **named):
                    if moment == "after":
                        real(*args, **named)
                    os.kill(os.getpid(), signal.SIGKILL)

                patch.setattr(holder, last, stand_in)
                action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
