"""What Prometheus reads of a door. No key, decision id, prompt or answer is a label.

The names under ``gen_ai`` are those of `conventions`, written as Prometheus writes them. The conventions are still in
development, so they may change; those under ``modelsmith`` will not.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from modelsmith.governance.window import evidence_of, trip_evidence, watched
from modelsmith.live.conventions import (
    COUNTS,
    DURATION,
    FIRST_CHUNK,
    SECOND,
    SECONDS,
    TOKENS,
    USAGE_KIND,
    in_prometheus,
)
from modelsmith.live.port import Answered, Decision
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts

_WHO: Final = ("cluster", "specialist", "arm")


class _Bound(NamedTuple):
    """The metrics of one arm, found once: finding them costs as much as counting."""

    outcomes: dict[str, Counter]
    duration: Histogram
    first: Histogram
    tokens_in: Histogram
    tokens_out: Histogram


class Metrics:
    """The metrics of one door, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._bound: dict[tuple[str, str, str], _Bound] = {}
        self._decisions = Counter(
            "modelsmith_router_decisions", "Requests by outcome", (*_WHO, "outcome"), registry=registry
        )
        self._duration = Histogram(
            in_prometheus(DURATION, SECOND), "To the last token", _WHO, buckets=SECONDS, registry=registry
        )
        self._first = Histogram(
            in_prometheus(FIRST_CHUNK, SECOND), "To the first", _WHO, buckets=SECONDS, registry=registry
        )
        self._tokens = Histogram(
            in_prometheus(TOKENS), "Tokens", (*_WHO, in_prometheus(USAGE_KIND)), buckets=COUNTS, registry=registry
        )
        self._cost = Counter(
            "modelsmith_cost", "Of tokens, by the prices of the machine's settings", (*_WHO, "of"), registry=registry
        )
        self._format = Counter(
            "modelsmith_format_checks",
            "Sampled answers, by the rubric's format checks",
            (*_WHO, "result"),
            registry=registry,
        )
        self._shadow = Counter(
            "modelsmith_shadow_answers", "Copies of requests, by how they ended",
            (*_WHO, "outcome"), registry=registry,
        )  # fmt: skip
        self._compared = Counter(
            "modelsmith_shadow_compared", "Answers in the shadow beside what the caller got",
            ("cluster", "specialist", "result"), registry=registry,
        )  # fmt: skip
        self._reports = Counter("modelsmith_feedback", "Reports by result", ("cluster", "result"), registry=registry)
        self._evidence = Gauge(
            "modelsmith_window_evidence", "log10 of the evidence that it is worse",
            ("cluster", "specialist", "metric"), registry=registry,
        )  # fmt: skip
        self._trip = Gauge(
            "modelsmith_window_trip", "log10 of the evidence at which it is taken back", ("cluster", "specialist"),
            registry=registry,
        )  # fmt: skip
        self._windows: dict[tuple[str, str], list[str]] = {}
        """By cluster and specialist: the metrics whose evidence is shown."""
        self._dropped = Counter(
            "modelsmith_uncounted", "Decisions and answers that could not be counted", registry=registry
        )

    def answered(self, decision: Decision, answered: Answered) -> None:
        """Count one answer of the front door."""
        labels = (decision.cluster, decision.specialist, decision.arm)
        bound = self._bound.get(labels)
        if bound is None:
            bound = self._bound[labels] = self._bind(labels)
        outcome = _outcome(answered)
        if outcome not in bound.outcomes:
            bound.outcomes[outcome] = self._decisions.labels(*labels, outcome)
        bound.outcomes[outcome].inc()
        bound.duration.observe(answered.total_ms / 1000)
        if answered.first_token_ms is not None:
            bound.first.observe(answered.first_token_ms / 1000)
        bound.tokens_in.observe(answered.tokens_in)
        bound.tokens_out.observe(answered.tokens_out)
        if answered.cost:
            self._cost.labels(*labels, "request").inc(answered.cost)
        if answered.format_ok is not None:
            self._format.labels(*labels, "valid" if answered.format_ok else "broken").inc()

    def shadowed(self, decision: Decision, answered: Answered) -> None:
        """Count one answer to a copy, or the answer of the incumbent that it is compared with."""
        labels = (decision.cluster, decision.specialist)
        self._shadow.labels(*labels, decision.arm, _outcome(answered)).inc()
        if answered.cost and decision.arm == "specialist":  # the caller's answer is counted already
            self._cost.labels(*labels, decision.arm, "copy").inc(answered.cost)
        if answered.differs is not None:
            self._compared.labels(*labels, "different" if answered.differs else "same").inc()

    def _bind(self, labels: tuple[str, str, str]) -> _Bound:
        return _Bound(
            {},
            self._duration.labels(*labels),
            self._first.labels(*labels),
            self._tokens.labels(*labels, "input"),
            self._tokens.labels(*labels, "output"),
        )

    def report(self, cluster: str, result: str, number: int = 1) -> None:
        """Count reports by what became of them."""
        self._reports.labels(cluster, result).inc(number)

    def dropped(self) -> None:
        """Count what was lost because the store takes nothing."""
        self._dropped.inc()

    def window(self, cluster: str, specialist: str, counts: Counts | None, terms: Rollback) -> None:
        """Show how near a window is to its rule."""
        self._trip.labels(cluster, specialist).set(trip_evidence(terms))
        self._windows[cluster, specialist] = [metric.name for metric in watched(terms)]
        for metric in watched(terms):
            self._evidence.labels(cluster, specialist, metric.name).set(evidence_of(metric, counts))

    def open_windows(self, open_now: Set[tuple[str, str]]) -> None:
        """Show no other windows any longer than those of these clusters and specialists."""
        for labels in set(self._windows) - open_now:
            self._trip.remove(*labels)
            for metric in self._windows.pop(labels):
                self._evidence.remove(*labels, metric)

    def exposition(self) -> tuple[str, bytes]:
        """Content type and text of ``/metrics``."""
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.registry)


def _outcome(answered: Answered) -> str:
    if answered.not_asked:
        return "not-asked"
    if answered.failed_over:
        return "failed-over"
    if answered.hung_up:
        return "hung-up"
    if answered.status >= 500:
        return "error"
    return "refused" if answered.status >= 400 else "answered"
