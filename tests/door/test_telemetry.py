"""What goes to a collector of OpenTelemetry: a real one over HTTP, one that is down, and one that hangs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import pytest
from doors import ASKED, CLUSTER, INCUMBENT, WATCHED, client, run
from doors import opened as opened_door
from ports import free_port
from worlds import CLUSTER as DEPLOYED
from worlds import COMMAND

from modelsmith.door.telemetry import MOST_WAITING, Telemetry, open_telemetry
from modelsmith.live import conventions as names
from modelsmith.repository.tokens import callers
from modelsmith.schema.router import Router, Rule, StickyKey

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}


class Collector:
    """An OTLP/HTTP receiver."""

    def __init__(self, port: int = 0) -> None:
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.spans: dict[bytes, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.resources: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *words: object) -> None:
                pass

            def do_POST(self) -> None:
                collector.took(self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def took(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.raw.append(body)
        self.headers.append(headers)
        kind = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}[path]
        string = kind.FromString(body)
        for whole in string.resource_spans if path == "/v1/traces" else string.resource_metrics:
            self.resources.append(plain(whole.resource.attributes))
            for scope in whole.scope_spans if path == "/v1/traces" else whole.scope_metrics:
                if path == "/v1/traces":
                    self.spans.update({span.span_id: span for span in scope.spans})
                else:
                    self.metrics.update({metric.name: metric for metric in scope.metrics})

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        return [(plain(point.attributes), point) for point in self.metrics[name].histogram.data_points]


def plain(attributes: Any) -> dict[str, Any]:
    return {attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value")) for attribute in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collecting = Collector()
    yield collecting
    collecting.server.shutdown()


@contextmanager
def telemetry(monkeypatch: pytest.MonkeyPatch, endpoint: str, **variables: str) -> Iterator[tuple[Telemetry, list]]:
    """As the door's process opens it, with what was said."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in ({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} | SOON | variables).items():
        monkeypatch.setenv(name, value)
    messages: list[str] = []
    opened_telemetry = open_telemetry(os.environ, messages.append)
    assert opened_telemetry is not None, messages
    try:
        yield opened_telemetry, messages
    finally:
        opened_telemetry.close()


def exported(folder, telemetry, scene, **options):
    """A scene at a door that tells of its requests."""

    async def whole():
        async with opened_door(folder, telemetry=telemetry, **options) as door:
            await scene(door)

    run(whole)


def test_a_collector_gets_a_span_and_the_figures_of_each_request(collector, tmp_path, monkeypatch):
    async def scene(door):
        await door.ask(traceparent=TRACE)
        stream = await client(door.url).chat.completions.create(**ASKED, stream=True)
        assert [chunk async for chunk in stream]
        door.specialist.status = 500
        await door.ask()
        door.incumbent.status = 500
        await door.ask()

    with telemetry(monkeypatch, f"http://127.0.0.1:{collector.port}", OTEL_SERVICE_NAME="desk") as (exporter, _):
        begin = time.time_ns()
        exported(tmp_path, exporter, scene)
    spans = sorted(collector.spans.values(), key=lambda span: span.start_time_unix_nano)
    assert [(span.name, span.kind) for span in spans] == [(f"chat {CLUSTER}", Span.SPAN_KIND_CLIENT)] * 4
    rows = [plain(span.attributes) for span in spans]
    assert rows[0] == {
        names.OPERATION: "chat", names.PROVIDER: "modelsmith", names.REQUEST_MODEL: CLUSTER,
        names.REQUEST_STREAM: False, names.RESPONSE_MODEL: WATCHED.specialist, names.STATUS: 200,
        names.INPUT_TOKENS: 7, names.OUTPUT_TOKENS: 3, "modelsmith.specialist": WATCHED.specialist,
        "modelsmith.arm": "specialist", "modelsmith.decision": "d1", "modelsmith.record": WATCHED.record,
        "modelsmith.failed_over": False,
    }  # fmt: skip
    assert (spans[0].trace_id.hex(), spans[0].parent_span_id.hex()) == (TRACE[3:35], TRACE[36:52])
    assert spans[1].parent_span_id == b""
    assert (rows[1][names.REQUEST_STREAM], rows[1][names.RESPONSE_FIRST_CHUNK] > 0) == (True, True)
    assert (rows[2][names.RESPONSE_MODEL], rows[2]["modelsmith.failed_over"]) == (INCUMBENT.specialist, True)
    assert (rows[3][names.STATUS], rows[3][names.ERROR_TYPE], names.RESPONSE_MODEL in rows[3]) == (503, "503", False)
    assert [span.status.code for span in spans] == [Status.STATUS_CODE_UNSET] * 3 + [Status.STATUS_CODE_ERROR]
    assert all(begin <= span.start_time_unix_nano < span.end_time_unix_nano <= time.time_ns() for span in spans)
    durations = collector.points(names.DURATION)
    assert collector.metrics[names.DURATION].unit == "s"
    assert sum(point.count for _, point in durations) == 4
    assert {about.get(names.ERROR_TYPE) for about, _ in durations} == {None, "503"}
    assert tuple(durations[0][1].explicit_bounds) == names.SECONDS
    assert [point.count for _, point in collector.points(names.FIRST_CHUNK)] == [1]
    tokens = {}
    for about, point in collector.points(names.TOKENS):
        tokens[about[names.USAGE_KIND]] = tokens.get(about[names.USAGE_KIND], 0) + point.sum
    assert tokens == {"input": 14, "output": 13}
    assert {resource["service.name"] for resource in collector.resources} == {"desk"}


def test_nothing_of_a_prompt_an_answer_or_a_key_goes_to_a_collector(collector, tmp_path, monkeypatch):
    keys = callers(tmp_path / "home")
    _, secret = keys.issue("caller", ("*",), 1)
    rules = Router(rules=(Rule(name="all", cluster=CLUSTER, key=StickyKey(header="traceparent")),))
    private = ["a prompt to nobody", "an answer to nobody", "nobody@example.org", "Be brief.", secret, "collector-key"]

    async def scene(door):
        door.specialist.says = {"role": "assistant", "content": private[1]}
        messages = [{"role": "user", "content": private[0]}]
        for more in ({}, {"user": private[2], "metadata": {"a": private[2]}}, {"model": private[2]}):
            own = {"traceparent": TRACE, "tracestate": f"a={private[2]}", "baggage": f"a={private[2]}"}
            door.serve(1.0, rules)
            await door.ask({"messages": messages, **more}, Authorization=f"Bearer {secret}", **own)

    with telemetry(
        monkeypatch, f"http://127.0.0.1:{collector.port}", OTEL_EXPORTER_OTLP_HEADERS="x-key=collector-key"
    ) as (spans, _):
        exported(tmp_path, spans, scene, keys=keys)
    assert {plain(span.attributes)[names.STATUS] for span in collector.spans.values()} == {200}
    assert len(collector.spans) == 3
    assert {headers["x-key"] for headers in collector.headers} == {"collector-key"}
    whole = b"".join(collector.raw)
    for private_text in private:
        assert private_text.encode() not in whole
    assert bytes.fromhex(TRACE[3:35]) not in whole, "a rule takes it for its sticky key"


@pytest.mark.parametrize("kind", ["down", "hangs"])
def test_a_collector_that_takes_nothing_costs_no_answer_and_no_end(kind, tmp_path, monkeypatch):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        if kind == "hangs":
            listening.listen(128)

        async def scene(door):
            begin = time.monotonic()
            for _ in range(200):
                assert (await door.ask())[0] == 200
            assert time.monotonic() - begin < 60, "each answer would wait for the exporter's limit"

        few = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
        with telemetry(monkeypatch, f"http://127.0.0.1:{port}", **few) as (spans, messages):
            exported(tmp_path, spans, scene)
            begin = time.monotonic()
            spans.close()
            assert time.monotonic() - begin < 60
        deadline = time.monotonic() + 60
        while (
            len([words for words in messages if words.startswith("NOT EXPORTED")]) < 2 and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        refused = [words for words in messages if words.startswith("NOT EXPORTED")]
        assert sorted("traces" in words for words in refused) == [False, True], "each signal once"


def test_a_collector_that_comes_back_is_told_again_and_that_is_said(collector, tmp_path, monkeypatch):
    port = collector.port
    collector.server.shutdown()
    collector.server.server_close()
    with telemetry(monkeypatch, f"http://127.0.0.1:{port}", OTEL_METRICS_EXPORTER="none") as (spans, messages):

        async def scene(door):
            for word in ("NOT EXPORTED", "exported again"):
                deadline = time.monotonic() + 60
                while not any(word in words for words in messages):
                    assert time.monotonic() < deadline
                    await door.ask()
                    time.sleep(0.1)
                if word == "NOT EXPORTED":
                    Collector(port)

        exported(tmp_path, spans, scene)


def test_what_waits_to_be_told_is_bounded():
    class Stuck:
        def __init__(self):
            self.go, self.told = threading.Event(), 0

        def tell(self, ended):
            self.go.wait()
            self.told += 1

        def close(self):
            pass

    sink = Stuck()
    telemetry_made = Telemetry(sink)
    for _ in range(MOST_WAITING + 5_000):
        telemetry_made.note(None)
    sink.go.set()
    telemetry_made.close()
    assert MOST_WAITING <= sink.told <= MOST_WAITING + 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none",
          "OTEL_METRICS_EXPORTER": "none"}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)  # fmt: skip
def test_nothing_is_exported_unless_the_variables_say_so(variables, words):
    messages = []
    assert open_telemetry(variables, messages.append) is None
    assert all(words in message for message in messages) if words else messages == []
    assert bool(messages) == bool(words)


def test_a_variable_that_cannot_be_read_stops_no_door(monkeypatch):
    messages = []
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "-5")
    variables = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"}
    assert open_telemetry(variables, messages.append) is None
    assert "OTEL_* cannot be read" in messages[0]


def test_without_the_extra_the_door_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    monkeypatch.delitem(sys.modules, "modelsmith.door.otlp", raising=False)
    messages = []
    assert open_telemetry({"OTEL_TRACES_EXPORTER": "otlp"}, messages.append) is None
    assert "pip install 'modelsmith[otel]'" in messages[0]


def test_a_door_that_exports_nothing_imports_nothing_of_it():
    program = "import modelsmith.door.server, sys; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_the_names_are_those_of_the_published_conventions():
    published = {
        value
        for module in (gen_ai_attributes, gen_ai_metrics, http_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    } | {"error.type"}  # fmt: skip
    ours = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }  # fmt: skip
    assert names.FIRST_CHUNK in ours
    assert ours <= published


def test_the_command_exports_and_ends_when_it_is_told_to(world, collector):
    port = free_port()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    served = world.start(COMMAND, "serve", "--no-keys", "--port", str(port), env=world.environment() | variables)
    try:
        assert "telemetry: traces and metrics are exported" in served.stderr.readline()
        assert "until then: 503 not-ready" in served.stderr.readline()
        assert "serves" in served.stderr.readline()
        body = json.dumps(ASKED | {"model": DEPLOYED, "max_tokens": 2}).encode()
        request = Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            decision = answer.headers["x-modelsmith-decision"]
    finally:
        served.terminate()
        served.communicate(timeout=60)
    assert served.returncode == 0
    assert [plain(span.attributes)["modelsmith.decision"] for span in collector.spans.values()] == [decision]
    assert names.DURATION in collector.metrics
