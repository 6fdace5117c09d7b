"""Every parser that reads what others wrote: an input parses or is refused with a typed error, whatever it is."""

from __future__ import annotations

import resource
import time
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.history import attested
from fuzz.mutate import mutated
from fuzz.proofs import signed
from fuzz.targets import PARSERS as TARGETS
from modelsmith.promotion.attestation import claimed
from modelsmith.schema.errors import IntegrityFailure

SECONDS = 10.0
"""Processor time that no input may need; the slowest take milliseconds."""
MEMORY = 512 * 1024
"""Kilobytes by which no target may make the process grow."""


@pytest.mark.parametrize("name", TARGETS)
def test_its_valid_inputs_are_read(name):
    target = TARGETS[name]
    for seed in target.seeds():
        target.read(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_it_answers_or_refuses_whatever_it_is_given(name):
    target = TARGETS[name]
    seeds = target.seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=30 if target.slow else 250, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(st.integers(0, 2**64).map(partial(mutated, seeds)), st.binary(max_size=200)))
    def holds(data):
        started = time.process_time()
        target.run(data)
        assert time.process_time() - started < SECONDS

    holds()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


def test_an_attestation_with_a_number_that_json_cannot_say_is_refused():
    """Found by the fuzzer."""
    payload = attested().replace(b'"pull":1', b'"pull":1' + b"0" * 30)
    with pytest.raises(IntegrityFailure, match="cannot be read"):
        claimed(signed(payload))
