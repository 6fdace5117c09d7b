"""Spans and figures of requests by OTLP over HTTP, with OpenTelemetry's own SDK, which reads the other ``OTEL_*``.

Nothing here is global: no other library of the process begins to export because the door does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from modelsmith import __version__
from modelsmith.door.ended import TRACE_PARENT, Ended, Signal
from modelsmith.live import conventions as names

NAME = "modelsmith"
_HUNG_UP = 499


class Otlp:
    """A sink that exports by OTLP; see `ended.Sink`."""

    def __init__(self, signals: Sequence[Signal], say: Callable[[str], None]) -> None:
        resource = _resource()
        self._closing: list[Callable[[], object]] = []
        self._spans: Any = self._trace(resource, _report_changes("traces", say)) if "traces" in signals else None
        self._figures = self._measure(resource, _report_changes("metrics", say)) if "metrics" in signals else None
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # it would tell of every failed attempt

    def _trace(self, resource: Resource, report: Callable[[bool], None]) -> Any:
        exporter = OTLPSpanExporter()
        _watch(exporter, SpanExportResult.SUCCESS, SpanExportResult.FAILURE, report)
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._closing.append(provider.shutdown)
        return provider.get_tracer(NAME, __version__)

    def _measure(self, resource: Resource, report: Callable[[bool], None]) -> _Figures:
        exporter = OTLPMetricExporter()
        _watch(exporter, MetricExportResult.SUCCESS, MetricExportResult.FAILURE, report)
        reader = PeriodicExportingMetricReader(exporter)
        provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._closing.append(provider.shutdown)
        return _Figures(provider.get_meter(NAME, __version__))

    def tell(self, ended: Ended) -> None:
        """Tell of one request."""
        if self._figures:
            self._figures.tell(ended)
        if self._spans:
            self._span(ended)

    def close(self) -> None:
        """Export what waits of both signals, side by side: one that hangs holds up no other."""
        threads = [threading.Thread(target=close, daemon=True) for close in self._closing]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _span(self, ended: Ended) -> None:
        caller = TraceContextTextMapPropagator().extract({TRACE_PARENT: ended.parent}, Context())
        span = self._spans.start_span(
            f"{names.CHAT} {ended.decision.cluster}",
            context=caller,
            kind=SpanKind.CLIENT,
            attributes=_about(ended) | _of_span(ended),
            start_time=ended.at - int(ended.total_ms * 1e6),
        )
        if _failed(ended):
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended.at)


class _Figures:
    def __init__(self, meter: Any) -> None:
        def histogram(name: str, unit: str, words: str, bounds: Sequence[float]) -> Any:
            return meter.create_histogram(name, unit, words, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram(names.DURATION, names.SECOND, "To the end of an answer.", names.SECONDS)
        self._first = histogram(names.FIRST_CHUNK, names.SECOND, "To the first piece of a stream.", names.SECONDS)
        self._tokens = histogram(names.TOKENS, names.PIECE, "Tokens asked and answered.", names.COUNTS)

    def tell(self, ended: Ended) -> None:
        about = _about(ended)
        self._duration.record(ended.total_ms / 1000, about)
        if ended.first_ms is not None:
            self._first.record(ended.first_ms / 1000, about)
        for kind, count in (("input", ended.tokens_in), ("output", ended.tokens_out)):
            if count:  # a backend that does not say how many it read is not counted as having read none
                self._tokens.record(count, about | {names.USAGE_KIND: kind})


def _about(ended: Ended) -> dict[str, str | bool]:
    """What a figure is told apart by: names of main, and no more of them than main has."""
    decision = ended.decision
    about: dict[str, str | bool] = {
        names.OPERATION: names.CHAT,
        names.PROVIDER: NAME,
        names.REQUEST_MODEL: decision.cluster,
        names.REQUEST_STREAM: ended.stream,
        "modelsmith.specialist": ended.specialist,
        "modelsmith.arm": decision.arm,
    }
    if ended.answered_by is not None:
        about[names.RESPONSE_MODEL] = ended.answered_by
    if _failed(ended):
        about[names.ERROR_TYPE] = str(ended.status)
    return about


def _of_span(ended: Ended) -> dict[str, str | int | float | bool]:
    attributes: dict[str, str | int | float | bool | None] = {
        names.STATUS: ended.status,
        names.INPUT_TOKENS: ended.tokens_in or None,
        names.OUTPUT_TOKENS: ended.tokens_out or None,
        names.RESPONSE_FIRST_CHUNK: None if ended.first_ms is None else ended.first_ms / 1000,
        "modelsmith.decision": ended.decision.id,
        "modelsmith.record": ended.record or None,
        "modelsmith.rule": ended.rule,
        "modelsmith.failed_over": ended.answered_by not in (None, ended.specialist),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _failed(ended: Ended) -> bool:
    """A caller that leaves is no failure."""
    return ended.status >= 400 and ended.status != _HUNG_UP


def _resource() -> Resource:
    """What the environment says of this process; named after the toolkit where it gives no name."""
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": NAME}))
    return (
        resource.merge(Resource({"service.version": __version__}))
        if "service.version" not in resource.attributes
        else resource
    )


def _watch(exporter: Any, good: object, bad: object, report: Callable[[bool], None]) -> None:
    """Have an exporter raise nothing, and somebody hear whether it worked."""
    export = exporter.export

    def watched(*batch: Any, **keywords: Any) -> object:
        try:
            result = export(*batch, **keywords)
        except Exception:
            result = bad
        report(result is good)
        return result

    exporter.export = watched


def _report_changes(signal: Signal, say: Callable[[str], None]) -> Callable[[bool], None]:
    """Say once that a collector takes nothing, and once that it does again."""
    well = True

    def report_change(good: bool) -> None:
        nonlocal well
        if good != well:
            well = good
            say(
                f"telemetry: {signal} are exported again"
                if good
                else f"NOT EXPORTED: the collector takes no {signal}. Serving goes on; they are left out until it does."
            )

    return report_change
