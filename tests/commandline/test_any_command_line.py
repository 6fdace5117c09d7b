"""Any arguments, in any environment and state of the repository, to any output: an answer or a refusal, never a bug."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from fuzz.commandline import STATES, Case, run, run_case

FOUND: tuple[int, ...] = ()
"""Numbers of cases that ended as a bug once."""

WORDS = (("status", "--json"), ("verify", "--json"), ("doctor",), ("upstream", "status"))


@settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0, 2**64 - 1))
def test_it_answers_or_refuses_and_never_ends_as_a_bug(number):
    run_case(number.to_bytes(8))


@pytest.mark.parametrize("state", STATES)
def test_looking_at_a_repository_in_any_state_is_no_bug(state, tmp_path):
    for number, words in enumerate(WORDS):
        ended = run(Case(words, {}, state, "clone", "file"), tmp_path / str(number))
        assert not ended.broken, (words, ended)
