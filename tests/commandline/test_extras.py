"""Whoever asks `doctor` hears of every extra that the package offers, and how to get it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from modelsmith.operations import doctor
from modelsmith.repository.workspace import Workspace

OURS = {"dev", "fuzz"}
"""For work on the toolkit itself."""


def test_doctor_knows_every_extra_that_a_user_can_install():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - OURS


def test_an_extra_that_lacks_a_part_is_named_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"otel": ("json", "json.nothing.below", "nothing_here.below")})
    (finding,) = [finding for finding in doctor._machine(Workspace(tmp_path)) if finding.subject == "extra otel"]
    assert (finding.level, finding.sentence) == ("note", "without json.nothing.below, nothing_here.below")
    assert finding.mend == "pip install 'modelsmith[otel]'"
