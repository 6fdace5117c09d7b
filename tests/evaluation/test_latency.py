"""Latency is that of single requests, candidate and incumbent in turn, so that it compares."""

from __future__ import annotations

import pytest
from parrot import Parrot, governed

from modelsmith.loop import latency
from modelsmith.loop.latency import WARM_UP, in_turn
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.substrates.port import Completion


class Timed:
    """Answers one prompt at a time, and moves the clock by as much as it takes."""

    facts = Parrot.facts

    def __init__(self, name, log, clock, seconds) -> None:
        self.name, self.log, self.clock, self.seconds = name, log, clock, list(seconds)

    def complete(self, prompts, system, sampling):
        assert len(prompts) == 1
        self.log.append((self.name, prompts[0].key))
        self.clock[0] += self.seconds.pop(0) if self.seconds else 1.0
        yield Completion(prompts[0].key, "{}", "stop", 1, 1, 0.0)

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    return now


def test_both_get_the_same_requests_one_at_a_time_in_turn_after_a_warm_up(clock) -> None:
    log: list[tuple[str, str]] = []
    slow = Timed("candidate", log, clock, [60.0] * WARM_UP + [0.5] * 99)
    fast = Timed("incumbent", log, clock, [60.0] * WARM_UP + [0.25] * 99)
    reported: list[tuple[int, int]] = []
    measured_latency = in_turn(governed(), slow, fast, lambda *progress: reported.append(progress))
    assert measured_latency.requests >= 1
    assert (measured_latency.candidate.p50_seconds, measured_latency.candidate.p95_seconds) == (0.5, 0.5), (
        "the warm-up does not count"
    )
    assert (measured_latency.incumbent.p50_seconds, measured_latency.incumbent.p95_seconds) == (0.25, 0.25)
    rounds = [log[i : i + 2] for i in range(0, len(log), 2)]
    assert all({name for name, _ in round_} == {"candidate", "incumbent"} for round_ in rounds)
    assert all(round_[0][1] == round_[1][1] for round_ in rounds)
    assert {round_[0][0] for round_ in rounds} == {"candidate", "incumbent"}, "each goes first every other time"
    assert len(rounds) == measured_latency.requests + measured_latency.warm_up
    assert reported == [(2 * number, len(log)) for number in range(len(rounds))], "who waits is told how far it is"


def test_a_request_that_fails_leaves_no_figure(clock) -> None:
    class Broken(Timed):
        def complete(self, prompts, system, sampling):
            yield Completion(prompts[0].key, "", "error", 0, 0, 0.0, InfrastructureFailure("x", "x", "x"))

    with pytest.raises(InfrastructureFailure):
        in_turn(governed(), Broken("candidate", [], clock, []), Timed("incumbent", [], clock, []), lambda *_: None)
