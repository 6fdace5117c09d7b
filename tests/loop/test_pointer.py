"""The pointer that survives a kill: what each phase leaves in ``state.json``, and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelsmith.loop.iteration import Ended, Iteration
from modelsmith.loop.state import StateFile

BEGUN = {
    "cluster": "c", "number": 3, "phase": "eval", "commit": "a" * 40, "reference": "base", "lesson": None,
    "stages": None, "specialist": None, "artifact": None, "export_tag": None, "pull": None, "outcome": None,
    "override": None, "reason": "", "error": None, "recommended": None,
}  # fmt: skip
"""As every version has written it."""
CANDIDATE = {"specialist": "iter-003-00000000", "artifact": "sha256:" + "0" * 64}
FAULT = {"code": "endpoint-down", "message": "m", "mend": "n", "exit": 6}


def states(folder: Path) -> StateFile:
    return StateFile(SimpleNamespace(private=folder, root=folder))  # type: ignore[arg-type]


def read_pointer(folder: Path, **fields: Any) -> Iteration | None:
    text = json.dumps({"clusters": {"c": BEGUN | fields}}, indent=2)
    (folder / "state.json").write_text(text)
    return states(folder).get("c")


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"lesson": "c-iter-002-candidate", "stages": 1, "reason": "plateau", "error": FAULT},
        {"phase": "diagnose", "reason": "base: composite 0.500"},
        {"phase": "train", "reason": "4 failed cases in 2 clusters"},
        {"phase": "seal", "reason": "trained 9 steps", "error": FAULT},
        {"phase": "assess", **CANDIDATE},
        {"phase": "promote", "outcome": "PASS", **CANDIDATE, "error": FAULT},
        {"phase": "promote", "outcome": "INCONCLUSIVE", "override": "We know why.", **CANDIDATE},
        {"phase": "waiting", "outcome": "PASS", "pull": 4, **CANDIDATE},
        {"phase": "waiting", "outcome": "PASS", **CANDIDATE},
        {"phase": "done", "outcome": "FAIL", **CANDIDATE},
        {"phase": "done", "outcome": "FAIL", "reason": "no failure is left to learn from"},
    ],
)
def test_what_a_phase_left_is_read_and_written_again_as_it_was(tmp_path, said):
    iteration = read_pointer(tmp_path, **said)
    assert iteration is not None
    assert iteration.phase == said.get("phase", "eval")
    before = (tmp_path / "state.json").read_text()
    states(tmp_path).put(iteration)
    assert (tmp_path / "state.json").read_text() == before


def test_a_plateau_s_recommendation_is_kept_with_the_iteration_that_ended(tmp_path):
    then = {"operation": "iterate", "arguments": {"cluster": "c"}}
    fields = {"action": "review", "pattern": "p", "file": "", "change": "", "next": then}
    iteration = read_pointer(tmp_path, phase="done", outcome="FAIL", **CANDIDATE, recommended=fields)
    assert isinstance(iteration, Ended)
    assert iteration.recommended is not None
    states(tmp_path).put(iteration)
    assert read_pointer(tmp_path, **json.loads((tmp_path / "state.json").read_text())["clusters"]["c"]) == iteration


@pytest.mark.parametrize("said", [{"phase": "assess"}, {"phase": "waiting", **CANDIDATE}, {"phase": "later"}])
def test_a_pointer_that_lacks_what_its_phase_knows_is_as_good_as_none(tmp_path, said):
    assert read_pointer(tmp_path, **said) is None
