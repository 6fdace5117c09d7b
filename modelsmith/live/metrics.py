"""What Prometheus reads of a door. No key, decision id, prompt or answer is a label.

The names under ``gen_ai`` are those of OpenTelemetry's conventions for generative AI, written as Prometheus writes
them. The conventions are still in development, so they may change; those under ``modelsmith`` will not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from modelsmith.governance.window import evidence_of, watched
from modelsmith.live.port import Answered, Decision
from modelsmith.schema.cluster import Rollback
from modelsmith.schema.live import Counts

_SECONDS: Final = tuple(0.01 * 2**n for n in range(14))
"""Buckets of the conventions: 0.01 s to 81.92 s."""
_TOKENS: Final = tuple(4.0**n for n in range(14))
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
        self.registry = one = CollectorRegistry()
        self._bound: dict[tuple[str, str, str], _Bound] = {}
        self._decisions = Counter(
            "modelsmith_router_decisions", "Requests by outcome", (*_WHO, "outcome"), registry=one
        )
        self._duration = Histogram(
            "gen_ai_client_operation_duration_seconds", "To the last token", _WHO, buckets=_SECONDS, registry=one
        )
        self._first = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "To the first", _WHO, buckets=_SECONDS, registry=one
        )
        self._tokens = Histogram(
            "gen_ai_client_token_usage", "Tokens", (*_WHO, "gen_ai_token_type"), buckets=_TOKENS, registry=one
        )
        self._format = Counter(
            "modelsmith_format_checks",
            "Sampled answers, by the rubric's format checks",
            (*_WHO, "result"),
            registry=one,
        )
        self._reports = Counter("modelsmith_feedback", "Reports by result", ("cluster", "result"), registry=one)
        self._evidence = Gauge(
            "modelsmith_window_evidence", "log10 of the evidence that it is worse",
            ("cluster", "specialist", "metric"), registry=one,
        )  # fmt: skip
        self._dropped = Counter("modelsmith_uncounted", "Decisions and answers that could not be counted", registry=one)

    def answered(self, decision: Decision, answered: Answered) -> None:
        """Count one answer."""
        who = (decision.cluster, decision.specialist, decision.arm)
        bound = self._bound.get(who)
        if bound is None:
            bound = self._bound[who] = self._bind(who)
        outcome = _outcome(answered)
        if outcome not in bound.outcomes:
            bound.outcomes[outcome] = self._decisions.labels(*who, outcome)
        bound.outcomes[outcome].inc()
        bound.duration.observe(answered.total_ms / 1000)
        if answered.first_token_ms is not None:
            bound.first.observe(answered.first_token_ms / 1000)
        bound.tokens_in.observe(answered.tokens_in)
        bound.tokens_out.observe(answered.tokens_out)
        if answered.format_ok is not None:
            self._format.labels(*who, "valid" if answered.format_ok else "broken").inc()

    def _bind(self, who: tuple[str, str, str]) -> _Bound:
        return _Bound(
            {},
            self._duration.labels(*who),
            self._first.labels(*who),
            self._tokens.labels(*who, "input"),
            self._tokens.labels(*who, "output"),
        )

    def report(self, cluster: str, result: str, number: int = 1) -> None:
        """Count reports by what became of them."""
        self._reports.labels(cluster, result).inc(number)

    def dropped(self) -> None:
        """Count what was lost because the store takes nothing."""
        self._dropped.inc()

    def window(self, cluster: str, specialist: str, counts: Counts | None, terms: Rollback) -> None:
        """Show how near a window is to its rule."""
        for metric in watched(terms):
            self._evidence.labels(cluster, specialist, metric.name).set(evidence_of(metric, counts))

    def exposition(self) -> tuple[str, bytes]:
        """Content type and text of ``/metrics``."""
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.registry)


def _outcome(answered: Answered) -> str:
    if answered.failed_over:
        return "failed-over"
    if answered.hung_up:
        return "hung-up"
    if answered.status >= 500:
        return "error"
    return "refused" if answered.status >= 400 else "answered"
